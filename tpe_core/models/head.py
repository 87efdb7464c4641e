"""The output head as it acts: ``logits = post(W h + b)``, in units of the final logits.

What a model does to its logits after the head (a scale, a bias per token, a mask, a slice) is folded into W and b
when `models.probe` reads them; only a soft cap stays outside. So slopes, edits and shifts are in nats everywhere.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tpe_core.models.head_product import half_product
from tpe_core.models.quantised import HeadRounding, Quantisation
from tpe_core.pauses import pause

__all__ = ["POST_KINDS", "HeadReport", "OutputHead", "Post", "PostKind", "Task"]

Task = Literal["causal", "masked", "seq2seq"]
"""What a model predicts: the next token, masked tokens, or the decoder's next token."""

PostKind = Literal["identity", "scale", "softcap", "bias", "mask", "slice", "opaque"]
"""What happens after the head: nothing, a factor, ``cap * tanh(. / cap)``, an offset per token, tokens that are never
predicted, rows that are cut off, or something else (which is refused)."""

POST_KINDS: tuple[PostKind, ...] = get_args(PostKind)

PRODUCT = 10**9  # multiplications between two pauses of a product, about
CHUNK_ROWS = 8192  # vocabulary rows widened to float32 at a time where W is stored narrower


@dataclass(frozen=True, slots=True)
class Post:
    """What a model does between its head's output and its logits, as measured.

    `scale` is already part of `OutputHead.columns` and `bias`, as are biases per token and masks; calling a Post
    applies what is left, the soft cap.
    """

    kind: PostKind = "identity"
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """Final logits of scaled head outputs z, any shape; -inf, a token that is never predicted, stays."""
        return z if self.cap is None else torch.where(torch.isneginf(z), z, self.cap * torch.tanh(z / self.cap))

    def apply_(self, z: Tensor) -> Tensor:
        """Apply to z in place, and return z."""
        if self.cap is None:
            return z
        never = torch.isneginf(z)
        return z.div_(self.cap).tanh_().mul_(self.cap).masked_fill_(never, -math.inf)

    def derivative(self, z: Tensor) -> Tensor:
        """d logits / dz at scaled head outputs z, of their shape: 1, or under a cap ``1 - tanh(z / cap)²``."""
        return torch.ones_like(z) if self.cap is None else self._derivative_at(self(z), self.cap)

    def chain(self, gradient: Tensor, logits: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient by the scaled head outputs, from that by the final `logits` they become: ``gradient * d``.

        `logits` are this Post's answer, so that nothing has to keep what came before it. Where nothing is capped the
        gradient is returned as it is, else it is written to `out`.
        """
        if self.cap is None:
            return gradient
        return torch.mul(gradient, self._derivative_at(logits, self.cap), out=out)

    @staticmethod
    def _derivative_at(logits: Tensor, cap: float) -> Tensor:
        return 1 - (logits.clamp_min(-cap) / cap) ** 2  # a token that is never predicted has -inf, and 0

    @property
    def is_linear(self) -> bool:
        """Whether the logits are linear in h: everything but under a cap."""
        return self.cap is None

    @property
    def highest(self) -> float:
        """The logit that no edit can exceed: the cap, or infinity."""
        return math.inf if self.cap is None else self.cap


@dataclass(frozen=True, kw_only=True)
class OutputHead:
    """W and b of a head, scaled to final logits; sums and outputs of products are float32 whatever the model's dtype.

    bf16 logits near 100 are 0.5 apart, so the head is never run in the model's own precision. `columns` is W
    transposed, [d, V_all] and contiguous: it serves the full product as well as W does, and makes one dimension
    (what pruning touches) one contiguous read. It is the only copy of W: float32, or the model's own dtype where a
    float32 copy would not fit, or where a GPU multiplies it as it is (`head_product`); where that is not done it is
    widened a chunk at a time. Rows from `vocab_rows` on are padding: part of the model's softmax, excluded from every
    fit and table. A bias of -inf marks tokens the model never predicts.

    Example:
        >>> head = model.head
        >>> head.weight.shape == (head.total_rows, head.hidden_size)
        True
    """

    columns: Tensor  # [d, V_all] scale * Wᵀ
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
        """[V, d] view of the rows in use (not contiguous), in units of the final logits."""
        return self.columns[:, : self.vocab_rows].T

    def logits(self, h: Tensor) -> Tensor:
        """[..., V_all] float32 final logits of hidden states [..., d]."""
        return self.post(self.raw(h))

    def raw(self, h: Tensor, out: Tensor | None = None) -> Tensor:
        """[..., V_all] float32 ``W h + b``, before the cap; into `out` [N, V_all] where given, for h [N, d]."""
        flat = h.reshape(-1, h.shape[-1]).to(self.columns.device)
        if out is None:
            out = torch.empty(len(flat), self.total_rows, dtype=torch.float32, device=flat.device)
        if half_product(flat.dtype, self.columns.dtype, flat.device, len(flat)):
            torch.mm(flat, self.columns, out_dtype=torch.float32, out=out)
            if self.bias is not None:
                out.add_(self.bias)
            return out.reshape(*h.shape[:-1], self.total_rows)
        flat = flat.float()
        step = CHUNK_ROWS
        if self.columns.dtype == torch.float32:
            step = max(CHUNK_ROWS, PRODUCT // max(1, flat.numel()))
        for first in range(0, self.total_rows, step):
            if first:
                pause()
            part = slice(first, first + step)
            columns = self.columns[:, part].float()
            if self.bias is None:
                torch.mm(flat, columns, out=out[:, part])
            else:
                torch.addmm(self.bias[part], flat, columns, out=out[:, part])
        return out.reshape(*h.shape[:-1], self.total_rows)

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of W, b and post: the same head has the same one wherever it is loaded in the same dtype."""
        digest = hashlib.sha256(f"{tuple(self.columns.shape)} {self.post} {self.vocab_rows}".encode())
        for tensor in (self.columns, self.bias):
            if tensor is not None:
                for part in tensor.split(64):
                    digest.update(part.float().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadReport:
    """The report card of a head (`tpe check`): what it is, and whether the engine is right about it.

    Example:
        >>> model.report.supported, model.report.post.kind
        (True, 'identity')
    """

    architecture: str
    head: str  # class of the head module
    dtype: str
    device: str
    task: Task = "causal"
    vocab_rows: int = 0
    padding_rows: int = 0
    hidden_size: int = 0
    tied: bool = False
    bias: bool = False  # whether the head module itself has one
    masked_rows: int = 0  # tokens the model never predicts
    post: Post = Post("opaque")
    max_abs_error: float = math.inf  # of post(W h + b) against the model's own logits
    supported: bool = False
    reason: str = ""  # why it is not supported
    quantisation: Quantisation | None = None  # of the checkpoint
    head_rounding: HeadRounding | None = None  # of a packed head that rounds its input

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe check`, names as documented."""
        return {
            "schema": 1,
            "class": self.architecture,
            "task": self.task,
            "head": self.head,
            "vocab_rows": self.vocab_rows,
            "padding_rows": self.padding_rows,
            "masked_rows": self.masked_rows,
            "hidden_size": self.hidden_size,
            "tied": self.tied,
            "bias": self.bias,
            "post": {"kind": self.post.kind, "scale": self.post.scale, "cap": self.post.cap},
            "dtype": self.dtype,
            "device": self.device,
            "max_abs_error": self.max_abs_error if math.isfinite(self.max_abs_error) else None,
            "supported": self.supported,
            "reason": self.reason,
            **({} if self.quantisation is None else {"quantisation": self.quantisation.to_dict()}),
            **({} if self.head_rounding is None else {"head_rounding": self.head_rounding.to_dict()}),
        }
