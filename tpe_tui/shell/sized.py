"""A screen that needs room: below the smallest size it says so, and only the keys that are safe unseen act."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tpe_tui.sizes import too_small

__all__ = ["NeedsRoom"]

SAFE_UNSEEN = frozenset({"app_quit", "app_help", "leave", "back", "help"})

if TYPE_CHECKING:
    _Screen = Screen[Any]
else:
    _Screen = object


class NeedsRoom(_Screen):
    """Mixed into a screen class, in front of it. The screen has a `Static` called ``small``."""

    _focus_kept: Widget | None = None  # what has the focus again once there is room

    @property
    def small(self) -> bool:
        """Whether the terminal is below the smallest size."""
        return bool(too_small(*self.app.size))

    def measure(self, shown: Callable[[str], str]) -> None:
        """The screen has another size; `shown` gives an action's key as people write it."""
        small, before = too_small(*self.size), self.has_class("-small")
        self.set_class(bool(small), "-small")
        if small and not before:
            self._focus_kept = self.focused
        elif before and not small:
            self.call_after_refresh(self._focus_again)
        keys = f"Until it is larger only {shown('app.quit')} (leaves) and {shown('app.help')} (lists the keys) act."
        self.query_one("#small", Static).update(Text(f"{small}\n{keys}" if small else ""))

    def _focus_again(self) -> None:
        """Textual takes the focus from what is hidden, and a dialog that closes gives it to the first pane."""
        if self._focus_kept is not None and not self.has_class("-small"):
            self.set_focus(self._focus_kept, scroll_visible=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's hook: whether an action may run now."""
        return False if self.small and action not in SAFE_UNSEEN else super().check_action(action, parameters)
