"""Seeded bursts of keys: what an impatient person, a script or a slow line writes to the inspector at once.

A burst is a write of several keys, a paste, or another size of the terminal, and a pause after it. The phrases mean the
same however fast they are typed: none of them asks for something that the engine is still working out. Those of `WILD`
do; of them it is only expected that nothing breaks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LONGEST", "PLAIN", "WILD", "Burst", "every_phrase", "listed", "make_bursts"]

PASTES = ("hello", "two\nlines", "q\nq\nqq\n", "30%", "1\n2\n", "a\tb", "x\\ny", "\r\n", "0.5\n")
SIZES = ((80, 24), (160, 48), (60, 16), (100, 30), (120, 28))
SMALL = ((50, 12), (30, 5), (59, 40))
LONGEST = 9

PLAIN: tuple[str, ...] = (
    "j", "jjj", "k", "g", "G", "\x04", "\x15", "\t", "1", "3", "4", "z", "s", "ss", "S", "n", "N", "h", "l", "y",
    " ", "j ", "j j j ", " u", "uu", "U", "uU", "i", "m", "c", "vjj ", "vkv", "v\x1b", "d", "b", "x", "zz",
    "p\x15hello\r", "pA prompt\r", "p\r", "p\r\r", "px\x1b", "p\x15\\n two\r", "p\x15one\rp\x15two\r", "\r", "\r\r",
    "t30%\r", "t\r", "t\r\r", "t\x1550%\rj ", "tx\r\x1b", "t0.1\ru", "/19\r", "/7\r ", "/\r\r", "/19\rnn", "/zz\r",
    "f10-30\r", "f\r", "f\x15\r", "fpruned\r", "fx\r\x1b", "e\x1b", "exit\x1b", "I\x1b",
    "2/value\r]", "2/return\r]]", "2/string\r=2\r", "2/string\r=\r\r", "2/list\r[[0", "2/value\r]u", "2/value\r1",
    "2f_1\r1", "2f\x15\r1",
    "?jjq", "?\r\r", "C\r", "Cjq", "H\r", "Hyq", "w\x1b", "wjjfyw", "wO \x1bw", "wO \rw", "wm?\rHqw", "wq",
    "T/#12\r]]\r", "T/#3\rd[[\r", "T/#40\r=2\r\r", "T/#40\r=\r\rT", "Tq", "TjkT", "T?\rq", "T/#9\r]aT",
    "7j", ":12j", ":2 ", ":3u", "9k", ":9\x1b", ":\x1b", "8z", "7\x1b", ":40G", "w:2j7lw", "T9]:3[q",
    "Fq", "FjjG\x1b", "Vq", "VjkgGV", "V\x1b", "5hl5", "5h\x1b", "5K\x1b", "Lq", "LjkG\x1b",
    "Jq", "JjkGgJ", "J\x1b", "wJq\x1b", "aJJ\x1b",
    "Dq", "Djjkyaq", "Di\rq", "D?\rq", "aa", "a a", "aj j a", "auUa", "a?\rq", "ama",
)  # fmt: skip
"""What is typed from the inspector, and leads back to it."""

ONCE = ("w\rjjfw", "w\rw", "w\ryyfjjw")
"""A sweep is started once: started again, the key would apply a point."""

WILD: tuple[str, ...] = (
    "w\r\rj\r", "wr\r", "M", "Mx", "r", "ox\r", "o\r", "odemo\r", "o\x1b", "2jj]", "2]j]0", "T]]c\r", "Tc\r",
    "a\rhl\x1b", "aN\r", "w\rx\r", "\x10mask\r", "\x10\x1b", "Dr\rx", "De\r", "-", "rr", "Mu\r",
)  # fmt: skip
"""What depends on the engine, or opens another model."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Keys that are written at once, or a paste, or another size; then `gap` seconds pass."""

    keys: str = ""
    paste: str = ""
    size: tuple[int, int] | None = None
    gap: float = 0.0


def make_bursts(seed: int, count: int, wild: bool = False, sizes: bool = True) -> list[Burst]:
    """The `count` or a few more bursts of a seed; the phrases are cut into writes anywhere, an escape ends one."""
    rng = random.Random(seed)  # noqa: S311
    bursts: list[Burst] = []
    typed, started = "", False

    def gap() -> float:
        return rng.choice((0.0, 0.0, 0.0, 0.002, rng.uniform(0, 0.1)))

    def flush() -> None:
        nonlocal typed
        while typed:
            write = _first_write(typed, rng.randint(1, LONGEST))
            bursts.append(Burst(write, gap=gap()))
            typed = typed[len(write) :]

    while len(bursts) < count:
        chance = rng.random()
        if chance < 0.06:
            opening = rng.choice(("", "", "p", "t", "/", "f", "?", "w", "T"))
            typed += opening
            flush()
            bursts.append(Burst(paste=rng.choice(PASTES), gap=gap()))
            typed += {"?": "q", "w": "w", "T": "T"}.get(opening, rng.choice(("\r", "\r\r", "\x1b"))) + "\x1b"
        elif chance < 0.1 and sizes:
            flush()
            if rng.random() < 0.3:
                bursts.append(Burst(size=rng.choice(SMALL), gap=gap()))
                typed += rng.choice(("j ", " ", "t\r", "uu", "p", "?q", "]]", "i"))
                flush()
            bursts.append(Burst(size=rng.choice(SIZES), gap=gap()))
        elif chance < 0.13 and not started and not wild:
            started = True
            typed += rng.choice(ONCE)
        else:
            typed += rng.choice(WILD if wild and rng.random() < 0.4 else PLAIN)
        if rng.random() < 0.5:
            flush()
    flush()
    return bursts


def _first_write(typed: str, length: int) -> str:
    """What is written at once of what is left to type: so many characters, or up to an escape."""
    write = typed[:length]
    return write[: write.index("\x1b") + 1] if "\x1b" in write else write


def every_phrase() -> list[Burst]:
    """All that means the same however fast it is typed, once each and in order: what uses everything once."""
    bursts: list[Burst] = []
    for phrase in (*ONCE, *PLAIN):
        left = phrase
        while left:
            bursts.append(Burst(_first_write(left, LONGEST)))
            left = left[len(bursts[-1].keys) :]
    return bursts


def listed(bursts: Sequence[Burst]) -> str:
    """The bursts as Python, to replay them."""
    return "[\n" + "".join(f"    {burst!r},\n" for burst in bursts) + "]"
