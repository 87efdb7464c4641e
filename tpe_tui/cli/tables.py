"""How results read on a plain terminal or in a pipe: the same numbers as ``--json``, rounded for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpe_core.fit_summary import FitSummary
from tpe_tui.cells import four_decimals, p_value, percent
from tpe_tui.cli.console import line
from tpe_tui.fit_figures import fit_figures
from tpe_tui.head_card import card_lines

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis
    from tpe_core.corpus.reading import TextRead
    from tpe_core.snapshots import EncodingTable, NextTokens

__all__ = ["print_analysis", "print_check", "print_next_tokens"]

RANKED = 20  # dimensions printed; --json has them all
COMPONENTS = 10


def print_check(card: Mapping[str, Any]) -> None:
    """The report card of a head, from the document of `tpe check`."""
    for name, value in card_lines(card):
        line(f"{name:<15} {value}")


def _read(read: TextRead) -> str:
    """Documents, share and fingerprint of what was read."""
    documents = "documents not counted" if read.documents is None else f"{read.documents:,} documents"
    share = "" if read.share is None else f", {percent(read.share)} of the text"
    return f"read: {documents}{share}; sha256 {read.fingerprint[:16]}"


def print_analysis(analysis: Analysis) -> None:
    """The fit, the components, the sparsity and the first ranked dimensions."""
    fit, components, head = analysis.encoding, analysis.components, analysis.model.head
    shown = range(min(COMPONENTS, head.hidden_size))
    text_of = {figure.name: figure.text for figure in fit_figures(FitSummary.of(analysis))}
    for text in (
        f"{analysis.model.name}: {head.vocab_rows:,} tokens x {head.hidden_size:,} dimensions, "
        f"{text_of['excluded']} rows excluded",
        f"{analysis.detection.positions:,} positions of {analysis.text}; loss {analysis.detection.loss:z.3f} nats",
        _read(analysis.read),
        "",
        "-log alpha = A.W + B",
        f"  R2 {text_of['R²']}   adjusted {text_of['adjusted']}   held-out vocabulary {text_of['held-out']}   "
        f"permuted {text_of['permuted']}",
        f"  F({fit.rank}, {fit.degrees_of_freedom}) {text_of['F']}, p {text_of['p']}   "
        f"intercept {text_of['intercept']}   condition number {text_of['condition']}",
        f"  cosine(A, -E[h]) {text_of['cosine']}   corr(-log alpha, E[-log p]) {text_of['corr E[-log p]']}",
    ):
        line(text)
    if head.bias is not None:
        line(f"  the head bias enters as an offset; without it R2 is {fit.r2_without_offset:z.4f}")
    if head.post.scale != 1:
        line(f"  W and the slopes are in units of the final logits (the model's scale {head.post.scale:.6g} included)")
    if not head.post.is_linear:
        line(
            f"  the law is approximate here: the logits are soft-capped at {head.post.cap:.6g}, not linear in W; "
            "slopes are those under the cap"
        )
    for text in (
        "",
        "sparsity",
        f"  R2 of the k best   {text_of['R² of k best']}",
        f"  90 % of R2 takes {text_of['90 % of R²']} dimensions   Gini {text_of['Gini']}   "
        f"participation ratio {text_of['participation']}",
        "  PC correlation     " + "  ".join(f"{i + 1}: {components.correlations[i]:+z.2f}" for i in shown),
        "  explained variance " + "  ".join(f"{i + 1}: {components.explained_variance_ratio[i]:z.3f}" for i in shown),
        "",
        *_stability(analysis, text_of),
        "",
        *_neighbours(analysis, text_of),
        "",
        f"{'rank':>5} {'dim':>5} {'slope':>10} {'slope*sd':>9} {'stderr':>9} {'t':>9} {'q':>9} {'r':>7}",
    ):
        line(text)
    order = np.argsort(-np.abs(fit.slope), kind="stable")
    for rank, dim in enumerate(order[:RANKED], 1):
        line(
            f"{rank:>5} {dim:>5} {four_decimals(fit.slope[dim]):>10} {four_decimals(fit.slope_std[dim]):>9} "
            f"{four_decimals(fit.stderr[dim]):>9} "
            f"{fit.t[dim]:>z9.2f} {p_value(float(fit.q[dim]), 2):>9} {fit.r[dim]:>z7.3f}"
        )
    if len(order) > RANKED:
        line(f"      ... {len(order) - RANKED} more with --json")


def _stability(analysis: Analysis, text_of: Mapping[str, str]) -> list[str]:
    """How much of the ranking is the text's."""
    found = analysis.stability
    if found is None:
        return [f"ranking: how much of it is the text's is not known; {analysis.no_stability}"]
    wanted = found.positions_for(0.99)
    needed = f"0.99 takes about {float(f'{wanted:.2g}'):,.0f} or more"
    if math.isinf(wanted):
        needed = "halves that do not agree foretell no length that would do"
    return [
        f"ranking by |slope|: halves of the text share {text_of['bottom shared']} of their bottom 30 % of "
        f"dimensions; rank correlation {text_of['rank corr.']}",
        f"  slopes of halves agree to cosine {text_of['halves']}, of two texts of {found.positions:,} positions to "
        f"{found.cosine_at(found.positions):z.3f}; {needed}",
    ]


