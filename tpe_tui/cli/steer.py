"""`tpe steer`: asked and achieved ratios of tokens on three texts, what they cost and who pays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tpe_core.edits.intervention import METHODS, Method, check_steering
from tpe_core.options import DEMO
from tpe_core.outputs import shown_path
from tpe_core.token_sets.definition import named_definition, parse_definition
from tpe_tui.cli.completion import one_of
from tpe_tui.cli.console import drive, drive_until_stopped, leave_stopped, load, say
from tpe_tui.cli.measuring import open_store, read_texts
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Force, Model, check_save, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpe_core.analysis import Analysis
    from tpe_core.steering.token_search import TokenIndex
    from tpe_core.token_sets.token_set import TokenSet

__all__ = ["steer"]


@takes(LOADING | READING | OUTPUT, rows_of("results"))
def steer(
    context: typer.Context,
    model: Model = DEMO,
    token: Annotated[
        list[str] | None, typer.Option(help="A token's text, as typed or as tables show it, or #id; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Tokens steered as one: script:Han, regex:PATTERN, class:digits, ...; NAME = ...; repeatable."
        ),
    ] = None,
    mid_frequency: Annotated[
        int | None, typer.Option(min=1, help="Also so many tokens spread over the middle half by frequency.")
    ] = None,
    ratio: Annotated[
        list[str] | None, typer.Option(help="Of its mean probability, a set's as a whole: 2 doubles; 0.5,2,5.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="An exact mean probability instead: 0.01.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; repeatable.", autocompletion=one_of(*METHODS))
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Steer all tokens and sets at once, not one by one.")
    ] = False,
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
    force: Force = False,
    *,
    json_: bool,
) -> None:
    """Steer tokens, or sets of tokens as one, and measure what came of it."""
    if not token and not set_ and not mid_frequency:
        raise typer.BadParameter("name a token: --token TEXT, or --token '#123' for that id; or a --set of tokens.")
    for definition in set_ or []:
        parse_definition(named_definition(definition)[1])
    ratios, targets, methods = _asked(ratio or [], target or [], method or [])
    check_save(save, force)

    from tpe_core.analysis import analyze
    from tpe_core.manifest.making import steered_on_texts
    from tpe_core.printable import token_texts
    from tpe_core.session import LiveSession
    from tpe_core.steering.named_sets import summary_of
    from tpe_core.steering.results import SteeringStudy
    from tpe_core.steering.study import SteeringPlan, study
    from tpe_core.steering.study import mid_frequency as drawn
    from tpe_core.steering.token_search import TokenIndex
    from tpe_tui.cli.rows import Rows
    from tpe_tui.cli.steer_tables import EditRows, print_sets, print_study

    options = run_options(context)
    loaded = load(options)
    index = TokenIndex(token_texts(loaded.tokenizer, loaded.head.vocab_rows), loaded.tokenizer)
    named = [index.resolve(query) for query in token or []]
    analysis = drive(analyze(options, model=loaded))
    if mid_frequency:
        named += [token_id for token_id in drawn(analysis.surprisal, mid_frequency) if token_id not in named]
    plan = SteeringPlan(
        token_ids=tuple(named),
        sets=_resolved(set_ or [], analysis, index),
        ratios=ratios,
        targets=targets,
        methods=methods,
        together=together,
        calibrate=calibrate,
        dose=dose,
        few_shot=few_shot,
    )
    if save is not None:
        plan.check_single()
    summaries = [summary_of(analysis, each) for each in plan.sets]
    if summaries and not json_:
        print_sets(summaries, analysis.tokens)
    samples = read_texts(analysis, options, ood, open_store(options))
    results, stopped = drive_until_stopped(
        study(analysis, samples, plan),
        lambda partial: isinstance(partial, SteeringStudy) and bool(partial.results),
        Rows(new=EditRows().new, place="log"),
    )
    if results is None:
        leave_stopped("no edit was measured.", save)
    for problem in results.problems:
        say(problem)
    if save is not None and not stopped:
        session = LiveSession(analysis)
        written = session.export(
            save,
            results.intervention(),
            session.default_prompt,
            "tpe steer",
            steered_on_texts(results.read, results.only_edit()),
            replace_file=force,
        )
        say(f"wrote {shown_path(written)}.")
    if json_:
        head = {"schema": 1, "model": analysis.model.name, "revision": analysis.model.revision}
        head |= {"sets": [each.to_dict(analysis.tokens) for each in summaries]} if summaries else {}
        print_json(head | results.to_dict() | ({"stopped": True} if stopped else {}))
    else:
        print_study(analysis.model.name, plan, results)
    if stopped:
        done = len(results.edits())
        leave_stopped(f"{done} of {plan.size} edits are printed, the rest was not measured.", save)


def _asked(
    ratio: Sequence[str], target: Sequence[str], method: Sequence[str]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[Method, ...]]:
    """(ratios, targets, methods) of the options, checked before anything is loaded."""
    if ratio and target:
        raise typer.BadParameter("--ratio and --target exclude each other: give one of them.")
    ratios = () if target else _numbers(ratio or ["2"], "--ratio")
    targets = _targets(target)
    methods = tuple(name.strip() for entry in method or METHODS[:1] for name in entry.split(","))
    for name in methods:
        for value in ratios or (1.0,):
            check_steering(value, name)
    return ratios, targets, cast("tuple[Method, ...]", methods)


def _resolved(definitions: Sequence[str], analysis: Analysis, index: TokenIndex) -> tuple[TokenSet, ...]:
    """The sets of tokens that are named; what of them names none is said."""
    from tpe_core.steering.named_sets import vocabulary_of
    from tpe_core.token_sets.resolving import resolve_set

    vocabulary = vocabulary_of(analysis, index)
    resolved = [resolve_set(definition, vocabulary) for definition in definitions]
    for note in dict.fromkeys(note for each in resolved for note in each.notes):
        say(note)
    return tuple(each.token_set for each in resolved)


def _targets(entries: Sequence[str]) -> tuple[float, ...]:
    targets = _numbers(entries, "--target") if entries else ()
    if wrong := [value for value in targets if not 0 < value < 1]:
        raise typer.BadParameter(f"--target takes a probability between 0 and 1, such as 0.01, not {wrong[0]:g}.")
    return targets


def _numbers(entries: Sequence[str], option: str) -> tuple[float, ...]:
    """The numbers of an option that is repeated or holds several between commas."""
    numbers: list[float] = []
    for part in ",".join(entries).split(","):
        try:
            numbers.append(float(part))
        except ValueError:
            raise typer.BadParameter(f"{option} takes numbers, such as 0.5 or 2,5, not {part.strip()!r}.") from None
    return tuple(numbers)
