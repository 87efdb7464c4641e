"""`tpe dynamics`: when a run's output embedding learned token frequencies, and when its parameters came to rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpe_core.dynamics.recorded import is_recorded, read_recorded
from tpe_core.options import RunOptions
from tpe_tui.cli.completion import complete_model
from tpe_tui.cli.console import drive, drive_until_stopped, leave_stopped, on_terminal, say
from tpe_tui.cli.options import LOADING, OUTPUT, READING, run_options, takes
from tpe_tui.cli.table_output import Document, print_json

if TYPE_CHECKING:
    from tpe_core.dynamics.trajectory import Trajectory
    from tpe_core.tables import Table

__all__ = ["dynamics"]

FAILED = 1
LOSS_POSITIONS = 8192  # of every checkpoint

Sources = Annotated[
    list[str],
    typer.Argument(
        help="A folder of checkpoints, a hub id, a probe's log (.jsonl), or demo; several to compare.",
        autocompletion=complete_model,
    ),
]


def checkpoints_of(document: Document) -> Table:
    """A row for each checkpoint of each source."""
    from tpe_core.tables import Table

    sources = document.get("sources", [document])
    return Table.of({"source": each["source"], **point} for each in sources for point in each["checkpoints"])


@takes(LOADING - {"revision", "adapter", "quantize", "gguf_file"} | READING - {"positions"} | OUTPUT, checkpoints_of)
def dynamics(
    context: typer.Context,
    source: Sources,
    counts: Annotated[
        Path | None, typer.Option(help="Token counts instead of text: .npy, .json or .txt, one number per token id.")
    ] = None,
    revisions: Annotated[
        list[str] | None,
        typer.Option(help="Names or patterns of revisions or subfolders, such as 'step*'; repeatable, or with commas."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=0, help="At most so many, log-spaced; 0: all. Default: 24 of the hub, else all.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub id of the tokenizer, where the checkpoints have none.")
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Fetch whole hub checkpoints and compare all parameters.")
    ] = False,
    loss: Annotated[
        bool, typer.Option("--loss", help="Run every checkpoint: its loss and KL(unigram || mean prediction).")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where anything was warned about.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch a probe's log while the run goes on; without a terminal, as lines.")
    ] = False,
    screen: Annotated[bool, typer.Option("--screen", help="Draw it: the dynamics screen.")] = False,
    positions: Annotated[int, typer.Option(min=1, help="Predicted positions for --loss.")] = LOSS_POSITIONS,
    *,
    text: list[str] | None,
    json_: bool,
) -> None:
    """Measure every checkpoint of every source, and print."""
    if counts is not None and text and not loss:
        raise typer.BadParameter("--counts and --text exclude each other, but with --loss: give one of them.")
    if follow and not all(name.lower().endswith(".jsonl") for name in source):
        raise typer.BadParameter("--follow watches a probe's log, a file whose name ends in .jsonl.")
    if screen and json_:
        raise typer.BadParameter("--screen draws and --json prints: give one of them.")
    if screen and not on_terminal():
        raise typer.BadParameter("--screen needs a terminal to draw on: leave it out, and figures are printed.")
    screen = screen or (follow and not json_ and on_terminal())
    if follow and len(source) > 1 and not screen:
        raise typer.BadParameter("--follow watches one log where there is no terminal to draw several on.")
    options = run_options(context)
    settings: dict[str, Any] = {
        "counts": counts,
        "revisions": tuple(word.strip() for some in revisions or () for word in some.split(",") if word.strip()),
        "points": points,
        "tokenizer": tokenizer,
        "weights": weights,
        "loss": loss,
    }
    if (words := _words(options, settings)) and all(map(is_recorded, source)):
        raise typer.BadParameter(
            f"{words[0]} is for measuring checkpoints, and {source[0]} was measured: leave it out."
        )
    if screen:
        raise typer.Exit(_screen(source, options, settings))
    for name in filter(is_recorded, source) if words else ():
        say(f"{name} was measured already: {words[0]} is for the other sources.")
    trajectories, stopped = [], False
    for name in source:
        trajectory, stopped = (_follow(name, json_), False) if follow else _measure(name, options, settings)
        trajectories += [] if trajectory is None else [trajectory]
        if stopped:
            break
    _print(trajectories, json_, headed=not follow, stopped=stopped)
    if stopped:
        points = sum(len(trajectory.points) for trajectory in trajectories)
        leave_stopped(f"the {points} checkpoints that were measured are printed.")
    if strict and any(trajectory.warnings or trajectory.skipped for trajectory in trajectories):
        raise typer.Exit(FAILED)


def _screen(names: list[str], options: RunOptions, settings: dict[str, Any]) -> int:
    from dataclasses import replace

    from tpe_tui.dynamics.app import run_dynamics
    from tpe_tui.engine.host import read_dynamics

    trusted = replace(options, model=names[0])  # code of several sources is run by none
    reader = read_dynamics(trusted if len(names) == 1 else options, **settings)
    return run_dynamics(names, reader, _words(options, settings))


def _words(options: RunOptions, settings: dict[str, Any]) -> list[str]:
    """The options as they were given, for a command line that repeats them."""
    words = [word for path in options.text for word in ("--text", path)]
    words += [] if options.text_field is None else ["--text-field", options.text_field]
    words += ["--seed", str(options.seed)] if options.seed != type(options)().seed else []
    words += [word for pattern in settings["revisions"] for word in ("--revisions", pattern)]
    for name in ("counts", "points", "tokenizer"):
        words += [f"--{name}", str(settings[name])] if settings[name] is not None else []
    return words + [f"--{name}" for name in ("weights", "loss") if settings[name]]


def _measure(name: str, options: RunOptions, settings: dict[str, Any]) -> tuple[Trajectory | None, bool]:
    """(One source, whether that was stopped), after saying what it will cost where that is anything."""
    from dataclasses import replace

    if is_recorded(name):
        return read_recorded(name), False
    from tpe_core.dynamics.plan import DynamicsOptions, plan_dynamics
    from tpe_core.dynamics.trajectory import Trajectory
    from tpe_tui.cli.dynamics_tables import PointRows
    from tpe_tui.cli.rows import Rows

    plan = drive(plan_dynamics(DynamicsOptions(replace(options, model=name), **settings)))
    say(f"{name}: {plan.budget}.")
    return drive_until_stopped(
        plan.run(),
        lambda partial: isinstance(partial, Trajectory) and bool(partial.points),
        Rows(new=PointRows().new, place="log"),
    )


def _follow(name: str, quiet: bool) -> Trajectory:
    """A log until its run ends, with a line for every point as it comes."""
    from tpe_core.dynamics.probe_log import follow
    from tpe_core.dynamics.trajectory import Trajectory
    from tpe_tui.cli.dynamics_tables import TrajectoryTable
    from tpe_tui.cli.progress_line import ProgressLine

    line, table, steps = ProgressLine(sys.stderr), TrajectoryTable(), follow(Path(name).expanduser())
    try:
        while True:
            try:
                event = next(steps)
            except StopIteration as stop:
                trajectory: Trajectory = stop.value
                break
            if isinstance(event.partial, Trajectory) and not quiet and table.has_new(event.partial):
                line.close()
                table.print_new(event.partial)
            line.show(event)
    finally:
        line.close()
        steps.close()
    if not quiet:
        table.print_new(trajectory)
    return trajectory


def _print(trajectories: list[Trajectory], as_json: bool, headed: bool, stopped: bool) -> None:
    from tpe_core.dynamics.trajectory_file import document
    from tpe_tui.cli.dynamics_tables import TrajectoryTable, print_halfway, print_source

    for trajectory in trajectories:
        for entry in trajectory.skipped:
            say(f"{entry.name} is left out: {entry.reason.rstrip('.')}.")
        for warning in trajectory.warnings:
            say(warning)
    if as_json:
        print_json(document(trajectories) | ({"stopped": True} if stopped else {}))
        return
    for trajectory in trajectories:
        if headed:
            print_source(trajectory)
            TrajectoryTable(trajectory).print_new(trajectory)
        print_halfway(trajectory)
