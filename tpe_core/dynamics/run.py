"""Measures a suite's checkpoints one by one, and makes a trajectory of what is known so far.

Every figure of every checkpoint is stored as soon as it is there, by the weights it is of: a run that was stopped goes
on where it was, and checkpoints with the same weights are measured once.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.measure.head_fit import fit_steps, overlap
from tpe_core.dynamics.measure.parameter_groups import ratios
from tpe_core.dynamics.measure.text_loss import TextLoss
from tpe_core.dynamics.measure.weight_moves import head_distance, head_length, moves, parameter_names
from tpe_core.dynamics.suite.checkpoints import Checkpoint, Suite
from tpe_core.dynamics.suite.checks import duplicates, suspicions, warn_duplicates
from tpe_core.dynamics.suite.head_reader import HeadReader, whole
from tpe_core.dynamics.suite.weight_files import LocalFiles, UnusableError, Weights, open_weights
from tpe_core.dynamics.trajectory import Point, Skipped, Trajectory
from tpe_core.errors import ModelError, NumericalError
from tpe_core.json_text import json_text
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.store import Store

__all__ = ["TrajectoryRun"]

LABEL = "training dynamics"

T = TypeVar("T")


class _Results:
    """Figures by what they are of, in memory and in the store."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._known: dict[str, dict[str, Any]] = {}

    def get(self, *facts: object) -> dict[str, Any] | None:
        key = _key(facts)
        if key not in self._known and self._store is not None and (entry := self._store.load(key)) is not None:
            self._known[key] = entry[1]
        return self._known.get(key)

    def put(self, value: dict[str, Any], *facts: object) -> None:
        key = _key(facts)
        self._known[key] = value
        if self._store is not None:
            self._store.save(key, {}, value, kind="training dynamics")


def _key(facts: Sequence[object]) -> str:
    return hashlib.sha256(json_text(["dynamics 1", *facts]).encode()).hexdigest()


def _as(step: Progress, steps: Steps[T]) -> Steps[T]:
    """Run a part of a longer job: its progress becomes notes of one of that job's steps."""

    def note(event: Progress) -> Progress:
        share = "" if event.fraction is None else f"{event.fraction:.0%}"
        return replace(step, note=" ".join(filter(None, (f"{step.note}: {event.label}", event.amount or share))))

    return relayed(steps, note)


