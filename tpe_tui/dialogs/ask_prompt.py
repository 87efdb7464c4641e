"""The question for a prompt: as any other, with the earlier prompts and the user's own editor at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from tpe_core.errors import TpeError
from tpe_tui.cells import escape_controls, shown_prompt, typed_prompt
from tpe_tui.dialogs.ask import PROBLEM, Ask
from tpe_tui.widgets.text_line import TextLine

__all__ = ["AskPrompt"]


class AskPrompt(Ask):
    """Ask for a prompt. Up and down walk the `earlier` ones, the latest first; ctrl+o gives the text to `edit`.

    What was typed stays below the latest earlier one. Raises nothing: a sentence of `edit` is shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "walk(1)", "earlier prompt", show=False),
        Binding("down", "walk(-1)", "later prompt", show=False),
        Binding("ctrl+o", "editor", "editor", show=False),
    ]

    def __init__(self, prompt: str, hint: str, earlier: Sequence[str], edit: Callable[[str], str]) -> None:
        """`prompt` stands in the line at first; the answer is a line that `typed_prompt` reads."""
        self._earlier = [_line(text) for text in earlier if text != prompt]
        keys = "↑ ↓ earlier prompts, ^o editor" if earlier else "^o opens the editor"
        super().__init__("prompt", _line(prompt), f"{hint}; {keys}" if hint else keys, shown=shown_prompt)
        self._edit = edit
        self._at = 0  # how far back the line is; 0 is what was typed
        self._typed = ""

    def action_walk(self, step: int) -> None:
        """Show the prompt that was asked before, or after, the one in the line."""
        line = self.query_one(TextLine)
        if self._at == 0:
            self._typed = line.value
        at = max(0, min(self._at + step, len(self._earlier)))
        if at != self._at:
            self._at = at
            line.value = self._earlier[at - 1] if at else self._typed
            line.cursor_position = len(line.value)

    def action_editor(self) -> None:
        """Edit the prompt in the user's editor; it comes back into the line."""
        line = self.query_one(TextLine)
        try:
            line.value = _line(self._edit(typed_prompt(line.value)))
        except TpeError as error:
            self._say(str(error), PROBLEM)
        else:
            line.cursor_position = len(line.value)


def _line(prompt: str) -> str:
    return escape_controls(shown_prompt(prompt))
