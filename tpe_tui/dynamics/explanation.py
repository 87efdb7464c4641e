"""What the dynamics screen says in words: before there is a curve, and about a source beside its figures."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap

from tpe_core.dynamics.recorded import is_log
from tpe_core.options import DEMO
from tpe_tui.cells import count, escape_controls
from tpe_tui.dynamics.experiment_state import ExperimentState
from tpe_tui.dynamics.reader import DynamicsReader
from tpe_tui.dynamics.state import Source

__all__ = ["experiment_explanation", "experiment_facts", "explanation", "facts"]


def explanation(reader: DynamicsReader, key: Callable[[str], str]) -> tuple[str, ...]:
    """Why nothing is drawn, and what to press; `key` gives the keys in force."""
    state = reader.state
    keys = f"{key('run.rerun')} reads · {key('run.open')} adds a source · {key('run.cancel')} stops, what is read stays"
    if not state.sources:
        return ("No source is open.", "", f"{key('run.open')} adds one: a folder of checkpoints, a log, a hub id.")
    problems = [escape_controls(source.problem) for source in state.sources if source.problem]
    if problems:
        return ("Nothing could be read.", "", *problems, "", keys)
    if any(source.points for source in state.sources):
        return ("Every source is hidden.", "", f"{key('d')} draws the selected one.")
    if state.job is not None:
        still = [source for source in state.sources if source.pending and not is_log(source.name)]
        first = "The first checkpoints come in a moment." if still else "The run has logged nothing yet."
        costs = [
            f"{escape_controls(state.short(source))}: {source.budget}" for source in state.sources if source.budget
        ]
        return (first, "", *costs, "Each one is drawn as it comes.")
    if any(source.trajectory is not None for source in state.sources):
        return ("No checkpoint could be read.", "", f"{key('i')} says why.")
    lines = [f"  {escape_controls(source.name)}" for source in state.sources]
    cost = () if all(source.name == DEMO for source in state.sources) else (
        "Only the output embedding of every checkpoint is read where that suffices, and what was read once",
        "is kept. What it takes is said before it begins to take it.",
        "",
    )  # fmt: skip
    return ("When does it learn how often tokens occur?", "", *lines, "", *cost, keys)


def facts(source: Source) -> str:
    """Where the figures come from, and everything that is not among them, in lines."""
    trajectory = source.trajectory
    if trajectory is None:
        return "\n".join(["not read yet", *([source.problem] if source.problem else [])])
    half = trajectory.halfway()
    reached = {name: count(step) if step is not None else "not reached" for name, step in half.items()}
    so_far = ", so far" if source.pending else ""
    lines = [
        f"source       {trajectory.source}",
        f"frequencies  {trajectory.frequencies}",
        *([] if trajectory.unseen is None else [f"never seen   {count(trajectory.unseen)} of the vocabulary"]),
        f"checkpoints  {len(trajectory.points)}"
        + (
            f", steps {count(trajectory.points[0].step)} to {count(trajectory.points[-1].step)}"
            if trajectory.points
            else ""
        ),
        f"half-way     R² at step {reached['encoding']}, parameters at step {reached['parameters']}{so_far}",
    ]
    same = [
        f"  {point.name} has the content of {point.duplicate_of}" for point in trajectory.points if point.duplicate_of
    ]
    skipped = [f"  {entry.name}: {entry.reason}" for entry in trajectory.skipped]
    lines += [f"cost         {source.budget}"] if source.budget else []
    for title, entries in (
        ("duplicates", same),
        (
            "suspected",
            [f"  {point.name} counts for no half-way step" for point in trajectory.points if point.suspected],
        ),
        ("skipped", skipped),
        ("warnings", [f"  {text}" for text in trajectory.warnings]),
    ):
        if entries:
            lines += ["", title, *entries]
    return "\n".join(lines + ([f"\n{source.problem}"] if source.problem else []))


def experiment_explanation(state: ExperimentState, key: Callable[[str], str], width: int) -> tuple[str, ...]:
    """Why no curve of an experiment is drawn, and what to press, in lines of `width` cells; `key` gives the keys."""
    other = f"{key('run.open')} opens another folder · {key('run.rerun')} reads this one anew"
    if state.problem:
        lines = wrap(escape_controls(state.problem), max(20, width), break_on_hyphens=False)  # a command stays whole
        return ("Nothing could be read.", "", *lines, "", other)
    if state.folder is None:
        return ("No experiment is open.", "", f"{key('run.open')} opens one: a folder of tpe train-on.")
    if state.read is None:
        return ("The folder is being read.",)
    return ("No run has saved figures yet.", "", "The first come once the model at step 0 is measured.", "", other)


def experiment_facts(state: ExperimentState) -> str:
    """What is trained on what, how many runs are how far, and why some ended early, in lines."""
    if state.read is None:
        return "\n".join(["not read yet", *([state.problem] if state.problem else [])])
    result, counts = state.read.result, state.counts()
    settings = result.settings
    lines = [
        f"folder       {state.folder}",
        f"model        {result.model}",
        f"runs         {counts['done']} of {len(state.plan)} done, {counts['stopped']} ended early",
        f"steps        {count(settings['steps'])} of {count(settings['tokens_per_step'])} tokens, figures every "
        f"{count(settings['every'])}",
        f"learning     rate {settings['learning_rate']:g}"
        + ("" if settings["lora"] is None else f", LoRA of rank {settings['lora']}"),
    ]
    for title, entries in (
        ("masks", [f"  {name}: {count(removed)} of {count(settings['hidden_size'])} dimensions pruned"
                   for name, removed in settings["removed"].items()]),
        ("trained on", [f"  {label}" for label in settings["texts"].values()]),
        ("measured on", [f"  {domain}: {count(settings['evaluated'])} positions of {label}"
                         for domain, label in settings["measured_on"].items()]),
        ("ended early", [f"  {', '.join(filter(None, run.key[:3]))}, seed {run.seed}: {run.stopped}"
                         for run in result.stopped]),
        ("notes", [f"  {', '.join(filter(None, run.key[:3]))}, seed {run.seed}: {run.note}"
                   for run in result.runs if run.note]),
    ):  # fmt: skip
        if entries:
            lines += ["", title, *map(escape_controls, entries)]
    return "\n".join(lines)
