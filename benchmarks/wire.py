"""Bytes that cross the line at 80 by 24: the first paint, a cursor move, a toggle, a page, a second of a job."""

from __future__ import annotations

import time

from benchmarks.inspector import first_text, folders, opened, usable
from benchmarks.painted import Painted
from benchmarks.report import Row
from benchmarks.timing import median

__all__ = ["run"]

QUIET = 0.3  # seconds without output that end what a key set off
TOGGLE, MOVE = 4096, 1024  # bytes, at most
JOB_SECONDS = 5.0
TIMES = 20
ON_SCREEN = 15  # moves that stay on the table's first page
ACTIONS = (  # what it is, its key, how often, bytes at most
    ("a cursor move", "j", ON_SCREEN, MOVE),
    ("a cursor move that scrolls", "j", TIMES, None),
    ("a toggle", " ", TIMES, TOGGLE),
    ("a page", "\x1b[6~", TIMES, None),
    ("the other order", "S", TIMES, None),
)


def _arrived(term: Painted, seconds: float) -> int:
    """Bytes until nothing has come for so long."""
    size = 0
    for arrival in term.arrivals(seconds):
        term.paint(arrival)
        size += len(arrival.data)
    return size


def _painted(term: Painted) -> tuple[int, int]:
    """(bytes of the first frame, bytes until the table and a distribution stand)."""
    sizes = [0, 0]
    for at, shown in enumerate((first_text, usable)):
        while not shown(list(term.screen.display)):
            for arrival in term.arrivals(0.0) or term.arrivals(0.01):
                sizes[at] += len(arrival.data)
                if shown(term.paint(arrival)):
                    break
    return sizes[0], sum(sizes)


def run(quick: bool) -> list[Row]:
    """Medians and most of each, after the first of its kind."""
    rows = []
    with folders() as env:
        term = opened(env)
        try:
            first, whole = _painted(term)
            rows.append(Row("wire: first frame", f"{first} B"))
            rows.append(Row("wire: until table and distribution stand", f"{whole} B"))
            _arrived(term, 1.0)
            term.press(" ")
            _arrived(term, 2.0)  # the forecast is prepared
            for name, key, times, budget in ACTIONS:
                sizes = []
                for _ in range(5 if quick else times):
                    term.press(key)
                    sizes.append(_arrived(term, QUIET))
                    if key == " ":  # the next dimension, of which nothing is counted
                        term.press("j")
                        _arrived(term, QUIET)
                most = max(sizes)
                met = None if budget is None else most <= budget
                limit = "" if budget is None else f"<= {budget} B"
                rows.append(
                    Row(f"wire: {name}, median (most)", f"{median(sizes):.0f} B ({most})", budget=limit, met=met)
                )
            term.press("w")
            _arrived(term, 1.0)
            term.press("r")
            end, size = time.perf_counter() + JOB_SECONDS, 0
            while time.perf_counter() < end:
                size += _arrived(term, 0.05)
            rows.append(Row("wire: a second of a sweep that runs", f"{size / JOB_SECONDS:.0f} B"))
        finally:
            term.close()
    return rows
