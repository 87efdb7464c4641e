"""Running a model for its hidden states: the head's input by a hook, and logits from crafted head outputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tpe_core.errors import HeadError
from tpe_core.models.finite import check_hidden
from tpe_core.models.head import Task
from tpe_core.models.head_sites import HeadSite
from tpe_core.pauses import pauses_between_layers

__all__ = ["capture", "crafted_logits", "forward", "input_device", "probe_inputs"]


class _Captured(Exception):  # noqa: N818 - a signal, not an error
    """Carries h out of the forward pass before the V-wide product is paid for."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


@functools.cache
def _takes_cache(of: Callable[..., Any]) -> bool:
    return "use_cache" in inspect.signature(of).parameters


def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """A model's output for named inputs, without a cache where it can go without."""
    extra = {"use_cache": False} if _takes_cache(type(model).forward) else {}
    with torch.inference_mode():
        return model(**inputs, **extra)


def capture(model: nn.Module, site: HeadSite, inputs: Mapping[str, Tensor], stop: bool = True) -> tuple[Tensor, Any]:
    """Run `model` and return the head's input h [B, L, d] and, where `stop` is False, the model's whole output.

    Every reading of h goes through here: `NotFiniteError` where it holds NaN or infinity. Raises `HeadError` where the
    head module is never called.
    """
    assert site.module is not None  # noqa: S101 - callers check the reason first
    seen: list[Tensor] = []

    def keep(hidden: Tensor) -> None:
        if stop:
            raise _Captured(hidden)
        seen.append(hidden)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else next(iter(kwargs.values())))

    def after(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        keep(output)

    handle = (
        site.module.register_forward_pre_hook(before, with_kwargs=True)
        if site.stage == "input"
        else site.module.register_forward_hook(after)
    )
    output = None
    try:
        # A nested pass ends at this one's hook as well as at its own; one that goes on would be mixed up with it.
        tokens = sum(ids.numel() for ids in inputs.values())
        with pauses_between_layers(model, f"reading {tokens:,} tokens") if stop else nullcontext():
            output = forward(model, inputs)
    except _Captured as captured:
        seen.append(captured.hidden)
    finally:
        handle.remove()
    if not seen:
        raise HeadError(
            f"{type(model).__name__} never calls its output head {type(site.module).__name__}: "
            "its logits come from elsewhere."
        )
    return check_hidden(site.select(seen[0]), model), output


def crafted_logits(model: nn.Module, head: nn.Module, inputs: Mapping[str, Tensor], crafted: Tensor) -> Tensor:
    """[..., V] the model's logits where its head returns `crafted` [V_all] at every position."""

    def answer(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return crafted.to(output).expand(output.shape).clone()  # models may write into it

    handle = head.register_forward_hook(answer)
    try:
        logits: Tensor = forward(model, inputs).logits
    finally:
        handle.remove()
    return logits


def input_device(model: Any) -> torch.device:
    """Where a model takes its inputs: beside its first materialised weights, wherever the rest was put."""
    embeddings = getattr(model.get_input_embeddings(), "weight", None)
    weights = [embeddings] if isinstance(embeddings, Tensor) else []
    for weight in (*weights, *model.parameters()):
        if weight.device.type != "meta":
            device: torch.device = weight.device
            return device
    return torch.device("cpu")


def probe_inputs(task: Task, vocab_size: int, context: int, device: torch.device, start: int = 0) -> dict[str, Tensor]:
    """Two short inputs of token ids spread over the vocabulary, as the model's forward takes them."""
    length = max(1, min(12, context))
    spread = torch.linspace(0, vocab_size - 1, 2 * length + 2, dtype=torch.float64).round().long()[1:-1]
    ids = spread.reshape(2, length).to(device)
    if task != "seq2seq":
        return {"input_ids": ids}
    decoder = torch.cat([torch.full((2, 1), start, device=device), ids.flip(1)[:, :-1]], 1)
    return {"input_ids": ids, "decoder_input_ids": decoder}
