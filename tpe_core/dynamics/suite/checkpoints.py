"""The checkpoints of one training run: those of a folder or of a hub model's revisions, ordered by step and checked.

What is no checkpoint of the run is named with the reason and left out. Nothing of a tensor is read here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tpe_core.dynamics.suite.adapted import merged_files
from tpe_core.dynamics.suite.head_name import HeadName, head_name
from tpe_core.dynamics.suite.remote_checkpoints import cached_revisions, look_up, revisions
from tpe_core.dynamics.suite.step_names import log_spaced, missing_steps, natural, step_of
from tpe_core.dynamics.suite.weight_files import Files, LocalFiles, UnusableError
from tpe_core.dynamics.trajectory import Skipped
from tpe_core.errors import ModelError, reason_of
from tpe_core.models.hub import explain
from tpe_core.options import RunOptions, several
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.store import Store

__all__ = ["HUB_POINTS", "Checkpoint", "Suite", "open_suite"]

HUB_POINTS = 24  # revisions looked at where nothing says how many
NAMED = 5  # names that a message lists
WILD = frozenset("*?[")
NAMELESS = "its name tells no step"
NAMES = "names must tell the step, like checkpoint-500 or step1000"


@dataclass(frozen=True)
class Checkpoint:
    """One step of a training run: its name, step and files."""

    name: str
    step: int
    files: Files


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A run's usable checkpoints by step, all of one architecture, and what was found wrong with the others."""

    source: str
    checkpoints: tuple[Checkpoint, ...]
    head: HeadName
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]

    @property
    def last(self) -> Checkpoint:
        """The end of the run, with which the others are compared."""
        return self.checkpoints[-1]


def open_suite(
    source: str,
    options: RunOptions,
    patterns: str | Sequence[str] = (),
    points: int | None = None,
    store: Store | None = None,
) -> Steps[Suite]:
    """Find the checkpoints in a folder, or the revisions of a hub model: a job.

    `patterns` are names or shell patterns of subfolders or revisions (none: all whose name tells a step). `points` is
    how many to take at most, log-spaced; None means all of a folder and `HUB_POINTS` of the hub, unless `patterns`
    name each; 0 means all. `options` gives task, trust and whether the network stays out, `store` keeps what the hub
    answered. Raises `ModelError` where no checkpoint is left.
    """
    patterns = several(patterns)
    path = Path(os.path.expanduser(source))
    yield Progress("look for checkpoints", 0)
    wild = not patterns or any(set(pattern) & WILD for pattern in patterns)
    refs: Mapping[str, Files | str]  # by name: files, or a commit whose files are yet to be asked for
    if path.is_dir():
        where = f"in the folder {source}"
        refs, listed = _in_folder(path, patterns)
    elif source.startswith((".", "/", "~")) or source.count("/") > 1 or path.is_file():
        raise ModelError(f"{source} is no folder of checkpoints, hub model or probe log (.jsonl): check the path.")
    else:
        where = f"among the revisions of {source}"
        refs = (yield from revisions(source, store, options.offline)) or cached_revisions(source)
        listed = _matching(refs, patterns, loose=bool(patterns))
        points = HUB_POINTS if points is None and wild else points
    names, skipped = listed
    steps, doubled = _by_step(names)
    skipped += doubled
    if not steps:
        raise _none(where, skipped, sorted(entry.name for entry in path.iterdir()) if path.is_dir() else sorted(refs))
    if wild:
        gaps = missing_steps(list(steps))
        skipped += [Skipped(f"step {step}", step, "missing: the steps around it follow a pattern") for step in gaps]
    chosen = {step: refs[steps[step]] for step in (log_spaced(steps, points) if points else steps)}
    commits = [at for at in chosen.values() if isinstance(at, str)]
    files = (yield from look_up(source, list(dict.fromkeys(commits)), store, options.offline)) if commits else {}
    candidates = [
        Checkpoint(steps[step], step, files[at] if isinstance(at, str) else at) for step, at in chosen.items()
    ]
    candidates = yield from _whole(candidates, options, skipped)
    usable, head = yield from _alike(candidates, options, source, skipped)
    if not usable or head is None:
        raise _none(where, skipped, [])
    warnings = (yield from _order(usable)) if path.is_dir() else []
    return Suite(source=source, checkpoints=tuple(usable), head=head, skipped=tuple(skipped), warnings=tuple(warnings))


def _in_folder(folder: Path, patterns: Sequence[str]) -> tuple[dict[str, Files], tuple[list[str], list[Skipped]]]:
    """The files of subfolders whose names tell a step; these names, and what else seems to be meant."""
    every = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names, skipped = _matching(every, patterns, loose=True)
    if not names and (folder / "checkpoints").is_dir():
        return _in_folder(folder / "checkpoints", patterns)
    files: dict[str, Files] = {}
    for name in names:
        try:
            files[name] = LocalFiles(folder / name)
        except OSError as error:
            skipped.append(Skipped(name, step_of(name), f"it cannot be read ({error.strerror or error})"))
    if not patterns:
        others = [name for name in every if name not in names and (folder / name / "config.json").is_file()]
        skipped += [Skipped(name, None, NAMELESS) for name in others]
    return files, ([name for name in names if name in files], skipped)


