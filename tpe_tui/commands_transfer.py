"""`tpe transfer`: what a saved mask costs on another revision or fine-tune of the same width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.options import DEMO, RunOptions
from tpe_tui.console import drive, print_json, say
from tpe_tui.options import (
    POSITIONS,
    Debug,
    Device,
    DeviceMap,
    Dtype,
    Json,
    Model,
    NoCache,
    Offline,
    Positions,
    Quantize,
    Seed,
    Task,
    Texts,
    Threads,
    Trust,
    run_options,
)

if TYPE_CHECKING:
    from tpe_core.progress import Steps
    from tpe_core.sharing.transfer import Landing, Mask

__all__ = ["transfer"]


def transfer(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A saved intervention with a mask (JSON).", show_default=False)],
    model: Model = DEMO,
    revisions: Annotated[
        list[str] | None, typer.Option("--revision", help="Branch, tag or commit on the hub; repeatable.")
    ] = None,
    measure_home: Annotated[
        bool, typer.Option("--measure-home", help="Measure on the model it was made on anew, on the same texts.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the random mask.")] = 5,
    ood: Annotated[
        list[str] | None, typer.Option(help="Out-of-domain text file or folder; repeatable. Default: built-in code.")
    ] = None,
    task: Task = None,
    device: Device = None,
    device_map: DeviceMap = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    text: Texts = None,
    positions: Positions = POSITIONS,
    seed: Seed = 0,
    threads: Threads = None,
    no_cache: NoCache = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Put the mask on every revision asked for, beside its cost at home and the masks chosen there."""
    from tpe_core.sharing.manifest import read_edit
    from tpe_core.sharing.transfer import Transfer, mask_to_transfer
    from tpe_tui.report_transfer import print_transfer

    mask, measured = mask_to_transfer(*read_edit(file))
    options, outside = run_options(context), tuple(ood or ())
    if mask.left_out:
        say(f"the file steers tokens, too ({mask.left_out}): only its mask is transferred.")
    home: Landing | None = None
    if measure_home:
        home = drive(_landed(mask, replace(options, model=mask.model, revision=mask.revision), outside, seeds))
    wanted: list[str | None] = list(revisions or ()) or [None]
    landings = tuple(drive(_landed(mask, replace(options, revision=each), outside, seeds)) for each in wanted)
    result = Transfer(mask, measured if home is None else home, landings)
    if json_:
        print_json(result.to_dict())
    else:
        print_transfer(result)


def _landed(mask: Mask, options: RunOptions, ood: tuple[str, ...], draws: int) -> Steps[Landing]:
    """Analyse one model and put the mask on it; the model is let go afterwards."""
    from tpe_core.analysis import analyze
    from tpe_core.detecting.samples import read_samples
    from tpe_core.sharing.transfer import transfer as put
    from tpe_core.store import Store

    store = Store(on_problem=say) if options.cache else None
    analysis = yield from analyze(options, store)
    samples = yield from read_samples(
        analysis.model, analysis.detection.sample, analysis.source, ood,
        size=options.sample, seed=options.seed, store=store,
    )  # fmt: skip
    for warning in (*analysis.warnings, *samples.warnings):
        say(warning)
    return (yield from put(mask, analysis, samples, draws=draws, seed=options.seed, store=store))
