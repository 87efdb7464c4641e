"""An experiment's folder as it is read: by the runs that go on in it, by who follows it, by a report.

Importing this module imports no torch. It writes nothing; `tpe_core.continued_training.runs` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tpe_core.continued_training.results import ContinuedTraining, Key, RunRecord
from tpe_core.errors import TpeError
from tpe_core.json_text import parse_json
from tpe_core.outputs import shown_path

__all__ = [
    "PROBE",
    "RESULT",
    "RUN",
    "SETTINGS",
    "RunState",
    "Stamp",
    "experiment_of",
    "read_experiment",
    "read_record",
    "run_folder",
    "run_states",
    "stamp",
]

RESULT = "train-on.json"
SETTINGS = "settings.json"
RUN = "run.json"
PROBE = "probe.jsonl"
DEPTH = 6  # from a file of a run up to its experiment's folder, both counted

RunState = Literal["waiting", "running", "done", "stopped"]

Stamp = tuple[tuple[int, int] | None, ...]
"""When each of an experiment's files was written, in nanoseconds, and its bytes; None where it is not there."""


def run_folder(folder: Path, key: Key) -> Path:
    """Where a run lies in its experiment's folder."""
    scenario, mask, variant, seed = key
    return folder.joinpath(*filter(None, (scenario, mask, variant, f"seed{seed}")))


def read_record(folder: Path) -> tuple[RunRecord, list[float]] | None:
    """(A run's record, its slopes at step 0) as they were saved; None where nothing was saved there.

    Raises `TpeError` where the file is broken.
    """
    path = folder / RUN
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
        return RunRecord.from_dict(document["run"]), list(document["start_slope"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TpeError(f"{shown_path(path)} is no run that can be read ({error}): remove its folder.") from error


def read_experiment(folder: Path) -> ContinuedTraining:
    """What an experiment's folder holds by now, runs under way among it. Raises `TpeError` where it holds none.

    Example:
        >>> try:
        ...     tpe.read_experiment(Path("nothing"))
        ... except tpe.TpeError as error:
        ...     print(str(error).partition(" holds ")[2])
        no experiment of tpe train-on: check the path.
    """
    settings, keys = _settings(folder)
    records = [saved[0] for key in keys if (saved := read_record(run_folder(folder, key))) is not None]
    return ContinuedTraining(
        model=settings["model"], settings=settings, runs=tuple(records), planned=len(keys), plan=keys
    )


def _settings(folder: Path) -> tuple[dict[str, Any], tuple[Key, ...]]:
    """(An experiment's settings, its runs in the order in which they are trained). Raises as `read_experiment`."""
    path = folder / SETTINGS
    try:
        settings = parse_json(path.read_text(encoding="utf-8"))
        keys = tuple((str(a), str(b), str(c), int(seed)) for a, b, c, seed in settings.pop("runs"))
        settings["model"] = str(settings["model"])
    except (FileNotFoundError, NotADirectoryError):
        raise TpeError(f"{shown_path(folder)} holds no experiment of tpe train-on: check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TpeError(f"{shown_path(path)} cannot be read ({error}): check the path.") from error
    return settings, keys


def stamp(folder: Path) -> Stamp:
    """What tells an experiment's folder from the same folder before, without reading the runs in it.

    Raises `TpeError` where it holds no experiment.
    """
    _, keys = _settings(folder)
    return tuple(map(_written, (folder / SETTINGS, *(run_folder(folder, key) / RUN for key in keys))))


def _written(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def run_states(result: ContinuedTraining) -> dict[Key, RunState]:
    """The state of every planned run, in the order in which they are trained, as the folder tells it.

    Runs are trained one after the other, so that the first that has not ended is the one under way; whether anything
    trains it now, no file says.
    """
    records, last = {run.key: run for run in result.runs}, result.settings.get("steps")
    states: dict[Key, RunState] = {}
    for key in result.plan:
        run = records.get(key)
        if run is not None and run.stopped:
            states[key] = "stopped"
        elif run is not None and run.points and run.points[-1].step == last:
            states[key] = "done"
        else:
            states[key] = "waiting" if "running" in states.values() else "running"
    return states


def experiment_of(path: Path) -> Path | None:
    """The folder of the experiment that a file or folder is a part of; None where it is none's.

    Example:
        >>> from tpe_core.continued_training.folder import experiment_of
        >>> experiment_of(Path("nothing/probe.jsonl")) is None
        True
    """
    for folder in (path, *path.parents)[:DEPTH]:
        try:
            _settings(folder)
        except TpeError:
            continue
        return folder
    return None
