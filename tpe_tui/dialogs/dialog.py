"""What every screen over another one shares: it closes once, and its actions run only while it is on top.

An action may come twice, late, or for a screen that is gone; then it does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen

__all__ = ["ClosesOnce", "Dialog"]

Result = TypeVar("Result")

if TYPE_CHECKING:
    _Screen = Screen[Any]
else:
    _Screen = object  # what is no widget leaves the styles of the class beside it alone


class ClosesOnce(_Screen):
    """Mixed into a screen class, in front of it."""

    @property
    def is_on_top(self) -> bool:
        """Whether the keys are this screen's. Textual's `is_current` is also true of a screen seen through a dialog."""
        return self.is_attached and self.app.screen_stack[-1:] == [self]

    @property
    def is_open(self) -> bool:
        """Whether it is one of the app's screens, on top or not."""
        return self.is_attached and self in self.app.screen_stack

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close the screen with its answer; nothing happens where it is not on top, or closed already."""
        return super().dismiss(result) if self.is_on_top else AwaitComplete()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's hook: whether an action may run now."""
        return super().check_action(action, parameters) if self.is_on_top else False


class Dialog(ClosesOnce, ModalScreen[Result], Generic[Result]):
    """A screen that is answered. Subclasses call `dismiss` as often as they like; the first answer counts."""
