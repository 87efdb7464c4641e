"""Hours at the inspector in minutes: ``python -m tests.e2e.soak --minutes 30 --seed 1``, on the bundled model in a pty.

One process takes the robot's seeded bursts, waits for what they lead to, and is looked at after each round: is it
alive, what does its log say, how much memory does it hold. The same seed types the same keys, so that what fails is
typed again with ``--seed``. Before the time begins everything is used once, as what is used for the first time takes
memory that is no growth; the memory at the end is compared with that of the second tenth of the time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.robot import Driven, driven
from tests.helpers.bursts import Burst, every_phrase, listed, make_bursts

__all__ = ["Soak", "main", "soak"]

ROUND = 20  # bursts
LEAST_ROUNDS = 2  # how long a machine takes to open the inspector is not part of the time
WARM = 0.1  # of the time
GROWTH = 0.05


@dataclass
class Soak:
    """What was typed and seen once everything had been used; memory in bytes by seconds since then, the log's lines."""

    seed: int
    rounds: int = 0
    bursts: int = 0
    seconds: float = 0.0
    memory: list[tuple[float, int]] = field(default_factory=list)
    log: str = ""
    last: list[Burst] = field(default_factory=list)
    problem: str = ""

    @property
    def growth(self) -> float:
        """By how much the median memory of the last tenth is above that of the tenth after the warm-up, as a share."""
        early = self._median(WARM, 2 * WARM)
        return self._median(1 - WARM, 1.0) / early - 1 if early else 0.0

    def _median(self, begin: float, end: float) -> float:
        held = sorted(size for at, size in self.memory if begin * self.seconds <= at <= end * self.seconds)
        return held[len(held) // 2] if held else 0.0


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(folder: Path, seconds: float, seed: int) -> Iterator[Soak]:
    """Drive one inspector for so long once everything was used, two rounds at least; what is known after each round."""
    state = Soak(seed)
    with driven(folder / "home", folder / "cache") as app:
        _type(app, every_phrase(), state, one_by_one=True)
        begin = time.monotonic()
        while state.rounds < LEAST_ROUNDS or time.monotonic() - begin < seconds:
            if not state.problem:
                _type(app, make_bursts(seed + state.rounds, ROUND), state)
                state.rounds += 1
                state.bursts += len(state.last)
            if not state.problem:
                state.memory.append((time.monotonic() - begin, _resident(app.pid)))
            state.seconds = time.monotonic() - begin
            state.log = "".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log")))
            yield state
            if state.problem:
                return


def _type(app: Driven, bursts: list[Burst], state: Soak, *, one_by_one: bool = False) -> None:
    """Write bursts and wait for what they lead to, or after each of them and for the jobs; `state` gets a problem."""
    state.last = bursts
    try:
        for burst in bursts:
            app.write(burst)
            time.sleep(burst.gap)
            if one_by_one:
                app.settle()
        app.settle(at_rest=one_by_one)
    except (AssertionError, OSError) as error:
        state.problem = f"{type(error).__name__}: {error}"


def main() -> int:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    state = Soak(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        for state in soak(Path(name), asked.minutes * 60, asked.seed):
            held = state.memory[-1][1] / 2**20 if state.memory else 0.0
            print(f"{state.seconds:.0f} s, {state.bursts} bursts, {held:.0f} MiB", flush=True)
    if state.problem:
        where = f"round of seed {state.seed + state.rounds - 1}" if state.rounds else "before the time began"
        print(f"{where}: {state.problem}\n{listed(state.last)}")
    if state.log:
        print(state.log)
    print(f"memory grew by {state.growth:.1%}; {'problems, see above' if state.problem or state.log else 'no problem'}")
    return int(bool(state.problem or state.log) or state.growth > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
