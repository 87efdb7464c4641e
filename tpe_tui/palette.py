"""The command palette: every action of the key table, found by name.

It runs what the key would run and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from tpe_tui.keymap import ACTIONS, Action, Keymap

__all__ = ["TpeCommands"]

UNLISTED = ("Move", "App")


class PerformsActions(Protocol):
    """What the palette needs of its app."""

    keymap: Keymap

    def perform(self, action_id: str) -> None:
        """Run an action of the key table by its id."""


class TpeCommands(Provider):
    """The table's actions as palette entries, as plain content: a key such as ``[`` is not markup."""

    def _entries(self) -> list[tuple[Action, str, Callable[[], object]]]:
        app = cast("PerformsActions", self.app)
        return [
            (action, f"{action.group}: {action.help}  [{app.keymap.shown(action.id)}]", partial(app.perform, action.id))
            for action in ACTIONS
            if action.group not in UNLISTED or action.id in ("app.help", "app.quit")
        ]

    async def discover(self) -> Hits:
        """Everything, in the table's order."""
        for action, text, run in self._entries():
            yield DiscoveryHit(Content(text), run, text=text, help=action.headless or None)

    async def search(self, query: str) -> Hits:
        """What matches the letters typed."""
        matcher = self.matcher(query)
        for action, text, run in self._entries():
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, Content(text), run, text=text, help=action.headless or None)
