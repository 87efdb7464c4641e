"""What a model does to its logits after the head, told from its answers to three crafted head outputs.

Zeros show offsets and masks; a ramp over the vocabulary and the ramp reversed show scale and cap. The same answer
everywhere shows that the position plays no part. Nothing is looked up by a model's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tpe_core.models.head import Post, PostKind

__all__ = ["NEVER", "RELATIVE_TOLERANCE", "MeasuredPost", "exact", "measure", "ramp"]

RELATIVE_TOLERANCE = 1e-3  # of the largest logit; widened to 4 units in the last place in half precision
NEVER = -1e4  # a logit below this at a head output of 0 is a mask
RAMP = 120.0  # the largest crafted output; float16 gets half of it
SMALLEST = 1e-6  # the smallest one, as a share of the largest: shows the slope at 0 under any cap
SMALLEST_FLOAT16 = 1e-4  # float16 has no more below 6e-5, and models divide by the cap first
NOTHING = 1e-6  # an offset below this is rounding
FELT = 4.0  # an offset of so many times a crafted output rounds it by no more than so many units in the last place
STEEP = 0.02  # share of the ramp, from its smallest values, on which a cap is not felt yet


@dataclass(frozen=True)
class MeasuredPost:
    """What lies after a head, ``post(scale x + offset)`` of its first `rows` outputs x."""

    post: Post
    offset: Tensor | None  # [rows] float64 added to the scaled head output; -inf where masked
    rows: int


def ramp(rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[rows] crafted outputs, exact in `dtype`: sizes rise evenly in their logarithm up to `RAMP`, signs alternate."""
    top = RAMP if dtype != torch.float16 else RAMP / 2
    low = SMALLEST_FLOAT16 if dtype == torch.float16 else SMALLEST
    sizes = torch.logspace(math.log10(low), 0, max(2, rows), dtype=torch.float64, device=device)[:rows] * top
    return (sizes * (1 - 2 * (torch.arange(rows, device=device) % 2))).to(dtype).double()


def measure(zero: Tensor, up: Tensor, down: Tensor, crafted: Tensor, eps: float) -> MeasuredPost | str:
    """Classify a model's logits [n, V] where its head returns zeros, `crafted` [V_head] and `crafted` reversed.

    `eps` is the logits' precision. Returns what was found, or why it is nothing that is known.
    """
    tolerance = max(RELATIVE_TOLERANCE, 4 * eps)
    if not all(_same_everywhere(values, tolerance) for values in (zero, up, down)):
        return "what it does to the head's output depends on the position"
    zero, up, down = zero[0].double(), up[0].double(), down[0].double()
    masked = _never(zero)
    if bool(masked.all()) or bool((masked != _never(up)).any()) or bool((masked != _never(down)).any()):
        return "it masks tokens by the head's output"
    offset = torch.where(masked, 0.0, zero)
    if float(offset.abs().max()) <= NOTHING:
        offset = torch.zeros_like(offset)
    rows, seen = len(zero), ~masked
    x = torch.cat([crafted[:rows][seen], crafted.flip(0)[:rows][seen]])
    y = torch.cat([(up - offset)[seen], (down - offset)[seen]])
    felt = torch.cat([offset[seen], offset[seen]]).abs() <= x.abs() * FELT
    curve = _curve(x, y, felt, tolerance)
    if isinstance(curve, str):
        return curve
    scale, cap = curve
    shifted = bool(offset.any())
    if cap is not None and shifted:
        return "it adds a bias per token around a soft cap"
    near = tolerance if shifted else RELATIVE_TOLERANCE  # a ramp that nothing is added to comes back exactly
    scale = 1.0 if math.isclose(scale, 1.0, rel_tol=near) else scale
    kinds: tuple[tuple[PostKind, bool], ...] = (
        ("softcap", cap is not None),
        ("scale", scale != 1),
        ("mask", bool(masked.any())),
        ("bias", shifted),
        ("slice", rows < len(crafted)),
    )
    kind: PostKind = next((kind for kind, present in kinds if present), "identity")
    offset = torch.where(masked, -math.inf, offset)
    return MeasuredPost(Post(kind, scale, cap), offset if bool(offset.any()) else None, rows)


def _never(values: Tensor) -> Tensor:
    return (values <= NEVER) | ~values.isfinite()


def _same_everywhere(values: Tensor, tolerance: float) -> bool:
    """Whether every position of [n, V] shows the same logits, masks apart."""
    seen = ~_never(values[0])
    if not bool(seen.any()):
        return True
    first = values[0, seen]
    return float((values[:, seen] - first).abs().max()) <= tolerance * max(1.0, float(first.abs().max()))


def _curve(x: Tensor, y: Tensor, felt: Tensor, tolerance: float) -> tuple[float, float | None] | str:
    """(scale, cap) of ``y = scale x`` or ``y = cap tanh(scale x / cap)``, or why it is neither.

    `felt` marks the x that adding an offset did not round away: the slope at 0 is theirs.
    """
    if not bool(felt.any()):
        return "it adds a bias per token that drowns the head's output"
    size, ratio = x.abs()[felt], (y / x)[felt]
    scale, cap = float(ratio[size <= size.quantile(STEEP)].median()), None
    if float((y - scale * x).abs().max()) <= tolerance * max(float(y.abs().max()), 1e-30):
        scale = float((x * y).sum() / (x * x).sum())
    else:
        cap = _cap(float(y.abs().max()), scale * float(x.abs().max()))
        if cap is None or float((y - cap * torch.tanh(scale * x / cap)).abs().max()) > tolerance * cap:
            return "it is neither a scale, a soft cap, a bias per token nor a mask"
    return (scale, cap) if scale > 0 else f"it multiplies the head's output by {scale:.4g}"


def _cap(highest: float, wanted: float) -> float | None:
    """c with ``c tanh(wanted / c) = highest``, by bisection; None where nothing is capped."""
    if not 0 < highest < wanted:
        return None
    low, high = highest, highest * 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if middle * math.tanh(wanted / middle) < highest else (low, middle)
    return math.sqrt(low * high)


def _constants(config: Any) -> Iterator[float]:
    """The numbers in a config that name a scale or a cap of logits: exact where a measurement is not."""
    for part in (config, config.get_text_config(), config.get_text_config(decoder=True)):
        for name, value in part.to_dict().items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and value and any(word in name for word in ("logit", "lm_head", "cap")):
                yield float(value)


def exact(measured: Post, config: Any, tolerance: float) -> Post:
    """`measured` with the config's own constants where they agree; a cap far above the ramp is seen only roughly."""
    scale, cap = measured.scale, measured.cap
    for value in _constants(config):
        if scale != 1:
            scale = next((v for v in (value, 1 / value) if math.isclose(v, scale, rel_tol=tolerance)), scale)
        if cap is not None and value > 0:
            curves = [c * math.tanh(scale * RAMP / 2 / c) for c in (value, cap)]
            cap = value if math.isclose(*curves, rel_tol=tolerance) else cap
    return replace(measured, scale=scale, cap=cap)