def _neighbours(analysis: Analysis, text_of: Mapping[str, str]) -> list[str]:
    """The neighbouring results: weighted components, static bias, outliers, geometry, suspicious tokens."""
    weighted, static, outliers = analysis.components_weighted, analysis.static_bias, analysis.outliers
    shape, undertrained = analysis.geometry, analysis.undertrained
    lines = [
        "rows weighted by alpha",
        "  PC correlation     " + "  ".join(f"{i}: {r:+z.2f}" for i, r in enumerate(weighted.correlations_weighted, 1)),
        "  explained variance "
        + "  ".join(f"{i}: {share:z.3f}" for i, share in enumerate(weighted.explained_variance_ratio, 1)),
        "",
    ]
    if static is None:
        lines.append("static bias: none (no bias in the final norm that reaches the head, none in the head)")
    else:
        sources = [f"beta of {static.norm}"] if static.norm else []
        sources += ["head bias"] if static.head_bias else []
        lines += [
            f"static bias s ({' and '.join(sources)})",
            f"  corr(s, -log alpha) {static.correlation:+z.3f}   R2 of s alone {static.r2_alone:z.3f}   "
            f"with coefficient -1 {static.r2_fixed:z.3f}   of -log alpha + s on W {static.r2_offset:z.4f}",
        ]
    dims, lead = outliers.dims, f"outlier dimensions of h: {len(outliers.dims)} of {len(outliers.rms)}"
    if len(dims):
        named = ", ".join(str(dim) for dim in dims[:COMPONENTS]) + (", ..." if len(dims) > COMPONENTS else "")
        lines.append(
            f"{lead} ({named}); {outliers.overlap} of them among the {len(dims)} of largest |slope*sd| "
            f"({outliers.overlap_expected:z.2f} by chance, p {p_value(outliers.overlap_p, 2)})"
        )
    else:
        lines.append(lead)
    null = (
        f"{shape.null_space} dimensions, {shape.null_space_hidden:z.2%} of h's variance" if shape.null_space else "none"
    )
    lines.append(f"common drift of W {text_of['drift']}   rank {shape.rank}   effective null space: {null}")
    lines.append(f"nearest the {undertrained.untrained.reference} (cosine distance): {text_of['untrained']}")
    lines.append(f"worst fitted (residual): {text_of['worst fitted']}")
    return lines


def print_next_tokens(result: NextTokens, table: EncodingTable, count: int = 10) -> None:
    """The edited distribution beside the base one."""
    edit = result.intervention
    line()
    line(
        f"after {result.prompt!r}: KL {result.kl:.4g}, JS {result.js:.4g} nats, "
        f"{len(edit.pruned)} dimensions pruned ({edit.replacement}), {len(edit.steering)} tokens steered"
    )
    for token_id, base, now in zip(result.ids[:count], result.base[:count], result.now[:count], strict=True):
        line(f"  {table.tokens[token_id]:<24} {percent(base):>8} {percent(now):>8}")
