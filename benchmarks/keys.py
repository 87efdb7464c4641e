"""From a key to the last changed cell: dimensions of the bundled model toggled in a terminal of 80 by 24."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from benchmarks.inspector import folders, opened, usable
from benchmarks.painted import Arrival, Painted
from benchmarks.report import Row, milliseconds
from benchmarks.timing import median, p95

__all__ = ["run"]

TOGGLES = 60
LATENCY, WIRE = 0.060, 4096  # seconds, bytes
QUIET = 0.15  # seconds without output that end a repaint
PATIENCE = 30.0


def _settled(lines: Sequence[str], pruned: int) -> bool:
    """Whether the status line holds the answer to the edit in force."""
    return f"pruned {pruned}/" in lines[0] and re.search(r"KL [\d.e-]+(?!…)[ ·]", lines[0]) is not None


def _toggle(term: Painted, pruned: int) -> tuple[float, int]:
    """(seconds from the key to the last arrival that changed what is painted, bytes that arrived)."""
    before = list(term.screen.display)
    pressed = term.press(" ")
    last, size = pressed, 0
    while not (last > pressed and _settled(before, pruned)):
        found: list[Arrival] = term.arrivals(QUIET)
        for arrival in found:
            now = term.paint(arrival)
            size += len(arrival.data)
            if now != before:
                last, before = arrival.at, now
        if time.perf_counter() - pressed > PATIENCE:
            raise RuntimeError("the toggle never settled; the screen:\n" + "\n".join(before))
    return last - pressed, size


def run(quick: bool) -> list[Row]:
    """Toggle one dimension after another; the moves between are not measured."""
    taken, wire = [], []
    with folders() as env:
        term = opened(env)
        try:
            term.until(usable)
            for number in range(1, (10 if quick else TOGGLES) + 1):
                for arrival in term.arrivals(QUIET):
                    term.paint(arrival)
                latency, size = _toggle(term, number)
                taken.append(latency)
                wire.append(size)
                term.press("j")
        finally:
            term.close()
    worst = max(wire)
    return [
        Row(f"keys: toggle to painted change, p95 of {len(taken)}", milliseconds(p95(taken)),
            budget=f"<= {milliseconds(LATENCY)}", met=p95(taken) <= LATENCY),
        Row("keys: toggle to painted change, median", milliseconds(median(taken))),
        Row("keys: bytes on the wire per toggle, most", f"{worst} B", budget=f"<= {WIRE} B", met=worst <= WIRE),
        Row("keys: bytes on the wire per toggle, median", f"{median(wire):.0f} B"),
    ]  # fmt: skip
