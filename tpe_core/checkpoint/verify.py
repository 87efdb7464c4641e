"""Verification of a checkpoint: the logits as loaded back against those of the edited model.

Tensors are compared bit for bit with what was meant, float32 products of the loaded head with the edit's definition,
whole forwards with the hooked model's, and with a manifest's self-test. Nothing here is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.checkpoint.weights import EditedCopy
from tpe_core.edits.edit_numbers import EditNumbers, edit_logits
from tpe_core.errors import TpeError
from tpe_core.hooks import apply
from tpe_core.manifest.schema import Manifest
from tpe_core.manifest.self_test import check, prompt_logits, prompts_of
from tpe_core.models.capture import forward
from tpe_core.models.head import OutputHead
from tpe_core.models.model import LanguageModel

__all__ = [
    "Loss",
    "Verified",
    "compared_inputs",
    "largest_difference",
    "loss_of",
    "rounding_of",
    "stored_head",
    "verify",
]

RANDOM_INPUTS = 3  # of random tokens, beside one of tokens from all over the vocabulary
CHUNK = 64  # positions whose logits are made at a time
POSITIONS = 1024  # of the detecting text that a loss is averaged over


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a checkpoint cannot hold, over the detecting text: KL(edited || stored) in nats, averaged over positions."""

    kl: float  # the lesser of the two below, whose form is stored
    kl_dropped: float  # with the constants left out
    kl_guess: float  # with them along the direction of h closest to a constant
    unexplained: float  # E[(1 - u . h)^2], 1 where the constants are left out
    positions: int

    def to_dict(self) -> dict[str, float | int]:
        """As in the JSON of `tpe bake`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The largest difference in logits between the edited model and the checkpoint as loaded back.

    `head_error` compares float32 products of the loaded head with the edit's definition, `model_error` whole forwards
    with the hooked model's; each came out below its tolerance, which is what rounding in the dtype explains.
    """

    positions: int
    prompts: int
    head_error: float
    head_tolerance: float
    model_error: float
    model_tolerance: float
    self_test: bool  # whether the manifest's was compared

    def to_dict(self) -> dict[str, float | int | bool]:
        """As in the JSON of `tpe bake`."""
        return asdict(self)


def stored_head(model: LanguageModel, edited: EditedCopy) -> OutputHead:
    """The head of an edited copy as it acts on the original's h (a copy whose norm and biases are the original's)."""
    weight, head = edited.head.weight.detach(), model.head
    columns = (weight.float() * (head.post.scale * edited.factor)).T[:, : head.total_rows].contiguous()
    return replace(head, columns=columns)


def loss_of(model: LanguageModel, edited: EditedCopy, hidden: NDArray[np.float32]) -> Iterator[Loss]:
    """What an edited copy loses of its edit over hidden states [N, d], and what it would without the edit's constants.

    A running value after every chunk of them.
    """
    edit, stored = edited.edit, stored_head(model, edited)
    dropped = replace(edit, constant=np.zeros_like(edit.constant), biases=dict.fromkeys(edit.biases, 0.0))
    numbers, without = EditNumbers(edit), EditNumbers(dropped)
    sums, count = np.zeros(2), 0
    for first in range(0, min(len(hidden), POSITIONS), CHUNK):
        h = torch.from_numpy(hidden[first : min(first + CHUNK, POSITIONS)])
        wanted = numbers.logits(model.head, h).double().log_softmax(-1)
        others = (stored.logits(h), without.logits(model.head, h))
        sums += [_kl(wanted, other.double().log_softmax(-1)) for other in others]
        count += len(h)
        guess, dropped_kl = np.maximum(sums / count, 0.0).tolist()
        yield Loss(
            kl=min(guess, dropped_kl),
            kl_dropped=dropped_kl,
            kl_guess=guess,
            unexplained=1.0 if dropped_kl < guess else edited.plan.unexplained,
            positions=count,
        )


def _kl(p: Tensor, q: Tensor) -> float:
    """The sum over rows of KL(p || q), from logs of probabilities [N, V]; a token that p never gives adds nothing."""
    return float(torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum())


