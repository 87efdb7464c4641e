"""The tables of `tpe train-on`: the last figures of every scenario, mask and variant, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_tui.cells import count, fit, four_decimals
from tpe_tui.cli.console import line
from tpe_tui.cli.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpe_core.continued_training.results import ContinuedTraining, RunRecord

__all__ = ["RunRows", "print_experiment"]

NAME = 12
COLUMNS = (
    ("loss", "loss.heldout", 8), ("gap", "gap.heldout", 9), ("gap ood", "gap.ood", 9), ("KL", "kl.heldout", 9),
    ("R2", "r2_adjusted", 8), ("cosine", "slope_cosine", 8), ("overlap", "overlap", 9), ("cost", "cost_kl", 9),
    ("spread", "spread", 8),
)  # fmt: skip
LEGEND = (
    ("loss", "on held-out text, nats a token"),
    ("gap", "the loss minus the unedited run's at the same step; ood: on the other domain's text"),
    ("KL", "of the unedited run's predictions from this run's, nats"),
    ("R2", "of -log alpha on the output embedding's rows, adjusted"),
    ("cosine", "of the standardised slopes with those at step 0"),
    ("overlap", "of the mask with as many dimensions of the smallest |slope| now"),
    ("cost", "KL of putting the mask on the model without it, nats"),
    ("spread", "of what the mask's dimensions do to the logits, relative to the others"),
)


class RunRows:
    """A line for every run that has ended, as it comes."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._printed: set[tuple[str, str, str, int]] = set()

    def rows(self) -> Rows:
        """What prints them in a log."""
        return Rows(new=self.new, place="log")

    def new(self, result: ContinuedTraining) -> list[str]:
        """The lines of runs that have ended since the last time."""
        lines = []
        for run in result.runs:
            key = (run.scenario, run.mask, run.variant, run.seed)
            ended = run.stopped or (run.points and run.points[-1].step >= self._steps)
            if ended and key not in self._printed:
                self._printed.add(key)
                lines.append(_run_row(run))
        return lines


def _run_row(run: RunRecord) -> str:
    names = ", ".join(filter(None, (run.scenario, run.mask, run.variant, f"seed {run.seed}")))
    if not run.points:
        return f"{names}: no figures"
    last = run.points[-1]
    gap = f", gap {four_decimals(last.gap['heldout'])}" if last.gap else ""
    return f"{names}: step {count(last.step)}, loss {four_decimals(last.loss['heldout'])}{gap}"


def print_experiment(result: ContinuedTraining) -> None:
    """What was trained, then a block for each scenario."""
    settings, bands = result.settings, result.bands()
    done = sum(1 for run in result.runs if run.points)
    line(
        f"{result.model}: {done} of {result.planned} runs; {count(settings['steps'])} steps of "
        f"{count(settings['tokens_per_step'])} tokens, learning rate {settings['learning_rate']:g}"
    )
    for domain, label in settings["measured_on"].items():
        line(f"  {domain + ':':<14} {count(settings['evaluated'])} positions of {label}")
    for name, removed in settings["removed"].items():
        line(f"  {name + ':':<14} {count(removed)} of {count(settings['hidden_size'])} dimensions pruned")
    if not bands:
        return
    line()
    for title, meaning in LEGEND:
        line(f"  {title:<9} {meaning}")
    line(f"  below each mean its {result.to_dict()['level']:z.0%} t interval over seeds")
    for scenario in dict.fromkeys(record["scenario"] for record in bands):
        line()
        _print_scenario(scenario, [record for record in bands if record["scenario"] == scenario])
    _print_contrasts(result.contrasts())
    _print_steered(bands)


def _print_scenario(scenario: str, bands: list[dict[str, Any]]) -> None:
    line(f"{scenario}, at the last step")
    line(f"{'':<{2 * NAME}}" + "".join(f"{title:>{width}}" for title, _, width in COLUMNS))
    for mask, variant, last in _last(bands):
        cells: list[str] = []
        lows: list[str] = []
        highs: list[str] = []
        for _, figure, width in COLUMNS:
            band = last.get(figure)
            cells.append(f"{'' if band is None else four_decimals(band['mean']):>{width}}")
            for edge, texts in (("low", lows), ("high", highs)):
                value = None if band is None else band[edge]
                texts.append(f"{'' if value is None else four_decimals(value):>{width}}")
        line(fit(mask, NAME) + fit(variant, NAME) + "".join(cells))
        if any(text.strip() for text in lows):
            line(f"{'':>{2 * NAME - 5}}from " + "".join(lows))
            line(f"{'':>{2 * NAME - 5}}to   " + "".join(highs))


def _last(bands: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, dict[str, Any]]]]:
    """(mask, variant, its bands at the last step by figure)."""
    for mask, variant in dict.fromkeys((record["mask"], record["variant"]) for record in bands):
        own = [record for record in bands if (record["mask"], record["variant"]) == (mask, variant)]
        step = max(record["step"] for record in own)
        yield mask, variant, {record["figure"]: record for record in own if record["step"] == step}


def _print_contrasts(contrasts: list[dict[str, Any]]) -> None:
    shown = [record for record in contrasts if record["figure"] == "kl.heldout"]
    if not shown:
        return
    line()
    line("KL to the unedited run, the kept mask's minus a random one's of its size, paired by seed")
    for record in shown:
        edges = "" if record["low"] is None else f" [{four_decimals(record['low'])}, {four_decimals(record['high'])}]"
        line(f"  {record['scenario']}, {record['mask']}: {four_decimals(record['mean'])}{edges}: {record['verdict']}")


def _print_steered(bands: list[dict[str, Any]]) -> None:
    rows = [
        (record["scenario"], mask, variant, figure.removeprefix("steered."), record)
        for scenario in dict.fromkeys(each["scenario"] for each in bands)
        for mask, variant, last in _last([each for each in bands if each["scenario"] == scenario])
        for figure, record in last.items()
        if figure.startswith("steered.")
    ]
    if not rows:
        return
    line()
    line("steered tokens: mean probability as a multiple of the unedited run's, at the last step")
    for scenario, mask, variant, name, record in rows:
        edges = "" if record["low"] is None else f" [{record['low']:.3g}, {record['high']:.3g}]"
        line(f"  {scenario}, {mask}, {variant}, {name}: {record['mean']:.3g}{edges}")
