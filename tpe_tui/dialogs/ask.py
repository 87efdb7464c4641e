"""One-line questions over the inspector: a prompt, a ratio, a share, a path, a search.

The answer is text that the asker understood; a modal never changes anything itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tpe_tui.dialogs.dialog import Dialog
from tpe_tui.widgets.text_line import TextLine

__all__ = ["Ask", "Check"]

Check = Callable[[str], str | None]
"""A check of what was typed: None where it will do, else a sentence."""


class Ask(Dialog[str | None]):
    """Ask for one line. Enter answers with the text, escape with None; a sentence of `check` keeps it open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "cancel", show=False)]

    def __init__(
        self,
        question: str,
        value: str = "",
        hint: str = "",
        check: Check | None = None,
        *,
        shown: Callable[[str], str] | None = None,
        outcome: Callable[[str], tuple[str, bool]] | None = None,
        refusal: str = "",
    ) -> None:
        """`value` stands in the line at first, `hint` below it; `shown` is how several pasted lines stand there.

        `refusal` is why it is asked again, in the place of the hint.

        `outcome` says below an answer that will do what would come of it, and whether that is a warning; `look_again`
        asks it anew.
        """
        super().__init__()
        self._question = question
        self._value = value
        self._hint = hint
        self._check = check
        self._shown = shown
        self._outcome = outcome
        self._refusal = refusal

    def compose(self) -> ComposeResult:
        """The question, the line, the hint."""
        with Vertical(id="ask"):
            yield Static(Text(self._question), id="ask-question", markup=False)
            yield TextLine(self._value, self._shown, id="ask-input")
            yield Static(Text(self._hint or "enter accepts, esc leaves"), id="ask-hint", markup=False)
            if self._outcome is not None:
                yield Static(id="ask-outcome", markup=False)

    def on_mount(self) -> None:
        """Ready to type."""
        self.query_one(TextLine).focus()
        self.look_again()
        if self._refusal:
            self._say(self._refusal)

    @on(TextLine.Changed)
    def _line_changed(self) -> None:
        if self._outcome is not None:
            hint = self.query_one("#ask-hint", Static)
            hint.update(Text(self._hint))
            hint.remove_class("-problem")
            self.look_again()

    def look_again(self) -> None:
        """Say what would come of the line as it stands."""
        if self._outcome is not None:
            typed, below = self.query_one(TextLine).value, self.query_one("#ask-outcome", Static)
            problem = self._check(typed) if self._check else None
            text, is_warning = (problem, False) if problem is not None else self._outcome(typed)
            below.update(Text(text))
            below.set_class(is_warning, "-warning")

    @on(TextLine.Submitted)
    def accept(self, event: TextLine.Submitted) -> None:
        """Enter."""
        problem = self._check(event.value) if self._check else None
        if problem is None:
            self.dismiss(event.value)
        else:
            self._say(problem)

    @on(TextLine.Refused)
    def _refused(self, event: TextLine.Refused) -> None:
        event.stop()
        self._say(event.sentence)

    def _say(self, problem: str) -> None:
        hint = self.query_one("#ask-hint", Static)
        hint.update(Text(problem))
        hint.add_class("-problem")

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss(None)
