"""The line that every dialog types into: typing replaces what stands there, and no paste is cut in silence."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.message import Message
from textual.widgets import Input
from textual.widgets.input import Selection

from tpe_tui.cells import escape_controls

__all__ = ["TextLine", "marked_lines"]


def marked_lines(text: str) -> str:
    """Newlines and tabs as ``\\n`` and ``\\t``, as the tokens on screen have them."""
    return text.replace("\n", "\\n").replace("\t", "\\t")


class TextLine(Input):
    """One line. `shown` says how several pasted lines stand in it; without it, only one line can be pasted."""

    class Refused(Message):
        """Several lines were pasted where one belongs; nothing was inserted."""

        def __init__(self, lines: int) -> None:
            """`lines` that are not empty."""
            super().__init__()
            self.sentence = f"{lines} lines were pasted and one belongs here: nothing was inserted"

    def __init__(
        self, value: str = "", shown: Callable[[str], str] | None = None, *, placeholder: str = "", id: str
    ) -> None:
        """`value` is selected to begin with, so that typing replaces it and moving edits it."""
        super().__init__(value, placeholder=placeholder, id=id, compact=True, select_on_focus=False)
        self._shown = shown
        self.selection = Selection(0, len(value))

    def insert_pasted(self, text: str) -> None:
        """Put a pasted text in the place of the selection, or at the cursor."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self._shown is None:
            lines = [line for line in text.split("\n") if line.strip()]
            if len(lines) > 1:
                self.post_message(self.Refused(len(lines)))
                return
            text = lines[0].strip() if lines else ""
        else:
            text = self._shown(text)
        self.replace(escape_controls(text), *self.selection)

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.insert_pasted(event.text)

    def action_paste(self) -> None:
        """What was copied in this app."""
        self.insert_pasted(self.app.clipboard)
