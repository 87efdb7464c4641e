"""The dynamics screen: when the encoding comes and when the parameters do, step by step, for several runs at once.

It shows a `DynamicsReader`'s state and changes how it is looked at; the reader's job reads. It needs no model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content

from tpe_core.continued_training.folder import experiment_of
from tpe_core.dynamics.recorded import is_log
from tpe_core.dynamics.trajectory_file import check_destination
from tpe_tui.cells import escape_controls, fit
from tpe_tui.command_line import default_name, dynamics_lines
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.saving import ask_where
from tpe_tui.dynamics.experiment_screen import ExperimentScreen, ask_folder
from tpe_tui.dynamics.explanation import explanation, facts
from tpe_tui.dynamics.page import TrainingPage
from tpe_tui.dynamics.plot import StepAxis, StepCurve, StepFigure
from tpe_tui.dynamics.reader import DynamicsReader
from tpe_tui.dynamics.state import FAMILIES, DynamicsState, Source, quantity
from tpe_tui.dynamics.table import DynamicsTable
from tpe_tui.sizes import short_name
from tpe_tui.study import COMMON_KEYS, FAR, StudyScreen, bindings
from tpe_tui.widgets.bars import Field

__all__ = ["DynamicsScreen"]

KEYS: tuple[tuple[str, str, str], ...] = (
    ("move.down", "row(1)", "next quantity"),
    ("move.up", "row(-1)", "previous quantity"),
    ("plot.next", "move(1)", "next step"),
    ("plot.previous", "move(-1)", "previous step"),
    ("move.first", f"move({-FAR})", "first step"),
    ("move.last", f"move({FAR})", "last step; stays with the last while a run grows"),
    ("find.next", "halfway", "next half-way step of the source"),
    ("mask.toggle", "draw", "draw the quantity, or hide it"),
    ("a", "family", "draw all of its kind (all groups, all layers), or none"),
    ("y", "log", "logarithmic or linear steps"),
    ("pane.next", "source(1)", "next source"),
    ("d", "hide", "hide the source, or draw it again"),
    ("run.open", "open", "add a source: a folder, a probe's log, a hub id"),
    ("minus", "drop", "remove the source from the screen"),
    ("i", "facts", "the source's facts: what is skipped, duplicated, warned of"),
    ("out.export", "export", "export the data as JSON or CSV"),
    ("run.rerun", "start", "read the sources, or read them again"),
    ("run.cancel", "cancel", "stop reading; what is read stays"),
    ("pane.tokens", "experiment", "the second page: the runs of an experiment of tpe train-on"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command line that measures this"),
    ("app.help", "help", "these keys"),
    ("q", "leave", "leave; reading goes on in the inspector"),
    ("app.escape", "back", "back to the inspector, where there is one"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("pane.previous", "source(-1)"), ("pane.dims", "stay"), ("run.dynamics", "back"))
FOOTER = (
    ("draw", "Draw"), ("log", "Axis"), ("open", "Add"), ("facts", "Facts"), ("export", "Export"), ("help", "Keys"),
    ("leave", "Back"),
)  # fmt: skip
NOTES = (
    "● ▲ ■ R² by source, ○ △ □ its parameters, letters for anything else: the table has them all.",
    "½ half-way, = the same content as another checkpoint, ! a checkpoint that was skipped.",
    "A logarithmic axis has step 0 at its left edge, apart from the others and without a line.",
)


class DynamicsScreen(TrainingPage):
    """Over the inspector, or, as the `base`, the one screen of an app that has no model."""

    NAME, KEYS, FOOTER, NOTES = "Training dynamics", KEYS, FOOTER, NOTES
    COUNTED = frozenset({"row", "move"})
    SHOWN: ClassVar[dict[str, str]] = {**StudyScreen.SHOWN, "minus": "-"}
    STAYS = "first", "second", "pane.tokens"
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(self, reader: DynamicsReader, base: bool = False, over_experiment: bool = False) -> None:
        """`over_experiment` says that it lies over its own second page."""
        super().__init__(reader, DynamicsTable(reader.state), base)
        self.over_experiment = over_experiment
        self._exported = ""

    @property
    def state(self) -> DynamicsState:
        """What is shown."""
        return self.reader.state

    @property
    def looked_at(self) -> DynamicsState:
        """The same."""
        return self.state

    @property
    def subject(self) -> str:
        """The source under the cursor."""
        source = self.state.source
        return "no source" if source is None else short_name(self.state.short(source))

    # what is shown

    def show(self) -> None:
        """Everything, as it is now."""
        state = self.state
        self.set_class(self.tall, "-tall")
        there = bool(state.steps)
        two = self.tall or self.wide
        for at, plot in enumerate(self.plots):
            plot.display = at == 0 or (two and there)
            if not there:
                plot.show(None, explanation(self.reader, self.key))
                plot.border_title = Content("")
            elif plot.display:
                families = self._families(at, two)
                picture = self._picture(families)
                nothing = f"Nothing is drawn: {self.key('mask.toggle')} draws {quantity(state.row).label}."
                plot.show(picture, () if picture.curves else (nothing,))
                plot.border_title = self._title(families)
        known = any(source.points for source in state.sources)
        self.table.display = known
        self.table.border_title = self._table_title()
        self.table.renew()
        self.show_bars(self._fields(), self.labels)

    def _families(self, at: int, two: bool) -> tuple[str, ...]:
        """What a plot draws. Two plots: the encoding, and what is beside it. One: all on one scale."""
        state = self.state
        if two:
            return ("encoding",) if at == 0 else (state.beside,)
        scale = FAMILIES[state.focus].scale
        return tuple(key for key, family in FAMILIES.items() if family.scale == scale)

    def _title(self, families: tuple[str, ...]) -> Content:
        kinds = {quantity(key).family.key for key in self.state.drawn}
        named = [FAMILIES[key].title for key in families if key in kinds] or [FAMILIES[families[0]].title]
        axis = "log steps" if self.state.log else "linear steps"
        return Content.assemble((f" {', '.join(named)} ", "bold"), (f"· {axis} ", "dim"))

    def _table_title(self) -> Content:
        """What the frequencies are of, which decides what R² means."""
        source = self.state.source
        if source is None or source.trajectory is None:
            return Content("")
        found = source.trajectory
        text = escape_controls(f" {self.state.short(source)}: against {found.frequencies} ")
        return Content(fit(text, min(len(text), max(8, self.size.width - 4))))

    def _fields(self) -> tuple[Field, ...]:
        source = self.state.source
        if source is None or source.trajectory is None:
            return ()
        same = sum(point.duplicate_of is not None for point in source.points)
        skipped = len(source.trajectory.skipped)
        sources = len(self.state.sources)
        return (
            Field(f"{len(source.points)} checkpoint{'' if len(source.points) == 1 else 's'}", 1),
            Field(f"{same} duplicates" if same > 1 else "1 duplicate" if same else "", 2, "warn"),
            Field(f"{skipped} skipped" if skipped else "", 2, "warn"),
            Field(source.status if source.pending else "", 4, "muted"),
            Field(f"of {sources} sources" if sources > 1 else "", 5, "muted"),
        )

    def _picture(self, families: tuple[str, ...]) -> StepFigure:
        """The drawn quantities of some families, that under the cursor last."""
        state = self.state
        rows = [row for row in state.quantities if row.key in state.drawn and row.family.key in families]
        pairs = [(source, row.key) for row in rows for source in state.shown]
        pairs.sort(key=lambda pair: (pair[1] == state.row, pair[0] is state.source))
        marks = state.marks()
        curves = tuple(self._curve(source, key, *marks[source.name, key]) for source, key in pairs
                       if (source.name, key) in marks)  # fmt: skip
        trajectories = [source.trajectory for source in state.shown if source.trajectory is not None]
        skipped = [entry.step for found in trajectories for entry in found.skipped if entry.step is not None]
        axis = StepAxis([*state.steps, *skipped], state.log)
        shares = FAMILIES[families[0]].scale == "share"
        return StepFigure(axis=axis, curves=curves, cursor=state.at, shares=shares, skipped=tuple(sorted(set(skipped))))

    @staticmethod
    def _curve(source: Source, key: str, mark: str, role: str) -> StepCurve:
        half = source.halfway()
        return StepCurve(
            steps=tuple(point.step for point in source.points),
            values=tuple(values.get(key, float("nan")) for values in source.values),
            mark=mark,
            role=role,
            same=tuple(point.duplicate_of is not None for point in source.points),
            half={"r2_adjusted": half["encoding"], "convergence.all": half["parameters"]}.get(key),
        )

    # keys

    def action_halfway(self) -> None:
        """A half-way step."""
        self.say(self.state.next_halfway() or "no half-way step is known of this source", "row")
        self.show()

    def action_draw(self) -> None:
        """Draw or hide the quantity."""
        if not self.state.toggle():
            self.say("there is no mark left for another curve: hide one first", "warn")
        self.show()

    def action_family(self) -> None:
        """Draw or hide all of its kind."""
        if not self.state.toggle_family():
            self.say("there are not marks enough for all of these: hide others first, or draw one by one", "warn")
        self.show()

    def action_source(self, sources: int) -> None:
        """Another source."""
        self.state.turn(sources)
        self.show()

    def action_hide(self) -> None:
        """Hide or draw the source."""
        source = self.state.source
        if source is not None:
            shown = self.state.hide()
            self.say(f"{self.state.short(source)} is {'drawn' if shown else 'hidden'}")
        self.show()

    def action_open(self) -> None:
        """Type another source."""

        def check(text: str) -> str | None:
            return None if text.strip() else "type a folder, a log file or a hub id, or esc leaves"

        def add(text: str | None) -> None:
            if text is not None:
                self.reader.add(os.path.expanduser(text.strip()))
                self.show()

        hint = "a folder of checkpoints, a probe's .jsonl (followed while it grows), a hub id, demo"
        self.frame.push_screen(Ask("add a source", "", hint, check), add)

    def action_drop(self) -> None:
        """Remove the source from the screen."""
        self.reader.drop()
        self.show()

    def action_facts(self) -> None:
        """Everything that is known of the source beside its figures."""
        source = self.state.source
        if source is not None:
            self.frame.push_screen(
                TextScreen(f"Facts: {self.state.short(source)}", facts(source), self.frame.copy_text)
            )

    def action_export(self) -> None:
        """Type where to, then write."""
        if not self.state.trajectories():
            self.say("nothing is read yet: there is nothing to export", "warn")
            return

        def check(path: Path, replace: bool) -> None:
            check_destination(path, replace=replace)

        def write(path: Path, replace: bool) -> None:
            self._exported = str(path)
            self.reader.export(path, replace)

        hint = "everything as .json, or a checkpoint a line as .csv; every source read so far"
        source = self.state.source
        name = self._exported or default_name("tpe-dynamics", "run" if source is None else self.state.short(source))
        ask_where(self.frame, "export the data to", name, hint, check, write)

    def action_start(self) -> None:
        """Read the sources."""
        self.reader.again()
        self.show()

    def action_cancel(self) -> None:
        """Stop reading."""
        self.reader.cancel()
        self.show()

    def action_experiment(self) -> None:
        """The second page: of the experiment that is known, or that an open log belongs to, or of a typed folder."""
        if self.over_experiment:
            self.dismiss(None)
            return
        experiment = self.reader.experiment
        if experiment.state.folder is None:
            logs = (Path(source.name) for source in self.state.sources if is_log(source.name))
            folder = next((owner for path in logs if (owner := experiment_of(path)) is not None), None)
            if folder is None:
                ask_folder(self, self.reader, lambda: self.frame.push_screen(ExperimentScreen(self.reader)))
                return
            experiment.open(folder)
        self.frame.push_screen(ExperimentScreen(self.reader))

    def headless(self) -> str:
        """The command lines that measure what is shown."""
        return dynamics_lines([source.name for source in self.state.sources], self.reader.words)

    def pick(self, row: str | None, column: int | None) -> None:
        """A quantity, a source, or both."""
        if row is not None:
            self.state.pick(row)
        if column is not None:
            self.state.selected = column
