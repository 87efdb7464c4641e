"""The inspector's one screen: its panes, and a method for every key, each of one of the groups of actions beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from textual import events

from tpe_tui.engine.session import Session
from tpe_tui.inspector.bookmark_actions import BookmarkActions
from tpe_tui.inspector.browse_actions import BrowseActions
from tpe_tui.inspector.frame import InspectFrame
from tpe_tui.inspector.mask_actions import MaskActions
from tpe_tui.inspector.out_actions import OutActions
from tpe_tui.inspector.run_actions import RunActions
from tpe_tui.inspector.steer_actions import SteerActions
from tpe_tui.keymap import ACTIONS, COUNTED, bindings
from tpe_tui.shell.view_memory import SavedView

__all__ = ["InspectScreen"]


class InspectScreen(InspectFrame):
    """The panes with the keys: an action of the key table is the method of its name of one of the groups."""

    BINDINGS = bindings()

    def __init__(self) -> None:
        super().__init__()
        self.browsing = BrowseActions(self)
        self.bookmarks = BookmarkActions(self)
        self.masks = MaskActions(self)
        self.steering = SteerActions(self)
        self.runs = RunActions(self)
        self.files = OutActions(self)

    def opened(self, session: Session, is_another: bool) -> None:
        """Show a session that was opened; the groups forget what was of the one before."""
        self.browsing.forget()
        self.show_session(session, is_another)
        self.runs.forget(is_another)
        if is_another:
            self.files.forget()
            self.steering.forget()
        self.runs.restore_sweep(self.front.memory)

    def _restore_view(self, view: SavedView, *, is_whole: bool) -> None:
        """The list of prompts as well."""
        super()._restore_view(view, is_whole=is_whole)
        self.runs.prompts.add(view.prompts)

    def view(self) -> SavedView:
        """What to restore at the next start: with the list of prompts."""
        return replace(super().view(), prompts=tuple(self.runs.prompts.prompts))

    def counted_action(self, action: str, count: int) -> str | None:
        """An action of the table that takes a number, with it; None for any other."""
        return f"{action}({count})" if action in COUNTED else None

    def on_paste(self, event: events.Paste) -> None:
        """Textual's hook: what is pasted into the inspector is text, a prompt to accept or to drop, and never keys."""
        event.stop()
        text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if text.strip() and not self.small:
            self.runs.ask_prompt(text, "pasted: enter makes it the prompt, esc drops it")


def _action(group: str, method: str) -> Callable[[InspectScreen], Any]:
    """The method that Textual calls for a key, or for a key with a number: it calls that of the group of actions."""

    def act(screen: InspectScreen, *count: int) -> object:
        return getattr(getattr(screen, group), method)(*count)

    act.__name__ = f"action_{method}"
    return act


GROUPS: Mapping[str, type] = {
    "browsing": BrowseActions,
    "bookmarks": BookmarkActions,
    "masks": MaskActions,
    "steering": SteerActions,
    "runs": RunActions,
    "files": OutActions,
}
"""Every group of actions by the attribute of the screen that holds it."""

for _group, _kind in GROUPS.items():
    for _method in (action.method for action in ACTIONS if hasattr(_kind, action.method)):
        setattr(InspectScreen, f"action_{_method}", _action(_group, _method))
