"""The probe: reads a model's head, and measures what happens after it instead of listing models by name.

Three tiny forwards with crafted head outputs tell the kind of `models.post`. One more, untouched, measures how far
``post(W h + b)`` is from the model's own logits; a model that is not reproduced is refused with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tpe_core.errors import HeadError, NotFiniteError
from tpe_core.models.capture import capture, crafted_logits, forward, input_device, probe_inputs
from tpe_core.models.finite import advice, non_finite_weight
from tpe_core.models.footprint import available_bytes
from tpe_core.models.head import CHUNK_ROWS, HeadReport, OutputHead, Post, Task
from tpe_core.models.head_product import keeps_half
from tpe_core.models.head_sites import HeadSite, find_site, is_tied
from tpe_core.models.post import NEVER, RELATIVE_TOLERANCE, MeasuredPost, exact, measure, ramp
from tpe_core.models.quantised import ROUNDED_TOLERANCE, Quantisation, dequantised, is_plain, rounding

__all__ = ["open_head"]

READ_ROWS = 256  # identity rows pushed through the head at once
SPARE = 0.5  # share of the free memory that a float32 copy of W may take

RUN_ERRORS = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, NotImplementedError, AssertionError)


def _fits_in_float32(values: int, device: torch.device) -> bool:
    """Whether a float32 tensor of so many values takes at most `SPARE` of the memory that is free."""
    return 4 * values <= SPARE * available_bytes(device)


def _scales_exactly(scale: float, dtype: torch.dtype) -> bool:
    """Whether W times a scale is exact in W's dtype: 1, or a power of two where the exponent has room for it."""
    return scale == 1.0 or (math.frexp(scale)[0] == 0.5 and dtype != torch.float16)


