"""`tpe bake`: an exported edit baked into a Hugging Face folder that any consumer loads unpatched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpe_core.options import DEMO
from tpe_tui.cli.console import drive, load, print_json, say
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Force, Model, refuse_existing, run_options, takes

__all__ = ["bake"]


@takes(LOADING | READING | OUTPUT)
def bake(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An exported intervention (JSON).", show_default=False)],
    model: Model = DEMO,
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)] = ...,  # type: ignore[assignment]
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Write the closest form where the architecture has no exact one.")
    ] = False,
    force: Force = False,
    *,
    json_: bool,
) -> None:
    """Bake an edit into a checkpoint, load it back, and compare before it gets its name."""
    from tpe_core.checkpoint.folder import check_target
    from tpe_core.manifest.manifest import check_model, read_edit

    refuse_existing(lambda: check_target(out, replace=force))  # what can be refused before the model is loaded
    manifest, edit = read_edit(file)

    from tpe_core.analysis import analyze
    from tpe_core.checkpoint.bake import bake as bake_steps
    from tpe_core.checkpoint.plan import choose
    from tpe_tui.cli.bake_tables import print_baked

    options = run_options(context)
    loaded = load(options, reads_text=False)
    check_model(manifest, loaded)
    detection = None
    if not choose(loaded, edit).is_exact:
        analysis = drive(analyze(options, model=loaded))
        detection = analysis.detection
        for warning in analysis.warnings[len(loaded.warnings) :]:  # those are said
            say(warning)
    baked = drive(bake_steps(loaded, edit, out, allow_lossy=allow_lossy, manifest=file, detection=detection))
    if json_:
        print_json(baked.to_dict())
    else:
        print_baked(baked)
