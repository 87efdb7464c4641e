"""`tpe demo train`: the bundled model's recipe, a small one for two minutes, and the experiment with twins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tpe_tui.cli.console import drive
from tpe_tui.cli.options import OUTPUT, takes
from tpe_tui.cli.table_output import print_json

__all__ = ["train"]


@takes({"threads"} | OUTPUT)
def train(
    out: Annotated[Path, typer.Option(help="Working folder; the model lands in its model/.")] = Path("tpe-demo"),
    small: Annotated[bool, typer.Option("--small", help="A small recipe: about two minutes on a CPU.")] = False,
    shuffle_frequencies: Annotated[
        bool,
        typer.Option(
            "--shuffle-frequencies",
            help="Train twice instead, on text whose token frequencies were redrawn and on a control, and compare.",
        ),
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer steps than the recipe's, for a try.")] = None,
    *,
    threads: int | None,
    json_: bool,
) -> None:
    """Train a recipe, or run the experiment."""
    from tpe_core.demo.recipe import SMALL, Recipe
    from tpe_tui.cli.demo_tables import print_experiment, print_training

    recipe = SMALL if small else Recipe()
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    if shuffle_frequencies:
        from tpe_core.demo.experiment import train_twins

        document = drive(train_twins(out, recipe, threads=threads))
    else:
        from tpe_core.demo.train import train as train_demo

        document = drive(train_demo(out, recipe, threads=threads))
    if json_:
        print_json(document)
    elif shuffle_frequencies:
        print_experiment(document, out)
    else:
        print_training(document, out)
