"""Keys that no widget takes go to the app at once; whoever takes keys gets every one of them."""

from __future__ import annotations

from typing import ClassVar

import pytest
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input, TextArea

from tests.tui.helpers import Start
from tpe_tui.shell.direct_keys import goes_to_app


class Plain(Widget, can_focus=True):
    BINDINGS: ClassVar[list[BindingType]] = [("j", "down", "down")]


class ByName(Plain):
    def on_key(self, event: events.Key) -> None: ...


class ByPrivateName(Plain):
    def _on_key(self, event: events.Key) -> None: ...


class ByDecorator(Plain):
    @on(events.Key)
    def take(self, event: events.Key) -> None: ...


class OneKey(Plain):
    def key_j(self) -> None: ...


class Inheriting(ByName): ...


class Handling(Vertical):
    def on_key(self, event: events.Key) -> None: ...


class Sample(App[None]):
    def __init__(self, widget: Widget, inside: type[Vertical] = Vertical) -> None:
        super().__init__()
        self.widget, self.inside = widget, inside

    def compose(self) -> ComposeResult:
        with self.inside():
            yield self.widget


@pytest.mark.parametrize(
    ("widget", "key", "goes"),
    [
        (Plain, "j", True),
        (ByName, "j", False),
        (ByPrivateName, "j", False),
        (ByDecorator, "j", False),
        (Inheriting, "j", False),
        (OneKey, "j", False),
        (OneKey, "k", True),
        (Input, "j", False),
        (TextArea, "j", False),
        (Plain, "escape", False),  # Textual's screen takes it
    ],
)
async def test_a_key_goes_to_the_app_at_once_where_no_widget_takes_it(
    widget: type[Widget], key: str, goes: bool
) -> None:
    app = Sample(widget())
    async with app.run_test():
        app.widget.focus()
        assert goes_to_app(app, events.Key(key, key)) is goes


async def test_a_container_that_takes_keys_gets_them() -> None:
    app = Sample(Plain(), Handling)
    async with app.run_test():
        app.widget.focus()
        assert not goes_to_app(app, events.Key("j", "j"))


async def test_a_maximized_widget_is_left_by_escape_as_textual_says() -> None:
    app = Sample(Plain())
    async with app.run_test() as pilot:
        app.widget.focus()
        app.screen.maximize(app.widget)
        assert not goes_to_app(app, events.Key("j", "j"))
        await pilot.press("escape")
        assert app.screen.maximized is None


@pytest.mark.parametrize("key", ["j", "space", "ctrl+d", "2", "s"])
async def test_the_inspectors_keys_go_to_the_app_at_once(start: Start, key: str) -> None:
    async with start() as (app, _):
        assert goes_to_app(app, events.Key(key, key if len(key) == 1 else None))


async def test_a_question_takes_its_own_keys(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("p")
        assert not goes_to_app(app, events.Key("j", "j"))
