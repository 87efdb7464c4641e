"""The table of `tpe eval`: base, edited and their difference, each with its standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_tui.cells import fit
from tpe_tui.cli.console import line

if TYPE_CHECKING:
    from tpe_core.evaluation.tasks import TaskScores, WithError

__all__ = ["print_scores"]

COLUMN = 20


def print_scores(scores: TaskScores) -> None:
    """A line for every metric of every task, in the harness's own order."""
    limited = "" if scores.limit is None else f", at most {scores.limit:,} items of each task"
    shots = "" if scores.shots is None else f", {scores.shots} examples before each item"
    wide = max([len("task"), *(len(each.task) for each in scores.scores)])
    names = max([len("metric"), *(len(_metric(each.metric, each.filter)) for each in scores.scores)])
    lines = [
        f"{scores.model}: tasks of lm-evaluation-harness {scores.harness}{limited}{shots}",
        "± is one standard error over items; the difference's is over the same items' differences",
        "",
        f"{'task':<{wide}}  {'metric':<{names}}{'items':>8}"
        + "".join(f"{title:>{COLUMN}}" for title in ("base", "edited", "difference")),
    ]
    for each in scores.scores:
        name = f"{fit(each.task, wide)}  {fit(_metric(each.metric, each.filter), names)}{each.items:>8,}"
        figures = (_figure(each.base), _figure(each.edited), _figure(each.difference, signed=True))
        lines.append(name + "".join(f"{figure:>{COLUMN}}" for figure in figures))
    for words in lines:
        line(words)


def _metric(metric: str, kept: str) -> str:
    return metric if kept == "none" else f"{metric} ({kept})"


def _figure(figure: WithError, signed: bool = False) -> str:
    error = "" if figure.error is None else f" ± {_digits(figure.error)}"
    return f"{'+' if signed and figure.value >= 0 else ''}{_digits(figure.value)}{error}"


def _digits(value: float) -> str:
    """Four decimals for shares and bits, fewer for large perplexities."""
    return f"{value:z.4f}" if abs(value) < 100 else f"{value:.5g}"
