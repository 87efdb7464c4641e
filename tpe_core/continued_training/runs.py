"""One run in its folder: train a stretch, measure, save, until its last step; taken up where it was left.

A run's folder holds ``run.json`` (its figures so far), ``probe.jsonl`` (the log of `EncodingProbe`, which
`tpe dynamics` draws), the last checkpoint while it is under way and, of the unedited run, its states by step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tpe_core.continued_training.batches import Batches
from tpe_core.continued_training.folder import PROBE, RUN, read_record
from tpe_core.continued_training.measuring import State, Step, measure_step, read_state
from tpe_core.continued_training.options import UNEDITED, TrainOnOptions
from tpe_core.continued_training.results import RunRecord
from tpe_core.continued_training.training import (
    Stretch,
    checkpoint,
    drop_checkpoints,
    restore,
    train_stretch,
    written,
)
from tpe_core.continued_training.variants import Trained
from tpe_core.corpus.corpus import Corpus
from tpe_core.detection.hidden import HiddenSample
from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.probe import EncodingProbe
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import NumericalError, TpeError
from tpe_core.hooks import apply
from tpe_core.json_text import json_text, nulled
from tpe_core.models.head import OutputHead
from tpe_core.outputs import shown_path
from tpe_core.progress import Progress, Steps
from tpe_core.store import write_file

__all__ = ["Run", "clear_states", "run_steps", "save_record"]

STATES = "states"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is: its place, its batches, how it is measured, and the unedited run that it is compared with."""

    record: RunRecord  # as planned, or as far as it got
    folder: Path
    batches: Batches
    corpora: Mapping[str, Corpus]  # measured texts by domain
    masks: Mapping[str, ResolvedEdit]  # judged on its bare head
    learning_rate: float
    unedited: Path | None  # the folder of the unedited run; None for that run

    @property
    def label(self) -> str:
        """The run, for people."""
        names = (self.record.scenario, self.record.mask, self.record.variant, f"seed {self.record.seed}")
        return ", ".join(filter(None, names))


def run_steps(run: Run, options: TrainOnOptions, made: Callable[[], Steps[Trained]]) -> Steps[RunRecord]:
    """Bring a run to its end, from where it was left: a job that returns its record.

    `made` gives the model to be trained, which a finished run does not need. The record so far is the `partial` of
    its steps. A loss that is not finite ends the run, with the reason in its record and the last checkpoint kept.
    Raises `TpeError` where the disk refuses.
    """
    saved = read_record(run.folder)
    record, slope = (run.record, []) if saved is None else saved
    if record.stopped or (record.points and record.points[-1].step == options.steps):
        return record
    with written(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    trained = yield from made()
    record = replace(record, note=trained.note)
    if record.points and record.points[-1].step:
        restore(trained.module, checkpoint(run.folder, record.points[-1].step))
    drop_checkpoints(run.folder, but=record.points[-1].step if record.points else None)
    try:
        with _probe(run, options, trained) as probe:
            for step in options.points:
                if record.points and step <= record.points[-1].step:
                    continue
                before = record.points[-1].step if record.points else None
                loss, began = None, time.monotonic()
                if before is not None:
                    yield Progress("train", before, options.steps, note=run.label, partial=record)
                    loss = _train(run, options, trained, before, step)
                seconds = time.monotonic() - began if before is not None else 0.0
                measured = yield from _measured(run, options, trained, step, loss=loss, slope=slope)
                slope = slope or measured.slope.tolist()
                record = replace(record, points=(*record.points, measured.figures), seconds=record.seconds + seconds)
                save_record(run.folder, record, slope)
                drop_checkpoints(run.folder, but=step)
                probe.step(step, trained.model.hf, measured.figures.loss["heldout"])
    except NumericalError as error:
        sentence = str(error).rstrip(".")
        last = record.points[-1].step if record.points else 0
        record = replace(record, stopped=f"{sentence}: the run was ended, and its state at step {last} is kept.")
        save_record(run.folder, record, slope)
        drop_checkpoints(run.folder, but=last)
        return record
    if not options.keep_weights:
        drop_checkpoints(run.folder)
    return record


def save_record(folder: Path, record: RunRecord, slope: list[float]) -> None:
    """Write a run's record and its slopes at step 0, whole or not at all, into its folder, which is made."""
    document = {"schema": 1, "run": record.to_dict(), "start_slope": slope}
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / RUN, [json_text(nulled(document), 1).encode()])


