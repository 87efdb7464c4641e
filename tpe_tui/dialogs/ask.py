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

__all__ = ["PROBLEM", "Ask", "Check"]

TYPED, WARNING, PROBLEM = "-typed", "-warning", "-problem"
"""Style classes: what is wrong with a line that is still typed, what would come of it, why an answer was refused."""

Check = Callable[[str], str | None]
"""A check of what was typed: None where it will do, else a sentence."""


class Ask(Dialog[str | None]):
    """Ask for one line. Enter answers with the text, escape with None; a sentence of `check` keeps it open.

    The sentence is also said while the line is typed. Where nothing says what would come of it, one that is empty or as
    it was is found wrong only when enter is pressed.
    """

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

        `refusal` is why it is asked again, in the place of the hint; a question with an `outcome` has none.

        `outcome` says below the hint what would come of an answer that will do, and whether that is a warning;
        `look_again` asks it anew.
        """
        super().__init__()
        self._question = question
        self._value = value
        self._hint = hint or "enter accepts, esc leaves"
        self._check = check
        self._shown = shown
        self._outcome = outcome
        self._refusal = refusal
        self._answered: str | None = None  # what enter was pressed on last

    def compose(self) -> ComposeResult:
        """The question, the line, the hint."""
        with Vertical(id="ask"):
            yield Static(Text(self._question), id="ask-question", markup=False)
            yield TextLine(self._value, self._shown, id="ask-input")
            yield Static(Text(self._hint), id="ask-hint", markup=False)
            if self._outcome is not None:
                yield Static(id="ask-outcome", markup=False)

    def on_mount(self) -> None:
        """Ready to type."""
        self.query_one(TextLine).focus()
        self.look_again()
        if self._outcome is None:
            self._as_begun()

    @on(TextLine.Changed)
    def _line_changed(self) -> None:
        typed = self.query_one(TextLine).value
        if self._outcome is not None:
            self._say(self._hint, "", "#ask-hint")
            self.look_again()
        elif typed == self._value:
            self._as_begun()
        else:
            problem = self._check(typed) if self._check and typed.strip() else None
            self._say(problem or self._hint, TYPED if problem else "")

    def _as_begun(self) -> None:
        if self._refusal:
            self._say(self._refusal, PROBLEM)
        else:
            self._say(self._hint, "")

    def look_again(self) -> None:
        """Say what would come of the line as it stands."""
        if self._outcome is not None:
            typed = self.query_one(TextLine).value
            problem = self._check(typed) if self._check else None
            if problem is not None:
                self._say(problem, PROBLEM if typed == self._answered else TYPED)
            else:
                text, is_warning = self._outcome(typed)
                self._say(text, WARNING if is_warning else "")

    @on(TextLine.Submitted)
    def accept(self, event: TextLine.Submitted) -> None:
        """Enter."""
        problem = self._check(event.value) if self._check else None
        if problem is None:
            self.dismiss(event.value)
        else:
            self._answered = event.value
            self._say(problem, PROBLEM)

    @on(TextLine.Refused)
    def _refused(self, event: TextLine.Refused) -> None:
        event.stop()
        self._say(event.sentence, PROBLEM, "#ask-hint")

    def _say(self, text: str, kind: str, where: str = "") -> None:
        """One sentence below the line: in the place of the hint, or where stands what would come of an answer."""
        place = self.query_one(where or ("#ask-hint" if self._outcome is None else "#ask-outcome"), Static)
        place.update(Text(text))
        for each in (TYPED, WARNING, PROBLEM):
            place.set_class(each == kind, each)

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss(None)
