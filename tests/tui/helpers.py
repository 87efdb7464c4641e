"""Waiting, typing and reading lines: what every pilot test does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

from textual.pilot import Pilot
from textual.widgets import Input

from tpe_tui.app import TpeApp
from tpe_tui.shell.engine_app import EngineApp
from tpe_tui.widgets.line_widget import LineWidget

Start = Callable[..., AbstractAsyncContextManager[tuple[TpeApp, Pilot[int]]]]


async def until(pilot: Pilot[int], what: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for `what` and for all that was typed, failing loudly where it does not come."""
    for _ in range(int(seconds / 0.02)):
        app = cast(EngineApp, pilot.app)
        if what() and app.input_order.idle and not app.burst.is_holding:
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("waited in vain")


async def answered(app: TpeApp, pilot: Pilot[int]) -> None:
    """Wait until what is shown belongs to the edit in force."""
    await until(pilot, lambda: app.inspector.current(app.inspector.tokens.answer))


def lines(widget: LineWidget) -> list[str]:
    """A widget's lines as plain text."""
    return ["".join(text for text, _ in widget.line(y, widget.size.width)[0]) for y in range(widget.size.height)]


async def type_line(pilot: Pilot[int], text: str) -> None:
    """Answer the open question."""
    pilot.app.screen.query_one(Input).value = text
    await pilot.press("enter")
    await pilot.pause()


class Gate:
    """Lets a fake job take so many steps and no more."""

    def __init__(self, steps: int) -> None:
        self._free = threading.Semaphore(steps)

    def __call__(self) -> None:
        assert self._free.acquire(timeout=20)

    def open(self, steps: int = 1000) -> None:
        self._free.release(steps)
