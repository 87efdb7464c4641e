"""The detail pane: everything known of the dimension or the token under the cursor.

It lays out numbers that the engine gave; it asks for nothing itself.
"""

from __future__ import annotations

import math
import textwrap

from rich.cells import cell_len

from tpe_core.snapshots import DimensionDetail, EncodingTable, PruningForecast, TokenDetail
from tpe_tui.cells import count, fit, number, p_value, percent, points
from tpe_tui.inspector.reach import lost_names
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["Detail"]

LABEL = 11  # cells


def _rows(pairs: list[tuple[str, str]], width: int) -> list[Line]:
    """Label and value, two to a line where both fit."""
    cell = (width - 1) // (2 if width >= 40 else 1)
    label = min(LABEL, cell // 2)
    rows: list[Line] = []
    while pairs:
        two = pairs[:2] if width >= 40 and all(cell_len(value) < cell - label for _, value in pairs[:2]) else pairs[:1]
        room = cell if len(two) == 2 else width - 1
        line: Line = [(" ", "row")]
        for name, value in two:
            line += [(fit(name, label), "muted"), (fit(value, room - label - 1) + " ", "row")]
        rows.append(line)
        pairs = pairs[len(two) :]
    return rows


EMPTY = "here stands what is known of the dimension or the token under the cursor, once a model is open"


class Detail(LineWidget):
    """Pane 4. The subject is a dimension or a token; `None` details show what the table alone knows."""

    can_focus = True

    def __init__(self) -> None:
        super().__init__("detail")
        self.table: EncodingTable | None = None
        self.subject: tuple[str, int] | None = None
        self.pruned = False
        self.rank = 0
        self.forecast: PruningForecast | None = None
        self.figures: DimensionDetail | TokenDetail | None = None
        self.pending = False
        self.lost: tuple[int, ...] = ()
        self.top = 0

    def show_dim(
        self,
        table: EncodingTable,
        dim: int,
        rank: int,
        pruned: bool,
        figures: DimensionDetail | None,
        *,
        forecast: PruningForecast | None = None,
        lost: tuple[int, ...] = (),
    ) -> None:
        """A dimension; `figures` follows when the engine has answered, as does the `forecast` of the mask in force.

        `lost` are the tokens that toggling it makes unreachable.
        """
        self._show(table, ("dim", dim), figures)
        self.rank, self.pruned, self.forecast, self.lost = rank, pruned, forecast, lost
        self.repaint()

    def show_token(
        self,
        table: EncodingTable,
        token_id: int,
        figures: TokenDetail | None,
        pending: bool = False,
        *,
        lost: bool = False,
    ) -> None:
        """A token; `pending` says that `figures` are of an earlier edit, `lost` that the edit makes it unreachable."""
        self._show(table, ("token", token_id), figures)
        self.pending, self.lost = pending, (token_id,) if lost else ()
        self.repaint()

    def clear(self) -> None:
        """Nothing is known about anything."""
        self.subject = self.figures = None
        self.repaint()

    def _show(
        self, table: EncodingTable, subject: tuple[str, int], figures: DimensionDetail | TokenDetail | None
    ) -> None:
        if subject != self.subject:
            self.top = 0
        self.table, self.subject, self.figures, self.pending = table, subject, figures, False

    def go(self, rows: int) -> None:
        """Scroll."""
        total = len(self._text(self.size.width))
        self.top = max(0, min(self.top + rows, total - self.size.height))
        self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """One line of the text, scrolled."""
        lines = self._text(width)
        at = y + max(0, min(self.top, len(lines) - self.size.height))
        return (lines[at] if at < len(lines) else []), "row"

    def _text(self, width: int) -> list[Line]:
        if self.table is None:
            return [[(f" {part}", "muted")] for part in textwrap.wrap(EMPTY, max(10, width - 2))]
        if self.subject is None:
            return []
        kind, index = self.subject
        return self._dim_text(self.table, index, width) if kind == "dim" else self._token_text(self.table, index, width)

    def _dim_text(self, table: EncodingTable, dim: int, width: int) -> list[Line]:
        state = "pruned" if self.pruned else "kept"
        lines: list[Line] = [
            [(f" dim {dim}", "title"), (f"   rank {self.rank} of {len(table.slope)}   {state}", "muted")],
            [],
        ]
        figures = self.figures if isinstance(self.figures, DimensionDetail) else None
        pairs = [
            ("slope", number(float(table.slope[dim]), True)),
            ("std error", number(float(table.stderr[dim]))),
            ("slope·sd", number(float(table.slope_std[dim]), True)),
            ("t", f"{table.t[dim]:+z.1f}"),
            ("r", f"{table.r[dim]:+z.3f}"),
            ("p", p_value(float(table.p[dim]), 2)),
            ("q", p_value(float(table.q[dim]), 2)),
            ("sd W", number(figures.sd_weight) if figures else "…"),
            ("mean h", number(figures.mean_hidden, True) if figures else "…"),
            ("sd h", number(figures.sd_hidden) if figures else "…"),
            ("rms h", number(figures.rms_hidden) if figures else "…"),
            ("outlier", ("yes" if figures.outlier else "no") if figures else "…"),
        ]
        lines += _rows(pairs, width)
        if (known := table.stability) is not None:
            ends = [number(float(end[dim]), True) for end in (known.low, known.high)]
            text = f"slope {' to '.join(ends)} over parts of the text (95 %)"
            lines += [[(f" {part}", "row")] for part in textwrap.wrap(text, max(1, width - 2))]
        if self.forecast is not None and self.forecast.toggled is not None:
            toggled = float(self.forecast.toggled[dim])
            change, verb = toggled - self.forecast.kl, "keeping" if self.pruned else "pruning"
            text = f"{verb} it: forecast KL {number(toggled)} ({number(change, True)}) over the text"
            lines += [[(f" {part}", "row")] for part in textwrap.wrap(text, max(1, width - 2))]
        if self.lost:
            verb = "keeping" if self.pruned else "pruning"
            text = f"{verb} it, no hidden state makes these the top token: {lost_names(self.lost, table.tokens)}"
            lines += [[(f" {part}", "warn")] for part in textwrap.wrap(text, max(1, width - 2))]
        if figures is None:
            return lines
        half = (width - 2) // 2
        lines += [[], [(" " + fit("largest weights", half) + fit("smallest weights", half), "head")]]
        for high, low in zip(figures.top, figures.bottom, strict=False):
            line: Line = [(" ", "row")]
            for token_id, weight in (high, low):
                line.append((fit(table.tokens[token_id], half - 9), "row"))
                line.append((fit(number(weight, True), 7, True) + "  ", "muted"))
            lines.append(line)
        return lines

    def _token_text(self, table: EncodingTable, token_id: int, width: int) -> list[Line]:
        text = table.tokens[token_id]
        lines: list[Line] = [
            [(" ", "row"), (fit(text, min(width - 20, 30)).rstrip(), "title"), (f"   id {token_id}", "muted")],
            [],
        ]
        surprisal, predicted = float(table.surprisal[token_id]), float(table.predicted[token_id])
        figures = self.figures if isinstance(self.figures, TokenDetail) else None
        pairs = [
            ("mean p, α", f"{math.exp(-surprisal):.3g}"),
            ("−log α", number(surprisal)),
            ("fitted", number(predicted)),
            ("residual", number(figures.residual if figures else surprisal - predicted, True)),
            ("rank", f"{count(figures.rank)}/{len(table.surprisal)}" if figures else "…"),
            ("count", count(figures.count) if figures else "…"),
            ("static s", _or_none(number(figures.static_bias, True)) if figures else "…"),
            ("untrained", _or_none(f"cos {figures.untrained:+z.2f}") if figures else "…"),
        ]
        lines += _rows(pairs, width)
        if self.lost:
            text = "no hidden state makes it the top token under this edit"
            lines += [[(f" {part}", "warn")] for part in textwrap.wrap(text, max(1, width - 2))]
        lines += [[], [(" after the prompt" + (" …" if self.pending else ""), "head")]]
        live = [
            ("base", percent(figures.base) if figures else "…"),
            ("now", percent(figures.now) if figures else "…"),
            ("Δ points", points(figures.now - figures.base, fine=True) if figures else "…"),
            ("odds ×", number(_odds(figures)) if figures else "…"),
            ("asked ×", number(figures.ratio) if figures else "…"),
        ]
        if figures is not None and figures.attainable < 1:
            live.append(("at most", f"{percent(figures.attainable)} (soft cap)"))
        rows = _rows(live, width)
        if self.pending:
            rows = [[(text, "muted") for text, _ in row] for row in rows]
        return lines + rows

    def copy_text(self) -> str:
        """The text as it stands, without colours."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._text(72)).strip()


def _or_none(shown: str) -> str:
    """A shown number, or that there is none."""
    return "none" if "nan" in shown else shown


def _odds(figures: TokenDetail) -> float:
    """By how much the edit multiplied the token's odds after the prompt."""
    if not (0 < figures.base < 1 and figures.now < 1):
        return float("nan")
    return (figures.now / (1 - figures.now)) / (figures.base / (1 - figures.base))
