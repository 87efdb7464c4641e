"""What is measured of a model at one step of a run: its losses, its distance to the unedited run, its encoding.

Hidden states are read without the edit, so that one pass of the model serves the edited and the bare head. The model
is left as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.clamping import at_least
from tpe_core.continued_training.results import MaskFigures, StepFigures
from tpe_core.corpus.corpus import Corpus
from tpe_core.detection.hidden import CPU_POSITIONS, HiddenSample
from tpe_core.detection.samples import gather
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import Encoding, fit_encoding
from tpe_core.errors import HeadError, NumericalError
from tpe_core.models.head import OutputHead
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import open_head
from tpe_core.models.sampling import decoder_start
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps

__all__ = ["State", "Step", "acting_head", "measure_step", "read_state"]

Floats = NDArray[np.float64]

OWN = "heldout"  # the text on which the encoding is fitted and masks are judged


@dataclass(frozen=True, kw_only=True)
class State:
    """A model at one step: its bare head, and its hidden states on each text."""

    head: OutputHead
    samples: Mapping[str, HiddenSample]  # by domain


@dataclass(frozen=True, kw_only=True)
class Step:
    """The figures of a step, and the standardised slopes of the head as it acts."""

    figures: StepFigures
    slope: Floats  # [d] A_i sd(W_:i): the slope of a column that is almost gone says nothing


def read_state(model: LanguageModel, corpora: Mapping[str, Corpus], size: int) -> Steps[State]:
    """The head and the hidden states of a model as it stands: a job; nothing may be hooked on its head.

    Raises `HeadError` where its head is none any more, `NotFiniteError` where h is not finite.
    """
    yield Progress("measure", 0)
    head, report = open_head(
        model.hf, model.head.vocab_rows, min(12, model.context), model.task, decoder_start(model.hf)
    )
    if head is None:
        raise HeadError(f"{model.name} cannot be measured after training: {report.reason}")
    head = dataclasses.replace(head, vocab_rows=model.head.vocab_rows)
    now = dataclasses.replace(model, measured_head=head)
    samples = {}
    for domain, corpus in corpora.items():
        samples[domain] = yield from gather(now, corpus, size)
    return State(head=head, samples=samples)


def acting_head(head: OutputHead, edit: ResolvedEdit | None) -> OutputHead:
    """The head that gives the edited logits of h, as one matrix: what an edit makes of W and b."""
    if edit is None or edit.is_empty:
        return head
    numbers, bare = EditNumbers(edit), dataclasses.replace(head, bias=None)
    with torch.inference_mode():

        def raw(h: Tensor) -> Tensor:
            replaced = numbers.replaced(h)
            z = bare.raw(replaced)
            numbers.shift(z, replaced)
            return z

        width, device = head.hidden_size, head.columns.device
        constant = raw(torch.zeros(1, width, device=device))
        columns = raw(torch.eye(width, device=device)) - constant
        columns[list(edit.removed)] = 0  # exactly: nothing of a pruned dimension is left
        bias = constant[0] if head.bias is None else constant[0] + head.bias
    return dataclasses.replace(head, columns=columns, bias=bias)


@dataclass(kw_only=True)
class _Sums:
    """Sums over positions of one distribution, of another beside it, and of the distance between them."""

    nll: float = 0.0
    mean: Tensor  # [V_all] of the probabilities, summed
    kl: float = 0.0  # KL(the other || this one)
    other_nll: float = 0.0
    other_mean: Tensor
    positions: int = 0

    @property
    def loss(self) -> float:
        return self.nll / self.positions

    @property
    def gap(self) -> float:
        return (self.nll - self.other_nll) / self.positions

    @property
    def divergence(self) -> float:
        return at_least(0.0, self.kl / self.positions)

    def surprisal(self, rows: int) -> Floats:
        """[rows] -log of the mean probability, nats; inf where there is none."""
        with np.errstate(divide="ignore"):
            result: Floats = -np.log((self.mean[:rows] / self.positions).cpu().numpy())
        return result


def _parts(sample: HiddenSample) -> Iterator[tuple[slice, Tensor, Tensor]]:
    hidden, targets = torch.from_numpy(sample.hidden), torch.from_numpy(sample.next_ids)
    for first in range(0, len(sample), CPU_POSITIONS):
        at = slice(first, first + CPU_POSITIONS)
        yield at, hidden[at], targets[at]


def _sums(
    head: OutputHead,
    edit: ResolvedEdit | None,
    sample: HiddenSample,
    other: tuple[OutputHead, HiddenSample] | None = None,
) -> _Sums:
    """Loss and mean prediction of a head under an edit, and KL(Q || it), Q being `other` at the same positions."""
    numbers = None if edit is None or edit.is_empty else EditNumbers(edit)
    zeros = torch.zeros(head.total_rows, dtype=torch.float64, device=head.columns.device)
    sums = _Sums(mean=zeros, other_mean=zeros.clone())
    with torch.inference_mode():
        for at, hidden, targets in _parts(sample):
            pause(Progress("measure", at.start, len(sample)))
            h = hidden.to(head.columns.device)
            next_ids = targets.to(h.device)[:, None]
            log_p = torch.log_softmax(head.logits(h) if numbers is None else numbers.logits(head, h), 1)
            sums.nll -= float(log_p.gather(1, next_ids).sum(dtype=torch.float64))
            sums.mean += log_p.exp().sum(0, dtype=torch.float64)
            if other is not None:
                log_q = torch.log_softmax(other[0].logits(torch.from_numpy(other[1].hidden[at]).to(h.device)), 1)
                q = log_q.exp()
                sums.other_nll -= float(log_q.gather(1, next_ids).sum(dtype=torch.float64))
                sums.other_mean += q.sum(0, dtype=torch.float64)
                terms = torch.where(q > 0, q * (log_q - log_p), 0.0)
                sums.kl += float(terms.sum(dtype=torch.float64))
            sums.positions += len(hidden)
    return sums


def _fit(head: OutputHead, surprisal: Floats) -> Steps[Encoding]:
    """The log-linear law on the rows in use of a head (Cho et al. 2025, section 2.1)."""
    keep = np.isfinite(surprisal)
    design = yield from Design.made(head.columns[:, : head.vocab_rows].contiguous(), keep)
    bias = None if head.bias is None else head.bias[: head.vocab_rows].double().cpu().numpy()[keep]
    return fit_encoding(design, surprisal[keep], offset=bias)


def measure_step(
    step: int,
    state: State,
    edit: ResolvedEdit | None,
    masks: Mapping[str, ResolvedEdit],
    *,
    unedited: State | None = None,
    start: Floats | None = None,
    training_loss: float | None = None,
) -> Steps[Step]:
    """The figures of a run at one step: a job.

    `edit` is in force in the model as it acts; `masks` are judged on its bare head; `unedited` is the state of the
    unedited run at the same step, None for that run itself; `start` [d] are `Step.slope` at step 0. Raises
    `NumericalError` where a loss is not finite.
    """
    head, rows = state.head, state.head.vocab_rows
    acting: dict[str, _Sums] = {}
    for domain, sample in state.samples.items():
        yield Progress("measure", 0, note=domain)
        other = None if unedited is None else (unedited.head, unedited.samples[domain])
        acting[domain] = _sums(head, edit, sample, other)
        if not np.isfinite(acting[domain].loss):
            raise NumericalError(f"the loss on the {domain} text is {acting[domain].loss} at step {step}")
    own = state.samples[OWN]
    reference = acting[OWN] if edit is None else _sums(head, None, own)
    encoding = yield from _fit(acting_head(head, edit), acting[OWN].surprisal(rows))
    bare = encoding if edit is None else (yield from _fit(head, reference.surprisal(rows)))
    judged = {}
    for name, mask in masks.items():
        yield Progress("measure", 0, note=name)
        judged[name] = _judged(head, mask, own, reference, bare)
    alone = unedited is None
    steered = {} if alone or len(masks) != 1 else _steered(next(iter(masks.values())), acting[OWN])
    figures = StepFigures(
        step=step,
        training_loss=training_loss,
        loss={domain: each.loss for domain, each in acting.items()},
        gap={} if alone else {domain: each.gap for domain, each in acting.items()},
        kl={} if alone else {domain: each.divergence for domain, each in acting.items()},
        r2=encoding.r2,
        r2_adjusted=encoding.r2_adjusted,
        r2_heldout_vocab=encoding.r2_heldout_vocab,
        gini=encoding.gini,
        participation_ratio=encoding.participation_ratio,
        slope_cosine=_cosine(encoding.slope_std, encoding.slope_std if start is None else start),
        steered=steered,
        masks=judged,
    )
    return Step(figures=figures, slope=encoding.slope_std)


def _judged(
    head: OutputHead, mask: ResolvedEdit, sample: HiddenSample, reference: _Sums, bare: Encoding
) -> MaskFigures:
    """What a mask costs a bare head, beside the mask of its size that the head's slopes would choose now."""
    after = _sums(head, mask, sample, (head, sample))
    count, width = len(mask.removed), head.hidden_size
    if not count:
        return MaskFigures(cost_kl=after.divergence, cost_loss=after.loss - reference.loss)
    dims = np.argsort(np.abs(bare.slope), kind="stable")[:count]
    constant = np.zeros(count)
    replacement = "zero" if mask.intervention.replacement == "zero" else "mean"
    chosen = Intervention(pruned=tuple(dims.tolist()), replacement=replacement)
    if replacement == "mean":
        constant = sample.hidden[:, list(chosen.pruned)].mean(0, dtype=np.float64)
    own = ResolvedEdit(intervention=chosen, hidden_size=width, constant=constant)
    spread = sample.hidden.std(0, dtype=np.float64) * bare.scale
    return MaskFigures(
        cost_kl=after.divergence,
        cost_loss=after.loss - reference.loss,
        own_kl=_sums(head, own, sample, (head, sample)).divergence,
        overlap=len(set(chosen.pruned) & set(mask.removed)) / count,
        spread=_relative(spread, mask.removed),
        column_spread=_relative(bare.scale, mask.removed),
    )


def _relative(values: Floats, dims: tuple[int, ...]) -> float | None:
    """Root mean square over some dimensions, relative to that over the others; None where that is 0."""
    inside = np.zeros(len(values), dtype=bool)
    inside[list(dims)] = True
    rest = float(np.mean(values[~inside] ** 2)) if not inside.all() else 0.0
    return float(np.sqrt(np.mean(values[inside] ** 2) / rest)) if rest > 0 else None


def _steered(edit: ResolvedEdit, acting: _Sums) -> dict[str, float]:
    """What steered tokens' mean probabilities are, as multiples of those of the unedited run, by token or set."""

    def ratio(ids: list[int]) -> float:
        return float(acting.mean[ids].sum() / acting.other_mean[ids].sum())

    intervention = edit.intervention
    singles = {str(entry.token_id): ratio([entry.token_id]) for entry in intervention.singles}
    return {**singles, **{each.label: ratio(list(each.token_ids)) for each in intervention.sets}}


def _cosine(a: Floats, b: Floats) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b / lengths) if lengths > 0 else 0.0
