"""The output head as it acts: ``logits = post(W h + b)``, captured by a hook, checked against the model's logits.

No module names and no architecture lists: the head is whatever `get_output_embeddings` returns, h is
whatever reaches it, and a model whose logits are not reproduced from them is refused with the reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tpe_core.errors import HeadError

__all__ = ["HeadReport", "OutputHead", "Post", "capture_hidden", "open_head"]

READ_ROWS = 256  # identity rows pushed through the head at once
RELATIVE_TOLERANCE = 1e-3  # of the largest logit; widened to 4 units in the last place in half precision


@dataclass(frozen=True, slots=True)
class Post:
    """What the model does between ``W h + b`` and its logits. So far ``identity`` is the only accepted kind."""

    kind: Literal["identity"] = "identity"
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """Logits of head outputs z, any shape."""
        return z


@dataclass(frozen=True)
class OutputHead:
    """W, b and post of a head, in float32 whatever the model's dtype (bf16 logits near 100 are 0.5 apart).

    `columns` is W transposed, [d, V_all] and contiguous: it serves the full product as well as W does,
    and makes one dimension (what pruning touches) one contiguous read. It is the only copy of W.
    Rows from `vocab_rows` on are padding: part of the model's softmax, excluded from every fit and table.
    """

    columns: Tensor  # [d, V_all] float32
    bias: Tensor | None  # [V_all] float32
    post: Post
    vocab_rows: int  # rows in use
    tied: bool
    module: str  # the head module's class name

    @property
    def hidden_size(self) -> int:
        """d, the width of the head's input."""
        return int(self.columns.shape[0])

    @property
    def total_rows(self) -> int:
        """V_all: rows in use and padding rows."""
        return int(self.columns.shape[1])

    @property
    def padding_rows(self) -> int:
        """Rows beyond the tokenizer's vocabulary."""
        return self.total_rows - self.vocab_rows

    @property
    def weight(self) -> Tensor:
        """[V, d] view of the rows in use (not contiguous)."""
        return self.columns[:, : self.vocab_rows].T

    def logits(self, h: Tensor) -> Tensor:
        """[..., V_all] float32 logits of hidden states [..., d]."""
        return self.post(self.raw(h))

    def raw(self, h: Tensor) -> Tensor:
        """[..., V_all] float32 head outputs W h + b, before post."""
        h = h.to(self.columns.dtype)
        if self.bias is None:
            return h @ self.columns
        flat = torch.addmm(self.bias, h.reshape(-1, h.shape[-1]), self.columns)
        return flat.reshape(*h.shape[:-1], self.total_rows)

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of W, b and post: the same head has the same one wherever it is loaded in the same dtype."""
        digest = hashlib.sha256(f"{tuple(self.columns.shape)} {self.post} {self.vocab_rows}".encode())
        for tensor in (self.columns, self.bias):
            if tensor is not None:
                for part in tensor.split(64):
                    digest.update(part.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class HeadReport:
    """The report card of a head (`tpe check`): what it is, and whether the engine is right about it."""

    architecture: str
    head: str  # class of the head module
    dtype: str
    device: str
    vocab_rows: int = 0
    padding_rows: int = 0
    hidden_size: int = 0
    tied: bool = False
    bias: bool = False
    post: Post = Post()
    max_abs_error: float = math.inf  # of post(W h + b) against the model's own logits
    supported: bool = False
    reason: str = ""  # why it is not supported

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe check`, names as documented."""
        return {
            "schema": 1,
            "class": self.architecture,
            "head": self.head,
            "vocab_rows": self.vocab_rows,
            "padding_rows": self.padding_rows,
            "hidden_size": self.hidden_size,
            "tied": self.tied,
            "bias": self.bias,
            "post": {
                "kind": self.post.kind if self.supported else "unknown",
                "scale": self.post.scale,
                "cap": self.post.cap,
            },
            "dtype": self.dtype,
            "device": self.device,
            "max_abs_error": self.max_abs_error if math.isfinite(self.max_abs_error) else None,
            "supported": self.supported,
            "reason": self.reason,
        }


