"""A question that one key answers. Enter, escape and any other key are the safe answer, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tpe_tui.cells import escape_controls
from tpe_tui.dialogs.dialog import Dialog

__all__ = ["Question"]

SAFE = ("enter", "escape")


class Question(Dialog["str | None"]):
    """Answers with one of the keys of `choices`, or with None for enter and escape; other keys do nothing."""

    def __init__(self, title: str, sentences: Sequence[str], choices: Mapping[str, str], safe: str) -> None:
        """`choices` say what each key does, `safe` what enter and escape do."""
        super().__init__()
        self._title_line = title
        self._sentences = sentences
        self._choices = choices
        self._safe = safe

    def compose(self) -> ComposeResult:
        """The title, the sentences, the keys."""
        keys = [*(f"{key} {what}" for key, what in self._choices.items()), f"enter or esc {self._safe}"]
        with Vertical(id="question"):
            yield Static(Text(self._title_line), id="question-title", markup=False)
            yield Static(Text("\n".join(map(escape_controls, self._sentences))), id="question-body", markup=False)
            yield Static(Text(", ".join(keys)), id="question-keys", markup=False)

    def on_key(self, event: events.Key) -> None:
        """One key answers."""
        if event.key in self._choices:
            event.stop()
            self.dismiss(event.key)
        elif event.key in SAFE:
            event.stop()
            self.dismiss(None)