def verify(model: LanguageModel, edited: EditedCopy, loaded: LanguageModel, manifest: Manifest | None) -> Verified:
    """Compare a checkpoint as loaded back with the edited model, or raise `TpeError` with the first difference.

    Where its form is not exact, the checkpoint must be the edited copy in memory instead.
    """
    edit, exact = edited.edit, edited.plan.is_exact
    if not loaded.report.supported:
        raise _different(f"its head is not what was written ({loaded.report.reason.rstrip('.')})")
    meant, stored = edited.hf.state_dict(), loaded.hf.state_dict()
    for name, tensor in meant.items():
        if name not in stored or not torch.equal(tensor, stored[name].to(tensor.device)):
            raise _different(f"its tensor {name} is not what was to be written")
    head_error = head_limit = model_error = model_limit = 0.0
    positions, eps = 0, torch.finfo(loaded.hf.dtype).eps
    for inputs in compared_inputs(model):
        with apply(model, edit) if exact else nullcontext():
            theirs = (model.logits(inputs) if exact else forward(edited.hf, inputs).logits).float()
        logits, h = loaded.logits(inputs).float(), loaded.hidden(inputs).float()
        wanted = edit_logits(model.head, edit, model.hidden(inputs)) if exact else theirs
        rounding = rounding_of(loaded.head, h)
        limit = rounding * (4 * eps + 16 * torch.finfo(torch.float32).eps)
        coarse = limit + 8 * eps * float(theirs[theirs.isfinite()].abs().max())
        head_limit, model_limit = max(head_limit, limit if exact else coarse), max(model_limit, coarse)
        head_error = max(head_error, largest_difference(wanted, loaded.head.logits(h)))
        model_error = max(model_error, largest_difference(theirs, logits))
        positions += logits[..., 0].numel()
    for error, limit, what in ((head_error, head_limit, "head"), (model_error, model_limit, "model")):
        if not error <= limit:
            raise _different(f"logits of the {what} differ by {error:.3g}, and rounding explains {limit:.2g}")
    tested = exact and manifest is not None and manifest.self_test is not None
    if tested and manifest is not None:
        _check_self_test(loaded, manifest)
    prompts = len(prompts_of(model))
    return Verified(
        positions=positions,
        prompts=prompts,
        head_error=head_error,
        head_tolerance=head_limit,
        model_error=model_error,
        model_tolerance=model_limit,
        self_test=tested,
    )


def compared_inputs(model: LanguageModel) -> Iterator[dict[str, Tensor]]:
    """The self-test's prompts, tokens from all over the vocabulary, and random ones."""
    for prompt in prompts_of(model):
        yield {name: ids.to(model.device) for name, ids in model.sampling.prompt(prompt, model.context)[0].items()}
    spread, generator = model.example_inputs(), torch.Generator().manual_seed(0)
    yield spread
    for _ in range(RANDOM_INPUTS):
        drawn = {
            name: torch.randint(model.head.vocab_rows, ids.shape, generator=generator) for name, ids in spread.items()
        }
        yield {name: ids.to(model.device) for name, ids in drawn.items()}


def rounding_of(head: OutputHead, h: Tensor) -> float:
    """max over tokens and positions of root sum_j (W_j h_j)^2: how far W h moves when its terms are rounded."""
    squares = h.reshape(-1, h.shape[-1]).to(head.columns.device) ** 2
    chunks = head.columns.split(8192, dim=1)
    return math.sqrt(max(float((squares @ columns.float() ** 2).max()) for columns in chunks))


def largest_difference(wanted: Tensor, actual: Tensor) -> float:
    """The largest difference; tokens that are never predicted must be so on both sides."""
    actual = actual.to(wanted.device)
    same = wanted == actual  # -inf on both sides
    return float(torch.where(same, 0.0, (wanted - actual).abs()).nan_to_num(nan=float("inf")).max())


def _check_self_test(loaded: LanguageModel, manifest: Manifest) -> None:
    mismatches = check(manifest, prompt_logits(loaded), dtype=loaded.report.dtype)
    if mismatches:
        raise _different(f"the manifest's self-test is not reproduced: {mismatches[0]}")


def _different(what: str) -> TpeError:
    return TpeError(f"the checkpoint, loaded back, is not the edited model, so none was written: {what}.")
