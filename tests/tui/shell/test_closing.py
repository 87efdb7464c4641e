"""What still comes while an app closes: its screens are gone before its timers and its messages are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start
from tpe_tui.app import TpeApp
from tpe_tui.engine.messages import Answer, Failure
from tpe_tui.shell.burst import Burst
from tpe_tui.shell.one_paint import OnePaint

Late = Callable[[TpeApp], object]

LATE: dict[str, Late] = {
    "a timer that holds paint back": lambda app: OnePaint(app).begin(),
    "a timer that ends a burst": lambda app: Burst(app, app.host.give_way).begin(),
    "a repaint that a slow terminal put off": lambda app: app._caught_up(),
    "a failure": lambda app: app.post_message(Answer("close", 0, failure=Failure("It failed."))),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE.keys())
async def test_what_comes_while_the_app_closes_breaks_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, late: Late
) -> None:
    close_messages, came = TpeApp._close_messages, []

    async def close(app: TpeApp, wait: bool = True) -> None:
        if not app.is_running and not came:
            assert not app._screen_stack
            came.append(late(app))
            await asyncio.sleep(0.2)  # longer than any timer that holds something back
        await close_messages(app, wait)

    monkeypatch.setattr(TpeApp, "_close_messages", close)
    async with start(FakeSession()):
        pass
    assert came
