"""From a key to the last changed cell: dimensions of the bundled model toggled in a terminal of 80 by 24.

The first toggle starts the job that prepares the forecast. Its steps in the strip, and the forecast that comes when it
is done, are no answer to the key: they are left out of that toggle's time and bytes, and have a row of their own.
"""

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
ANSWER = re.compile(r"pruned \d+/|KL \S+")
STRIP = 22  # the line of the running job


def _settled(lines: Sequence[str], pruned: int) -> bool:
    """Whether the status line holds the answer to the edit in force."""
    return f"pruned {pruned}/" in lines[0] and re.search(r"KL [\d.e-]+(?!…)[ ·]", lines[0]) is not None


def _without_job(lines: Sequence[str]) -> list[str]:
    """The lines without the strip; of the status line, in which a forecast displaces others, the answer's fields."""
    return [*ANSWER.findall(lines[0]), *lines[1:STRIP], *lines[STRIP + 1 :]]


def _toggle(term: Painted, pruned: int, is_first: bool) -> tuple[float, int, float]:
    """(seconds from the key to the last change of what is painted, bytes until then, seconds to the forecast)."""
    seen = _without_job if is_first else list
    before = seen(term.screen.display)
    pressed = term.press(" ")
    last, size, arrived, forecast = pressed, 0, 0, 0.0
    while not (last > pressed and forecast and _settled(term.screen.display, pruned)):
        found: list[Arrival] = term.arrivals(QUIET)
        for arrival in found:
            lines = term.paint(arrival)
            now = seen(lines)
            arrived += len(arrival.data)
            if now != before:
                last, before, size = arrival.at, now, arrived
            if not forecast and "text ≈" in lines[0]:
                forecast = arrival.at - pressed
        if time.perf_counter() - pressed > PATIENCE:
            raise RuntimeError("the toggle never settled; the screen:\n" + "\n".join(term.screen.display))
    return last - pressed, size, forecast


def run(quick: bool) -> list[Row]:
    """Toggle one dimension after another; the moves between are not measured."""
    taken, wire, forecasts = [], [], []
    with folders() as env:
        term = opened(env)
        try:
            term.until(usable)
            for number in range(1, (10 if quick else TOGGLES) + 1):
                for arrival in term.arrivals(QUIET):
                    term.paint(arrival)
                latency, size, forecast = _toggle(term, number, number == 1)
                taken.append(latency)
                wire.append(size)
                forecasts.append(forecast)
                term.press("j")
        finally:
            term.close()
    worst = max(wire)
    return [
        Row(f"keys: toggle to painted change, p95 of {len(taken)}", milliseconds(p95(taken)),
            budget=f"<= {milliseconds(LATENCY)}", met=p95(taken) <= LATENCY),
        Row("keys: toggle to painted change, median", milliseconds(median(taken))),
        Row("keys: first toggle to the first forecast", milliseconds(forecasts[0])),
        Row("keys: bytes on the wire per toggle, most", f"{worst} B", budget=f"<= {WIRE} B", met=worst <= WIRE),
        Row("keys: bytes on the wire per toggle, median", f"{median(wire):.0f} B"),
    ]  # fmt: skip
