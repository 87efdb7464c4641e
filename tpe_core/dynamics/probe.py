"""Watches the frequency encoding form while a model trains: a Trainer callback, and two lines in any other loop.

At log-spaced steps it fits -log frequency on the output embedding as it stands (Cho et al. 2025, section 5) and
appends what it finds to a log. It never changes the model, and what goes wrong in it never ends the training.
"""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.measure.head_fit import fit_head
from tpe_core.dynamics.measure.parameter_groups import distances, lengths, ratios
from tpe_core.dynamics.probe_log import LogWriter, earlier
from tpe_core.dynamics.trajectory import Point, log_steps
from tpe_core.errors import HeadError, reason_of
from tpe_core.models.head_sites import find_site

__all__ = ["EncodingProbe"]

LONGEST = 2**48  # steps; no run is that long
PADDING_SHARE = 0.1  # of the head's rows, at most, that the counts may leave out as padding

ABANDONED = "its process, or its probe, went away without a word"

Weights = Mapping[str, Tensor]


def head_weight(model: nn.Module) -> Tensor:
    """W [V, d] of a transformers model as it is stored. Raises `HeadError` where it has no single output embedding."""
    site = find_site(model)
    if site.module is None or site.reason:
        raise HeadError(site.reason)
    weight = site.weights()[0] if site.weights is not None else getattr(site.module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise HeadError(f"{type(site.module).__name__} has no weight of two dimensions: pass `weight`, which reads it.")
    return weight.detach()


@dataclass
class _Clock:
    """Where a run is and what the probe took of it; apart from the probe, so that it outlives it."""

    step: int = 0  # the last told
    probe_seconds: float = 0.0
    earlier_seconds: float = 0.0  # of the run, in earlier processes
    began: float | None = None

    def record(self, pending: float = 0.0) -> dict[str, float]:
        """What every line of the log says of time; `pending` are the probe's seconds that are not added yet."""
        training = self.earlier_seconds + (0.0 if self.began is None else time.perf_counter() - self.began)
        return {"step": self.step, "probe_seconds": self.probe_seconds + pending, "training_seconds": training}


@dataclass(frozen=True)
class _Weights:
    """All parameters at one step, by name, and their lengths by group."""

    values: Weights
    lengths: Mapping[str, float]

    @staticmethod
    def of(values: Weights) -> _Weights:
        return _Weights(values, lengths(values.items()))

    def relative_to(self, before: _Weights | None) -> dict[str, float]:
        """|these - before| / |before| by parameter group; nothing where there is no before."""
        if before is None:
            return {}
        pairs = ((name, value, before.values[name]) for name, value in self.values.items())
        return ratios(distances(pairs), before.lengths)


class EncodingProbe(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Logs R2, top dimensions, sparsity and how far the parameters moved, to a JSONL file that `follow` can watch.

    ``Trainer(..., callbacks=[EncodingProbe(model, frequencies, path)])``; or, in a loop of one's own,
    ``probe = EncodingProbe(model, frequencies, path)`` before it and ``probe.step(step, model)`` in it: from step 0,
    before the first update, if the start is to be seen. There, `total` or `close` says when the run is finished.

    A run that is resumed goes on in its log: what was logged from the resumed step on is superseded. How far the
    parameters moved needs weights that a new process does not have; `recall` gives those of an earlier step.
    The cost is that of two fits per doubling of the steps; it is measured, and logged with every point as
    ``probe_seconds`` of ``training_seconds``. Main memory: two copies of the parameters, three while logging, unless
    `parameters` is False.

    Args:
        model: The model that is trained.
        frequencies: Counts of the training text's tokens (`count_text`, `read_counts`).
        path: The JSONL file to write.
        steps: When to log; each doubling of the steps where None.
        total: The last step, where it is known.
        parameters: Whether to follow how far the parameters move.
        weight: Finds W [V, d] in the model.
        recall: Gives the weights of an earlier step to a resumed run.

    Example:
        >>> frequencies = tpe.Frequencies(analysis.detection.counts, "the detecting text")
        >>> probe = tpe.EncodingProbe(model.hf, frequencies, "probe.jsonl", total=1)
        >>> for step in range(2):
        ...     probe.step(step, model.hf)
        >>> [point.step for point in tpe.read_log(Path("probe.jsonl")).points]
        [0, 1]
    """

    _open_logs: ClassVar[weakref.WeakValueDictionary[Path, EncodingProbe]] = weakref.WeakValueDictionary()

    def __init__(
        self,
        model: nn.Module,
        frequencies: Frequencies,
        path: Path | str,
        *,
        steps: Iterable[int] | None = None,
        total: int | None = None,
        parameters: bool = True,
        weight: Callable[[nn.Module], Tensor] = head_weight,
        recall: Callable[[int], Weights | None] | None = None,
    ) -> None:
        """Choose what to log: at `steps` (log-spaced where None) and at step `total`.

        `weight` reads W [V, d] from a model that names no output embedding; `recall` gives a step's parameters by
        name, or None. Raises `HeadError` where the model has no single output embedding, `CorpusError` where the
        counts are not of its vocabulary, and `TpeError` where `path` is not a log of this run.
        """
        self.path = Path(path)
        self.frequencies = frequencies
        self._steps = set(log_steps(LONGEST) if steps is None else steps)
        self._total, self._parameters, self._weight, self._recall = total, parameters, weight, recall
        self._clock = _Clock()
        self._again: set[int] = set()  # logged before, superseded, to be measured once more
        self._logged = -1  # the last step logged
        self._resumed = False
        self._first: _Weights | None = None
        self._previous: _Weights | None = None
        self._writer: LogWriter | None = None
        self._abandoned: weakref.finalize[Any, Any] | None = None
        self._surprisal = _covering(frequencies, len(weight(_plain(model)))).surprisal
        earlier(self.path, self._start)

    @property
    def _start(self) -> dict[str, Any]:
        return {
            "frequencies": str(self.frequencies),
            "fingerprint": self.frequencies.fingerprint,
            "tokens": self.frequencies.tokens,
            "unseen": self.frequencies.unseen,
            "total": self._total,
        }

    @property
    def share(self) -> float:
        """The probe's measured share of the training time so far; 0 before the first step."""
        time_of = self._clock.record()
        return time_of["probe_seconds"] / time_of["training_seconds"] if self._clock.began is not None else 0.0

    def is_due(self, step: int) -> bool:
        """Whether `step` will be logged: so that a loss is computed only where it is wanted."""
        return step in self._steps or step == self._total or step in self._again

    def step(self, step: int, model: nn.Module, loss: float | Tensor | None = None) -> None:
        """Tell that `step` updates were made to `model`: logged where `is_due`, else it costs a microsecond.

        The `loss` is in nats a token. What fails is said in a warning and in the log, and the training goes on.
        Raises `TpeError` at the first call only, where another process is writing the log.
        """
        self._tell(step, model, loss)
        if step == self._total:
            self.close()

    def close(self, reason: str = "finished") -> None:
        """Say in the log that the run has ended; `reason` is ``finished`` or why it was not, in a few words."""
        if self._abandoned is not None and self._abandoned.detach() is not None and self._writer is not None:
            _end(self._writer, self._clock, reason)
        self._writer = self._first = self._previous = None

    def __enter__(self) -> Self:
        """The probe; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; where the block was left by an error or an interrupt, that is the reason."""
        if kind is None:
            self.close()
        else:
            stopped = issubclass(kind, GeneratorExit | KeyboardInterrupt)
            self.close("it was stopped" if stopped else f"{kind.__name__}: {error}"[:300])

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Begin with the Trainer, or take up its run where it resumes."""
        if state.is_world_process_zero:
            self._total = state.max_steps
            self._tell(state.global_step, others["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> Any:
        """An update; where one is logged, the Trainer is asked for the loss too, the mean since it last logged one."""
        if state.is_world_process_zero:
            self._tell(state.global_step, others["model"])
        # Not `is_due`, which only the process that has the log knows: the loss is gathered from all of them.
        control.should_log |= state.global_step in self._steps or state.global_step == state.max_steps
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **others: Any) -> None:
        """Log the loss of the point just logged."""
        if self._writer is not None and state.global_step == self._logged and "loss" in (logs or {}):
            self._guard(self._writer.write, {"kind": "loss", "step": self._logged, "loss": (logs or {})["loss"]})

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Close the log when the Trainer ends, as planned or early."""
        self.close("finished" if state.global_step >= state.max_steps else "the Trainer was stopped early")

    def _tell(self, step: int, model: nn.Module, loss: float | Tensor | None = None) -> None:
        opening = self._clock.began is None
        due = opening or self.is_due(step)
        if due and torch.cuda.is_available():
            torch.cuda.synchronize()  # the updates still queued are no time of the probe's
        entered = time.perf_counter()
        self._clock.step = step
        if opening:
            self._clock.began = entered
            self._open(step)
        if self._writer is not None and step > self._logged and self.is_due(step):
            self._guard(self._log, step, _plain(model), loss, entered)
        self._clock.probe_seconds += time.perf_counter() - entered

    def _open(self, step: int) -> None:
        """Take up the log, and the weights that the run was measured against where it began before."""
        place = self.path.resolve()
        if (other := self._open_logs.get(place)) is not None and other is not self:
            other.close("another probe in its process took over")  # a notebook's cell, run again
        try:
            self._writer = LogWriter(self.path, self._start, step)
        except OSError as error:
            _warn(f"the probe log {self.path} cannot be written ({error.strerror or error}): nothing is logged.")
            return
        self._open_logs[place] = self
        self._abandoned = weakref.finalize(self, _end, self._writer, self._clock, ABANDONED)
        earlier = self._writer.found
        if earlier is None or not earlier.points or earlier.points[0].step >= step:
            return
        self._resumed = True
        self._clock.probe_seconds += earlier.probe_seconds
        self._clock.earlier_seconds = earlier.training_seconds
        self._again = {point.step for point in earlier.points if point.step >= step}
        if self._parameters:
            kept = [point.step for point in earlier.points if point.step < step]
            self._guard(self._remember, kept[0], kept[-1])
            if self._first is None:
                self._say(f"resumed at step {step} without the run's first weights: travel is not measured from there.")

    def _remember(self, first: int, previous: int) -> None:
        if self._recall is not None:
            first_weights, before = self._recall(first), self._recall(previous)
            self._first = None if first_weights is None else _Weights.of(first_weights)
            self._previous = None if before is None else _Weights.of(before)

    def _log(self, step: int, model: nn.Module, loss: float | Tensor | None, entered: float) -> None:
        assert self._writer is not None  # noqa: S101 - `_tell` asked
        travel, change = self._moved(model) if self._parameters else ({}, {})
        point = Point(
            name=f"step{step}",
            step=step,
            travel=travel,
            change=change,
            loss=float(loss.detach() if isinstance(loss, Tensor) else loss) if loss is not None else None,
            **fit_head(self._weight(model), self._surprisal).fields(),
        )
        measured = {name: value for name, value in point.to_dict().items() if value not in (None, {}, [])}
        self._writer.write({"kind": "point", **measured, **self._clock.record(time.perf_counter() - entered)})
        self._logged = step

    def _moved(self, model: nn.Module) -> tuple[dict[str, float], dict[str, float]]:
        """``travel`` and ``change`` by parameter group; the weights are kept for the next time."""
        now = _Weights.of({name: value.detach().to("cpu", copy=True) for name, value in model.named_parameters()})
        if self._first is None and not self._resumed:
            self._first = now
        travel, change = now.relative_to(self._first), now.relative_to(self._previous)
        self._previous = now
        return travel, change

    def _guard(self, work: Callable[..., object], *arguments: Any) -> None:
        """Call a function; an exception becomes a warning, so that it never ends hours of training."""
        try:
            work(*arguments)
        except Exception as error:
            reason = reason_of(error)
            self._say(f"step {self._clock.step} could not be measured or logged: {reason}")

    def _say(self, sentence: str) -> None:
        _warn(f"{self.path}: {sentence}")
        if self._writer is not None:
            with suppress(OSError):
                self._writer.write({"kind": "warning", "text": sentence})


def _plain(model: nn.Module) -> nn.Module:
    """The model inside what compiles or distributes it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _covering(frequencies: Frequencies, rows: int) -> Frequencies:
    """The frequencies of a head of so many rows, the last of which may be padding that the counts leave out."""
    counted = len(frequencies.counts)
    return frequencies.for_rows(rows, counted if (1 - PADDING_SHARE) * rows <= counted <= rows else None)


def _end(writer: LogWriter, clock: _Clock, reason: str) -> None:
    with suppress(OSError, ValueError):
        writer.write({"kind": "end", "reason": reason, **clock.record()})
    writer.close()


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)
