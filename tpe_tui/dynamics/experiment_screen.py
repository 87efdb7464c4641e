"""The dynamics screen's second page: an experiment of `tpe train-on`, under way or finished, run by run and over seeds.

It shows an `ExperimentReader`'s state and has its folder looked at again while it is there. It needs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen

from tpe_core.continued_training.folder import PROBE, run_folder
from tpe_core.edits.intervention import Intervention
from tpe_core.outputs import shown_path
from tpe_core.tables import check_table_file
from tpe_tui.cells import clock_or_date, escape_controls
from tpe_tui.command_line import default_name, experiment_lines
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.saving import ask_where, typed_path
from tpe_tui.dynamics.experiment_state import ExperimentState, Row, check_folder, measure_of
from tpe_tui.dynamics.experiment_table import RunsTable, mark_of
from tpe_tui.dynamics.explanation import experiment_explanation, experiment_facts
from tpe_tui.dynamics.page import TrainingPage
from tpe_tui.dynamics.plot import StepAxis, StepCurve, StepFigure
from tpe_tui.dynamics.reader import DynamicsReader
from tpe_tui.dynamics.state import SHAPES
from tpe_tui.sizes import short_name
from tpe_tui.study import COMMON_KEYS, FAR, StudyScreen, bindings
from tpe_tui.widgets.bars import Field

__all__ = ["ExperimentScreen", "ask_folder"]

LOOK_SECONDS = 1.0

KEYS: tuple[tuple[str, str, str], ...] = (
    ("move.down", "row(1)", "next variant or run"),
    ("move.up", "row(-1)", "previous variant or run"),
    ("plot.next", "move(1)", "next step"),
    ("plot.previous", "move(-1)", "previous step"),
    ("move.first", f"move({-FAR})", "first step"),
    ("move.last", f"move({FAR})", "last step; stays with the last while runs grow"),
    ("f", "measure(1)", "next figure: gap, KL, loss, R², what the mask costs, ..."),
    ("F", "measure(-1)", "previous figure"),
    ("pane.next", "scenario(1)", "next scenario"),
    ("pane.previous", "scenario(-1)", "previous scenario"),
    ("mask.replacement", "mask(1)", "next mask"),
    ("find.next", "running", "to the run under way"),
    ("mask.toggle", "hide", "hide the variant's curve, or draw it again"),
    ("y", "log", "logarithmic or linear steps"),
    ("i", "facts", "what is trained on what, and why runs ended early"),
    ("out.export", "export", "export every figure over seeds, as read so far, as CSV, JSON, Markdown or Parquet"),
    ("run.open", "open", "another experiment's folder"),
    ("run.rerun", "start", "read the folder anew"),
    ("pane.dims", "checkpoints", "the first page: checkpoints and logs"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command lines of this experiment"),
    ("app.help", "help", "these keys"),
    ("q", "leave", "leave; runs go on, wherever they are trained"),
    ("app.escape", "back", "back to the first page, where this lies over it"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("pane.tokens", "stay"), ("run.dynamics", "back"))
FOOTER = (
    ("measure(1)", "Figure"), ("scenario(1)", "Scenario"), ("mask(1)", "Mask"), ("hide", "Draw"),
    ("checkpoints", "Page 1"), ("help", "Keys"), ("leave", "Back"),
)  # fmt: skip
NOTES = (
    "A bar at a step, and dots along its ends, are the 95 % interval over seeds; one seed has none.",
    "A run trains after the one before it: the first that has not ended is the one under way.",
)


class ExperimentScreen(TrainingPage):
    """Over the first page; or, where `checkpoints` makes that page, the base of an app that has no model."""

    NAME, KEYS, FOOTER, NOTES = "Experiment", KEYS, FOOTER, NOTES
    COUNTED = frozenset({"row", "move", "measure", "scenario", "mask"})
    OF_MODEL = False
    STAYS = "second", "first", "pane.dims"
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(
        self, reader: DynamicsReader, checkpoints: Callable[[], Screen[Intervention | None]] | None = None
    ) -> None:
        self.runs_table = RunsTable(reader.experiment.state)
        super().__init__(reader, self.runs_table, checkpoints is not None)
        self.checkpoints = checkpoints
        self._exported = ""

    @property
    def state(self) -> ExperimentState:
        """What is shown."""
        return self.reader.experiment.state

    @property
    def looked_at(self) -> ExperimentState:
        """The same."""
        return self.state

    @property
    def subject(self) -> str:
        """The folder."""
        return "no folder" if self.state.folder is None else short_name(escape_controls(str(self.state.folder)))

    def on_mount(self) -> None:
        """Look now, and again and again."""
        self.reader.experiment.look()
        self.set_interval(LOOK_SECONDS, self.reader.experiment.look)

    # what is shown

    def show(self) -> None:
        """Everything, as it is now."""
        state = self.state
        self.set_class(self.tall, "-tall")
        there = bool(state.steps) and not state.problem
        two = (self.tall or self.wide) and there
        for at, plot in enumerate(self.plots):
            figure = state.beside if at else state.figure
            plot.display = at == 0 or two
            if not there:
                plot.show(None, experiment_explanation(state, self.key, self.size.width - 4))
                plot.border_title = Content("")
            elif plot.display:
                picture = self._picture(figure)
                plot.show(picture, () if picture.curves else self._nothing(figure))
                plot.border_title = self._title(figure)
        self.runs_table.display = bool(state.plan) and not state.problem
        self.runs_table.border_title = Content(self.runs_table.title(self.size.width - 4))
        self.runs_table.renew()
        self.show_bars(self._fields(), self.labels)

    def _nothing(self, figure: str) -> tuple[str, ...]:
        """Why a plot has no curve."""
        state = self.state
        if any(state.curve(name, figure) for name in state.variants):
            return ("Every variant is hidden.", "", f"{self.key('mask.toggle')} draws the one under the cursor.")
        under_way = f"{self.key('find.next')} leads to the run under way, {self.key('pane.next')} to another scenario."
        return (f"No {measure_of(figure).label} yet: its runs wait.", "", under_way)

    def _title(self, figure: str) -> Content:
        measure = measure_of(figure)
        about = ", ".join(filter(None, (measure.unit, "log steps" if self.state.log else "")))
        place = f"{self.state.scenario}, {self.state.mask}"
        return Content.assemble((f" {measure.label} ", "bold"), (f"· {place}{' · ' if about else ''}{about} ", "dim"))

    def _fields(self) -> tuple[Field, ...]:
        state = self.state
        if state.read is None or state.problem:
            return ()
        counts, written = state.counts(), state.read.written
        return (
            Field(f"{counts['done']} of {len(state.plan)} runs done", 1),
            Field(f"{counts['stopped']} ended early" if counts["stopped"] else "", 2, "warn"),
            Field("" if written is None else f"written {clock_or_date(written)}", 5, "muted"),
        )

    def _picture(self, figure: str) -> StepFigure:
        """The drawn variants' curves, that under the cursor last."""
        state = self.state
        shown = [name for name in state.variants if name not in state.hidden and state.curve(name, figure)]
        shown.sort(key=lambda name: name == state.variant)
        curves = tuple(self._curve(name, figure) for name in shown)
        axis = StepAxis(state.steps, state.log)
        return StepFigure(axis=axis, curves=curves, cursor=state.at, shares=measure_of(figure).is_share)

    def _curve(self, variant: str, figure: str) -> StepCurve:
        curve = sorted(self.state.curve(variant, figure).items())
        mark, role = mark_of(variant)
        nan = float("nan")
        return StepCurve(
            steps=tuple(step for step, _ in curve),
            values=tuple(band.mean for _, band in curve),
            mark=mark,
            role=role,
            same=(False,) * len(curve),
            low=tuple(nan if band.low is None else band.low for _, band in curve),
            high=tuple(nan if band.high is None else band.high for _, band in curve),
        )

    # keys

    def action_measure(self, by: int) -> None:
        """Another figure."""
        self.state.turn_figure(by)
        self.show()

    def action_scenario(self, by: int) -> None:
        """Another scenario."""
        self.state.turn_scenario(by)
        if len(self.state.scenarios) == 1:
            self.say(f"{self.state.scenario} is the only scenario")
        self.show()

    def action_mask(self, by: int) -> None:
        """Another mask."""
        self.state.turn_mask(by)
        if len(self.state.masks) == 1:
            self.say(f"{self.state.mask} is the only mask")
        self.show()

    def action_running(self) -> None:
        """The run under way."""
        key = self.state.go_to_running()
        self.say(
            "every run has ended" if key is None else f"under way: {', '.join(filter(None, key[:3]))}, seed {key[3]}"
        )
        self.show()

    def action_hide(self) -> None:
        """Hide or draw the variant."""
        if self.state.variant:
            shown = self.state.hide()
            self.say(f"{self.state.variant} is {'drawn' if shown else 'hidden'}")
        self.show()

    def action_facts(self) -> None:
        """Everything that is known beside the figures."""
        self.frame.push_screen(TextScreen("Facts", experiment_facts(self.state), self.frame.copy_text))

    def action_export(self) -> None:
        """Type where to, then write."""
        read = self.state.read
        if read is None or not read.result.runs:
            self.say("no run has saved figures yet: there is nothing to export", "warn")
            return
        table = read.result.to_table()

        def check(path: Path, replace: bool) -> None:
            check_table_file(path, table, replace=replace)

        def write(path: Path, replace: bool) -> None:
            self._exported = str(path)
            self.reader.write_table(table, path, replace)

        hint = "a figure of a variant at a step a line, over seeds: .csv, .json, .md or .parquet"
        name = self._exported or default_name("tpe-experiment", str(self.state.folder)).removesuffix(".json") + ".csv"
        ask_where(self.frame, "export the figures to", name, hint, check, write)

    def action_open(self) -> None:
        """Type another folder."""
        ask_folder(self, self.reader, self.show)

    def action_start(self) -> None:
        """Read the folder."""
        self.reader.experiment.look(anew=True)
        self.say("read anew")
        self.show()

    def action_checkpoints(self) -> None:
        """The first page: below this one, or made with the logs of the runs that are shown."""
        if self.checkpoints is None:
            self.dismiss(None)
            return
        if not self.reader.state.sources:
            self.reader.state.add(map(str, self._logs()))
            self.reader.state.selected = 0
            self.reader.start()
        self.frame.push_screen(self.checkpoints())

    def _logs(self) -> Sequence[Path]:
        """The logs of the first runs of every variant that is shown, as many as can be told apart."""
        state = self.state
        if state.folder is None:
            return ()
        keys = [keys[0] for variant in state.variants if (keys := state.runs_of(variant))]
        paths = [run_folder(state.folder, key) / PROBE for key in keys]
        return [path for path in paths if path.exists()][: len(SHAPES)]

    def headless(self) -> str:
        """The command lines of what is shown."""
        if self.state.folder is None:
            return "# no folder is open"
        return experiment_lines(str(self.state.folder), list(map(str, self._logs())))

    def pick(self, row: Row | None, column: int | None) -> None:
        """A variant or a run."""
        if row is not None:
            self.state.row = row


def ask_folder(screen: StudyScreen, reader: DynamicsReader, then: Callable[[], object]) -> None:
    """Ask for an experiment's folder, have it read from now on, and do `then`."""

    def check(text: str) -> str | None:
        if not text.strip():
            return "type the folder that tpe train-on --out names, or esc leaves"
        return check_folder(typed_path(text))

    def use(text: str | None) -> None:
        if text is not None:
            reader.experiment.open(typed_path(text))
            then()

    known = reader.experiment.state.folder
    value = "" if known is None else shown_path(known)
    screen.frame.push_screen(Ask("follow an experiment", value, "the folder that tpe train-on --out named", check), use)
