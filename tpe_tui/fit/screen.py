"""The fit screen: every figure about the fit with what it means, every token in it, and the plot of both."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from tpe_core.fit_summary import FitSummary, check_tokens_file
from tpe_core.outputs import shown_path
from tpe_tui.cells import count, escape_controls
from tpe_tui.command_line import common_options, default_name
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.saving import ask_where
from tpe_tui.engine.messages import Answer, Failure
from tpe_tui.fit.figure_list import Explanation, FigureList
from tpe_tui.fit.plot import FitPlot
from tpe_tui.fit.token_table import BY_NAME, FitTable
from tpe_tui.fit_figures import fit_figures
from tpe_tui.glossary import COLUMNS, FIGURES
from tpe_tui.study import COMMON_KEYS, FAR, StudyScreen, bindings
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.widgets.text_line import marked_lines
from tpe_tui.widgets.token_table import search_tokens
from tpe_tui.workspace import Change, Workspace

if TYPE_CHECKING:
    from tpe_core.snapshots import EncodingTable, Floats

__all__ = ["FitScreen"]

KEYS: tuple[tuple[str, str, str], ...] = (
    ("move.down", "move(1)", "next row; in the plot a cell down"),
    ("move.up", "move(-1)", "previous row; in the plot a cell up"),
    ("plot.next", "across(1)", "in the plot, a cell to the right: the nearest token is chosen"),
    ("plot.previous", "across(-1)", "in the plot, a cell to the left"),
    ("move.half_down", "page(0.5)", "half a page down"),
    ("move.half_up", "page(-0.5)", "half a page up"),
    ("move.page_down", "page(1)", "a page down"),
    ("move.page_up", "page(-1)", "a page up"),
    ("move.first", f"move({-FAR})", "first row"),
    ("move.last", f"move({FAR})", "last row"),
    ("pane.next", "pane(1)", "next pane"),
    ("pane.previous", "pane(-1)", "previous pane"),
    ("pane.dims", "focus_pane(0)", "the tokens"),
    ("pane.tokens", "focus_pane(1)", "the figures"),
    ("pane.plot", "focus_pane(2)", "the plot; on a small screen in the place of the figures"),
    ("find.search", "search", "search any token of the vocabulary"),
    ("find.next", "hit(1)", "next match"),
    ("find.previous", "hit(-1)", "previous match"),
    ("table.sort", "sort", "sort the tokens by the next column"),
    ("table.direction", "direction", "reverse the order"),
    ("out.copy", "copy", "copy the token, to the clipboard and to a file"),
    ("out.export", "export", "export the table of tokens as CSV"),
    ("enter", "jump", "go to the token in the inspector's token pane"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command line that gives these figures"),
    ("app.help", "help", "these keys, and what every word means"),
    ("app.escape", "leave", "back to the inspector"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("run.fit", "leave"), ("q", "leave"))
FOOTER = (
    ("search", "Search"), ("sort", "Sort"), ("focus_pane(2)", "Plot"), ("export", "Export"), ("jump", "Go to"),
    ("help", "Keys"), ("leave", "Back"),
)  # fmt: skip
NAMES = ("tokens", "figures", "plot")


class FitScreen(StudyScreen):
    """Closed with None; `jump_to` is then the token that the inspector goes to."""

    NAME, KEYS, FOOTER = "Fit", KEYS, FOOTER
    COUNTED = frozenset({"move", "across", "page", "hit"})
    NOTES = tuple(f"{name}: {word.line}" for words in (FIGURES, COLUMNS) for name, word in words.items())
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(self, workspace: Workspace, token_id: int | None = None) -> None:
        """Show the fit, the cursor on a token."""
        super().__init__(workspace)
        self.figure_list, self.tokens, self.plot, self.words = FigureList(), FitTable(), FitPlot(), Explanation()
        self.jump_to: int | None = None
        self._first = token_id
        self._table: EncodingTable | None = None
        self._plotted = False  # on a small screen, in the place of the figures
        self._query = ""
        self._hits: list[int] = []
        self._hit = 0
        self._exported = ""

    def compose_panes(self) -> ComposeResult:
        """The three panes, the explanation below them."""
        with Horizontal(id="fit"):
            yield from self.panes
        yield self.words

    def on_mount(self) -> None:
        """Show what is known and ask for the rest."""
        self.tokens.focus()
        self._load()

    @property
    def panes(self) -> tuple[FitTable, FigureList, FitPlot]:
        """The panes in the order of their keys."""
        return self.tokens, self.figure_list, self.plot

    @property
    def _at(self) -> int:
        """The number of the pane that has the focus, from 0."""
        return next((at for at, pane in enumerate(self.panes) if pane is self.focused), 0)

    # what is shown

    def _load(self) -> None:
        workspace, session = self.workspace, self.workspace.session
        if session is None or workspace.table is None:
            return
        is_first, self._table = self._table is None, workspace.table
        self._hits = []
        self.tokens.show(workspace.table, None)
        self.plot.show(workspace.table)
        if is_first and self._first is not None:
            self.tokens.select(self._first)
        prompt = workspace.history.prompt
        workspace.ask("fit", session.fit_summary, self._accept_summary)
        workspace.ask("base_log_p", lambda: session.base_log_p(prompt), self._accept_log_p)
        self.show()

    def follow(self, change: Change) -> None:
        """Another session has another fit; nothing else here changes with the workspace."""
        if change == "session":
            self._load()
        else:
            self.show()

    def _accept_summary(self, answer: Answer) -> None:
        if answer.failure is not None:
            self.workspace.fail("the figures failed", answer.failure)
        elif isinstance(answer.value, FitSummary) and self.is_open:
            self.figure_list.show(fit_figures(answer.value))
            self.show()

    def _accept_log_p(self, answer: Answer) -> None:
        if not self.is_open or self._table is None:
            return
        if answer.failure is not None:
            self.say(f"log p is left out: {answer.failure.sentence}", "warn")
        else:
            log_p: Floats = answer.value  # type: ignore[assignment]
            self.tokens.show(self._table, log_p)
            self.show()

    def show(self) -> None:
        """Everything, as it is now."""
        wide = self.wide
        self.set_class(wide, "-all")
        self.figure_list.display = wide or not self._plotted
        self.plot.display = wide or self._plotted
        token_id = self.tokens.token_id
        self.plot.mark(token_id)
        infos = (f"· {self.tokens.title()} · {count(self.tokens.n_rows)} ", "", "")
        for at, pane in enumerate(self.panes):
            mark = "▸" if at == self._at else " "
            other = f"╱ {NAMES[3 - at]} " if not wide and at else ""
            pane.border_title = f"{mark}{at + 1} {NAMES[at]} {infos[at]}{other}"
        self.words.show(self._explained(), self._command)
        table = self._table
        fields = () if table is None else (
            Field(f"R² {table.r2:.4f}", 1),
            Field(f"{count(table.positions)} positions", 4, "muted"),
            Field(escape_controls(table.text), 6, "muted"),
        )  # fmt: skip
        self.show_bars(fields)

    def _explained(self) -> str:
        """What the focus is on, in words."""
        figure = self.figure_list.figure
        if self._at == 1 and figure is not None and self.figure_list.display:
            return f"{figure.name} {figure.text} — {FIGURES[figure.name].line}"
        token_id, table = self.tokens.token_id, self._table
        if self._at == 2 and token_id is not None and table is not None:
            actual, fitted = table.surprisal[token_id], table.predicted[token_id]
            return (
                f"{table.tokens[token_id]} — −log α {actual:z.3f}, fitted {fitted:z.3f}, residual "
                f"{actual - fitted:+z.3f}. Below the line the token is rarer than the law says, above it more frequent."
            )
        title = BY_NAME[self.tokens.sort].title
        return f"{title} — {COLUMNS[title].line}"

    @property
    def _command(self) -> str:
        return shlex.join(["tpe", "analyze", *common_options(self.workspace.options)])

    def headless(self) -> str:
        """The command that prints the figures."""
        return f"# every figure about the fit, as text or with --json\n{self._command}"

    @on(ListPane.Moved)
    def _moved(self, event: ListPane.Moved) -> None:
        event.stop()
        self.show()

    @on(FitPlot.Chosen)
    def _chosen(self, event: FitPlot.Chosen) -> None:
        event.stop()
        self._take_from_plot()

    def _take_from_plot(self) -> None:
        """Put the table's cursor on the plot's token, at once: a later key must find both on the same one."""
        if self.plot.token_id is not None:
            self.tokens.select(self.plot.token_id)
        self.show()

    @on(events.DescendantFocus)
    def _focus_moved(self) -> None:
        if not self.small:
            self.show()

    # keys

    def action_move(self, rows: int) -> None:
        """Move by rows, or by cells of the plot."""
        pane = self.panes[self._at]
        if isinstance(pane, ListPane):
            pane.go(pane.cursor + rows)
        else:
            pane.move(0, rows)
            self._take_from_plot()

    def action_page(self, pages: float) -> None:
        """Move by a part of a page."""
        pane = self.panes[self._at]
        height = pane.page if isinstance(pane, ListPane) else pane.size.height - 2
        self.action_move(int(pages * height) or (1 if pages > 0 else -1))

    def action_across(self, cells: int) -> None:
        """Move in the plot; bring it on screen first."""
        if self._at == 2:
            self.plot.move(cells, 0)
            self._take_from_plot()
        else:
            self.action_focus_pane(2)

    def action_pane(self, step: int) -> None:
        """Focus the next pane."""
        self.action_focus_pane((self._at + step) % len(self.panes))

    def action_focus_pane(self, at: int) -> None:
        """Focus a pane; on a small screen the figures and the plot share one place."""
        if at:
            self._plotted = at == 2
        self.show()
        self.set_focus(self.panes[at], scroll_visible=False)

    def action_search(self) -> None:
        """Ask for a part of a token."""
        hint = "any part of a token; n and N go on"

        def answered(text: str | None) -> None:
            if text is not None and self._table is not None:
                self._query, self._hit = text, 0
                self._hits = search_tokens(self._table.tokens, self._table.surprisal, text) if text else []
                self.action_hit(0)

        self.frame.push_screen(Ask("search the whole vocabulary", "", hint, shown=marked_lines), answered)

    def action_hit(self, step: int) -> None:
        """Go to a match."""
        shown = escape_controls(self._query)
        if not self._hits:
            self.say(f"nothing matches {shown!r}" if self._query else "nothing was searched yet", "warn")
            return
        self._hit = (self._hit + step) % len(self._hits)
        self.tokens.select(self._hits[self._hit])
        self.say(f"match {self._hit + 1} of {len(self._hits)} for {shown!r}")
        self.show()

    @on(ListPane.Sorted)
    def _sorted_by_click(self) -> None:
        self.show()

    def action_sort(self) -> None:
        """Sort by the next column."""
        if self._table is not None:
            self.tokens.next_sort()
            self.show()

    def action_direction(self) -> None:
        """Reverse the order."""
        if self._table is not None:
            self.tokens.sort_by(self.tokens.sort, not self.tokens.descending)
            self.show()

    def action_copy(self) -> None:
        """Copy the token."""
        if text := self.tokens.copy_text():
            self.say(self.frame.copy_text(text))

    def action_export(self) -> None:
        """Ask where to, then write."""
        session, options = self.workspace.session, self.workspace.options
        if not self.workspace.ready() or session is None:
            return
        prompt = self.workspace.history.prompt

        def check(path: Path, replace: bool) -> None:
            check_tokens_file(path, replace=replace)

        def write(path: Path, replace: bool) -> None:
            self._exported = str(path)
            self.workspace.ask("tokens", lambda: session.write_tokens(path, prompt, replace), self._accept_export)

        name = default_name("tpe-tokens", options.model, options.revision, options.adapter)
        offered = self._exported or name.removesuffix(".json") + ".csv"
        ask_where(self.frame, "export the table of tokens to", offered, "a CSV file, a token a row", check, write)

    def _accept_export(self, answer: Answer) -> None:
        if answer.failure is not None:
            advice = f"{self.key('out.export')} asks again, with the path typed."
            self.workspace.fail("export failed", Failure(answer.failure.sentence), advice)
        elif isinstance(answer.value, Path):
            self.say(f"written to {shown_path(answer.value)}", "good")

    def action_jump(self) -> None:
        """Close, for the inspector to go to the token."""
        self.jump_to = self.tokens.token_id
        self.dismiss(None)
