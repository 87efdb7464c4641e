"""`tpe prune`: curves of what pruning costs, or the largest mask under a budget, on held-out and other text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpe_core.errors import TpeError
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import Steps
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
    from tpe_core.budget import Largest
    from tpe_core.live import LiveSession
    from tpe_core.samples import Samples
    from tpe_core.store import Store

__all__ = ["prune"]

Words = list[str] | None

Orders = Annotated[
    Words,
    typer.Option(
        "--order",
        help="slope, slope-std, random, magnitude, activation, fisher, fisher-greedy, fisher-obs, component; repeatable. "
        "Default: slope and random.",
    ),
]
Replaces = Annotated[
    Words, typer.Option("--replace", help="zero, mean, least-squares, rotate; repeatable. Default: zero.")
]
Fractions = Annotated[Words, typer.Option(help="Shares of dimensions to remove: 0.1,0.3; default 0.1 to 0.7.")]


def prune(
    context: typer.Context,
    model: Model = DEMO,
    order: Orders = None,
    replace: Replaces = None,
    fractions: Fractions = None,
    budget: Annotated[float | None, typer.Option(help="Find the largest mask under this KL, in nats.")] = None,
    budget_perplexity: Annotated[float | None, typer.Option(help="The same under a perplexity.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the random order.")] = 5,
    save: Annotated[Path | None, typer.Option(help="Write the one mask that was asked for (JSON).")] = None,
    ood: Annotated[
        Words, typer.Option(help="Out-of-domain text, file or folder; repeatable. Default: built-in code.")
    ] = None,
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
    """Sweep or search, print, and save."""
    from tpe_core.pruning import FRACTIONS, checked_names
    from tpe_core.sweep import counts_of

    shares = _numbers(fractions) or list(FRACTIONS)
    budgets = [entry for entry in (("kl", budget), ("perplexity", budget_perplexity)) if entry[1] is not None]
    if len(budgets) > 1 or (budgets and fractions):
        raise typer.BadParameter("give one of --fractions, --budget and --budget-perplexity.")
    orders, replaces = _words(order) or ["slope", "random"], _words(replace) or ["zero"]
    names, ways = checked_names(orders, replaces)
    counts_of(shares, 1)
    if save is not None and (len(names) != 1 or len(ways) != 1 or not (budgets or len(shares) == 1)):
        raise typer.BadParameter("--save writes one mask: give one --order, one --replace, and one fraction or budget.")
    if save is not None:
        from tpe_core.pruning import pruned_intervention

        pruned_intervention(names[0], ways[0], ())
    options = run_options(context)
    session, samples, store = drive(_opened(options, tuple(ood or ())))
    for warning in (*session.warnings, *samples.warnings):
        say(warning)
    if budgets:
        metric, most = budgets[0]
        _search(session, samples, store, (orders, ways, seeds), metric, float(most or 0), options.seed, save, json_)
    else:
        _sweep(session, samples, store, (names, ways, seeds), shares, options.seed, save, json_)
