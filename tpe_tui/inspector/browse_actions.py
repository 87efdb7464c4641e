"""The keys that look without changing anything: move, panes, search, filter, sort, plots, help.

Each action of the key table is one method named after its id; nothing here edits the intervention.
"""

from __future__ import annotations

from collections.abc import Callable

from tpe_tui.cells import escape_controls
from tpe_tui.dialogs.ask import Ask, Check
from tpe_tui.dialogs.card import CardScreen
from tpe_tui.dialogs.help import HelpScreen
from tpe_tui.engine.session import Session
from tpe_tui.inspector.base import BenchScreen
from tpe_tui.inspector.detail_pane import Detail
from tpe_tui.widgets.dim_table import FILTER_HELP, parse_filter
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.widgets.text_line import marked_lines
from tpe_tui.widgets.token_table import search_tokens

__all__ = ["BrowseScreen"]

FAR = 1 << 40


class BrowseScreen(BenchScreen):
    """The frame with everything that only looks."""

    def __init__(self) -> None:
        super().__init__()
        self._query = ""
        self._hits: list[int] = []
        self._hit = 0
        self._searched = "dim"

    def opened(self, session: Session, is_another: bool) -> None:
        """What was found in the last table is not in this one."""
        self._query, self._hits, self._hit = "", [], 0
        super().opened(session, is_another)

    def _question(
        self,
        question: str,
        then: Callable[[str], None],
        value: str = "",
        hint: str = "",
        check: Check | None = None,
        *,
        shown: Callable[[str], str] | None = None,
    ) -> None:
        asked = self.workspace.history

        def answered(text: str | None) -> None:
            if text is not None and self.workspace.history is not asked:
                self.workspace.status.say(
                    "another model was opened meanwhile: the answer was about the one before", "warn"
                )
            elif text is not None:
                then(text)

        self.app.push_screen(Ask(question, value, hint, check, shown), answered)

    # move

    def _move(self, rows: int) -> None:
        pane = self.pane(self.focused_pane)
        if isinstance(pane, ListPane):
            pane.go(pane.cursor + rows)
        elif isinstance(pane, Detail):
            pane.go(rows)

    def _page(self) -> int:
        return max(1, self.pane(self.focused_pane).size.height - 1)

    def action_move_down(self) -> None:
        """Move to the next row."""
        self._move(1)

    def action_move_up(self) -> None:
        """Move to the previous row."""
        self._move(-1)

    def action_move_half_down(self) -> None:
        """Move half a page down."""
        self._move(max(1, self._page() // 2))

    def action_move_half_up(self) -> None:
        """Move half a page up."""
        self._move(-max(1, self._page() // 2))

    def action_move_page_down(self) -> None:
        """Move a page down."""
        self._move(self._page())

    def action_move_page_up(self) -> None:
        """Move a page up."""
        self._move(-self._page())

    def action_move_first(self) -> None:
        """Move to the first row."""
        self._move(-FAR)

    def action_move_last(self) -> None:
        """Move to the last row."""
        self._move(FAR)

    # panes

    def action_pane_next(self) -> None:
        """Focus the next pane."""
        self.show_pane(self.focused_pane % 4 + 1)

    def action_pane_previous(self) -> None:
        """Focus the previous pane."""
        self.show_pane((self.focused_pane - 2) % 4 + 1)

    def action_pane_dims(self) -> None:
        """Focus the dimensions."""
        self.show_pane(1)

    def action_pane_tokens(self) -> None:
        """Focus the next-token table."""
        self.show_pane(2)

    def action_pane_plot(self) -> None:
        """Focus the plot."""
        self.show_pane(3)

    def action_pane_detail(self) -> None:
        """Focus the detail of the dimension or token under the cursor."""
        self.show_pane(4)

    def action_pane_zoom(self) -> None:
        """Zoom one pane to the whole screen, and back."""
        self.zoomed = not self.zoomed
        self.show_pane(self.focused_pane)

    # find

    def action_find_search(self) -> None:
        """Search for a dimension, or any token of the vocabulary."""
        if not self.workspace.ready():
            return
        self._searched = self.subject
        if self._searched == "token":
            self._question(
                "search the whole vocabulary",
                self._search,
                "",
                "any part of a token; n and N go on",
                shown=marked_lines,
            )
        else:
            self._question("search a dimension", self._search, "", "its number, or how it begins; n and N go on")

    def _search(self, text: str) -> None:
        if self.workspace.session is None:
            return
        table = self.workspace.session.table
        self._query = text
        if self._searched == "token":
            self._hits = search_tokens(table.tokens, table.surprisal, text) if text else []
        else:
            wanted = text.strip()
            found = [int(dim) for dim in self.dims.order if wanted and str(dim).startswith(wanted)]
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
            self.show_pane(2)
            self.tokens.select(self._hits[self._hit])
        else:
            self.show_pane(1)
            self.dims.select(self._hits[self._hit])
        self.workspace.status.say(f"match {self._hit + 1} of {len(self._hits)} for {shown!r}")

    def action_find_next(self) -> None:
        """Go to the next match."""
        self._hit += 1
        self._go_to_hit()

    def action_find_previous(self) -> None:
        """Go to the previous match."""
        self._hit -= 1
        self._go_to_hit()

    def action_find_filter(self) -> None:
        """Show only some rows: pruned, kept, 10-50, or a text."""
        if not self.workspace.ready():
            return
        if self.subject == "token":
            now = self.tokens.filter
            self._question(
                "show tokens that contain", self._filter_tokens, now, "nothing shows all", shown=marked_lines
            )
            return

        def check(text: str) -> str | None:
            fine = not text.strip() or parse_filter(text) is not None
            return None if fine else f"not understood; try {FILTER_HELP}"

        self._question(
            "show dimensions", self._filter_dims, self.dims.filter, f"{FILTER_HELP}; nothing shows all", check
        )

    def _filter_dims(self, text: str) -> None:
        self.dims.filter = text.strip()
        self.dims.rebuild()
        self.retitle()
        self.show_detail()

    def _filter_tokens(self, text: str) -> None:
        self.tokens.filter = text
        self.tokens.rebuild()
        self.retitle()

    def action_table_sort(self) -> None:
        """Sort by the next key."""
        if self.workspace.ready():
            self.dims.next_sort()
            self.retitle()
            self.show_detail()

    def action_table_direction(self) -> None:
        """Reverse the order."""
        if self.workspace.ready():
            self.dims.descending = not self.dims.descending
            self.dims.rebuild()
            self.retitle()

    # plot

    def _turn(self, step: int) -> None:
        if not self.workspace.ready():
            return
        if 3 in self.visible_panes():
            self.plot.turn(step)
        else:
            self.show_pane(3)

    def action_plot_next(self) -> None:
        """Show the next plot."""
        self._turn(1)

    def action_plot_previous(self) -> None:
        """Show the previous plot."""
        self._turn(-1)

    # app

    def action_app_palette(self) -> None:
        """See the key table."""
        self.front.action_command_palette()

    def action_app_help(self) -> None:
        """See the key table."""
        self.app.push_screen(HelpScreen(self.workspace.keymap, self.front.keys_file.name))

    def action_app_card(self) -> None:
        """See the key table."""
        if self.workspace.session is not None:
            self.app.push_screen(CardScreen(self.workspace.session.table.info.name, self.workspace.session.card))

    def action_app_escape(self) -> None:
        """Drop the range, the filter or the zoom."""
        if self.dims.range_from is not None:
            self.dims.set_range(False)
        elif self.zoomed:
            self.action_pane_zoom()
        elif self.subject == "token" and self.tokens.filter:
            self._filter_tokens("")
        elif self.dims.filter:
            self._filter_dims("")
        self.workspace.status.say("")

    def action_app_quit(self) -> None:
        """See the key table."""
        self.front.ask_to_leave()