def _read(
    site: HeadSite, width: int, device: torch.device, dtype: torch.dtype, scale: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """(scale * W transposed [d, V], scale * b [V] float32 or None), W in float32 where that fits.

    In its own dtype it stays where it is multiplied in that (`keeps_half`) and the scale loses nothing.

    A plain, materialised `nn.Linear` without hooks is read directly: exact, and free of a second product.
    Anything else (adapters, offloaded or quantised heads) is read through the module, as
    ``W = (head(K I) - head(0)).T / K``, which is what the model really computes; K, a power of two, keeps a bias from
    rounding small weights away.
    """
    if site.weights is not None:
        weight, bias = site.weights()
        columns = weight.detach().float().T.contiguous()
        return columns.mul_(scale), None if bias is None else bias.detach().float() * scale
    head = site.module
    assert head is not None  # noqa: S101 - callers check the reason first
    if is_plain(head):
        assert isinstance(head, nn.Linear)  # noqa: S101 - for the type checker
        bias = None if head.bias is None else head.bias.detach().float().clone() * scale
        weight = head.weight.detach()
        exact = _scales_exactly(scale, weight.dtype)
        narrow = exact and keeps_half(weight.dtype, weight.device)
        wide = not narrow and (not exact or _fits_in_float32(weight.numel(), weight.device))
        columns = torch.empty(width, len(weight), dtype=torch.float32 if wide else weight.dtype, device=weight.device)
        for first in range(0, len(weight), CHUNK_ROWS):  # so that W is never there in float32 twice
            columns[:, first : first + CHUNK_ROWS] = weight[first : first + CHUNK_ROWS].T
        return columns.mul_(scale), bias
    with torch.inference_mode():
        zero = head(torch.zeros(1, width, device=device, dtype=dtype)).float()[0]
        factor = 1.0 if not bool(zero.any()) else 256.0
        columns = torch.empty(width, zero.shape[-1], dtype=torch.float32, device=zero.device)
        for first in range(0, width, READ_ROWS):
            rows = torch.arange(first, min(first + READ_ROWS, width), device=device)
            identity = torch.zeros(len(rows), width, device=device, dtype=dtype)
            identity[torch.arange(len(rows), device=device), rows] = factor
            columns[first : first + len(rows)] = (head(identity).float() - zero) * (scale / factor)
    return columns, zero * scale if bool(zero.any()) else None


def open_head(
    model: Any,
    vocab_size: int,
    context: int,
    task: Task = "causal",
    decoder_start: int | None = None,
    *,
    quantisation: Quantisation | None = None,
) -> tuple[OutputHead | None, HeadReport]:
    """Read a model's head and measure it on a short input; the head is None where the report says unsupported.

    `vocab_size` is the number of token ids the tokenizer can produce; `context` bounds the input's length;
    `decoder_start` is the id that an encoder-decoder model's decoder begins with. A head that is packed by a
    `quantisation` may round its input: how far that is from W h + b then stands in the report.
    """
    parameter = next(model.parameters())
    site = find_site(model)
    report = HeadReport(
        architecture=type(model).__name__,
        head=type(site.module).__name__ if site.module is not None else "none",
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(parameter.device),
        task=task,
        quantisation=quantisation,
    )
    if site.module is None or site.reason:
        return None, replace(report, reason=site.reason)
    try:
        known = getattr(model.get_input_embeddings(), "num_embeddings", vocab_size)
        inputs = probe_inputs(task, min(vocab_size, known), context, input_device(model), decoder_start or 0)
        hidden, output = capture(model, site, inputs, stop=False)
        logits: Tensor = output.logits
    except (HeadError, NotFiniteError) as refusal:
        return None, replace(report, reason=str(refusal))
    except RUN_ERRORS as failure:
        reason = f"{report.architecture} does not run on token ids alone ({type(failure).__name__}: {failure})."
        return None, replace(report, reason=" ".join(reason.split())[:400])
    if not hidden.is_floating_point() or hidden.ndim != 3 or logits.shape[:-1] != hidden.shape[:-1]:
        reason = (
            f"the head's input is {hidden.dtype} of shape {tuple(hidden.shape)} for logits of shape "
            f"{tuple(logits.shape)}: not one hidden state per position."
        )
        return None, replace(report, reason=reason)
    if not bool(logits.isfinite().any(-1).all()) or bool(logits.isnan().any() or logits.isposinf().any()):
        return None, replace(report, reason=_not_finite(model, report.dtype))
    dtype = max(
        logits.dtype, hidden.dtype, key=lambda kind: torch.finfo(kind).eps
    )  # some widen logits after the product
    eps = torch.finfo(dtype).eps
    try:
        measured = _probe(model, site, inputs, logits, dtype)
    except RUN_ERRORS as failure:
        measured = f"the model fails where its head returns crafted values ({type(failure).__name__}: {failure})"
    if isinstance(measured, str):
        reason = f"something else happens after the head: {' '.join(measured.split())[:300]}."
        return None, replace(report, reason=reason)
    post = exact(measured.post, model.config, max(RELATIVE_TOLERANCE, 4 * eps))
    columns, bias = _read(site, hidden.shape[-1], hidden.device, hidden.dtype, post.scale)
    if quantisation is not None and not is_plain(site.module):
        columns, bias = _closest(site, columns, bias, hidden, post.scale)
    has_bias = bias is not None
    if non_finite_weight([("", columns)]) is not None:
        return None, replace(report, reason=_not_finite(model, report.dtype))
    columns, bias = columns[:, : measured.rows], None if bias is None else bias[: measured.rows]
    if measured.offset is not None:
        offset = measured.offset.float().to(columns.device)
        bias = offset if bias is None else bias + offset
    tied = is_tied(model, site)
    rows = min(vocab_size, columns.shape[1])
    head = OutputHead(
        columns=columns.contiguous(), bias=bias, post=post, vocab_rows=rows, tied=tied, module=report.head
    )
    report = replace(
        report,
        vocab_rows=head.vocab_rows,
        padding_rows=head.padding_rows,
        masked_rows=0 if bias is None else int((bias[:rows] == -math.inf).sum()),
        hidden_size=head.hidden_size,
        tied=tied,
        bias=has_bias,
        post=post,
    )
    checked, report = _verified(head, report, hidden, logits, eps)
    if checked is None and quantisation is not None and not is_plain(site.module):
        report = replace(report, post=post)
        return _rounded(head, report, site, measured=measured, hidden=hidden, logits=logits, eps=eps)
    return checked, report


def _closest(
    site: HeadSite, columns: Tensor, bias: Tensor | None, hidden: Tensor, scale: float
) -> tuple[Tensor, Tensor | None]:
    """Of W as read through a packed head [d, V] and W as its weight unpacks, the one closer to the head's own output.

    They differ where the head rounds its input, a unit vector too.
    """
    head = site.module
    assert head is not None  # noqa: S101 - callers check the reason first
    unpacked = None if site.weights is not None else dequantised(head, hidden.shape[-1])
    if unpacked is None or len(unpacked[0]) != columns.shape[1]:
        return columns, bias
    weight, offset = unpacked
    other = weight.T.to(columns.device) * scale
    offset = None if offset is None else offset.to(columns.device) * scale
    with torch.inference_mode():
        own = head(hidden).float().flatten(0, -2).to(columns.device) * scale
    flat = hidden.float().flatten(0, -2).to(columns.device)

    def distance(matrix: Tensor, constant: Tensor | None) -> float:
        return float((flat @ matrix + (0.0 if constant is None else constant) - own).square().mean())

    return (other, offset) if distance(other, offset) < distance(columns, bias) else (columns, bias)


def _rounded(
    head: OutputHead,
    report: HeadReport,
    site: HeadSite,
    *,
    measured: MeasuredPost,
    hidden: Tensor,
    logits: Tensor,
    eps: float,
) -> tuple[OutputHead | None, HeadReport]:
    """A packed head that is not W h + b to the precision of its logits: because its own product rounds, or not at all.

    Where post of the module's own output is the model's logits, the difference is the module's: the head is accepted
    up to `ROUNDED_TOLERANCE` and the report tells the error.
    """
    assert site.module is not None  # noqa: S101 - callers check the reason first
    with torch.inference_mode():
        own = site.module(hidden).float()[..., : measured.rows] * head.post.scale
    if measured.offset is not None:
        own = own + measured.offset.float().to(own.device)
    theirs, ours = logits.float(), head.logits(hidden).to(logits.device)
    through = rounding(theirs, head.post(own).to(logits.device))
    error = rounding(theirs, ours)
    if through.share > max(RELATIVE_TOLERANCE, 4 * eps):
        return None, replace(report, post=Post("opaque"))
    report = replace(report, head_rounding=error)
    if error.share <= ROUNDED_TOLERANCE:
        return head, replace(report, supported=True, reason="")
    reason = (
        f"the head ({report.head}, {report.quantisation}) rounds its input: its logits differ from W h + b by up to "
        f"{error.max_abs:.3g}, {error.share:.0%} of the largest (at most {ROUNDED_TOLERANCE:.0%} is accepted): "
        "name the model with its head unquantised."
    )
    return None, replace(report, post=Post("opaque"), reason=reason)


def _not_finite(model: nn.Module, dtype: str) -> str:
    """Why a head cannot be used whose logits or weights hold NaN or infinity."""
    remedy = advice(dtype, non_finite_weight(model.named_parameters()))
    return f"the model gives NaN or infinite logits in {dtype} on a short input: {remedy}."


def _probe(
    model: nn.Module, site: HeadSite, inputs: Mapping[str, Tensor], logits: Tensor, dtype: torch.dtype
) -> MeasuredPost | str:
    """Three forwards with head outputs crafted in `dtype`, the coarsest on their way (one more sees their width)."""
    head, rows, heads_rows = site.head, logits.shape[-1], []
    assert head is not None  # noqa: S101 - callers check the reason first
    handle = head.register_forward_hook(lambda _, args, output: heads_rows.append(int(output.shape[-1])))
    try:
        forward(model, inputs)
    finally:
        handle.remove()
    if not heads_rows:
        return f"{type(head).__name__} is never called"
    if heads_rows[0] < rows:
        return f"the head has {heads_rows[0]} rows but the model gives {rows} logits"
    ramped = ramp(heads_rows[0], dtype, logits.device)
    zero, up, down = (
        crafted_logits(model, head, inputs, crafted).flatten(0, -2).float()
        for crafted in (torch.zeros_like(ramped), ramped, ramped.flip(0))
    )
    return measure(zero, up, down, ramped, torch.finfo(dtype).eps)


def _verified(
    head: OutputHead, report: HeadReport, hidden: Tensor, logits: Tensor, eps: float
) -> tuple[OutputHead | None, HeadReport]:
    """The head, if it reproduces the model's own logits [B, L, V] from h [B, L, d] to the precision they have."""
    theirs, ours = logits.float(), head.logits(hidden).to(logits.device)
    masked = (theirs <= NEVER) & (ours <= NEVER)
    difference = float((theirs - ours).masked_fill(masked, 0.0).abs().max())
    report = replace(report, max_abs_error=difference)
    scale = float(theirs.masked_fill(masked, 0.0).abs().max())
    tolerance = max(RELATIVE_TOLERANCE, 4 * eps) * max(scale, 1e-3)
    if difference <= tolerance:
        return head, replace(report, supported=True)
    reason = (
        f"the model's logits are not post(W h + b): they differ by up to {difference:.3g} (tolerance {tolerance:.2g})."
    )
    return None, replace(report, post=Post("opaque"), reason=reason)
