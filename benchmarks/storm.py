"""Keys faster than anybody types while a sweep runs: when each toggle is seen, what is left at the end, the memory."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from benchmarks.inspector import folders, opened, usable
from benchmarks.painted import Painted
from benchmarks.report import Row, milliseconds
from benchmarks.timing import median, p95

__all__ = ["run"]

KEYS, RATE = 2000, 200  # keys, and how many in a second
FEEDBACK = 0.150  # seconds
GROWTH = 0.05  # of the resident memory
DIMS = 256  # of the bundled model
PRUNED = re.compile(r"pruned (\d+)/")
PATIENCE = 30.0


def _resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _count(lines: list[str]) -> int | None:
    """How many dimensions the status line says are pruned."""
    match = PRUNED.search(lines[0])
    return None if match is None else int(match[1])


def _keys(number: int) -> list[tuple[str, int]]:
    """(key, dimensions that are pruned after it): down the table and back to its top, pruning and restoring."""
    keys: list[tuple[str, int]] = []
    pruned, step, at = 0, 1, 0
    while len(keys) < number:
        pruned += step
        keys.append((" ", pruned))
        at += 1
        if at < DIMS:
            keys.append(("j", pruned))
        else:
            keys.append(("g", pruned))
            at, step = 0, -step
    return keys[:number]


def _storm(term: Painted, number: int) -> tuple[list[float], int, int | None]:
    """(seconds until each toggle was seen, what should be pruned at the end, what the screen says then)."""
    keys = _keys(number)
    waiting: list[tuple[float, int]] = []  # when a toggle was typed, and the count that it leads to
    seen: list[float] = []
    begin = time.perf_counter()
    end = begin + number / RATE + PATIENCE
    sent = 0
    while (sent < number or waiting) and time.perf_counter() < end:
        while sent < number and time.perf_counter() >= begin + sent / RATE:
            key, count = keys[sent]
            at = term.press(key)
            if key == " ":
                waiting.append((at, count))
            sent += 1
        for arrival in term.arrivals(0.001):
            count_now = _count(term.paint(arrival))
            counts = [count for _, count in waiting]
            if count_now in counts:  # every toggle up to this one has been handled
                last = len(counts) - 1 - counts[::-1].index(count_now)
                seen += [arrival.at - at for at, _ in waiting[: last + 1]]
                del waiting[: last + 1]
    return seen, keys[-1][1], _count(list(term.screen.display))


def run(quick: bool) -> list[Row]:
    """One storm beside a sweep."""
    number = 400 if quick else KEYS
    with folders() as env:
        term = opened(env)
        try:
            term.until(usable)
            for key in ("w", "r", "\x1b"):
                term.press(key)
                for arrival in term.arrivals(0.3):
                    term.paint(arrival)
            before = _resident(term.pid)
            seen, expected, shown = _storm(term, number)
            grown = _resident(term.pid) / before - 1
        finally:
            term.close()
    return [
        Row(f"storm: {number} keys at {RATE}/s while a sweep runs, a toggle to its count, p95", milliseconds(p95(seen)),
            budget=f"<= {milliseconds(FEEDBACK)}", met=p95(seen) <= FEEDBACK),
        Row("storm: the same, median", milliseconds(median(seen))),
        Row("storm: pruned at the end, shown (typed)", f"{shown} ({expected})", budget="the same",
            met=shown == expected),
        Row("storm: resident memory grown by", f"{grown:.1%}"),
    ]  # fmt: skip
