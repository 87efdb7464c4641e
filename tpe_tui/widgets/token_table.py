"""The next-token distribution before and after the edit, as rows with bars.

It shows the engine's last answer and says when that answer is not the current one; it never computes a probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpe_core.lazy import Deferred
from tpe_core.snapshots import EncodingTable, NextTokens, TokenDetail
from tpe_tui.cells import bar, fit, number, percent, points
from tpe_tui.ratios import short_ratio
from tpe_tui.widgets.line_widget import Line, ListPane

if TYPE_CHECKING:
    import numpy as np
else:
    np = Deferred("numpy")

__all__ = ["TokenBars", "search_tokens"]

SCALES = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
LEADING = " ·␣▁Ġ"
SPACES = (" ", "_", "▁", "Ġ", "␣")  # as which a leading space may be typed; a token shows it as ·
PROBABILITY, CHANGE = 8, 7  # cells of a column
NAME_CELLS = 8  # of a token's text at least, beside its ratio
WIDE: Mapping[str, int] = {"id": 8, "alpha": 9, "log p": 8}  # cells of columns that a pane with room for them has
BAR_BESIDE = 10  # cells of a bar that stay beside them
NOTABLE = 0.01
"""A change of a point is coloured; the sign says the rest, and fewer colours are fewer bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token; probabilities are None where the engine has not said them."""

    token_id: int
    base: float | None
    now: float | None
    pinned: bool = False


def search_tokens(tokens: Sequence[str], surprisal: np.ndarray, query: str) -> list[int]:
    """Ids of all tokens that contain `query`, whatever the case: exact ones first, then the most probable.

    A space before a word may be typed as it is, or as a tokenizer or an ASCII terminal writes it.
    """
    spaced = f"·{query[1:]}" if query[:1] in SPACES else query
    plain, other = query.lower(), spaced.lower()
    queries, wanted = {query, spaced}, {plain, other}
    token_ids = [at for at, text in enumerate(tokens) if plain in (lowered := text.lower()) or other in lowered]

    def order(token_id: int) -> tuple[int, float]:
        texts = {tokens[token_id], tokens[token_id].lstrip(LEADING)}
        exact = 0 if texts & queries else 1 if {text.lower() for text in texts} & wanted else 2
        return exact, float(surprisal[token_id])

    return sorted(token_ids, key=order)


class TokenBars(ListPane):
    """Pane 2. The cursor stays on its token when rows change places."""

    def __init__(self) -> None:
        super().__init__("tokens")
        self.table: EncodingTable | None = None
        self.answer: NextTokens | None = None
        self.refusal = ""
        self.rows: list[Row] = []
        self.ratios: Mapping[int, float] = {}
        self.in_sets: frozenset[int] = frozenset()  # steered in a set: shown only where they are likely
        self.marked: set[int] = set()
        self.by_base = False
        self.filter = ""
        self.pending = False
        self.dimmed = False
        self.selected: int | None = None
        self.detail: TokenDetail | None = None
        self._scale = 1.0

    @property
    def n_rows(self) -> int:
        """Rows in view."""
        return len(self.rows)

    @property
    def token_id(self) -> int | None:
        """The token under the cursor."""
        return self.rows[self.cursor].token_id if self.rows else None

    def empty(self) -> str:
        """Why there is nothing to see."""
        if self.refusal:
            return self.refusal
        if self.answer is None:
            return "here stand the tokens that may come next after the prompt, once the model is loaded"
        return "no token here contains the filter's text"

    def forget(self) -> None:
        """Another vocabulary: nothing that is known here is about it."""
        self.answer, self.rows, self.ratios, self.selected, self.detail = None, [], {}, None, None
        self.refusal = ""
        self.in_sets = frozenset()
        self.marked.clear()
        self.filter, self.cursor, self.top = "", 0, 0

    def show(self, answer: NextTokens, ratios: Mapping[int, float]) -> None:
        """The engine's answer."""
        self.answer, self.refusal = answer, ""
        self.ratios = ratios
        self.pending = self.dimmed = False
        self.rebuild()

    def wait(self, ratios: Mapping[int, float]) -> None:
        """What is shown is no longer current: say so at once, without touching the rows."""
        self.pending = True
        if ratios != self.ratios:
            self.ratios = ratios
            self.rebuild()
        else:
            self.repaint([0])

    def refuse(self, sentence: str, ratios: Mapping[int, float]) -> None:
        """There is no answer to what was asked, and why: nothing of an earlier one stays."""
        self.answer, self.refusal, self.detail = None, sentence, None
        self.ratios = ratios
        self.pending = self.dimmed = False
        self.rebuild()

    def dim_stale(self) -> None:
        """The answer takes long: dim what is shown."""
        if self.pending and not self.dimmed:
            self.dimmed = True
            self.repaint()

    def settle(self, ratios: Mapping[int, float]) -> None:
        """What is shown is current after all, of an edit with these ratios."""
        was_dimmed, self.pending, self.dimmed = self.dimmed, False, False
        if ratios != self.ratios:
            self.ratios = ratios
            self.rebuild()
        else:
            self.repaint(None if was_dimmed else [0])

    def learn(self, detail: TokenDetail) -> None:
        """The selected token's probabilities, which the list may lack."""
        self.detail = detail
        if any(row.pinned and row.token_id == detail.token_id for row in self.rows):
            self.rebuild()

    def rebuild(self) -> None:
        """Build the rows: pinned tokens that are not among the most probable, then those in order.

        The filter hides neither what is steered nor what is selected, in the list or pinned above it: a key acts on the
        token that was searched for, whichever answer has come.
        """
        rows: list[Row] = []
        if self.answer is not None:
            base, now = self.answer.base, self.answer.now
            order = np.argsort(-base, kind="stable") if self.by_base else np.arange(len(now))
            rows = [Row(int(self.answer.ids[i]), float(base[i]), float(now[i])) for i in order]
            shown = {row.token_id for row in rows}
            rows = [self._pinned(token_id) for token_id in sorted(self._kept() - shown)] + rows
        if self.filter and self.table is not None:
            rows = [row for row in rows if row.token_id in self._kept() or self._matches(row.token_id)]
        self.rows = rows
        highest = max((max(row.base or 0.0, row.now or 0.0) for row in rows), default=1.0)
        self._scale = next((scale for scale in SCALES if scale >= highest), 1.0)
        at = next((index for index, row in enumerate(rows) if row.token_id == self.selected), 0)
        self.go(at, quiet=True)
        self.repaint()

    def _kept(self) -> set[int]:
        """Token ids that are shown in any case."""
        return {*(self.ratios.keys() - self.in_sets), *([self.selected] if self.selected is not None else [])}

    def _matches(self, token_id: int) -> bool:
        return self.table is not None and self.filter.lower() in self.table.tokens[token_id].lower()

    def filter_by(self, text: str) -> None:
        """Show the tokens that contain `text`; a selected one that does not is selected no longer."""
        self.filter = text
        if self.selected is not None and not self._matches(self.selected):
            self.selected = None
        self.rebuild()

    def _pinned(self, token_id: int) -> Row:
        known = self.detail is not None and self.detail.token_id == token_id
        return (
            Row(token_id, self.detail.base, self.detail.now, True)
            if known and self.detail
            else Row(token_id, None, None, True)
        )

    def mark(self) -> int:
        """Mark the token under the cursor, or unmark it, and go on to the next; how many are marked."""
        if (token_id := self.token_id) is not None:
            self.marked ^= {token_id}
            self.go(self.cursor + 1)
            self.repaint()
        return len(self.marked)

    def select(self, token_id: int) -> None:
        """Put the cursor on any token of the vocabulary; one outside the list is pinned above it."""
        self.selected = token_id
        self.rebuild()
        self.post_message(self.Moved(self))

    def go(self, index: int, quiet: bool = False) -> None:
        """As `ListPane.go`; moving by hand selects the token there."""
        before = self.cursor
        super().go(index, quiet)
        if not quiet and self.rows and (before != self.cursor or self.selected is None):
            self.selected = self.token_id

    def title(self) -> str:
        """What the pane's title adds."""
        order = "base ↓" if self.by_base else "now ↓"
        return f"{order}  {self.filter} ({self.n_rows})" if self.filter else order

    def _widths(self, width: int) -> tuple[int, int, list[str], int]:
        """Cells for the token's text and its change, the wide columns, cells for the bar.

        A name with a ratio takes the others' room.
        """
        left = width - 2 - 2 * PROBABILITY
        tags = [self._tag(row.token_id) for row in self.rows if row.token_id in self.ratios] if self.ratios else []
        least = NAME_CELLS + max(map(len, tags), default=0)
        change = CHANGE if left - CHANGE >= least or not tags else 0
        left -= change
        token = min(max(least, min(26, left * 3 // 5)), left)
        left -= token + 1
        further: list[str] = []
        for name, cells in WIDE.items():
            if left - cells < BAR_BESIDE:
                break
            further.append(name)
            left -= cells
        return token, change, further, max(0, left)

    def _further(self, name: str, row: Row, table: EncodingTable) -> str:
        """What stands in a wide column."""
        if name == "id":
            return str(row.token_id)
        if name == "alpha":
            return number(math.exp(-float(table.surprisal[row.token_id])))
        return "" if not row.now else number(math.log(row.now))

    def _tag(self, token_id: int) -> str:
        """The ratio that stands behind the text of a steered token."""
        ratio = self.ratios.get(token_id)
        return "" if ratio is None else f" ×{short_ratio(ratio)}"

    def header(self, width: int) -> Line:
        """Column names; dots behind `now` while an answer is awaited."""
        token, change, further, cells = self._widths(width)
        now = "now…" if self.pending else "now"
        scale = f"0 to {100 * self._scale:g}%" if cells >= 9 else ""
        text = "  " + fit("token", token) + fit("base", PROBABILITY, True) + fit(now, PROBABILITY, True)
        text += fit("Δ pts", change, True) + "".join(fit(name, WIDE[name], True) for name in further)
        return [(text, "head"), (" " + fit(scale if self.answer else "", max(0, cells)), "muted")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One token: its steering ratio, if any, stands in its name's cells."""
        if self.table is None:
            return [], "row"
        row = self.rows[index]
        cells, change_cells, further, bars = self._widths(width)
        tag = self._tag(row.token_id)
        plain = "muted" if self.dimmed else "row"
        runs: Line = [
            (("◆" if tag else "›" if row.pinned else " ") + ("*" if row.token_id in self.marked else " "), "steered"),
            (fit(self.table.tokens[row.token_id], cells - len(tag)), plain),
            (tag, "steered"),
        ]
        beside = "".join(fit(self._further(name, row, self.table), WIDE[name], True) for name in further)
        if row.base is None or row.now is None:
            awaited = fit("…", PROBABILITY, True) * 2 + " " * change_cells
            runs.append((awaited + beside + " " * (1 + bars), "muted"))
        else:
            change = row.now - row.base
            role = plain if self.dimmed or abs(change) < NOTABLE else "up" if change > 0 else "down"
            runs.append((fit(percent(row.base), PROBABILITY, True) + fit(percent(row.now), PROBABILITY, True), plain))
            runs.append((fit(points(change, fine=bool(tag)), change_cells, True), role))
            runs.append((beside + " ", plain))
            runs.extend(self._bar(row.base / self._scale, row.now / self._scale, bars))
        return runs, "cursor" if index == self.cursor else "row"

    def _bar(self, base: float, now: float, width: int) -> Line:
        """A bar of `now`; where `base` differs by a cell or more, a stroke where `base` was."""
        if width < 3:
            return [(" " * max(0, width), "row")]
        text = bar(now, width)
        role = "muted" if self.dimmed else "bar"
        at = min(width - 1, int(base * width))
        if at == min(width - 1, int(now * width)):
            return [(text, role)]
        return [(text[:at] + "│" + text[at + 1 :], role)]

    def copy_text(self) -> str:
        """The row under the cursor as two tab-separated lines."""
        if self.table is None or not self.rows:
            return ""
        row = self.rows[self.cursor]
        values = ["" if value is None else repr(value) for value in (row.base, row.now)]
        text = self.table.tokens[row.token_id]
        ratio = self.ratios.get(row.token_id, 1.0)
        return "token_id\ttoken\tbase\tnow\tratio\n" + "\t".join((str(row.token_id), text, *values, repr(ratio)))
