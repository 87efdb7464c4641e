"""The help screen: every action of the key table with the keys in force and its command line, if it has one."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tpe_tui.cells import fit
from tpe_tui.dialogs.dialog import Dialog
from tpe_tui.glossary import sections
from tpe_tui.keymap import Keymap

__all__ = ["HelpScreen", "help_table", "words_table"]

KEY_CELLS = 12
ID_CELLS = 17
WORD_CELLS = 14


def help_table(keymap: Keymap, ids: bool = False) -> Group:
    """Every action, a long line wrapped below its beginning; with `ids`, the ids to use in the user's keys file."""
    parts: list[RenderableType] = []
    for group, actions in keymap.groups().items():
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=2 + KEY_CELLS, style="bold", no_wrap=True)
        if ids:
            table.add_column(width=ID_CELLS, no_wrap=True)
        table.add_column()
        for action in actions:
            about = Text(action.help)
            if action.counted and not ids:
                about.append(f"  [a number: {action.counted}]", style="dim")
            if action.headless and not ids:
                about.append(f"  ({action.headless})", style="dim")
            key = Text(f"  {fit(keymap.shown(action.id, every=True), KEY_CELLS)}")
            table.add_row(key, *([Text(action.id)] if ids else []), about)
        parts += [Text(f"\n{group}" if parts else group, style="bold"), table]
    return Group(*parts)


def words_table() -> Group:
    """The columns of the tables, the words of the status line and the figures about the fit, each explained."""
    parts: list[RenderableType] = [Text("\nColumns and words", style="bold")]
    for title, words in sections().items():
        table = Table.grid(padding=(0, 1))
        cells = max(WORD_CELLS, *map(cell_len, words))
        table.add_column(width=cells + 2, style="bold", no_wrap=True)
        table.add_column()
        for name, meaning in words.items():
            table.add_row(Text(f"  {name}"), Text(meaning))
        parts += [Text(f"\n{title}", style="bold"), table]
    return Group(*parts)


class HelpScreen(Dialog[None]):
    """Scrolls with the usual keys; tab switches command lines and action ids, `w` goes to what the words mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark", "leave", "close", show=False),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
        Binding("ctrl+d,pagedown,space", "scroll(12)", "down", show=False),
        Binding("ctrl+u,pageup", "scroll(-12)", "up", show=False),
        Binding("tab", "ids", "ids", show=False),
        Binding("w", "words", "words", show=False),
    ]

    def __init__(self, keymap: Keymap, keys_file: str) -> None:
        """Show `keymap`; `keys_file` is the name of the file that changes it."""
        super().__init__()
        self._keymap = keymap
        self._keys_file = keys_file
        self._ids = False

    def compose(self) -> ComposeResult:
        """The title, the table, the hint."""
        with Vertical(id="text"):
            yield Static(Text("Keys"), id="text-title", markup=False)
            with VerticalScroll(id="text-body", can_focus=False):
                yield Static(help_table(self._keymap), id="help-table", markup=False)
                yield Static(words_table(), id="help-words", markup=False)
            yield Static(
                Text(f"j k scroll, w columns and words, tab ids for {self._keys_file}, esc closes"),
                id="text-hint",
                markup=False,
            )

    def action_scroll(self, rows: int) -> None:
        """Scroll."""
        self.query_one("#text-body").scroll_relative(y=rows, animate=False)

    def action_ids(self) -> None:
        """Command lines or ids."""
        self._ids = not self._ids
        self.query_one("#help-table", Static).update(help_table(self._keymap, self._ids))

    def action_words(self) -> None:
        """Go to the columns and words."""
        self.query_one("#text-body").scroll_to_widget(self.query_one("#help-words"), top=True, animate=False)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)
