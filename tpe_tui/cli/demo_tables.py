"""How a training run, and the experiment with twins, read on a plain terminal: the figures of ``--json``, rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpe_tui.cli.console import line

__all__ = ["print_experiment", "print_training"]


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
