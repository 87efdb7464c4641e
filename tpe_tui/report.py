"""How results read on a plain terminal or in a pipe: the same numbers as ``--json``, rounded for people."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from tpe_core.progress import Progress
from tpe_tui.format import escape_controls

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis
    from tpe_core.head import HeadReport
    from tpe_core.inspector import EncodingTable, NextTokens

__all__ = ["ProgressLine", "print_analysis", "print_check", "print_next_tokens", "print_training"]

RANKED = 20  # dimensions printed; --json has them all
COMPONENTS = 10


class ProgressLine:
    """Progress of a job on a stream: one line that is overwritten on a terminal, one line per stage elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._label, self._shown, self._open = "", 0.0, False

    def show(self, event: Progress) -> None:
        """Show an event; at most ten a second, but the first of every stage always."""
        now = time.monotonic()
        if event.label == self._label and now - self._shown < 0.1:
            return
        if self._terminal:
            share = "" if event.fraction is None else f" {event.fraction:4.0%}"
            text = escape_controls(f"{event.label}{share} {event.note}".rstrip())
            self._stream.write(f"\r\x1b[K{text}")
            self._open = True
        elif event.label != self._label:
            self._stream.write(f"{event.label}\n")
        self._stream.flush()
        self._label, self._shown = event.label, now

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False


def _line(text: str = "") -> None:
    sys.stdout.write(escape_controls(text.rstrip()) + "\n")


def print_check(report: HeadReport) -> None:
    """The report card of a head."""
    rows = f"{report.vocab_rows:,} in use" + (f", {report.padding_rows:,} padding" if report.padding_rows else "")
    extras = [
        text for text, true in (("tied to the input embedding", report.tied), ("with a bias", report.bias)) if true
    ]
    for name, value in (
        ("class", report.architecture),
        ("head", ", ".join([report.head, *extras])),
        ("rows", rows),
        ("hidden size", f"{report.hidden_size:,}"),
        ("after the head", report.post.kind if report.supported else "unknown"),
        ("dtype, device", f"{report.dtype}, {report.device}"),
        ("largest error", f"{report.max_abs_error:.3g} in the logits, against the model's own"),
        ("supported", "yes" if report.supported else f"no: {report.reason}"),
    ):
        _line(f"{name:<15} {value}")


def print_analysis(analysis: Analysis) -> None:
    """The fit, the components, the sparsity and the first ranked dimensions."""
    fit, components, head = analysis.encoding, analysis.components, analysis.model.head
    shown = range(min(COMPONENTS, head.hidden_size))
    for text in (
        f"{analysis.model.name}: {head.vocab_rows:,} tokens x {head.hidden_size:,} dimensions, "
        f"{analysis.rows_excluded:,} rows excluded",
        f"{analysis.detection.positions:,} positions of {analysis.text}; loss {analysis.detection.loss:.3f} nats",
        "",
        "-log alpha = A.W + B",
        f"  R2 {fit.r2:.4f}   adjusted {fit.r2_adjusted:.4f}   held-out vocabulary {fit.r2_heldout_vocab:.4f}   "
        f"permuted {fit.r2_permuted:.4f}",
        f"  F({fit.rank}, {fit.degrees_of_freedom}) {fit.f_statistic:.1f}, p {fit.f_p:.2g}   "
        f"intercept {fit.intercept:.3f}   condition number {fit.condition_number:.3g}",
        f"  cosine(A, -E[h]) {fit.cosine_to_mean_hidden:.3f}   "
        f"corr(-log alpha, E[-log p]) {fit.jensen_correlation:.3f}",
    ):
        _line(text)
    if head.bias is not None:
        _line(f"  the head bias enters as an offset; without it R2 is {fit.r2_without_offset:.4f}")
    for text in (
        "",
        "sparsity",
        "  R2 of the k best   " + "  ".join(f"{k}: {value:.3f}" for k, value in fit.r2_by_k().items()),
        f"  90 % of R2 takes {fit.dimensions_for(0.9)} dimensions   Gini {fit.gini:.3f}   "
        f"participation ratio {fit.participation_ratio:.1f}",
        "  PC correlation     " + "  ".join(f"{i + 1}: {components.correlations[i]:+.2f}" for i in shown),
        "  explained variance " + "  ".join(f"{i + 1}: {components.explained_variance_ratio[i]:.3f}" for i in shown),
        "",
        f"{'rank':>5} {'dim':>5} {'slope':>10} {'slope*sd':>9} {'stderr':>9} {'t':>9} {'q':>9} {'r':>7}",
    ):
        _line(text)
    order = np.argsort(-np.abs(fit.slope), kind="stable")
    for rank, dim in enumerate(order[:RANKED], 1):
        _line(
            f"{rank:>5} {dim:>5} {fit.slope[dim]:>10.4f} {fit.slope_std[dim]:>9.4f} {fit.stderr[dim]:>9.4f} "
            f"{fit.t[dim]:>9.2f} {fit.q[dim]:>9.2g} {fit.r[dim]:>7.3f}"
        )
    if len(order) > RANKED:
        _line(f"      ... {len(order) - RANKED} more with --json")


def print_next_tokens(result: NextTokens, table: EncodingTable, count: int = 10) -> None:
    """The edited distribution beside the base one."""
    edit = result.intervention
    _line()
    _line(
        f"after {result.prompt!r}: KL {result.kl:.4g}, JS {result.js:.4g} nats, "
        f"{len(edit.pruned)} dimensions pruned ({edit.replacement}), {len(edit.steering)} tokens steered"
    )
    for token_id, base, now in zip(result.ids[:count], result.base[:count], result.now[:count], strict=True):
        _line(f"  {table.tokens[token_id]:<24} {base:>8.2%} {now:>8.2%}")


def print_training(record: dict[str, Any], folder: Path) -> None:
    """Where a training run left what, and its loss."""
    steps = record["recipe"]["steps"]
    _line(f"{folder / 'model'}: held-out loss {record['held_out_loss']:.4f} nats after {steps:,} steps")
