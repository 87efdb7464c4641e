"""`tpe steer`: asked and achieved ratios of tokens on three texts, what they cost and who pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tpe_core.errors import TpeError
from tpe_core.intervention import METHODS, Method, check_steering
from tpe_core.options import DEMO
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
    Revision,
    Seed,
    Task,
    Texts,
    Threads,
    Trust,
    run_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpe_core.analysis import Analysis
    from tpe_core.options import RunOptions
    from tpe_core.progress import Steps
    from tpe_core.steering_study import Plan, Study

__all__ = ["steer"]

DEFAULT_RATIO = "2"


def steer(
    context: typer.Context,
    model: Model = DEMO,
    token: Annotated[
        list[str] | None, typer.Option(help="A token's text, as typed or as tables show it, or #id; repeatable.")
    ] = None,
    ratio: Annotated[list[str] | None, typer.Option(help="Of its mean probability: 2 doubles; 0.5,2,5.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="An exact mean probability instead: 0.01.")] = None,
    method: Annotated[list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; repeatable.")] = None,
    together: Annotated[bool, typer.Option("--together", help="Steer all tokens at once, not one by one.")] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Also take the step that reaches what is asked on the local text.")
    ] = False,
    ood: Annotated[
        list[str] | None, typer.Option(help="Out-of-domain text, files or folders. Default: source code.")
    ] = None,
    dose: Annotated[bool, typer.Option("--dose", help="Achieved against asked over ratios from 1/32 to 32.")] = False,
    few_shot: Annotated[
        bool, typer.Option("--few-shot", help="Achieved with directions from fewer detecting positions.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Write the edit as JSON: one ratio, one method.")] = None,
    revision: Revision = None,
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
    """Steer tokens and measure what came of it."""
    if ratio and target:
        raise typer.BadParameter("--ratio and --target exclude each other: give one of them.")
    if not token:
        raise typer.BadParameter("name a token: --token TEXT or --token '#123'.")
    ratios = () if target else _numbers(ratio or [DEFAULT_RATIO], "ratio")
    targets = _numbers(target or [], "target")
    methods = _split(method or [METHODS[0]])
    for name in methods:
        for value in ratios or (1.0,):
            check_steering(value, name)
    options = run_options(context)
    analysis, study = drive(
        _steps(
            options,
            tuple(ood or ()),
            token,
            lambda ids: _plan(ids, ratios, targets, methods, together, calibrate, dose, few_shot),
        )
    )
