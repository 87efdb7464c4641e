"""A number typed before a key: how far the next key moves, how much it takes, or how often it acts.

A digit that is a key of the screen stays that key. Any other digit begins a number, and so does the key of the action
``app.count``; once a number has begun, every digit belongs to it, until another key uses it or drops it. What a key
means thus never depends on how fast it is typed, nor on what is typed behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from textual import events
from textual.screen import Screen

from tpe_tui.job_status import JobStatus

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["CountedScreen", "Counts"]

MOST = 5  # digits
DIGITS = frozenset("0123456789")


@runtime_checkable
class CountedScreen(Protocol):
    """A screen some of whose actions take a number."""

    def counted_action(self, action: str, count: int) -> str | None:
        """An action with a number in it, as Textual writes actions; None where it takes none."""


class Counts:
    """Takes the keys that make up a number before any screen of `app` sees them; `status` shows it."""

    def __init__(self, app: App[Any], status: JobStatus) -> None:
        self._app, self._status = app, status
        self._typed: str | None = None
        self._screen: Screen[object] | None = None

    def begin(self) -> None:
        """Begin a number: the next digit belongs to it whatever else it does."""
        self._show("")

    def drop(self) -> None:
        """Forget the number."""
        if self._typed is not None:
            self._show(None)

    def _show(self, typed: str | None) -> None:
        self._typed, self._screen = typed, self._app.screen
        self._status.count(typed)

    async def takes(self, event: events.Key) -> bool:
        """Whether a key is part of a number, or uses the one that was typed; any other key goes its own way."""
        if self._screen is not self._app.screen:
            self.drop()
        if self._typed is None:
            return self._begins(event.key)
        if event.key in DIGITS:
            self._show((self._typed + event.key).lstrip("0")[:MOST])
        elif event.key == "backspace":
            self._show(self._typed[:-1] or None)
        elif event.key == "escape":
            self.drop()
        else:
            return await self._used(event.key)
        return True

    def _begins(self, key: str) -> bool:
        screen = self._app.screen
        if key not in DIGITS or key == "0" or not isinstance(screen, CountedScreen) or getattr(screen, "small", False):
            return False
        if key in screen.active_bindings:
            return False
        self._show(key)
        return True

    async def _used(self, key: str) -> bool:
        """Let a key act by the number, where there is one and the key takes any; the number is gone then."""
        screen, number = self._app.screen, int(self._typed or 0)
        self.drop()
        bound = screen.active_bindings.get(key)
        if number == 0 or bound is None or not isinstance(screen, CountedScreen):
            return False
        counted = cast(CountedScreen, screen).counted_action(bound.binding.action, number)
        if counted is None:
            return False
        await self._app.run_action(counted, bound.node)
        return True
