"""Training dynamics of any source: a folder of checkpoints, a hub model's revisions, a probe's log, the bundled model.

Planning comes first and says what will be downloaded; then the checkpoints are measured, and what is done is stored.
"""

from __future__ import annotations

import shutil
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tpe_core.corpus.corpus import text_source
from tpe_core.corpus.id_tokenizer import ids_of
from tpe_core.corpus.kinds import are_ids
from tpe_core.corpus.token_ids import vocabulary_rows
from tpe_core.dynamics.measure.frequency import COUNTS, count_text, read_counts
from tpe_core.dynamics.measure.text_loss import TextLoss
from tpe_core.dynamics.recorded import is_recorded, read_recorded
from tpe_core.dynamics.run import TrajectoryRun
from tpe_core.dynamics.suite.checkpoints import Suite, open_suite
from tpe_core.dynamics.suite.head_reader import HeadReader, weight_names
from tpe_core.dynamics.suite.remote_checkpoints import HubFiles
from tpe_core.dynamics.suite.tokenizer import suite_tokenizer
from tpe_core.dynamics.suite.weight_files import LocalFiles, UnusableError
from tpe_core.dynamics.trajectory import Trajectory
from tpe_core.errors import ModelError
from tpe_core.models.placement import device_of
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, size_text
from tpe_core.store import Store, default_root

__all__ = ["Budget", "DynamicsOptions", "DynamicsPlan", "dynamics", "plan_dynamics"]

KNOWN_SHARE = 0.8  # of the head's rows: a tokenizer with fewer tokens may be another model's