class _Captured(Exception):  # noqa: N818 - a signal, not an error
    """Carries h out of the forward pass before the V-wide product is paid for."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def capture_hidden(
    model: nn.Module, head: nn.Module, inputs: Mapping[str, Tensor], stop: bool = True
) -> tuple[Tensor, Any]:
    """Run `model` and return the head's input h and, where `stop` is False, the model's whole output.

    Raises `HeadError` where the head module is never called.
    """
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else next(iter(kwargs.values()))
        if stop:
            raise _Captured(hidden)
        seen.append(hidden)

    handle = head.register_forward_pre_hook(hook, with_kwargs=True)
    output = None
    try:
        with torch.inference_mode():
            output = model(**inputs, use_cache=False)
    except _Captured as captured:
        seen.append(captured.hidden)
    finally:
        handle.remove()
    if not seen:
        raise HeadError(
            f"{type(model).__name__} never calls its output head {type(head).__name__}: its logits come from elsewhere."
        )
    return seen[0], output


def _read(head: nn.Module, hidden_size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """(W transposed [d, V], b [V] or None) in float32.

    A plain, materialised `nn.Linear` without hooks is read directly: exact, and free of a second product.
    Anything else (adapters, offloaded or quantised heads) is read through the module, as
    ``W = (head(I) - head(0)).T``, which is what the model really computes.
    """
    direct = (
        type(head) is nn.Linear
        and head.weight.device.type != "meta"
        and not (head._forward_hooks or head._forward_pre_hooks)
    )
    if direct and not hasattr(head, "_hf_hook"):
        assert isinstance(head, nn.Linear)  # noqa: S101 - for the type checker
        bias = None if head.bias is None else head.bias.detach().float().clone()
        return head.weight.detach().float().T.contiguous(), bias
    with torch.inference_mode():
        zero = head(torch.zeros(1, hidden_size, device=device, dtype=dtype)).float()[0]
        columns = torch.empty(hidden_size, zero.shape[-1], dtype=torch.float32, device=zero.device)
        for first in range(0, hidden_size, READ_ROWS):
            rows = torch.arange(first, min(first + READ_ROWS, hidden_size), device=device)
            identity = torch.zeros(len(rows), hidden_size, device=device, dtype=dtype)
            identity[torch.arange(len(rows), device=device), rows] = 1
            columns[first : first + len(rows)] = head(identity).float() - zero
    return columns, zero if bool(zero.any()) else None


def open_head(model: Any, vocab_size: int, context: int) -> tuple[OutputHead | None, HeadReport]:
    """Read a model's head and measure it on a short input; the head is None where the report says unsupported.

    `vocab_size` is the number of token ids the tokenizer can produce; `context` bounds the input's length.
    """
    parameter = next(model.parameters())
    module = model.get_output_embeddings()
    report = HeadReport(
        architecture=type(model).__name__,
        head=type(module).__name__ if module is not None else "none",
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(parameter.device),
    )
    if not isinstance(module, nn.Module):
        reason = f"{report.architecture} names no output embedding (get_output_embeddings() returned {module!r})."
        return None, replace(report, reason=reason)
    try:
        known = getattr(model.get_input_embeddings(), "num_embeddings", vocab_size)
        ids = _probe_ids(min(vocab_size, known), context, parameter.device)
        hidden, output = capture_hidden(model, module, {"input_ids": ids}, stop=False)
        logits: Tensor = output.logits
    except HeadError as refusal:
        return None, replace(report, reason=str(refusal))
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, NotImplementedError) as failure:
        reason = f"{report.architecture} does not run on token ids alone ({type(failure).__name__}: {failure})."
        return None, replace(report, reason=" ".join(reason.split())[:400])
    if not hidden.is_floating_point() or hidden.ndim != 3 or logits.shape[:-1] != hidden.shape[:-1]:
        reason = (
            f"the head's input is {hidden.dtype} of shape {tuple(hidden.shape)} for logits of shape "
            f"{tuple(logits.shape)}: not one hidden state per position."
        )
        return None, replace(report, reason=reason)
    columns, bias = _read(module, hidden.shape[-1], hidden.device, hidden.dtype)
    embeddings = model.get_input_embeddings()
    tied = getattr(embeddings, "weight", None) is not None and getattr(module, "weight", None) is embeddings.weight
    head = OutputHead(columns, bias, Post(), min(vocab_size, columns.shape[1]), tied, report.head)
    report = replace(
        report,
        vocab_rows=head.vocab_rows,
        padding_rows=head.padding_rows,
        hidden_size=head.hidden_size,
        tied=tied,
        bias=bias is not None,
    )
    if logits.shape[-1] != head.total_rows:
        reason = f"the head has {head.total_rows} rows but the model gives {logits.shape[-1]} logits."
        return None, replace(report, reason=reason)
    own, ours = logits.float(), head.logits(hidden)
    difference = float((own - ours).abs().max())
    report = replace(report, max_abs_error=difference)
    if not math.isfinite(difference):
        reason = "the model gives NaN or infinite logits on a short input: try another --dtype, or check the weights."
        return None, replace(report, reason=reason)
    tolerance = max(RELATIVE_TOLERANCE, 4 * torch.finfo(logits.dtype).eps) * max(float(own.abs().max()), 1e-3)
    if difference > tolerance:
        return None, replace(report, reason=_mismatch(own, ours, difference, tolerance))
    return head, replace(report, supported=True)


def _probe_ids(vocab_size: int, context: int, device: torch.device) -> Tensor:
    """[2, L] token ids spread over the vocabulary."""
    length = max(1, min(12, context))
    spread = torch.linspace(0, vocab_size - 1, 2 * length + 2, dtype=torch.float64).round().long()[1:-1]
    return spread.reshape(2, length).to(device)


def _mismatch(own: Tensor, ours: Tensor, error: float, tolerance: float) -> str:
    """The sentence for logits that are not W h + b, with the scale that would explain them where one does."""
    text = f"the model's logits are not W h + b: they differ by up to {error:.3g} (tolerance {tolerance:.2g})"
    scale = float((own * ours).sum() / (ours * ours).sum())
    if float((own - scale * ours).abs().max()) <= tolerance:
        return f"{text}; a factor of {scale:.5g} on the logits explains it. Scaled heads are not supported yet."
    bias = (own - ours).flatten(0, 1)
    if float((bias - bias[0]).abs().max()) <= tolerance:
        return f"{text}; a fixed bias per token added after the head explains it. Such heads are not supported yet."
    if float(own.abs().max()) < float(ours.abs().max()):
        return f"{text}; they are smaller, as under a soft cap. Capped heads are not supported yet."
    return f"{text}; something else happens after the head."