class TrajectoryRun:
    """One measurement of a suite against some frequencies.

    `every` says whether all parameters are compared, which needs them on this machine, or the heads alone. `text`
    measures the loss too.
    """

    def __init__(
        self,
        suite: Suite,
        frequencies: Frequencies,
        reader: HeadReader,
        store: Store | None,
        *,
        every: bool,
        text: TextLoss | None = None,
        seed: int = 0,
        warnings: Sequence[str] = (),
    ) -> None:
        self.suite, self.frequencies, self.reader, self.every, self._text = suite, frequencies, reader, every, text
        self._seed = seed
        self._surprisal = frequencies.surprisal
        self._results = _Results(store)
        self._fitted: list[Checkpoint] = []
        self._suspected: frozenset[str] = frozenset()
        self._skipped = list(suite.skipped)
        self._warnings = [*suite.warnings, *warnings, *frequencies.warnings()]
        self._weights: dict[str, tuple[Weights, str]] = {}

    def needs(self, checkpoint: Checkpoint) -> bool:
        """Whether anything of a checkpoint is still to be measured."""
        key, last = checkpoint.files.fingerprint, self.suite.last.files.fingerprint
        known = [self._results.get(*self._fit_facts(key)), self._length(key)]
        if key != last:
            known.append(self._distance(key, last))
        if self._text is not None:
            known.append(self._results.get(*self._text_facts(key)))
        return None in known

    def measure(self) -> Steps[Trajectory]:
        """All checkpoints, the last one first: a job; the trajectory so far is the `partial` of its steps.

        What cannot be read is left out and named. Raises `ModelError` where nothing can be.
        """
        order = list(self.suite.checkpoints)
        while order and not (yield from self._fit(order[-1])):
            order.pop()
        if not order:
            some = "; ".join(f"{entry.name}: {entry.reason}" for entry in self._skipped[:5])
            raise ModelError(f"no checkpoint of {self.suite.source} can be read ({some}).")
        last, first, before = order[-1], None, None
        self.reader.pin(last)
        for done, checkpoint in enumerate(order):
            yield Progress(LABEL, done, len(order), note=checkpoint.name, partial=self._trajectory({}))
            step = Progress(LABEL, done, len(order), note=checkpoint.name)
            if checkpoint is not last and not (yield from _as(step, self._fit(checkpoint))):
                continue
            if first is None:
                first = checkpoint
                self.reader.pin(first)
            others = [other for other in (last, first, before) if other is not None]
            yield from _as(step, self._compare(checkpoint, others))
            if self._text is not None:
                yield from _as(step, self._loss(checkpoint, self._text))
            before = checkpoint
        same = yield from self._duplicates()
        distinct = [checkpoint for checkpoint in self._fitted if checkpoint.name not in same]
        for earlier, later in itertools.pairwise(distinct):  # where a duplicate stood in between
            yield from self._compare(later, [earlier])
        points = self._trajectory(same).points
        hashes = {checkpoint.name: checkpoint.files.weight_hashes for checkpoint in distinct}
        suspected = suspicions(points, self._apart(), hashes)
        self._warnings += warn_duplicates(same, len(points)) + [one.sentence for one in suspected]
        self._suspected = frozenset(name for one in suspected for name in one.names) - {points[-1].name}
        yield Progress(LABEL, len(order), len(order))
        return self._trajectory(same)

    def _fit(self, checkpoint: Checkpoint) -> Steps[bool]:
        """Whether a checkpoint's head could be read and fitted."""
        facts = self._fit_facts(checkpoint.files.fingerprint)
        try:
            if self._results.get(*facts) is None:
                if self.every:
                    yield from whole(checkpoint.files)
                head = yield from self.reader.read(checkpoint)
                fit = yield from fit_steps(head, self._surprisal, self._seed)
                content = hashlib.sha256(head.contiguous().view(torch.uint8).numpy())
                self._results.put({**fit.fields(), "head": content.hexdigest()}, *facts)
        except (UnusableError, NumericalError) as reason:
            self._skipped.append(Skipped(checkpoint.name, checkpoint.step, str(reason).rstrip(".")))
            return False
        self._fitted = sorted([*self._fitted, checkpoint], key=lambda one: one.step)
        return True

    def _compare(self, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> Steps[None]:
        """Measure how far a checkpoint is from some others, where that is not known."""
        key = checkpoint.files.fingerprint
        wanted = {
            other.files.fingerprint: other
            for other in others
            if other.files.fingerprint != key and self._distance(key, other.files.fingerprint) is None
        }
        if not wanted and self._length(key) is not None:
            return
        try:
            if self.every:
                weights, own = yield from self._open(checkpoint)
                names = yield from parameter_names(weights, self.suite.head, own)
                opened = []
                for other in wanted.values():
                    opened.append((yield from self._open(other))[0])
                length, *apart = yield from moves(weights, names, opened)
            else:
                head, name = (yield from self.reader.read(checkpoint)), self.suite.head.names[-1]
                length, apart = head_length(name, head), []
                for other in wanted.values():
                    apart.append(head_distance(name, head, (yield from self.reader.read(other))))
        except UnusableError as reason:
            self._warnings.append(f"{checkpoint.name} is not compared with others: {reason}.")
            return
        self._results.put(length, "length", self.every, key)
        for there, value in zip(wanted, apart, strict=True):
            self._results.put(value, "distance", self.every, *sorted([key, there]))

    def _open(self, checkpoint: Checkpoint) -> Steps[tuple[Weights, str]]:
        """A checkpoint's tensors on this machine, and the head's name among them."""
        key = checkpoint.files.fingerprint
        if key not in self._weights:
            weights = yield from open_weights((yield from whole(checkpoint.files)))
            self._weights[key] = weights, (yield from self.suite.head.find(weights))
        return self._weights[key]

    def _loss(self, checkpoint: Checkpoint, text: TextLoss) -> Steps[None]:
        facts = self._text_facts(checkpoint.files.fingerprint)
        if self._results.get(*facts) is None:
            try:
                loss, kl = yield from text.measure(checkpoint, self.frequencies)
            except UnusableError as reason:
                self._warnings.append(f"the loss of {checkpoint.name} is not measured: {reason}.")
                return
            self._results.put({"loss": loss, "kl_unigram": kl}, *facts)

    def _duplicates(self) -> Steps[dict[str, str]]:
        """Which checkpoints hold the weights of which other one."""
        groups: dict[str, list[Checkpoint]] = defaultdict(list)
        for checkpoint in self._fitted:
            groups[str((self._fields(checkpoint) or {})["head"])].append(checkpoint)
        same: list[list[str]] = []
        alike: list[str] = []
        several = [members for members in groups.values() if len(members) > 1]
        done, total = 0, sum(len(members) for members in several)
        for members in several:
            contents: dict[str, list[str]] = defaultdict(list)
            for checkpoint in members:
                yield Progress("compare files", done, total, note=checkpoint.name)
                done += 1
                files = checkpoint.files
                contents[files.content() if isinstance(files, LocalFiles) else files.fingerprint].append(
                    checkpoint.name
                )
            same += [names for names in contents.values() if len(names) > 1]
            if len(contents) > 1:
                alike += [names[0] for names in contents.values()]
        if alike:
            self._warnings.append(
                f"the output embedding is the same in {', '.join(alike[:3])}{' and more' if len(alike) > 3 else ''}, "
                "whose files are not: it is frozen, or they hold the same weights in two forms."
            )
        return duplicates(same, [checkpoint.name for checkpoint in self._fitted], self._away())

    def _away(self) -> dict[str, float]:
        """How far each checkpoint's head is from the last one's, where it was measured."""
        distances = {}
        for name, values in self._apart().items():
            kind = next((kind for kind in ("head", "embedding") if kind in values), "all")
            distances[name] = values.get(kind, 0.0)
        last = self._fitted[-1].files.fingerprint
        return distances | {each.name: 0.0 for each in self._fitted if each.files.fingerprint == last}

    def _apart(self) -> dict[str, dict[str, float]]:
        """How far each checkpoint with weights of its own is from the last one by group, where it was measured."""
        last = self._fitted[-1].files.fingerprint
        keys = {each.name: each.files.fingerprint for each in self._fitted}
        return {name: values for name, key in keys.items() if key != last and (values := self._distance(key, last))}

    def _trajectory(self, same: dict[str, str]) -> Trajectory:
        """What is known so far; `same` names duplicates and what they are duplicates of."""
        points: list[Point] = []
        before: Checkpoint | None = None
        for checkpoint in self._fitted:
            original = same.get(checkpoint.name)
            points.append(self._point(checkpoint, before if original is None else None, original))
            before = checkpoint if original is None else before
        return Trajectory(
            source=self.suite.source,
            frequencies=str(self.frequencies),
            tokens=self.frequencies.tokens,
            unseen=self.frequencies.unseen,
            points=tuple(points),
            skipped=tuple(sorted(self._skipped, key=lambda entry: (entry.step is None, entry.step or 0))),
            warnings=tuple(self._warnings),
        )

    def _point(self, checkpoint: Checkpoint, before: Checkpoint | None, original: str | None) -> Point:
        key = checkpoint.files.fingerprint
        first, last = self._fitted[0].files.fingerprint, self._fitted[-1].files.fingerprint
        fields = {name: value for name, value in (self._fields(checkpoint) or {}).items() if name != "head"}
        end = (self._fields(self._fitted[-1]) or {})["top_dims"]
        whole_way = self._distance(first, last) or {}
        left = dict.fromkeys(whole_way, 0.0) if key == last else self._distance(key, last) or {}
        travel = dict.fromkeys(whole_way, 0.0) if key == first else self._distance(first, key) or {}
        change = {} if before is None else self._distance(before.files.fingerprint, key) or {}
        earlier = {} if before is None else self._length(before.files.fingerprint) or {}
        text = None if self._text is None else self._results.get(*self._text_facts(key))
        return Point.from_dict(
            {
                "name": checkpoint.name,
                "step": checkpoint.step,
                **fields,
                "top_overlap": overlap(fields["top_dims"], end),
                "convergence": ratios(left, whole_way),
                "travel": ratios(travel, self._length(first) or {}),
                "change": ratios(change, earlier),
                **(text or {}),
                "duplicate_of": original,
                "suspected": checkpoint.name in self._suspected,
            }
        )

    def _fields(self, checkpoint: Checkpoint) -> dict[str, Any] | None:
        return self._results.get(*self._fit_facts(checkpoint.files.fingerprint))

    def _fit_facts(self, key: str) -> tuple[object, ...]:
        return "fit", key, self.suite.head.names, self.frequencies.fingerprint, self._seed

    def _text_facts(self, key: str) -> tuple[object, ...]:
        return "loss", key, self.frequencies.fingerprint, "" if self._text is None else self._text.key

    def _length(self, key: str) -> dict[str, float] | None:
        return self._results.get("length", self.every, key)

    def _distance(self, key: str, other: str) -> dict[str, float] | None:
        return self._results.get("distance", self.every, *sorted([key, other]))
