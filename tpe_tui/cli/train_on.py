"""`tpe train-on`: whether an edit stays sound when its model is trained further."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tpe_core.continued_training.options import SCENARIOS, VARIANTS, Scenario, TrainOnOptions, Variant
from tpe_core.options import DEMO
from tpe_tui.cli.console import drive_until_stopped, leave_stopped, line, on_terminal, say
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Model, NamesOption, Outside, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

__all__ = ["train_on"]


def _listed(entries: Mapping[str, Scenario] | Mapping[str, Variant]) -> str:
    return "; ".join(f"{name}: {each.about}" for name, each in entries.items())


Scenarios = Annotated[
    list[str] | None, NamesOption(SCENARIOS, lambda: f"{_listed(SCENARIOS)}; repeatable. Default: same.")
]
Variants = Annotated[
    list[str] | None, NamesOption(VARIANTS, lambda: f"{_listed(VARIANTS)}; repeatable. Default: all of them.")
]


@takes((LOADING - {"quantize", "device_map", "task"}) | (READING - {"seed"}) | OUTPUT, rows_of("bands"))
def train_on(
    context: typer.Context,
    model: Model = DEMO,
    masks: Annotated[
        list[Path] | None,
        typer.Option("--mask", help="A saved intervention of this model (JSON); repeatable.", show_default=False),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The experiment's folder, one folder in it for each run; goes on where it was left.")
    ] = Path("train-on"),
    scenario: Scenarios = None,
    variant: Variants = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each kind: orders of blocks, draws of random masks.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Updates in a run.")] = 60,
    every: Annotated[int, typer.Option(min=1, help="Steps between figures, and between points to go on from.")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Blocks of at most 256 tokens in a step.")] = 4,
    evaluate: Annotated[int, typer.Option(min=1, help="Predicted positions of each text for the figures.")] = 2048,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW; the scenario fast takes ten times as much.")] = 1e-4,
    lora: Annotated[
        int | None, typer.Option(min=1, help="Train LoRA adapters of this rank in every scenario; needs peft.")
    ] = None,
    ood: Outside = None,
    instructions: Annotated[
        list[str] | None, typer.Option(help="A file of chats (JSON lines) for the scenario instructions; repeatable.")
    ] = None,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep the trained weights of finished runs.")
    ] = False,
    screen: Annotated[
        bool, typer.Option("--screen", help="Train nothing: draw the runs of --out, also while another process trains.")
    ] = False,
    *,
    json_: bool,
) -> None:
    """Train on with the edit kept, free, drawn at random and without it, and print what became of it."""
    if screen:
        raise typer.Exit(_screen(out, masks, json_))
    options = TrainOnOptions(
        run_options(context),
        masks=tuple(masks or ()),
        out=out,
        scenarios=tuple(scenario or ("same",)),
        variants=tuple(variant or VARIANTS),
        seeds=seeds,
        steps=steps,
        every=every,
        batch=batch,
        evaluated=evaluate,
        learning_rate=learning_rate,
        lora=lora,
        ood=tuple(ood or ()),
        instructions=tuple(instructions or ()),
        keep_weights=keep_weights,
    )
    from tpe_core.continued_training.experiment import train_on
    from tpe_core.continued_training.folder import RESULT
    from tpe_core.continued_training.results import ContinuedTraining
    from tpe_tui.cli.train_on_tables import RunRows, print_experiment

    result, stopped = drive_until_stopped(
        train_on(options), lambda partial: isinstance(partial, ContinuedTraining), RunRows(options.steps).rows()
    )
    if result is None:
        leave_stopped(f"no run was begun; the same command goes on in {out}.")
    for warning in result.warnings:
        say(warning)
    for run in result.stopped:
        names = ", ".join(filter(None, (run.scenario, run.mask, run.variant, f"seed {run.seed}")))
        say(f"{names}: {run.stopped}")
    if json_:
        print_json(result.to_dict() | ({"stopped": True} if stopped else {}))
    else:
        print_experiment(result)
        if not stopped:
            line(f"everything by step is in {out / RESULT}")
    if stopped:
        leave_stopped(f"{len(result.runs)} of {result.planned} runs are begun or done; the same command goes on.")


def _screen(out: Path, masks: list[Path] | None, json_: bool) -> int:
    if json_ or masks:
        raise typer.BadParameter("--screen draws what --out holds: leave out --mask, --json and --format.")
    if not on_terminal():
        raise typer.BadParameter("--screen needs a terminal to draw on: leave it out, and figures are printed.")
    from tpe_core.continued_training.folder import read_experiment
    from tpe_core.options import RunOptions
    from tpe_tui.dynamics.app import run_dynamics
    from tpe_tui.engine.host import read_dynamics

    folder = out.expanduser()
    read_experiment(folder)  # what holds none is said without a screen
    return run_dynamics((), read_dynamics(RunOptions()), experiment=folder)
