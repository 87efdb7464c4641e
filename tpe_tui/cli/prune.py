"""`tpe prune`: curves of what pruning costs, or the largest mask under a budget, on held-out and other text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.metrics import METRICS
from tpe_core.options import DEMO, RunOptions
from tpe_core.outputs import shown_path
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.results import DRAWS, FRACTIONS, PruningRequest, PruningResult, pruned_intervention
from tpe_tui.cli.console import drive, drive_until_stopped, leave_stopped, print_lines, say, warn_if_busy
from tpe_tui.cli.measuring import open_store, read_texts
from tpe_tui.cli.options import (
    LOADING,
    OUTPUT,
    READING,
    Force,
    Model,
    NamesOption,
    Outside,
    check_save,
    run_options,
    takes,
)
from tpe_tui.cli.rows import table_rows
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from tpe_core.detection.samples import Samples
    from tpe_core.edits.intervention import Intervention
    from tpe_core.manifest.manifest import MeasuredText
    from tpe_core.session import LiveSession
    from tpe_core.store import Store
    from tpe_tui.cli.prune_tables import CurveRows

__all__ = ["prune"]

Words = list[str] | None


def _listed(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} or {last}" if before else last


Order = Annotated[
    Words,
    NamesOption(ORDERS, lambda: f"{_listed(ORDERS)}; repeatable. Default: slope and random."),
]
Replace = Annotated[
    Words,
    NamesOption(
        REPLACEMENTS,
        lambda: (
            f"{', '.join(REPLACEMENTS.ready)}, {_listed(REPLACEMENTS.fitted)} (fitted at every point), "
            f"{_listed(REPLACEMENTS.references)} (a reference). Default: zero."
        ),
    ),
]
Fractions = Annotated[Words, typer.Option(help="Shares of dimensions to remove. Default: 0.1,0.3,0.5,0.6,0.7.")]


@dataclass(frozen=True, kw_only=True)
class _PruneRequest:
    """What a command line asks for, beside the model and the detecting text."""

    study: PruningRequest
    metric: str
    budget: float | None
    fit_positions: int | None
    ood: tuple[str, ...]
    save: Path | None
    force: bool
    prompts: int | None

    def check(self) -> None:
        """Refuse what cannot be done, before anything is loaded."""
        from tpe_core.pruning.budget import check_budget
        from tpe_core.pruning.paths import planned
        from tpe_core.pruning.sweep import counts_of

        plan = planned(self.study.orders, self.study.replacements)
        counts_of(self.study.fractions, 1)
        if self.budget is not None:
            check_budget(self.budget, self.metric)
        if self.prompts is not None and self.budget is not None:
            raise typer.BadParameter("--generate goes with --fractions: a budget search has no curve.")
        if self.save is None:
            return
        if len(plan) > 1 or (self.budget is None and len(self.study.fractions) > 1):
            raise typer.BadParameter("--save writes one mask: give one --order, one --replace, one share or a budget.")
        pruned_intervention(plan[0][0], plan[0][1], ())
        check_save(self.save, self.force)


@takes(LOADING | READING | OUTPUT, rows_of("curves.points", "largest"))
def prune(
    context: typer.Context,
    model: Model = DEMO,
    order: Order = None,
    replace: Replace = None,
    fractions: Fractions = None,
    budget: Annotated[float | None, typer.Option(help="Find the largest mask under this KL, in nats.")] = None,
    budget_perplexity: Annotated[float | None, typer.Option(help="The same under this perplexity.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the random order.")] = DRAWS,
    fit_positions: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Positions that refit and distill fit on; more take longer and fit better.  "
            "[default: 131072, of more than 8 M parameters fewer, down to 16384]",
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the mask asked for as a file that --mask opens.")] = None,
    force: Force = False,
    generate: Annotated[
        int | None,
        typer.Option(min=32, help="Also sample text after so many held-out prompts at every point; MAUVE needs 128."),
    ] = None,
    ood: Outside = None,
    *,
    json_: bool,
) -> None:
    """Sweep or search, print, and save."""
    if sum(bool(given) for given in (fractions, budget is not None, budget_perplexity is not None)) > 1:
        raise typer.BadParameter("give one of --fractions, --budget and --budget-perplexity.")
    request = _PruneRequest(
        study=PruningRequest(
            orders=tuple(_words(order)) or ("slope", "random"),
            replacements=tuple(_words(replace)) or ("zero",),
            reference=False,
            draws=seeds,
            fractions=tuple(_numbers(fractions)) or FRACTIONS,
        ),
        metric="kl" if budget_perplexity is None else "perplexity",
        budget=budget if budget_perplexity is None else budget_perplexity,
        fit_positions=fit_positions,
        ood=tuple(ood or ()),
        save=save,
        force=force,
        prompts=generate,
    )
    request.check()
    opened = _opened(run_options(context), request)
    document, saved = (_sweep if request.budget is None else _search)(request, opened, json_)
    if json_:
        print_json(document)
    if request.save is not None and saved is not None:
        session = opened.session
        written = session.export(
            request.save, saved.mask, session.default_prompt, saved.by, saved.texts, replace_file=force
        )
        say(f"wrote {shown_path(written)}.")
        known = session.analysis.stability
        if known is not None and (doubtful := known.warning(saved.mask.pruned)):
            say(doubtful)


def _words(given: Words) -> list[str]:
    """Values of an option that is repeated, or holds several between commas."""
    return [word.strip() for some in given or () for word in some.split(",") if word.strip()]


def _numbers(given: Words) -> list[float]:
    try:
        return [float(word) for word in _words(given)]
    except ValueError as error:
        raise typer.BadParameter(f"a fraction must be a number: {error}.") from None


@dataclass(frozen=True)
class _Opened:
    """What a command works on."""

    session: LiveSession
    samples: Samples
    store: Store | None
    seed: int


@dataclass(frozen=True)
class _Saved:
    """A mask to save, what chose it, and what it costs on the texts it was measured on."""

    mask: Intervention
    by: str
    texts: tuple[MeasuredText, ...]


def _opened(options: RunOptions, request: _PruneRequest) -> _Opened:
    from tpe_core.session import open_session

    session, store = drive(open_session(options)), open_store(options)
    warn_if_busy(session.table.info.device)
    return _Opened(session, read_texts(session.analysis, options, request.ood, store), store, options.seed)


def _sweep(request: _PruneRequest, opened: _Opened, quiet: bool) -> tuple[dict[str, Any], _Saved | None]:
    """(JSON document, what to save) of a sweep; prints its table unless `quiet`."""
    from tpe_core.manifest.making import costs_on_texts
    from tpe_core.pruning.study import prune
    from tpe_tui.cli.prune_tables import CurveRows

    table = CurveRows(request.study.draws)
    analysis, seed, store = opened.session.analysis, opened.seed, opened.store
    steps = prune(analysis, opened.samples, request.study, seed=seed, store=store, fit_positions=request.fit_positions)
    result, stopped = drive_until_stopped(
        steps,
        lambda partial: isinstance(partial, PruningResult) and bool(partial.curves) and partial.complete,
        table_rows(table.new, json=quiet),
    )
    if stopped or result is None:
        _stopped(result, table, request, quiet)
    saved = None
    if not quiet:
        print_lines(table.rest(result))
    if request.save is not None:
        curve = result.curves[0]
        mask = curve.mask(curve.removed[0])
        if REPLACEMENTS[mask.replacement].is_fitted and mask.pruned:
            mask = drive(opened.session.refit(mask, request.fit_positions))
        costs = {domain: curve.costs(domain, 0)[0] for domain in curve.figures}
        measured = costs_on_texts(result.texts, result.positions, costs, result.baseline)
        by = f"tpe prune, order {curve.order}"
        if ORDERS[curve.order].is_drawn and request.study.draws > 1:
            by += f", draw 1 of {request.study.draws}, seed {seed}"
            kl = costs["heldout"].kl
            say(f"the mask is the first draw's, at a held-out KL of {kl:.4f}; the table has the mean of all.")
        saved = _Saved(mask, by, measured)
    document = result.to_dict()
    if request.prompts is not None:
        from tpe_core.generation.pruned_text import pruned_texts
        from tpe_tui.cli.prune_tables import print_texts

        texts, stopped = drive_until_stopped(
            pruned_texts(
                analysis, result, request.prompts, fit_positions=request.fit_positions, seed=seed, store=store
            ),
            lambda partial: isinstance(partial, tuple),
        )
        texts = texts or ()
        document["generation"] = [each.to_dict() for each in texts]
        if not quiet and texts:
            print_texts(texts)
        if stopped:
            if quiet:
                print_json({**document, "stopped": True})
            leave_stopped(f"the curves and the texts of {len(texts)} points are printed.", request.save)
    return document, saved


def _stopped(result: PruningResult | None, table: CurveRows, request: _PruneRequest, quiet: bool) -> NoReturn:
    """Print the points that were done before a sweep was stopped, and say so; leaves with exit code 130."""
    if result is None:
        leave_stopped("no curve was done.", request.save)
    if quiet:
        print_json({**result.to_dict(), "stopped": True})
    else:
        print_lines(table.rest(result))
    points = sum(len(curve.removed) for curve in result.curves)
    leave_stopped(f"the {points} points that were done are printed, the others were not measured.", request.save)


def _search(request: _PruneRequest, opened: _Opened, quiet: bool) -> tuple[dict[str, Any], _Saved | None]:
    """(JSON document, what to save) of a budget search; prints its table unless `quiet`."""
    from tpe_core.manifest.making import costs_on_texts
    from tpe_core.pruning.budget import BudgetResult, search
    from tpe_tui.cli.prune_tables import LargestRows

    study = request.study
    steps = search(
        opened.session.analysis, opened.samples, study.orders, study.replacements, request.budget or 0.0,
        metric=request.metric, seeds=study.draws, seed=opened.seed, store=opened.store,
    )  # fmt: skip
    table = LargestRows()
    result, stopped = drive_until_stopped(
        steps, lambda partial: isinstance(partial, BudgetResult), table_rows(table.new, json=quiet)
    )
    if result is None:
        leave_stopped("no mask was found yet.", request.save)
    for sentence in result.refused:
        say(sentence)
    if not quiet:
        print_lines(table.new(result))
    if stopped:
        if quiet:
            print_json({**result.to_dict(), "stopped": True})
        leave_stopped(f"the {len(result.found)} masks that were found are printed.", request.save)
    saved = None
    if request.save is not None:
        first = result.found[0]
        mask = pruned_intervention(first.order, first.replace, first.dims)
        costs = {"heldout": first.cost} | ({} if first.ood is None else {"ood": first.ood})
        label = METRICS[first.metric].label
        by = f"tpe prune, order {first.order}, the largest mask under a {label} of {first.budget:g}"
        saved = _Saved(mask, by, costs_on_texts(result.texts, result.positions, costs, result.baseline))
    return result.to_dict(), saved
