"""What the steering study shows: its panes, their layout at any size, its titles, and why there is nothing yet.

It shows a `SteerState`; what keys change and what the engine is asked is in `steering.screen`.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content

from tpe_core.printable import printable_token
from tpe_core.steering.results import Steerable
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.cells import count, escape_controls, number
from tpe_tui.engine.session import Session
from tpe_tui.steering.dose_plot import DosePlot, Slider
from tpe_tui.steering.dose_table import DoseTable
from tpe_tui.steering.keys import FOOTER, KEYS
from tpe_tui.steering.reading import TextsReading
from tpe_tui.steering.state import SteerState
from tpe_tui.study import StudyScreen
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.token_table import TokenBars
from tpe_tui.workspace import Workspace

__all__ = ["SteerView"]


class SteerView(StudyScreen):
    """Over the edit in force, beginning with one token."""

    NAME, KEYS, FOOTER = "Steering study", KEYS, FOOTER
    COUNTED = frozenset({"slide", "turn"})

    def __init__(
        self,
        workspace: Workspace,
        session: Session,
        token_id: int | None,
        reading: TextsReading | None = None,
        state: SteerState | None = None,
    ) -> None:
        """Show a study of `token_id`; of the most frequent token where None.

        Its texts are those of `reading`; with `state` it is a study that was left before.
        """
        super().__init__(workspace)
        self.session = session
        self.drawn = table = workspace.table or session.table  # of this model, also when another was opened
        self._tokens = table.tokens
        token_id = int(table.surprisal.argmin()) if token_id is None else token_id
        self.state = state or SteerState.of(workspace.history.intervention, token_id, workspace.history.method)
        self.reading = reading or TextsReading(workspace, session, self.state.below)
        self.reading.state = self.state
        self.state.read = self.reading.read
        self.slider = Slider(self.state)
        self.plot = DosePlot(self.state)
        self.live = TokenBars()
        self.live.table, self.live.can_focus = table, False
        self.table = DoseTable(self.state, table.tokens)

    def compose_panes(self) -> ComposeResult:
        """The slider, the plot beside the prompt's tokens, the table."""
        yield self.slider
        with Horizontal(id="curves"):
            yield self.plot
            yield self.live
        yield self.table

    def on_resize(self) -> None:
        """The prompt's tokens stand beside the plot where there is room; Textual runs the study's own handler next."""
        self.live.display = self.wide

    def text_of(self, steered: Steerable) -> str:
        """A token's text, or a set's name."""
        return printable_token(steered.label) if isinstance(steered, TokenSet) else self._tokens[steered]

    # what is shown

    def show(self) -> None:
        """Everything, as it is now."""
        state = self.state
        name = self.text_of(state.steered)
        self.slider.name_shown = name
        self.slider.repaint()
        text = self._explanation()
        self.plot.show(text)
        self.plot.border_title = Content.assemble((" Achieved by asked, held-out ", "bold"), self._of(name))
        prompt = self.workspace.history.prompt.replace("\n", "⏎")
        self.live.border_title = Content.assemble((" Next token ", "bold"), f"· after {escape_controls(prompt[-40:])} ")
        self.table.styles.height = self.table.rows + 1
        self.table.border_title = Content.assemble((f" {state.method} ", "bold"), self._texts())
        self.table.repaint()
        self.show_bars(self._fields(), {"add": "Drop"} if state.steered in state.added else {})

    def _of(self, name: str) -> str:
        others = len(self.state.tokens) - 1
        beside = f", {others} more steered with it" if others else ""
        return f"· {name}{beside}; dotted: as asked "

    def _texts(self) -> str:
        if self.state.read is None:
            return ""
        texts, positions = self.state.read.texts, self.state.read.positions
        return f"· {count(min(positions.values()))} positions of each text, ood: {texts['ood']} "

    def _fields(self) -> tuple[Field, ...]:
        state, below = self.state, self.state.below
        fields = []
        if below.pruned:
            fields.append(Field(f"of the head with {len(below.pruned)} dims pruned", 2, "down"))
        steered = len(state.edit.steering)
        fields.append(Field(f"{steered} token{'s' if steered != 1 else ''} steered", 1, "steered"))
        answer = self.live.answer
        if answer is not None:
            fields.append(Field(f"KL {number(answer.kl)} after the prompt", 4, "muted" if self.live.pending else "row"))
        return tuple(fields)

    def _explanation(self) -> tuple[str, ...]:
        """Why there is no plot; empty where there is one."""
        state = self.state
        if state.problem:
            return ("There is nothing to measure.", "", state.problem)
        if state.read is None and self.reading.job is not None:
            after = "After that every key is answered in milliseconds."
            waits = self.waits(self.reading.job)
            return (waits, "", f"Then three texts are read, once. {after}") if waits else (
                "Reading three texts, once.", "", after
            )  # fmt: skip
        if state.read is None:
            return ("No text is read yet.", "", f"The study needs three texts; {self.key('run.rerun')} reads them.")
        if state.known is None:
            return ("Measuring…",)
        return ()
