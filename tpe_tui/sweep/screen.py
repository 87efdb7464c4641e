"""The sweep screen: what removing more and more dimensions costs, in several orders at once, drawn as it is measured.

It shows a `SweepState`, changes how it is looked at, and starts the job that feeds it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content

from tpe_core.corpus.domains import DOMAINS, UNSEEN
from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_tui.cells import count
from tpe_tui.study import COMMON_KEYS, FAR, StudyScreen, bindings
from tpe_tui.sweep.command_line import sweep_lines
from tpe_tui.sweep.curve_plot import CurveFigure, CurvePlot, PlottedCurve
from tpe_tui.sweep.curve_table import CurveTable
from tpe_tui.sweep.job import ask_sweep_seconds, start_sweep
from tpe_tui.sweep.order_choice import OrderChoice
from tpe_tui.sweep.state import SweepState, figure, how_long
from tpe_tui.widgets.bars import Field
from tpe_tui.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
else:
    np = Deferred("numpy")

__all__ = ["SweepScreen"]

KEYS: tuple[tuple[str, str, str], ...] = (
    ("move.down", "select(1)", "next curve (tab as well)"),
    ("move.up", "select(-1)", "previous curve"),
    ("plot.next", "move(1)", "next point: more removed"),
    ("plot.previous", "move(-1)", "previous point"),
    ("move.first", f"move({-FAR})", "first point"),
    ("move.last", f"move({FAR})", "last point"),
    ("mask.toggle", "hide", "hide the curve, or draw it again"),
    ("mask.replacement", "replacement", "what a removed dimension becomes"),
    ("O", "orders", "choose the orders to compare"),
    ("f", "metric", "metric drawn: KL, JS, top-1, perplexity"),
    ("y", "log", "logarithmic or linear axis"),
    ("o", "domain", "draw held-out or out-of-domain text, where one fits"),
    ("enter", "apply", "prune so in the inspector, as one step to undo, and go back"),
    ("run.rerun", "start", "run the sweep, or run it again"),
    ("run.cancel", "cancel", "cancel it; what is measured stays"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command line that measures this"),
    ("app.help", "help", "these keys"),
    ("app.escape", "leave", "back to the inspector; a running sweep goes on"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("pane.next", "select(1)"), ("pane.previous", "select(-1)"), ("run.sweep", "leave"), ("q", "leave"))
FOOTER = (
    ("apply", "Apply"), ("hide", "Hide"), ("replacement", "Replaced"), ("metric", "Metric"), ("log", "Log"),
    ("help", "Keys"), ("leave", "Back"),
)  # fmt: skip


class SweepScreen(StudyScreen):
    """Shows `state`; closed with the mask of the point that is to be applied."""

    NAME, KEYS, FOOTER = "Pruning sweep", KEYS, FOOTER
    COUNTED = frozenset({"select", "move"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(self, workspace: Workspace, state: SweepState) -> None:
        super().__init__(workspace)
        self.state = state
        self.plots = {domain: CurvePlot(f"curves-{domain}") for domain in UNSEEN}
        self.curve_table = CurveTable(state)

    def compose_panes(self) -> ComposeResult:
        """The curves, and the table below them."""
        with Horizontal(id="curves"):
            yield from self.plots.values()
        yield self.curve_table

    def on_mount(self) -> None:
        """What is there already."""
        self.curve_table.focus()
        self.show()
        ask_sweep_seconds(self.workspace, self.state)

    # what is shown

    def show(self) -> None:
        """Everything, as it is now."""
        state = self.state
        for domain, plot in self.plots.items():
            plot.display = domain == "heldout" if state.result is None else self.wide or domain == state.domain
            if plot.display:
                picture = self._picture(domain)
                plot.show(picture, () if picture else self._explanation())
                plot.border_title = self._plot_title(domain)
        self.curve_table.display = state.result is not None
        self.curve_table.border_title = self._table_title()
        self.curve_table.repaint()
        self.show_bars(self._fields(), {"apply": "Start"} if state.result is None else {})

    def _plot_title(self, domain: str) -> Content:
        state = self.state
        if state.result is None:
            return Content("")
        unit = f", {state.metric.unit}" if state.metric.unit else ""
        axis = ", log" if state.logarithmic else ""
        other = ""
        if not self.wide:
            other = f"╱ o {DOMAINS[next(name for name in UNSEEN if name != domain)].label} "
        return Content.assemble(
            (f" {state.metric.label}{unit}{axis} ", "bold"), f"· {DOMAINS[domain].label} ", (other, "dim")
        )

    def _table_title(self) -> Content:
        state = self.state
        if not state.removed:
            return Content("")
        width = state.result.width if state.result is not None else 0
        removed = state.removed[state.at]
        title = f" {removed / width:.0%} removed: {count(removed)} of {count(width)} "
        low, high, draws = state.spread("random", "heldout", state.metric.name)
        band = ""
        if draws > 1:
            key = state.metric.name
            band = f"· random is {figure(key, low)} to {figure(key, high)} over {draws} draws "
        return Content.assemble((title, "bold"), band)

    def _fields(self) -> tuple[Field, ...]:
        state = self.state
        if state.result is None:
            return ()
        return (
            Field(f"removed {REPLACEMENTS[state.replacement].it_becomes}", 2),
            Field(self._measured(), 1, "warn" if state.stale else "muted"),
            Field(state.result.texts.get("heldout", ""), 5, "muted"),
        )

    def _measured(self) -> str:
        """How much of the text the curve under the cursor has seen."""
        state = self.state
        if state.outdated:
            return "of the detection before this one"
        if state.stale:
            return "of the run before this one"
        curve, wanted = state.curve(state.selected), state.result.positions if state.result else {}
        seen, whole = (0 if curve is None else curve.positions.get("heldout", 0)), wanted.get("heldout", 0)
        text = f"{count(whole)} positions" if seen >= whole else f"{count(seen)} of {count(whole)} positions"
        return f"{text}, {state.ended}" if state.ended else text

    def _picture(self, domain: str) -> CurveFigure | None:
        state = self.state
        result = state.result
        if result is None or not state.removed:
            return None
        drawn, base = self._drawn(domain), None
        if state.metric.name in ("top1", "perplexity") and state.removed[0] == 0:
            base = next((float(one.y[0]) for one in drawn), None)
        other = next(name for name in UNSEEN if name != domain)
        beside = self._drawn(other) if self.wide else ()
        share = 100 * np.array(state.removed) / result.width
        return CurveFigure(
            x=share, curves=drawn, cursor=state.at, log=state.logarithmic, base=base, beside=beside, stale=state.stale
        )

    def _drawn(self, domain: str) -> tuple[PlottedCurve, ...]:
        """The curves that are drawn, the selected one last."""
        state, key = self.state, self.state.metric.name
        names = [name for name in state.names if name not in state.hidden]
        found = []
        for name in sorted(names, key=lambda name: name == state.selected):
            curve = state.curve(name)
            if curve is None or domain not in curve.figures:
                continue
            draws = curve.draws(domain, key)
            if key in ("kl", "js"):  # from itself nothing diverges, but for rounding that a logarithm would blow up
                draws = np.where(np.array(curve.removed) > 0, draws, 0.0)
            band = (draws.min(0), draws.max(0)) if len(draws) > 1 else (None, None)
            y = curve.mean(domain, key) if key == "perplexity" else draws.mean(0)
            found.append(PlottedCurve(name, y, *band))
        return tuple(found)

    def _explanation(self) -> tuple[str, ...]:
        """What will happen, and how long it may take."""
        state, session = self.state, self.workspace.session
        if session is None:
            return ("No model is open.",)
        if state.job is not None and (waits := self.waits(state.job)):
            return (waits, "", "The first curves come soon after it begins.")
        if state.job is not None:
            return (
                "The first curves come in a moment.",
                "",
                "The model reads the texts once; after that only its head is measured.",
            )
        info, request = session.table.info, state.request
        points = f"{len(request.fractions)} steps, up to {max(request.fractions):.0%}"
        return (
            "How many dimensions can go, and at what cost?",
            "",
            f"Removes more and more of the {count(info.hidden_size)} dimensions, in {points}, and",
            "compares every step with the whole head, on held-out text and out of domain.",
            "",
            f"  ordered by   {', '.join(request.orders)}",
            f"  replaced by  {', '.join(request.replacements)}",
            f"  beside it    {ROTATE}, the best cut there is: not along dimensions",
            "",
            f"All of it takes {how_long(state.seconds)}; rough curves of all orders come first.",
            "The inspector stays usable meanwhile.",
            "",
            f"{self.key('run.rerun')} or {self.key('enter')} starts · {self.key('run.cancel')} cancels, and keeps what"
            f" is measured · {self.key('app.escape')} goes back",
        )

    # keys

    def action_select(self, step: int) -> None:
        """Another curve."""
        self.state.select(step)
        self.show()

    def action_move(self, points: int) -> None:
        """Another point."""
        self.state.move(points)
        self.show()

    def action_hide(self) -> None:
        """Hide or draw the curve."""
        shown = self.state.toggle()
        self.say(f"{self.state.selected} is {'drawn' if shown else 'hidden'}")
        self.show()

    def action_replacement(self) -> None:
        """The next replacement."""
        state = self.state
        state.next_replacement()
        missing = state.result is not None and not any(state.curve(name) for name in state.request.orders)
        later = "comes later in this run" if state.job is not None else f"{self.key('run.rerun')} measures it"
        self.say(
            f"what is removed {REPLACEMENTS[state.replacement].it_becomes}"
            f"{f': not measured yet, {later}' if missing else ''}"
        )
        self.show()

    def action_orders(self) -> None:
        """Other orders, for the next run."""
        state = self.state

        def chosen(orders: frozenset[str] | None) -> None:
            if not orders:
                return
            missing = state.choose(orders)
            ask_sweep_seconds(self.workspace, self.state)
            again = f"{self.key('run.rerun')} measures {', '.join(missing)}"
            self.say(again if missing else "all of these are measured")
            self.show()

        self.app.push_screen(OrderChoice(frozenset(state.request.orders)), chosen)

    def action_metric(self) -> None:
        """The next metric."""
        self.state.next_metric()
        self.show()

    def action_log(self) -> None:
        """Logarithmic or linear."""
        if not self.state.metric.has_log_axis:
            self.say(f"{self.state.metric.label} is a share: its axis is always linear")
        else:
            self.state.log = not self.state.log
        self.show()

    def action_domain(self) -> None:
        """The other text."""
        if self.wide:
            self.say("both texts are drawn already")
        self.state.domain = next(name for name in UNSEEN if name != self.state.domain)
        self.show()

    def action_start(self) -> None:
        """Run the sweep."""
        start_sweep(self.workspace, self.state)
        self.show()

    def action_cancel(self) -> None:
        """Cancel it."""
        self.workspace.cancel(self.state.job)
        self.show()

    def action_apply(self) -> None:
        """Prune as the point says; before there is one, start."""
        if self.state.result is None and self.state.job is None:
            self.action_start()
            return
        try:
            curve, dims = self.state.point()
        except TpeError as error:
            self.say(str(error), "warn")
            self.show()
            return
        edit = self.workspace.history.intervention
        # The curve was measured with this detection's means, not with those of a file that was imported before.
        origin = edit.origin if edit.steering else ""
        self.dismiss(replace(edit, pruned=dims, replacement=curve.replace, origin=origin))

    def headless(self) -> str:
        """The command lines that measure what is shown."""
        return sweep_lines(self.workspace.options, self.state)

    @on(CurveTable.Picked)
    def _picked(self, event: CurveTable.Picked) -> None:
        event.stop()
        self.state.selected = event.name
        self.show()

    @on(CurvePlot.Pointed)
    def _pointed(self, event: CurvePlot.Pointed) -> None:
        event.stop()
        if self.state.removed:
            self.state.at = round(event.share * (len(self.state.removed) - 1))
            self.show()