def _matching(names: Iterable[str], patterns: Sequence[str], loose: bool) -> tuple[list[str], list[Skipped]]:
    """The names that `patterns` ask for and that tell a step, and the others that were asked for."""
    every = sorted(names, key=natural)
    asked = [name for name in every if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
    kept = [name for name in asked if step_of(name, loose) is not None]
    skipped = [Skipped(name, None, NAMELESS) for name in asked if patterns and name not in kept]
    plain = [pattern for pattern in patterns if not set(pattern) & WILD and pattern not in every]
    return kept, skipped + [Skipped(name, step_of(name), "missing: there is nothing of this name") for name in plain]


def _by_step(names: Iterable[str]) -> tuple[dict[int, str], list[Skipped]]:
    """One name for every step; a second one is left out."""
    steps: dict[int, str] = {}
    doubled = []
    for name in names:
        step = step_of(name)
        if step is None:
            continue
        if step in steps:
            doubled.append(Skipped(name, step, f"{steps[step]} is of the same step"))
        else:
            steps[step] = name
    return dict(sorted(steps.items())), doubled


def _whole(candidates: Sequence[Checkpoint], options: RunOptions, skipped: list[Skipped]) -> Steps[list[Checkpoint]]:
    """The candidates with the files of whole models, where some are adapters."""
    whole = []
    for done, checkpoint in enumerate(candidates):
        files = checkpoint.files
        try:
            if isinstance(files, LocalFiles):
                step = Progress("merge adapters", done, len(candidates), note=checkpoint.name)
                files = yield from relayed(merged_files(files, options), _always(step))
            whole.append(replace(checkpoint, files=files))
        except UnusableError as unusable:
            skipped.append(Skipped(checkpoint.name, checkpoint.step, str(unusable)))
    return whole


def _always(step: Progress) -> Callable[[Progress], Progress]:
    """What shows one step for whatever a part of it tells."""
    return lambda _: step


def _alike(
    candidates: Sequence[Checkpoint], options: RunOptions, source: str, skipped: list[Skipped]
) -> Steps[tuple[list[Checkpoint], HeadName | None]]:
    """The checkpoints of the architecture that most have (the last one's where two are as many), and that one."""
    heads: dict[str, HeadName] = {}
    readable: list[tuple[Checkpoint, HeadName]] = []
    for done, checkpoint in enumerate(candidates):
        yield Progress("look at checkpoints", done, len(candidates), note=checkpoint.name)
        try:
            _ = checkpoint.files.weights
            if "config.json" not in checkpoint.files.sizes:
                raise UnusableError("it has no config.json")
            digest = checkpoint.files.digest("config.json")
            if digest not in heads:
                config = yield from _config(checkpoint.files, options)
                heads[digest] = head_name(
                    config, options.task, f"{checkpoint.name} of {source}", options.trust_remote_code
                )
            readable.append((checkpoint, heads[digest]))
        except UnusableError as unusable:
            skipped.append(Skipped(checkpoint.name, checkpoint.step, str(unusable)))
    if not readable:
        return [], None
    often = Counter(head for _, head in readable)
    last = readable[-1][1]
    head = max(often, key=lambda one: (often[one], one == last))
    for checkpoint, tensor in readable:
        if tensor != head:
            reason = (
                f"it is another model than most ({tensor}, not {head})"
                if str(tensor) != str(head)
                else (f"it is another model than most: {len(tensor.others ^ head.others)} parameters are not the same")
            )
            skipped.append(Skipped(checkpoint.name, checkpoint.step, reason))
    return [checkpoint for checkpoint, tensor in readable if tensor == head], head


def _config(files: Files, options: RunOptions) -> Steps[Any]:
    """A checkpoint's transformers config."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    yield from files.document("config.json")
    name, revision = files.location
    try:
        return transformers.AutoConfig.from_pretrained(
            name, revision=revision, trust_remote_code=options.trust_remote_code
        )
    except Exception as error:  # whatever transformers raises
        problem = explain(error, RunOptions(model=name, revision=revision))
        if options.trust_remote_code or "trust-remote-code" not in str(problem):
            raise UnusableError(f"its config cannot be used ({reason_of(error, 160)})") from error
        raise problem from error


def _order(checkpoints: Sequence[Checkpoint]) -> Steps[list[str]]:
    """Where the Trainer's own record of the step is another one than the name's."""
    warnings = []
    for checkpoint in checkpoints:
        if "trainer_state.json" not in checkpoint.files.sizes:
            continue
        try:
            state: Mapping[str, Any] = yield from checkpoint.files.document("trainer_state.json")
        except UnusableError as unusable:
            warnings.append(f"{checkpoint.name}: {unusable}, so its step is its name's alone.")
            continue
        if (step := state.get("global_step")) != checkpoint.step:
            warnings.append(f"{checkpoint.name} says in its trainer_state.json that it is of step {step}.")
    return warnings


def _none(where: str, skipped: Sequence[Skipped], there: Sequence[str]) -> ModelError:
    """Why no checkpoint is left."""
    if skipped:
        examples = "; ".join(f"{entry.name}: {entry.reason}" for entry in skipped[:NAMED])
        rest = f"; and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        named = any(entry.reason == NAMELESS for entry in skipped)
        what = f": {NAMES}" if named else ""
        return ModelError(f"there is no usable checkpoint {where} ({examples}{rest}){what}.")
    if "config.json" in there:
        return ModelError(f"there is one model and no checkpoint {where}: name the folder that its checkpoints are in.")
    instead = f" (there are {', '.join(there[:NAMED])})" if there else ""
    return ModelError(f"there is no checkpoint {where}{instead}: {NAMES}; choose others with --revisions.")