def _probe(run: Run, options: TrainOnOptions, trained: Trained) -> EncodingProbe:
    head = trained.model.head
    counts = run.batches.counts(head.total_rows)[: head.vocab_rows]
    return EncodingProbe(
        trained.model.hf,
        Frequencies.of(counts, "the text trained on"),
        run.folder / PROBE,
        steps=options.points,
        total=options.steps,
        parameters=False,
    )


def _train(run: Run, options: TrainOnOptions, trained: Trained, first: int, last: int) -> float:
    stretch = Stretch(
        folder=run.folder,
        first=first,
        last=last,
        total=options.steps,
        batch=options.batch,
        learning_rate=run.learning_rate,
        seed=run.record.seed,
        label=run.label,
    )
    in_force = nullcontext() if trained.edit is None else apply(trained.model, trained.edit)
    with in_force:
        return train_stretch(trained.module, run.batches, stretch)


def _measured(
    run: Run, options: TrainOnOptions, trained: Trained, step: int, *, loss: float | None, slope: list[float]
) -> Steps[Step]:
    """The figures at a step, while nothing is hooked; the unedited run leaves its state for the others."""
    with torch.random.fork_rng(devices=[]):
        state = yield from read_state(trained.model, run.corpora, options.evaluated)
        unedited = None
        if run.unedited is not None:
            unedited = _read_state(run.unedited, step, trained.model.head)
        measured = yield from measure_step(
            step,
            state,
            trained.edit,
            run.masks,
            unedited=unedited,
            start=np.array(slope) if slope else None,
            training_loss=loss,
        )
    if run.record.variant == UNEDITED:
        _write_state(run.folder, step, state, trained.model.head)
    return measured


def _write_state(folder: Path, step: int, state: State, start: OutputHead) -> None:
    """Keep what the unedited run predicts at a step; the head only where it is no longer the one it started with."""
    arrays: dict[str, Any] = {}
    for domain, sample in state.samples.items():
        arrays |= {f"{domain}.hidden": sample.hidden, f"{domain}.next": sample.next_ids,
                   f"{domain}.priority": sample.priority}  # fmt: skip
    if state.head.sha256 != start.sha256:
        arrays["columns"] = state.head.columns.float().cpu().numpy()
        if state.head.bias is not None:
            arrays["bias"] = state.head.bias.cpu().numpy()
    with written(folder):
        (folder / STATES).mkdir(parents=True, exist_ok=True)
        write_file(folder / STATES / f"step{step}.safetensors", [save(arrays)])


def _read_state(folder: Path, step: int, start: OutputHead) -> State:
    """The unedited run's state at a step. Raises `TpeError` where it is not there."""
    path = folder / STATES / f"step{step}.safetensors"
    try:
        arrays = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise TpeError(f"{shown_path(path)} cannot be read ({error}): remove the folder of that run.") from error
    head = start
    if "columns" in arrays:
        columns = torch.from_numpy(arrays["columns"]).to(start.columns.device)
        bias = torch.from_numpy(arrays["bias"]).to(columns.device) if "bias" in arrays else None
        head = dataclasses.replace(start, columns=columns, bias=bias)
    domains = dict.fromkeys(name.rpartition(".")[0] for name in arrays if name.endswith(".hidden"))
    samples = {
        domain: HiddenSample(
            len(arrays[f"{domain}.next"]),
            arrays[f"{domain}.hidden"],
            arrays[f"{domain}.next"],
            arrays[f"{domain}.priority"],
        )
        for domain in domains
    }
    return State(head=head, samples=samples)


def clear_states(folder: Path) -> None:
    """Remove the states that an unedited run left for others, once none of them needs it."""
    for path in (folder / STATES).glob("*.safetensors"):
        path.unlink(missing_ok=True)