@dataclass(frozen=True)
class DynamicsOptions:
    """What to measure. `run.model` is the source; of its other options, text, seed, cache and device count.

    `revisions` are names or shell patterns of revisions or subfolders, `points` how many to take at most (0: all).
    Frequencies are those of `counts`, a file, else of the text; without either, of a ``counts.npy`` beside a folder's
    checkpoints, if there is one, else of the built-in text. `tokenizer` names a folder or hub model where the
    checkpoints have none. `weights` fetches the whole weights of hub revisions, to compare all parameters; those of
    a folder always are. `loss` runs every checkpoint on ``run.positions`` of the text.

    Example:
        >>> options = tpe.DynamicsOptions(tpe.RunOptions("EleutherAI/pythia-70m-deduped"), points=12)
        >>> options.run.model, options.points
        ('EleutherAI/pythia-70m-deduped', 12)
    """

    run: RunOptions
    _: KW_ONLY
    revisions: tuple[str, ...] = ()
    points: int | None = None
    counts: Path | None = None
    tokenizer: str | None = None
    weights: bool = False
    loss: bool = False


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a plan will cost. Sizes are in bytes; downloads are kept on the disk that has `free` left."""

    checkpoints: int
    finished: int  # measured before
    download: int
    free: int
    pickled: int = 0  # checkpoints of which only whole files can be had

    def __str__(self) -> str:
        text = f"{self.checkpoints} checkpoints"
        if self.finished:
            text += f", {self.finished} of them measured before"
        if not self.download:
            return f"{text}; nothing to download"
        text += f"; about {size_text(self.download)} to download and keep, {size_text(self.free)} of disk free"
        if self.pickled:
            text += f"; {self.pickled} have pickled weights (.bin), which can only be fetched whole"
        return text


@dataclass(frozen=True)
class DynamicsPlan:
    """A measurement that is ready to run."""

    measurement: TrajectoryRun
    budget: Budget

    def run(self) -> Steps[Trajectory]:
        """Measure: a job; the trajectory so far is the `partial` of its steps. Raises `ModelError` without room."""
        if self.budget.download > self.budget.free:
            raise ModelError(
                f"{self.measurement.suite.source}: {self.budget}: make room, take fewer with --points, "
                "or set TPE_CACHE_DIR and HF_HUB_CACHE to another disk."
            )
        return (yield from self.measurement.measure())


def dynamics(options: DynamicsOptions) -> Steps[Trajectory]:
    """The trajectory of any source: a job, from planning to its end. Raises `TpeError` in one sentence."""
    source = options.run.model
    if is_recorded(source):
        yield Progress("read the record", 0)
        return read_recorded(source)
    plan = yield from plan_dynamics(options)
    yield Progress("training dynamics", 0, note=str(plan.budget), partial=plan.budget)
    return (yield from plan.run())


def plan_dynamics(options: DynamicsOptions) -> Steps[DynamicsPlan]:
    """Find the checkpoints, count the frequencies and add up what is to be downloaded: a job.

    Raises `TpeError` where there is no usable checkpoint, or text, counts and tokenizer do not go with them.

    Returns:
        A job; `run` drives it to a plan: checkpoints, frequencies, and what is to be downloaded.

    Example:
        >>> options = tpe.DynamicsOptions(tpe.RunOptions("runs/a"))
        >>> plan = tpe.run(tpe.plan_dynamics(options))  # doctest: +SKIP
    """
    run_options = options.run
    device_of(run_options)
    counts = None if options.counts is None else read_counts(options.counts)
    source = text_source(run_options.text, text_field=run_options.text_field, offline=run_options.offline)
    store = Store() if run_options.cache else None
    suite = yield from open_suite(run_options.model, run_options, options.revisions, options.points, store)
    if counts is None and not run_options.text and (beside := _counts_beside(suite)) is not None:
        counts = read_counts(beside)
    tokenizer = yield from suite_tokenizer(suite, run_options, options.tokenizer, store)
    rows = suite.head.shape[0]
    if run_options.vocabulary is not None or (tokenizer is None and are_ids(run_options.text)):
        tokenizer = ids_of(rows, run_options.vocabulary)
    if tokenizer is None and (counts is None or options.loss):
        raise ModelError(
            f"no tokenizer is beside the checkpoints of {run_options.model}: name the model's with --tokenizer, "
            "or a file of token ids with --text" + ("." if options.loss else ", or give counts with --counts.")
        )
    if counts is None:
        counts = yield from count_text(source, tokenizer, rows, store)
    known = None if tokenizer is None else vocabulary_rows(tokenizer)
    frequencies = counts.for_rows(rows, known)
    warnings = []
    if known is not None and known < KNOWN_SHARE * rows:
        warnings.append(
            f"the tokenizer has {known:,} tokens and the head {rows:,} rows: make sure that it is this model's."
        )
    every = options.weights or all(isinstance(one.files, LocalFiles) for one in suite.checkpoints)
    reader = HeadReader(suite.head, default_root().parent / "heads" if run_options.cache else None)
    measurement = TrajectoryRun(
        suite,
        frequencies,
        reader,
        store,
        every=every,
        text=TextLoss(source, tokenizer, run_options) if options.loss else None,
        seed=run_options.seed,
        warnings=warnings,
    )
    return DynamicsPlan(measurement, (yield from _budget(options, measurement)))


def _budget(options: DynamicsOptions, measurement: TrajectoryRun) -> Steps[Budget]:
    """What the unfinished checkpoints cost; equal weights are counted once, heads by the first one's size."""
    checkpoints = measurement.suite.checkpoints
    todo = {one.files.fingerprint: one.files for one in checkpoints if measurement.needs(one)}
    finished = sum(one.files.fingerprint not in todo for one in checkpoints)
    download = pickled = 0
    head_bytes: int | None = None
    for done, files in enumerate(todo.values()):
        yield Progress("add up the download", done, len(todo))
        if not isinstance(files, HubFiles):
            continue
        try:
            names = yield from weight_names(files)
            whole = [files.sizes[name] for name in names if files.cached(name) is None]
            if names[-1].endswith(".bin"):
                pickled += bool(whole)
                download += sum(whole)
            elif options.weights or options.loss:
                download += sum(whole)
            elif whole and not measurement.reader.kept(files):
                if head_bytes is None:
                    head_bytes = yield from measurement.reader.cost(files)
                download += head_bytes
        except UnusableError:  # the measurement will name it
            continue
    return Budget(checkpoints=len(checkpoints), finished=finished, download=download, free=_free(), pickled=pickled)


def _free() -> int:
    """Bytes free where downloads go: the fuller of the two caches."""
    from huggingface_hub import constants

    folders = (default_root(), Path(constants.HF_HUB_CACHE))
    there = (next(place for place in (folder, *folder.absolute().parents) if place.exists()) for folder in folders)
    return min(shutil.disk_usage(place).free for place in there)


def _counts_beside(suite: Suite) -> Path | None:
    """The counts of its own training text that a run left beside its checkpoints, as `tpe demo train` does."""
    files = suite.last.files
    places = [folder / COUNTS for folder in files.folder.parents[:2]] if isinstance(files, LocalFiles) else []
    return next((place for place in places if place.is_file()), None)
