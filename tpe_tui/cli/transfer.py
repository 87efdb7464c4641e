"""`tpe transfer`: what a saved mask costs on another revision or fine-tune of the same width."""

from __future__ import annotations

import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.options import DEMO, RunOptions
from tpe_tui.cli.console import drive, leave_stopped, load, print_lines, say, stopped_by_signals
from tpe_tui.cli.measuring import open_store, read_texts
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Model, Outside, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from tpe_core.transfer import Mask, TransferResult

__all__ = ["transfer"]


@takes(LOADING - {"revision"} | READING | OUTPUT, rows_of("targets"))
def transfer(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A saved intervention with a mask (JSON).", show_default=False)],
    model: Model = DEMO,
    revisions: Annotated[
        list[str] | None, typer.Option("--revision", help="Branch, tag, commit, or adapter:FOLDER; repeatable.")
    ] = None,
    measure_home: Annotated[
        bool, typer.Option("--measure-home", help="Measure on the model it was made on anew, on the same texts.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the random mask.")] = 5,
    ood: Outside = None,
    *,
    json_: bool,
) -> None:
    """Put the mask on every revision asked for, beside its cost at home and the masks chosen there."""
    from tpe_core.manifest.manifest import read_edit
    from tpe_core.transfer import Transfer, mask_to_transfer
    from tpe_tui.cli.transfer_tables import block, heading

    mask, measured = mask_to_transfer(*read_edit(file))
    options = run_options(context)
    stdin = getattr(sys.stdin, "buffer", None) if options.text == ("-",) else None
    typed = None if stdin is None else stdin.read()  # once, for every model
    if mask.left_out:
        say(f"the file steers tokens, too ({mask.left_out}): only its mask is transferred.")
    home: TransferResult | None = None
    if measure_home:
        made_on = replace(options, model=mask.model, revision=mask.revision, gguf_file=None, adapter=None)
        home = _landed(mask, made_on, ood, seeds, typed)
    wanted: list[str | None] = list(revisions or ()) or [None]
    targets: list[TransferResult] = []
    try:
        with stopped_by_signals():
            for each in wanted:
                targets.append(_landed(mask, replace(options, revision=each), ood, seeds, typed))
                head = heading(mask, measured if home is None else home) if len(targets) == 1 else []
                print_lines([*head, *block(targets[-1])], sys.stderr if json_ else sys.stdout)
        stopped = False
    except KeyboardInterrupt:
        stopped = True
    if not targets:
        leave_stopped("no revision was done.")
    result = Transfer(mask, measured if home is None else home, tuple(targets))
    if json_:
        print_json(result.to_dict() | ({"stopped": True} if stopped else {}))
    if stopped:
        leave_stopped(f"{len(targets)} of {len(wanted)} revisions are printed, the others were not measured.")


def _landed(mask: Mask, options: RunOptions, ood: list[str] | None, draws: int, typed: bytes | None) -> TransferResult:
    """Analyse one model and put the mask on it; the model is let go afterwards."""
    from tpe_core.analysis import analyze
    from tpe_core.transfer import transfer as put

    store, stdin = open_store(options), None if typed is None else BytesIO(typed)
    loaded = load(options)
    mask.check_fits(loaded.name, loaded.head.hidden_size)  # before its text is read
    analysis = drive(analyze(options, store, stdin, loaded))
    samples = read_texts(analysis, options, ood, store)
    return drive(put(mask, analysis, samples, draws=draws, seed=options.seed, store=store))
