"""`tpe demo train`: the bundled model's recipe, a small one for two minutes, and the experiments on frequencies."""

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
    change_frequencies: Annotated[
        bool,
        typer.Option(
            "--change-frequencies",
            help="Train with several seeds on text whose token frequencies change half-way, and on a control.",
        ),
    ] = False,
    unigram_head: Annotated[
        bool,
        typer.Option(
            "--unigram-head",
            help="Train with several seeds from a head that begins with the unigram law, and from an ordinary one.",
        ),
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Of those two experiments.", show_default="3")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer steps than the recipe's, for a try.")] = None,
    *,
    threads: int | None,
    json_: bool,
) -> None:
    """Train a recipe, or run an experiment."""
    from tpe_core.demo.recipe import MINIATURE, SMALL, Recipe
    from tpe_tui.cli.demo_tables import print_curriculum, print_experiment, print_training

    chosen = [
        name
        for name, is_chosen in (
            ("--shuffle-frequencies", shuffle_frequencies),
            ("--change-frequencies", change_frequencies),
            ("--unigram-head", unigram_head),
        )
        if is_chosen
    ]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} are experiments of their own: give one of them.")
    has_seeds = change_frequencies or unigram_head
    if seeds is not None and not has_seeds:
        raise typer.BadParameter("--seeds goes with --change-frequencies or --unigram-head.")
    recipe = SMALL if small else MINIATURE if has_seeds else Recipe()
    if unigram_head:
        recipe = dataclasses.replace(recipe, tied=False)  # the head alone begins otherwise, not what is read
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    if has_seeds:
        from tpe_core.demo.curriculum import train_curriculum

        experiment = "frequencies" if change_frequencies else "unigram"
        document = drive(train_curriculum(out, experiment, recipe, seeds or 3, threads=threads or 1))
    elif shuffle_frequencies:
        from tpe_core.demo.experiment import train_twins

        document = drive(train_twins(out, recipe, threads=threads))
    else:
        from tpe_core.demo.train import train as train_demo

        document = drive(train_demo(out, recipe, threads=threads))
    if json_:
        print_json(document)
    elif has_seeds:
        print_curriculum(document, out)
    elif shuffle_frequencies:
        print_experiment(document, out)
    else:
        print_training(document, out)
