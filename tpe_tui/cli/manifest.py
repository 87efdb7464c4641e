"""`tpe schema`, `tpe show` and `tpe diff`: saved interventions for people and programs, without opening a model."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.errors import ManifestError
from tpe_tui.cli.completion import complete_model, one_of
from tpe_tui.cli.console import load
from tpe_tui.cli.options import LOADING, OUTPUT, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from tpe_core.manifest.manifest import Manifest
    from tpe_core.manifest.self_test import Mismatch
    from tpe_core.options import RunOptions

__all__ = ["diff", "document_names", "document_schema", "schema", "show"]

SCHEMAS, SCHEMA = "tpe_tui.schemas", ".schema.json"


def schema(
    command: Annotated[
        str | None,
        typer.Argument(
            help="A command whose --json document is meant. Default: saved interventions.",
            autocompletion=one_of(document_names),
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="As every command has it: a schema is JSON anyway.")] = False,
) -> None:
    """Print the JSON Schema that saved interventions follow, or the --json document of a command."""
    from tpe_core.manifest.manifest import published_schema

    sys.stdout.write(published_schema() if command is None else document_schema(command))


def document_names() -> list[str]:
    """The commands whose `--json` document has a schema."""
    return sorted(file.name.removesuffix(SCHEMA) for file in files(SCHEMAS).iterdir() if file.name.endswith(SCHEMA))


def document_schema(command: str) -> str:
    """The JSON Schema of a command's `--json` document. Raises a usage error where there is none."""
    if command not in document_names():
        raise typer.BadParameter(f"no schema of {command!r}: choose one of {', '.join(document_names())}.")
    return files(SCHEMAS).joinpath(f"{command}{SCHEMA}").read_text(encoding="utf-8")


@takes(LOADING | OUTPUT)
def show(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="A saved intervention (JSON), or what tpe bake made of one: a folder or a GGUF file.")
    ],
    on: Annotated[
        str | None,
        typer.Option(
            help="Also run its self-test on this model: hub id, local folder, GGUF file, or demo.",
            autocompletion=complete_model,
        ),
    ] = None,
    *,
    json_: bool,
) -> None:
    """Read and check a file, print it; with --on, exit code 1 where the model does not reproduce its self-test."""
    from dataclasses import asdict, replace

    from tpe_core.export.artefact import read_artefact
    from tpe_tui.cli.manifest_tables import print_artefact, print_manifest, print_mismatches

    artefact = read_artefact(file)
    manifest = artefact.manifest
    if on is not None and artefact.file is None:
        raise ManifestError(f"{file} holds no arrays of its edit, so it cannot be put on {on}: name the saved file.")
    mismatches = (
        None
        if on is None or artefact.file is None
        else _tested(artefact.file, manifest, replace(run_options(context), model=on))
    )
    if json_:
        document = manifest.model_dump(mode="json", by_alias=True)
        document |= {"artefact": artefact.to_dict()} if artefact.kind else {}
        print_json(
            document if mismatches is None else {**document, "mismatches": [asdict(each) for each in mismatches]}
        )
    else:
        print_manifest(file, manifest)
        print_artefact(artefact)
        if mismatches is not None:
            print_mismatches(file, on or "", manifest, mismatches)
    if mismatches:
        raise typer.Exit(1)


def _tested(file: Path, manifest: Manifest, options: RunOptions) -> list[Mismatch]:
    from tpe_core.hooks import apply
    from tpe_core.manifest.self_test import check, prompt_logits

    model = load(options, reads_text=False)
    with apply(model, file):
        return check(manifest, prompt_logits(model), dtype=model.report.dtype)


@takes(OUTPUT, rows_of("figures"))
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A saved intervention, or what tpe bake made of one.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    *,
    json_: bool,
) -> None:
    """Compare two files; that they differ is no failure."""
    from tpe_core.export.artefact import read_artefact_edit
    from tpe_core.manifest.difference import difference

    compared = difference(read_artefact_edit(first), read_artefact_edit(second))
    if json_:
        print_json({"schema": 1, "a": str(first), "b": str(second), **compared.to_dict()})
        return
    from tpe_tui.cli.difference_tables import print_difference

    print_difference((first, second), compared)
