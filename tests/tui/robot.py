"""The robot of key bursts on the fake session: ``python -m tests.tui.robot --bursts 10000``.

Every episode is typed twice, as bursts and one key after the other with all answers in between; both must end in the
same state. A wild episode is typed once and must break nothing. What fails is printed as bursts to replay.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from textual import events
from textual.geometry import Size
from textual.keys import _character_to_key

from tests.helpers.bursts import Burst, listed, make_bursts
from tests.tui.fakes import FakeSession, opening
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp

EPISODE = 100  # bursts
PATIENCE = 240.0  # seconds
STEP_SECONDS = 0.03  # a job's step
SETTLED_LOOKS = 3
NAMED = {
    "\r": "enter", "\x15": "ctrl+u", "\x1b": "escape", "\t": "tab", " ": "space", "\x04": "ctrl+d", "\x10": "ctrl+p",
}  # fmt: skip

State = dict[str, Any]


def events_of(burst: Burst) -> list[events.Event]:
    """The events that a terminal's reader makes of a burst."""
    if burst.size is not None:
        return [events.Resize(Size(*burst.size), Size(*burst.size))]
    if burst.paste:
        return [events.Paste(burst.paste)]
    return [
        events.Key(NAMED.get(char) or _character_to_key(char), char if char.isprintable() else None)
        for char in burst.keys
    ]


def state_of(app: TpeApp) -> State:
    """What must not depend on how fast the keys came."""
    inspector, edit = app.inspector, app.workspace.history.intervention
    return {
        "mask": edit.pruned,
        "replacement": edit.replacement,
        "steering": tuple((entry.token_id, round(entry.ratio, 9), entry.method) for entry in edit.steering),
        "prompt": app.workspace.history.prompt,
        "sort": (inspector.dims.sort, inspector.dims.descending, inspector.dims.filter, inspector.tokens.filter),
        "undo": app.workspace.history.undo_depth,
        "screens": tuple(type(screen).__name__ for screen in app.screen_stack),
    }


async def waited(app: TpeApp, look: Callable[[], object]) -> None:
    """Wait for `look` a few times in a row, or for the app's end."""
    end, true = time.monotonic() + PATIENCE, 0
    while true < SETTLED_LOOKS and app.is_running and app._exit is False:
        true = true + 1 if look() else 0
        await asyncio.sleep(0.001)
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain; {state_of(app)}")


def idle(app: TpeApp) -> bool:
    return app.input_order.idle and not app.message_queue_size


def answered(app: TpeApp) -> bool:
    inspector = app.inspector
    return idle(app) and (app.workspace.session is None or inspector.current(inspector.tokens.answer))


async def run(bursts: Sequence[Burst], slowly: bool, folder: Path) -> State:
    """Type `bursts` into an app of their own; the state after the last one."""
    folder.mkdir()
    os.chdir(folder)
    session = FakeSession()
    session.sweep_step = session.read_step = session.pair_step = lambda: time.sleep(STEP_SECONDS)
    app = TpeApp(
        RunOptions(), state_dir=folder / "state", opener=opening(session), keys_file=folder / "keys", lister=list
    )
    async with app.run_test(size=(80, 24)):
        await waited(app, lambda: app.workspace.session is not None and answered(app))
        for burst in bursts:
            for event in events_of(burst):
                app.post_message(event)
                if slowly:
                    await waited(app, lambda: answered(app))
            if not slowly and burst.gap:
                await asyncio.sleep(burst.gap)
            if app._exit:
                break
        await waited(app, lambda: answered(app))
        state = {} if app._exit else state_of(app)
    app.host.stop()
    return state


async def episode(seed: int, count: int, wild: bool) -> tuple[list[Burst], str]:
    """The bursts of a seed, and what went wrong with them."""
    bursts = make_bursts(seed, count, wild)
    return bursts, await problem(bursts, wild)


async def problem(bursts: Sequence[Burst], wild: bool = False) -> str:
    """What goes wrong with these bursts; empty where nothing does."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        try:
            fast = await run(bursts, False, Path(name, "fast"))
            slow = fast if wild else await run(bursts, True, Path(name, "slow"))
        except Exception as error:  # whatever it is, it is printed with its bursts
            return f"{type(error).__name__}: {error}"
        finally:
            os.chdir(here)
    differing = [key for key in slow if fast.get(key) != slow[key]]
    return "; ".join(f"{key} {fast.get(key)!r}, typed slowly {slow[key]!r}" for key in differing)


async def shortest(bursts: Sequence[Burst], still: Callable[[Sequence[Burst]], Awaitable[str]]) -> list[Burst]:
    """Fewer bursts with which something still goes wrong."""
    kept, size = list(bursts), len(bursts) // 2
    while size:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if await still(fewer):
                kept = fewer
            else:
                at += size
        size //= 2
    return kept


def main() -> int:
    """Run episodes and print what fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bursts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wild", type=float, default=0.3, help="share of the episodes that only must not break")
    parser.add_argument("--shorten", action="store_true", help="look for fewer bursts that fail as well")
    asked = parser.parse_args()
    begun, typed, failed, seed = time.monotonic(), 0, 0, asked.seed
    while typed < asked.bursts:
        wild = (seed * 7919) % 100 < 100 * asked.wild
        bursts, wrong = asyncio.run(episode(seed, EPISODE, wild))
        typed += len(bursts)
        if wrong:
            failed += 1
            if asked.shorten:
                bursts = asyncio.run(shortest(bursts, lambda some, wild=wild: problem(some, wild)))
            print(f"seed {seed}{' (wild)' if wild else ''}: {wrong}\n{listed(bursts)}", flush=True)
        seed += 1
        seconds = time.monotonic() - begun
        print(f"{typed} bursts in {seed - asked.seed} episodes, {failed} failed, {seconds:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
