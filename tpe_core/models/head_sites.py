"""Where a model's output head is: which module to hook, how h is taken from it, and why not where it cannot be.

The head is what `get_output_embeddings` returns. The exceptions are told apart by what can be seen of them (a list
of heads, an embedding instead of a projection, a matrix that is not vocabulary-wide), not by their class names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tpe_core.models.adapted_head import adapted_weights

__all__ = ["HeadSite", "find_site", "is_tied", "main_stream"]


def main_stream(h: Tensor) -> Tensor:
    """[B, L, d] of a head input: itself, or stream 0 of [B, streams, L, d], the one that predicts the next token."""
    return h[:, 0] if h.ndim == 4 else h


@dataclass(frozen=True)
class HeadSite:
    """Where h is captured. `module` is None where the head is not one matrix on one h; `reason` then says why."""

    module: nn.Module | None  # hooked for h
    _: KW_ONLY
    reason: str = ""
    stage: Literal["input", "output"] = "input"  # h is the module's input, or its output
    select: Callable[[Tensor], Tensor] = main_stream  # [B, L, d] of what the hook sees
    weights: Callable[[], tuple[Tensor, Tensor | None]] | None = None  # W [V, d], b [V]; None: read through the module
    product: nn.Module | None = None  # whose output is W h + b, where that is not `module`'s

    @property
    def head(self) -> nn.Module | None:
        """The module whose output is W h + b, [..., V]."""
        return self.module if self.product is None else self.product


def find_site(model: Any) -> HeadSite:
    """The head of a transformers model, from its modules alone: nothing is run, so a hook may still never fire."""
    name = type(model).__name__
    try:
        module = model.get_output_embeddings()
    except (AttributeError, NotImplementedError) as error:
        return _refuse(f"{name} names no output embedding (get_output_embeddings() failed: {error}).")
    if isinstance(module, nn.ModuleList | list | tuple):
        return _refuse(f"{name} has {len(module)} output heads over one hidden state: there is no single distribution.")
    if isinstance(module, nn.AdaptiveLogSoftmaxWithLoss):
        return _refuse(f"{name} uses an adaptive softmax: rare tokens have no row of their own in one output matrix.")
    if not isinstance(module, nn.Module):
        return _refuse(f"{name} names no output embedding (get_output_embeddings() returned {module!r}).")
    if why := _not_a_language_model(model):
        return _refuse(f"{name} {why}")
    if isinstance(module, nn.Embedding):
        return _projection_of(model, module)
    if (split := _split_head(model, module)) is not None:
        return split
    rows, size = _rows(model), getattr(module, "out_features", None)
    if rows and size == getattr(module, "in_features", 0) and size not in rows:
        return _refuse(
            f"{name} names a {size} x {size} transform as its output embedding, not a matrix of {min(rows)} tokens: "
            "the product with the vocabulary has no module of its own."
        )
    return HeadSite(module, weights=adapted_weights(module))


def is_tied(model: Any, site: HeadSite) -> bool:
    """Whether W, or the piece of it that the model names, is one of the model's embeddings (an adapter's is not)."""
    holder = site.module if site.weights is None else model.get_output_embeddings()
    weight = None if holder is None else holder._parameters.get("weight")
    embeddings = [model.get_input_embeddings(), *(m for m in model.modules() if isinstance(m, nn.Embedding))]
    return weight is not None and any(getattr(module, "weight", None) is weight for module in embeddings)


def _refuse(reason: str) -> HeadSite:
    return HeadSite(None, reason=reason)


def _not_a_language_model(model: Any) -> str:
    """Why the logits are no next-token (or masked-token) distribution of token ids, judged by what forward asks for."""
    parameters = inspect.signature(model.forward).parameters
    if getattr(model.config, "use_ordered_embeddings", False):
        return "scores only the tokens of the best few clusters: its logits are not one product with the whole head."
    if "shared_kv_states" in parameters and "inputs_embeds" in parameters:
        return "drafts for another model and runs on that model's hidden states, not on token ids."
    if "self_conditioning_logits" in parameters:
        return "denoises whole blocks of tokens: its logits are a step of that, not a next-token distribution."
    return ""


def _rows(model: Any) -> set[int]:
    """The vocabulary sizes that the configuration and the input embeddings name."""
    sizes = {getattr(model.config, "vocab_size", None), getattr(model.get_input_embeddings(), "num_embeddings", None)}
    return {size for size in sizes if isinstance(size, int)}


def _projection_of(model: Any, embedding: nn.Embedding) -> HeadSite:
    """The linear layer that stands behind an embedding named as the output (whose own input is token ids)."""
    shape = embedding.weight.shape
    alike = [child for child in model.modules() if isinstance(child, nn.Linear) and child.weight.shape == shape]
    shared = [linear for linear in alike if linear.weight is embedding.weight]
    candidates = shared or alike
    if len(candidates) == 1:
        return HeadSite(candidates[0])
    return _refuse(
        f"{type(model).__name__} names an input embedding as its output embedding, "
        f"and {len(candidates)} linear layers of its shape {tuple(shape)}: which one gives the logits cannot be told."
    )


def _split_head(model: Any, module: nn.Module) -> HeadSite | None:
    """A head whose matrix is kept in two pieces and multiplied without calling either (None: not such a head).

    The named piece is [V, d1]; beside it stands one stored the other way round, [d2, V] (an `nn.Linear` *from* the
    vocabulary), and a `transform` that makes h, d1 + d2 wide. W is the two side by side.
    """
    if not isinstance(module, nn.Linear):
        return None
    for parent in model.modules():
        children = dict(parent.named_children())
        if not any(child is module for child in children.values()) or "transform" not in children:
            continue
        for rest in children.values():
            if isinstance(rest, nn.Linear) and rest is not module and rest.in_features == module.out_features:

                def weights(rest: nn.Linear = rest) -> tuple[Tensor, Tensor | None]:
                    bias = None if module.bias is None else module.bias.detach()
                    return torch.cat([module.weight, rest.weight.T], dim=1).detach(), bias

                return HeadSite(children["transform"], stage="output", weights=weights, product=parent)
    return None
