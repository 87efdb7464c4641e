"""How a training run, and the experiment with twins, read on a plain terminal: the figures of ``--json``, rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpe_tui.cells import fit
from tpe_tui.cli.console import line

__all__ = ["print_curriculum", "print_experiment", "print_training"]


def print_training(record: dict[str, Any], folder: Path) -> None:
    """Where a training run left what, its loss, and what its probe saw and cost."""
    steps, last, halfway = record["recipe"]["steps"], record["checkpoints"][-1], record["halfway_step"]
    probe = record["probe"]
    line(f"{folder / 'model'}: held-out loss {record['held_out_loss']:z.4f} nats after {steps:,} steps")
    line(
        f"token frequency on the embedding: adjusted R2 {last['r2_adjusted']:z.4f}, half of that passed at step "
        f"{halfway['encoding']:,}; the parameters half-way to their end at step {halfway['parameters']:,}"
    )
    line(
        f"the probe took {probe['seconds']:z.2f} of {probe['training_seconds']:z.0f} seconds of training "
        f"({probe['share']:z.2%}); tpe dynamics {folder} shows what it saw"
    )


def print_experiment(document: dict[str, Any], folder: Path) -> None:
    """The two runs side by side at every recorded step, and what twins say."""
    line(
        f"{document['pairs']:,} tokens and their twins: same contexts, frequency ratio drawn at random "
        f"(sd {document['log_ratio_sd']:z.2f} nats of its log); control: the same text with equal ratios"
    )
    line()
    line(f"{'':>8} | {'trained on shuffled frequencies':^44} | {'control, trained on equal ones':^44}")
    own, other = "R2 own freq.", "R2 other's"
    head = f"{own:>13}{other:>12}{'twins R2':>10}{'slope':>9}"
    line(f"{'step':>8} | {head} | {head}")
    for entry in document["steps"]:
        cells = []
        for arm, against in (("shuffled", "equal"), ("equal", "shuffled")):
            run = entry[arm]
            r2 = f"{run[f'r2_{arm}']:>z13.3f}{run[f'r2_{against}']:>z12.3f}"
            cells.append(f"{r2}{run['twins_r2']:>z10.3f}{run['twins_slope']:>z9.2f}")
        line(f"{entry['step']:>8,} | {cells[0]} | {cells[1]}")
    line()
    halfway = document["halfway_step"]
    line(
        f"half of the last value is passed at step {halfway['encoding']} by R2 and at step {halfway['twins']} by the "
        "twins' R2 of the run on shuffled frequencies"
    )
    line(f"tpe dynamics {folder / 'shuffled'} {folder / 'equal'} shows the runs")


CURRICULUM = {
    "encoding_control": "control: steps to half of its R2 of the frequencies",
    "encoding_arm": "arm: steps to the same",
    "encoding_steps": "arm minus control, by seed: steps to that",
    "loss_beyond_unigram_steps": "arm minus control, by seed: steps to that",
    "forgetting_arm": "arm: steps until half of the earlier one is gone",
    "loss_control": "control: steps to half of its fall in loss",
    "loss_arm": "arm: steps to the same",
    "loss_beyond_unigram_control": "control: steps to half of its loss below unigram",
    "loss_beyond_unigram_arm": "arm: steps to the same",
    "loss_at_change": "arm: loss above the control's at the change, nats",
    "twins_r2_control": "control: R2 of twins at the end",
    "twins_r2_arm": "arm: R2 of twins at the end",
    "twins_r2_first_arm": "arm: R2 of twins' earlier ratios at the end",
    "loss_difference": "arm minus control at the end: loss, nats",
    "r2_difference": "arm minus control at the end: adjusted R2",
}
"""What the figures of an experiment over seeds are called."""


def print_curriculum(document: dict[str, Any], folder: Path) -> None:
    """The figures of an experiment over seeds, and the curves' means with their ranges."""
    control, arm, seeds = document["control"], document["arm"], document["seeds"]
    if document["experiment"] == "frequencies":
        line(f"frequencies drawn anew at step {document['change_step']:,}, against the later ones from the start")
        line("steps of the arm count from the change; its loss is half-way when half of what")
        line("it has above the control's at the change is gone")
    else:
        line(f"a head that begins with the unigram law ({document['unigram_loss']:z.3f} nats), against an ordinary one")
    line(f"control: {control}; arm: {arm}; {seeds} seeds of {document['recipe']['steps']:,} steps each")
    line()
    line(f"{'':52} {'mean':>8} {'95 % interval':>18}")
    for name, figure in document["figures"].items():
        line(f"{fit(CURRICULUM[name], 52)} {_cell(figure['mean']):>8} {_span(figure['low'], figure['high']):>18}")
    line()
    second = "twins_r2" if document["experiment"] == "frequencies" else "r2_adjusted"
    title = "twins R2 (range)" if second == "twins_r2" else "adjusted R2 (range)"
    line(f"{'':>8} | {control:^33} | {arm:^33}")
    head = f"{'loss':>8} {title:>24}"
    line(f"{'step':>8} | {head} | {head}")
    for entry in document["steps"]:
        cells = []
        for each in (control, arm):
            r2 = entry[each][second]
            spread = f"{r2['mean']:z.3f} {_span(r2['min'], r2['max'])}"
            cells.append(f"{entry[each]['loss']['mean']:>z8.3f} {spread:>24}")
        line(f"{entry['step']:>8,} | {cells[0]} | {cells[1]}")
    line()
    line(f"each run's curve is in its folder in {folder}; more --seeds go on from these")


def _cell(value: float | None) -> str:
    """A step or a figure; a dash where no seed has one."""
    return "-" if value is None else f"{value:z.1f}" if abs(value) >= 10 else f"{value:z.3f}"


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None else f"[{_cell(low)}, {_cell(high)}]"
