"""What a model predicts before it has read anything: s_w = W_w . beta + b_w (Kobayashi et al. 2023).

beta is the bias of the final norm, b the head's own. The norm is found by what it does in a short forward, never by
its name: its output is the head's input, and it does not feel the scale of what it is given.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tpe_core.encoding.encoding import Encoding
from tpe_core.encoding.geometry import row_products
from tpe_core.encoding.gram import varies
from tpe_core.models.capture import capture
from tpe_core.models.head import OutputHead
from tpe_core.models.head_sites import HeadSite

__all__ = ["FinalNorm", "StaticBias", "final_norm_bias", "static_bias", "static_bias_of"]

RECENT = 16  # calls remembered: nothing but copies lies between the norm and the head
COMPARED = 64  # positions of h compared with a module's output
LEVEL = 64.0  # root mean square of the input on which scale invariance is tried: any norm's epsilon vanishes there
INVARIANT = 0.01  # change of the output, as a share of its distance from beta, when the input is doubled

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FinalNorm:
    """The norm whose output is the head's input, where it has a bias."""

    name: str  # dotted, in the model
    bias: Floats  # [d] beta


@dataclass(frozen=True, kw_only=True)
class StaticBias:
    """The static bias of every token, and what it alone says of -log alpha over the fitted rows.

    With y = -log alpha and beta, b entering the logit with coefficient 1, the law's exact mean has s with coefficient
    -1: E[-log p(w)] = -s_w - W_w . E[h - beta] + E[log Z]. Three figures follow, each answering another question:

    - `correlation` and `slope`: does s follow y at all, and at which rate? A slope of -1 is s taken at face value.
    - `r2_fixed`, 1 - Var(y + s) / Var(y): what s explains at its exact coefficient, with nothing fitted but the
      intercept. Negative where what the context adds on average works against s.
    - `r2_offset`, the R2 of y + s regressed on W: how linear what s leaves over is. W . beta lies in the span of W,
      so beta changes neither residuals nor intercept of the law (only A becomes A + beta) and the R2 of y itself
      cannot show it; the variance to be explained is another one here. Compare it with the two R2 of the law.
    """

    norm: str | None  # name of the final norm; None where it has no bias, or a projection follows it
    head_bias: bool
    values: Floats  # [V] s of all rows in use, in units of the final logits (before a soft cap)
    correlation: float  # Pearson, of s with -log alpha
    slope: float  # of -log alpha regressed on s alone
    r2_alone: float  # of that regression: the correlation squared
    r2_fixed: float
    r2_offset: float
    r2_law: float  # -log alpha on W, without any offset
    r2_law_bias: float  # -log alpha + b on W: the law as fitted; equal where the head has no bias

    def to_dict(self) -> dict[str, Any]:
        """The object ``static_bias`` of `tpe analyze`."""
        return {
            "norm": self.norm,
            "head_bias": self.head_bias,
            "correlation": self.correlation,
            "slope": self.slope,
            "r2_alone": self.r2_alone,
            "r2_fixed": self.r2_fixed,
            "r2_offset": self.r2_offset,
            "r2_law": self.r2_law,
            "r2_law_bias": self.r2_law_bias,
        }


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of a module that has a bias vector."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


def final_norm_bias(hf: Any, site: HeadSite, inputs: Mapping[str, Tensor]) -> FinalNorm | None:
    """The bias of the norm right before the head, measured in one short forward of `hf` on `inputs`.

    None where no norm with a bias gives the head's input: RMSNorm, or a projection or factor in between.
    """
    calls: deque[_Call] = deque(maxlen=RECENT)
    handles = []
    for name, module in hf.named_modules():
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor) and bias.ndim == 1 and next(module.children(), None) is None:

            def record(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, name: str = name
            ) -> None:
                if isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
                    calls.append(_Call(name=name, module=module, args=args, kwargs=kwargs, output=output))

            handles.append(module.register_forward_hook(record, with_kwargs=True))
    try:
        hidden, _ = capture(hf, site, inputs)
    finally:
        for handle in handles:
            handle.remove()
    for call in reversed(calls):
        if call.output.shape[-1] == hidden.shape[-1] and _holds(call.output, hidden):
            bias = _bias_of_norm(call)
            return None if bias is None else FinalNorm(call.name, bias)
    return None


def _holds(output: Tensor, hidden: Tensor) -> bool:
    """Whether every row of h is a row of `output`, however positions are laid out or cut."""
    wanted = hidden.reshape(-1, hidden.shape[-1])[:COMPARED]
    rows = output.to(device=wanted.device, dtype=wanted.dtype).reshape(-1, wanted.shape[-1])
    return all(bool((rows == row).all(-1).any()) for row in wanted)


def _bias_of_norm(call: _Call) -> Floats | None:
    """[d] what a module gives for zeros, if doubling its input changes nothing: then it is a norm and this its beta."""
    x = call.args[0]
    size = float(x.float().square().mean().sqrt())
    if not (math.isfinite(size) and size > 0):
        return None
    level = 2.0 ** round(math.log2(LEVEL / size))  # a power of two, exact in every dtype
    with torch.inference_mode():
        try:
            zero, once, twice = (
                call.module(x * factor, *call.args[1:], **call.kwargs).double() for factor in (0.0, level, 2 * level)
            )
        except (RuntimeError, TypeError, ValueError):  # whatever it is, it is no norm of one tensor
            return None
    change, span = float((twice - once).abs().max()), float((once - zero).abs().max())
    bias: Floats = zero.reshape(-1, zero.shape[-1])[0].cpu().numpy()
    return bias if change <= INVARIANT * span and bool(np.isfinite(bias).all()) else None


def static_bias_of(head: OutputHead, norm: FinalNorm | None, token_id: int) -> float:
    """s of one token: its row alone is read. NaN where there is neither a norm's bias nor a head bias."""
    if norm is None and head.bias is None:
        return math.nan
    own = 0.0 if norm is None else float(head.columns[:, token_id].double().cpu().numpy() @ norm.bias)
    return own + (0.0 if head.bias is None else float(head.bias[token_id]))


def static_bias(
    head: OutputHead, norm: FinalNorm | None, keep: NDArray[np.bool_], encoding: Encoding
) -> StaticBias | None:
    """s of all rows in use and its statistics over the fitted rows `keep` [V]; None where only a mask is static."""
    values = np.zeros(head.vocab_rows)
    if head.bias is not None:
        values += head.bias[: head.vocab_rows].double().cpu().numpy()
    head_bias = bool(values[keep].any())
    if norm is None and not head_bias:
        return None
    if norm is not None:
        values += row_products(head, norm.bias[:, None])[0][:, 0]
    s, y = values[keep] - values[keep].mean(), encoding.surprisal - encoding.surprisal.mean()
    spread = np.sqrt([float(s @ s) / len(s)])
    varied = bool(varies(spread, np.abs(values[keep]).max(keepdims=True))[0])
    correlation = float(s @ y / np.sqrt((s @ s) * (y @ y))) if varied else math.nan
    left = float((y + s) @ (y + s))
    return StaticBias(
        norm=None if norm is None else norm.name,
        head_bias=head_bias,
        values=values,
        correlation=correlation,
        slope=float(s @ y / (s @ s)) if varied else math.nan,
        r2_alone=correlation**2,
        r2_fixed=1 - left / float(y @ y),
        r2_offset=1 - float(encoding.residual @ encoding.residual) / left if left else math.nan,
        r2_law=encoding.r2_without_offset,
        r2_law_bias=encoding.r2,
    )
