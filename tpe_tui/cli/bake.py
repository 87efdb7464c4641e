"""`tpe bake`: a saved edit written for other programs, by default as a Hugging Face folder that any consumer loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpe_core.export.formats import FORMATS
from tpe_core.export.plan import Request
from tpe_core.options import DEMO
from tpe_tui.cli.completion import one_of
from tpe_tui.cli.console import drive, load, say
from tpe_tui.cli.options import (
    LOADING,
    OUTPUT,
    READING,
    Force,
    Model,
    NamesOption,
    refuse_existing,
    run_options,
    takes,
)
from tpe_tui.cli.table_output import print_json

__all__ = ["bake"]

To = Annotated[
    str,
    NamesOption(FORMATS, lambda: "; ".join(f"{each.name}: {each.about}" for each in FORMATS.values()) + "."),
]


@takes(LOADING | READING | OUTPUT)
def bake(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An exported intervention (JSON).", show_default=False)],
    model: Model = DEMO,
    out: Annotated[Path, typer.Option(help="The folder or file to write.", show_default=False)] = ...,  # type: ignore[assignment]
    to: To = "hf",
    head_type: Annotated[
        str | None,
        typer.Option(
            help="How --to gguf stores the head: f16, f32 or q8_0.  [default: f16]",
            autocompletion=one_of("f16", "f32", "q8_0"),
            show_default=False,
        ),
    ] = None,
    modelfile: Annotated[
        bool, typer.Option("--modelfile", help="With --to gguf, also write a Modelfile for Ollama beside it.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            help="With --to logit-bias, compare with what the OpenAI-style server at this address gives.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Write the closest form where the architecture has no exact one.")
    ] = False,
    force: Force = False,
    *,
    json_: bool,
) -> None:
    """Write an edit in a format, load it back, and compare before it gets its name."""
    chosen = FORMATS.choose(to)
    settings = {"head_type": head_type, "modelfile": modelfile or None, "server": server}
    given = {name: value for name, value in settings.items() if value is not None}
    if others := sorted(given.keys() - set(chosen.settings)):
        takers = " or ".join(f"--to {each.name}" for each in FORMATS.values() if others[0] in each.settings)
        raise typer.BadParameter(f"--{others[0].replace('_', '-')} is for {takers}: leave it out.")
    if server is not None:
        from tpe_core.export.server import check_server_url

        check_server_url(server)
    refuse_existing(lambda: chosen.check(out, force))  # what can be refused before the model is loaded

    from tpe_core.manifest.manifest import check_model, read_edit

    manifest, edit = read_edit(file)

    from tpe_core.analysis import analyze
    from tpe_core.export.formats import export, planned
    from tpe_tui.cli.bake_tables import print_written

    options = run_options(context)
    loaded = load(options, reads_text=False)
    check_model(manifest, loaded)
    verdict, detection = planned(loaded, edit, to), None
    if verdict.holding == "at a cost":
        analysis = drive(analyze(options, model=loaded))
        detection = analysis.detection
        for warning in analysis.warnings[len(loaded.warnings) :]:  # those are said
            say(warning)
    request = Request(
        model=loaded, edit=edit, out=out, manifest=file, detection=detection, allow_lossy=allow_lossy, settings=given
    )
    written = drive(export(request, to))
    if json_:
        print_json(written.to_dict())
    else:
        print_written(written)
