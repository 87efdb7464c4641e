"""The keys that look without changing anything: move, panes, search, filter, sort, plots, help.

Each action of the key table is one method named after its id; nothing here edits the intervention.
"""

from __future__ import annotations

from tpe_core.errors import TpeError
from tpe_tui.cells import escape_controls
from tpe_tui.dialogs.card import CardScreen
from tpe_tui.dialogs.help import HelpScreen
from tpe_tui.inspector.detail_pane import Detail
from tpe_tui.inspector.frame import PROMPT_PANE, InspectFrame
from tpe_tui.widgets.dim_table import FILTER_HELP, parse_filter
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.widgets.text_line import marked_lines
from tpe_tui.widgets.token_strip import TokenStrip
from tpe_tui.widgets.token_table import search_tokens

__all__ = ["BrowseActions"]

FAR = 1 << 40


class BrowseActions:
    """The keys of `frame` that only look."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace
        self._searched = "dim"
        self.forget()

    def forget(self) -> None:
        """Forget what was found: it is not in another table."""
        self._query = ""
        self._hits: list[int] = []
        self._hit = 0

    # move

    def _move(self, rows: int) -> None:
        pane = self.frame.pane(self.frame.focused_pane)
        if isinstance(pane, ListPane):
            pane.go(pane.cursor + rows)
        elif isinstance(pane, TokenStrip):
            pane.go_rows(rows)
        elif isinstance(pane, Detail):
            pane.go(rows)

    def _page(self) -> int:
        return max(1, self.frame.pane(self.frame.focused_pane).size.height - 1)

    def move_down(self, count: int = 1) -> None:
        """Move down by rows."""
        self._move(count)

    def move_up(self, count: int = 1) -> None:
        """Move up by rows."""
        self._move(-count)

    def move_half_down(self, count: int = 1) -> None:
        """Move down by half pages."""
        self._move(count * max(1, self._page() // 2))

    def move_half_up(self, count: int = 1) -> None:
        """Move up by half pages."""
        self._move(-count * max(1, self._page() // 2))

    def move_page_down(self, count: int = 1) -> None:
        """Move down by pages."""
        self._move(count * self._page())

    def move_page_up(self, count: int = 1) -> None:
        """Move up by pages."""
        self._move(-count * self._page())

    def move_first(self, row: int = 1) -> None:
        """Move to the first row, or to another one by its place from 1."""
        self._end(-FAR)
        if row > 1:
            self._end(row - 1)

    def move_last(self, row: int = 0) -> None:
        """Move to the last row, or to another one by its place from 1."""
        if row:
            self.move_first(row)
        else:
            self._end(FAR)

    def _end(self, far: int) -> None:
        pane = self.frame.pane(self.frame.focused_pane)
        if isinstance(pane, TokenStrip):
            pane.go(far)
        else:
            self._move(far)

    # panes

    def pane_next(self) -> None:
        """Focus the next pane."""
        self.frame.show_pane(self.frame.focused_pane % self._panes + 1)

    def pane_previous(self) -> None:
        """Focus the previous pane."""
        self.frame.show_pane((self.frame.focused_pane - 2) % self._panes + 1)

    @property
    def _panes(self) -> int:
        """How many panes there are: the prompt's tokens are one while they are open."""
        return PROMPT_PANE if self.frame.positions.strip.is_open else PROMPT_PANE - 1

    def pane_dims(self) -> None:
        """Focus the dimensions."""
        self.frame.show_pane(1)

    def pane_tokens(self) -> None:
        """Focus the next-token table."""
        self.frame.show_pane(2)

    def pane_plot(self) -> None:
        """Focus the plot."""
        self.frame.show_pane(3)

    def pane_detail(self) -> None:
        """Focus the detail of the dimension or token under the cursor."""
        self.frame.show_pane(4)

    def pane_prompt(self) -> None:
        """Open the prompt's tokens, or close them again."""
        strip = self.frame.positions.strip
        if strip.is_open and self.frame.focused is strip:
            self._close_prompt()
        elif self.workspace.ready():
            if not strip.is_open:
                self.frame.positions.toggle(True)
                self._say_marks()
            self.frame.show_pane(PROMPT_PANE)

    def _close_prompt(self) -> None:
        self.frame.positions.toggle(False)
        self.frame.show_pane(self.frame.right)

    def prompt_colour(self) -> None:
        """Mark the prompt's tokens by the edit's KL, or by their surprisal; open them where they are closed."""
        strip = self.frame.positions.strip
        if not strip.is_open:
            self.pane_prompt()
        else:
            strip.colour()
            self._say_marks()

    def prompt_continue(self) -> None:
        """Show a few tokens after the prompt, without the edit and with it, or close them."""
        if self.workspace.has_table():
            self.frame.continued.toggle()

    def _say_marks(self) -> None:
        key = self.workspace.keymap.shown("prompt.colour")
        self.workspace.status.say(f"marks: {self.frame.positions.strip.legend()}; {key} switches KL and surprisal")

    def pane_zoom(self) -> None:
        """Zoom one pane to the whole screen, and back."""
        self.frame.zoomed = not self.frame.zoomed
        self.frame.show_pane(self.frame.right if self.frame.focused_pane == PROMPT_PANE else self.frame.focused_pane)

    # find

    def find_search(self) -> None:
        """Search for a dimension, or any token of the vocabulary."""
        if not self.workspace.has_table():
            return
        self._searched = self.frame.subject
        if self._searched == "token":
            self.frame.question(
                "search the whole vocabulary",
                self._search,
                "",
                "any part of a token; n and N go on",
                shown=marked_lines,
            )
        else:
            self.frame.question("search a dimension", self._search, "", "its number, or how it begins; n and N go on")

    def _search(self, text: str) -> None:
        table = self.workspace.read_table
        if table is None:
            return
        self._query = text
        if self._searched == "token":
            self._hits = search_tokens(table.tokens, table.surprisal, text) if text else []
        else:
            wanted = text.strip()
            found = [int(dim) for dim in self.frame.dims.order if wanted and str(dim).startswith(wanted)]
            self._hits = sorted(found, key=lambda dim: str(dim) != wanted)
        self._hit = 0
        self._go_to_hit()

    def _go_to_hit(self) -> None:
        shown = escape_controls(self._query)
        if not self._hits:
            self.workspace.status.say(
                f"nothing matches {shown!r}" if self._query else "nothing was searched yet", "warn"
            )
            return
        self._hit %= len(self._hits)
        if self._searched == "token":
            self.frame.show_pane(2)
            self.frame.tokens.select(self._hits[self._hit])
        else:
            self.frame.show_pane(1)
            self.frame.dims.select(self._hits[self._hit])
        self.workspace.status.say(f"match {self._hit + 1} of {len(self._hits)} for {shown!r}")

    def find_next(self, count: int = 1) -> None:
        """Go `count` matches on."""
        self._hit += count
        self._go_to_hit()

    def find_previous(self, count: int = 1) -> None:
        """Go `count` matches back."""
        self._hit -= count
        self._go_to_hit()

    def find_filter(self) -> None:
        """Show only some rows: pruned, kept, 10-50, or a text."""
        if not self.workspace.has_table():
            return
        if self.frame.subject == "token":
            now = self.frame.tokens.filter
            self.frame.question(
                "show tokens that contain", self._filter_tokens, now, "nothing shows all", shown=marked_lines
            )
            return

        def check(text: str) -> str | None:
            try:
                parse_filter(text)
            except TpeError as error:
                return str(error)
            return None

        self.frame.question(
            "show dimensions", self._filter_dims, self.frame.dims.filter, f"{FILTER_HELP}; nothing shows all", check
        )

    def _filter_dims(self, text: str) -> None:
        self.frame.dims.filter = text.strip()
        self.frame.dims.rebuild()
        self.frame.retitle()
        self.frame.show_detail()

    def _filter_tokens(self, text: str) -> None:
        self.frame.tokens.filter_by(text)
        self.frame.retitle()

    def table_sort(self) -> None:
        """Sort by the next key."""
        if self.workspace.has_table():
            self.frame.dims.next_sort()
            self.frame.retitle()
            self.frame.show_detail()

    def table_direction(self) -> None:
        """Reverse the order."""
        if self.workspace.has_table():
            self.frame.dims.descending = not self.frame.dims.descending
            self.frame.dims.rebuild()
            self.frame.retitle()

    # plot

    def _turn(self, step: int) -> None:
        if not self.workspace.has_table():
            return
        pane = self.frame.pane(self.frame.focused_pane)
        if isinstance(pane, TokenStrip):
            pane.go(pane.cursor + step)
            return
        if 3 in self.frame.visible_panes():
            self.frame.plot.turn(step)
        else:
            self.frame.show_pane(3)

    def plot_next(self, count: int = 1) -> None:
        """Show the next plot; in the prompt's tokens, go to the next."""
        self._turn(count)

    def plot_previous(self, count: int = 1) -> None:
        """Show the previous plot; in the prompt's tokens, go to the one before."""
        self._turn(-count)

    # app

    def app_palette(self) -> None:
        """Every action by name."""
        self.frame.front.action_command_palette()

    def app_count(self) -> None:
        """Begin a number."""
        self.frame.front.counts.begin()

    def app_help(self) -> None:
        """This help."""
        self.frame.app.push_screen(HelpScreen(self.workspace.keymap, self.frame.front.keys_file.name))

    def app_card(self) -> None:
        """The output head's report card."""
        opened = self.workspace.session or self.workspace.preview
        if opened is not None:
            self.frame.app.push_screen(CardScreen(opened.table.info.name, opened.card))

    def app_escape(self) -> None:
        """Drop the range, the filter or the zoom, or close the prompt's tokens or the tour."""
        if self.frame.focused_pane == PROMPT_PANE:
            self._close_prompt()
        elif self.frame.dims.range_from is not None:
            self.frame.dims.set_range(False)
        elif self.frame.zoomed:
            self.pane_zoom()
        elif self.frame.subject == "token" and self.frame.tokens.filter:
            self._filter_tokens("")
        elif self.frame.dims.filter:
            self._filter_dims("")
        elif self.frame.tour.is_open:
            self.frame.tour.go(None)
        self.workspace.status.say("")

    def app_tour(self) -> None:
        """Begin the tour, or go on with it."""
        self.frame.tour.turn(self.workspace.history.prompt)

    def app_quit(self) -> None:
        """Leave."""
        self.frame.front.ask_to_leave()
