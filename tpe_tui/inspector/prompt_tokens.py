"""At which token of the prompt the distribution is asked for, and the figures of every token while they are seen."""

from __future__ import annotations

from collections.abc import Callable

from tpe_core.edits.intervention import Intervention
from tpe_core.progress import Progress
from tpe_core.snapshots import PromptPositions
from tpe_tui.engine.messages import Answer
from tpe_tui.widgets.token_strip import TokenStrip
from tpe_tui.workspace import Workspace

__all__ = ["PromptTokens"]

POSITIONS = "positions"  # the kind of the requests


class PromptTokens:
    """Asks for the figures of `strip` while it is open. `changed` is called where another token is to be asked about,
    `known` where the tokens are known, or cannot be.

    `position` is the index of that token; None stands for where the prompt itself asks.
    """

    def __init__(
        self,
        workspace: Workspace,
        strip: TokenStrip,
        changed: Callable[[], object],
        known: Callable[[], object],
    ) -> None:
        self._workspace, self.strip = workspace, strip
        self._changed, self._known = changed, known
        self.position: int | None = None
        self._prompt: str | None = None  # the one that `position` is of
        self._answer: PromptPositions | None = None
        self._asked: tuple[str, Intervention] | None = None

    def forget(self) -> None:
        """Another session: nothing that is known is about it."""
        self.position = self._answer = self._asked = self._prompt = None

    def follow(self) -> int | None:
        """The position in the prompt in force, which is where it asks in one that is new."""
        if self._workspace.history.prompt != self._prompt:
            self._prompt, self.position, self._answer = self._workspace.history.prompt, None, None
        return self.position

    @property
    def place(self) -> str:
        """At which token of the prompt the distribution is asked for, while the tokens are seen."""
        known = self._answer
        if known is None or not self.strip.is_open:
            return ""
        return f"position {1 + (known.asked if self.position is None else self.position)} of {len(known.ids)}"

    def toggle(self, is_open: bool) -> None:
        """Open the strip, or close it and ask where the prompt does."""
        self.strip.table = self._workspace.table
        self.strip.open(is_open)
        if is_open:
            self._asked = None
            self.ask()
        else:
            self._workspace.forget(POSITIONS)
            self._asked, self._answer, moved, self.position = None, None, self.position is not None, None
            if moved:
                self._changed()
            else:
                self._known()

    def ask(self) -> None:
        """Ask for the figures of the prompt and the edit in force, where they are seen and not known."""
        session, history = self._workspace.session, self._workspace.history
        prompt, edit = history.prompt, history.intervention
        if not self.strip.is_open or session is None or self._asked == (prompt, edit):
            return
        self._asked = prompt, edit
        self.strip.table = self._workspace.table
        self.strip.wait("reading the prompt's tokens…" if self._answer is None else "")
        self._workspace.ask(
            POSITIONS,
            lambda: session.positions(prompt, edit),
            self._accept,
            topic=(session, prompt, edit),
            waiting=self._show_progress,
        )

    def _show_progress(self, progress: Progress) -> None:
        key = self._workspace.keymap.shown("run.cancel")
        self.strip.note(f"{progress.label} {progress.fraction or 0:.0%}, {key} cancels")

    def _accept(self, answer: Answer) -> None:
        if answer.failure is not None:
            self._answer = None
            self.strip.refuse(answer.failure.sentence)
            self._known()
        elif isinstance(answer.value, PromptPositions):
            self._answer = answer.value
            self.strip.show(answer.value, answer.value.asked if self.position is None else self.position)
            self._known()

    def choose(self, position: int) -> None:
        """Ask at another token."""
        known = self._answer
        wanted = None if known is not None and known.asked == position else position
        if wanted != self.position:
            self.position = wanted
            self._changed()
