"""Keys that no widget takes go to the app at once; whoever takes keys gets every one of them."""

from __future__ import annotations

from typing import ClassVar

import pytest
from textual import events, on
from textual.actions import SkipAction
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from tests.tui.helpers import Start
from tpe_tui.shell.direct_keys import act, goes_to_app


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


class Bound(Plain):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "own", "own"),
        Binding("b", "own", "own"),
        Binding("c", "refused", "refused"),
        Binding("d", "own", "own", id="moved"),
    ]

    def action_own(self) -> None:
        self.app.done.append("widget")  # type: ignore[attr-defined]

    def action_refused(self) -> None:
        raise SkipAction


class Recording(Sample):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "own", "own"),
        Binding("b", "first", "first", priority=True),
        Binding("c", "own", "own"),
        Binding("e", "own", "own"),
    ]

    def __init__(self) -> None:
        super().__init__(Bound())
        self.done: list[str] = []

    def action_own(self) -> None:
        self.done.append("app")

    def action_first(self) -> None:
        self.done.append("first")


class Modal(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "own", "own")]

    def action_own(self) -> None:
        self.app.done.append("modal")  # type: ignore[attr-defined]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("where", ["widget", "nothing focused", "modal"])
async def test_what_a_key_does_at_once_is_what_textual_would_do(where: str, moved: bool) -> None:
    app = Recording()
    async with app.run_test() as pilot:
        if moved:
            app.set_keymap({"moved": "f"})
        if where == "widget":
            app.widget.focus()
        elif where == "modal":
            await app.push_screen(Modal())
        else:
            app.set_focus(None)
        await pilot.pause()
        seen = set()
        for key in "abcdefg":
            here = await act(app, key)
            done, app.done = app.done, []
            textuals = await app._check_bindings(key, priority=True) or await app._check_bindings(key)
            assert (here, done) == (textuals, app.done), key
            app.done = []
            seen |= set(done)
        assert seen == {"widget": {"widget", "first", "app"}, "nothing focused": {"first", "app"}}.get(
            where, {"modal", "first"}
        )
