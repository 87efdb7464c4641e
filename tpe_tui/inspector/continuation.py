"""A few tokens after the prompt, without the edit and with it, in two lines of the inspector.

They are the most probable token each time. A job in the background writes them: it takes its steps only while nothing
else is to be done, and begins anew where the prompt or the edit is another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from tpe_core.edits.intervention import Intervention
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import Continuation, Controls, PairedGeneration, PairRequest
from tpe_tui.cells import escape_controls, fit
from tpe_tui.glyphs import ascii_token
from tpe_tui.widgets.line_widget import Line, LineWidget
from tpe_tui.workspace import CallbackJob, Workspace

if TYPE_CHECKING:
    from tpe_tui.engine.messages import JobUpdate

__all__ = ["TOKENS", "Continued", "ContinuedStrip"]

TOKENS = 8
GREEDY = Decoding(TOKENS, temperature=0.0)
NAME = "continuation"
NAME_CELLS = 6


class ContinuedStrip(LineWidget):
    """Two lines, seen while they are open: what follows in the unedited model and in the edited one."""

    def __init__(self) -> None:
        super().__init__("continued")
        self.pair: PairedGeneration | None = None
        self.said = ""  # in place of both
        self.pending = False  # whether more is on its way
        self.ascii_only = False

    @property
    def is_open(self) -> bool:
        """Whether it is on the screen."""
        return self.has_class("-open")

    def show(self, pair: PairedGeneration | None, said: str = "", *, pending: bool = False) -> None:
        """Show what is written so far; nothing is, where something is `said`."""
        self.pair, self.said, self.pending = pair, said, pending
        self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """What one side says; the edited one is marked from where it differs."""
        name: Line = [(f" {fit(('base', 'now')[y], NAME_CELLS)}" if y < 2 else "", "key")]
        left = width - NAME_CELLS - 2
        if self.said or self.pair is None or y > 1:
            return ([*name, (fit(self.said, left), "muted")] if y == 0 and self.said else name), "row"
        side, parts, at = (self.pair.base, self.pair.edited)[y], list[tuple[str, str]](), self.pair.first_difference
        for step, token in enumerate(side.tokens):
            parts.append((self._shown(token.text), "steered" if y and at is not None and step >= at else "row"))
        if self._is_awaited(side):
            parts.append(("…", "muted"))
        line = name
        for text, role in parts:
            cut = fit(text, left) if cell_len(text) > left else text
            line, left = [*line, (cut, role)], left - cell_len(cut)
            if left <= 0:
                break
        return line, "row"

    def _is_awaited(self, side: Continuation) -> bool:
        return self.pending and not side.ended and len(side.tokens) < TOKENS

    def _shown(self, text: str) -> str:
        shown = escape_controls(text.replace("\n", "\\n"))
        return ascii_token(shown) if self.ascii_only else shown


class Continued:
    """Has `strip` written while it is open."""

    def __init__(self, workspace: Workspace, strip: ContinuedStrip) -> None:
        self._workspace, self.strip = workspace, strip
        self._job: int | None = None
        self._asked: tuple[object, str, Intervention] | None = None

    def toggle(self) -> None:
        """Open the strip, or close it."""
        is_open = not self.strip.is_open
        self.strip.set_class(is_open, "-open")
        self.forget()
        if is_open:
            self.ask()

    def forget(self) -> None:
        """What is written is about nothing that is open any more."""
        self._drop()
        self._asked = None
        self.strip.show(None)

    def _drop(self) -> None:
        if self._job is not None:
            self._workspace.drop(self._job)
            self._job = None

    def ask(self) -> None:
        """Have the prompt and the edit in force continued, where that is seen and not under way."""
        workspace, session = self._workspace, self._workspace.session
        if not self.strip.is_open:
            return
        if session is None:
            self.strip.show(None, "waits for the model")
            return
        prompt, edit = workspace.history.prompt, workspace.history.intervention
        if self._asked == (session, prompt, edit):
            return
        self._drop()
        self._asked = session, prompt, edit
        self.strip.ascii_only = workspace.ascii_only
        self.strip.show(None, "reads the prompt…")
        controls, request = Controls(edit), PairRequest(prompt, GREEDY)
        job = CallbackJob(NAME, lambda: session.generate(request, lambda: controls), self._update)
        self._job = workspace.queue(job, background=True)

    def _update(self, message: JobUpdate) -> None:
        """Show a token more, or why there is none; of a job that was dropped nobody hears."""
        written = message.progress.partial if message.progress is not None else message.value
        is_running = message.state == "running"
        if not is_running:
            self._job = None
        if message.failure is not None:
            self.strip.show(None, message.failure.sentence)
        elif isinstance(written, PairedGeneration):
            self.strip.show(written, pending=is_running)
