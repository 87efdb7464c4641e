"""How a stock architecture can hold an edit: as head rows and columns, and what carries the constant it may need.

A replacement or a ``bias`` steering adds the same number to a token's logit whatever the context is. Without a head
bias that takes a direction u with ``u . h = 1``: the head becomes ``W' + k u^T``. Where no norm provides one, the
best guess of 1 from h comes closest. Nothing is written here, and no model is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tpe_core.checkpoint.norm import FinalAffine, final_affine
from tpe_core.clamping import at_least, at_most
from tpe_core.detection.detection import Detection
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import HeadError, TpeError
from tpe_core.models.capture import crafted_logits
from tpe_core.models.model import LanguageModel

__all__ = ["BakePlan", "Carrier", "check_bakeable", "check_edit", "choose", "choose_head", "without_constants"]

Carrier = Literal[
    "none", "norm", "head-bias", "token-offset", "freed-column", "empty-direction", "best-guess", "left-out"
]
"""What holds the constants of an edit: nothing needs to, the final norm, the head's bias, an offset that the model
adds to its logits, a pruned dimension fed by a constant, the direction that a layer norm leaves empty, the
direction of h that varies least, or nothing, where that would cost more than to leave them out."""

FORM: dict[Carrier, str] = {
    "none": "edited head rows and columns",
    "norm": "gain 0 and the mean as offset in the final norm's removed dimensions",
    "head-bias": "edited head rows and columns, the constants in the head's bias",
    "token-offset": "edited head rows and columns, the constants in the model's offset per token",
    "freed-column": "edited head rows and columns, the constants in column {dim} of the head, whose dimension the "
    "final norm now gives as 1 (gain 0, offset 1)",
    "empty-direction": "edited head rows, the constants along the direction in which the final layer norm's output "
    "never varies",
    "best-guess": "edited head rows and columns, the constants along the direction of h that is closest to a constant",
    "left-out": "edited head rows and columns, the constants left out",
}

STEADY = 100.0  # root of sum (u_i h_i)^2 up to which u . h keeps its digits
JITTER = 1e-9  # of the mean second moment: constant dimensions, and fewer positions than dimensions
ADVICE = "apply the file as hooks instead: with tpe_core.apply(model, file)."

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class BakePlan:
    """The most faithful form that an edit can take in one model's architecture."""

    carrier: Carrier
    moves_head: bool  # whether W itself changes
    norm: FinalAffine | None = None
    offset: str = ""  # name of the buffer that is added to the logits
    direction: Floats | None = None  # [d] u
    dim: int = -1  # the freed column's
    unexplained: float = 0.0  # E[(1 - u . h)^2] of a best guess, as a share of 1

    @property
    def is_exact(self) -> bool:
        """Whether nothing but rounding is lost."""
        return self.carrier not in ("best-guess", "left-out")

    def sentence(self, untied: bool) -> str:
        """A sentence that names the form."""
        form = FORM[self.carrier].format(dim=self.dim)
        if self.carrier in ("none", "left-out") and not self.moves_head:
            form = "nothing is edited" + (", the constants left out" if self.carrier == "left-out" else "")
        if self.carrier == "norm" and self.moves_head:
            form += ", edited head rows"
        return form + (", the head untied from the input embedding" if untied else "")


def check_bakeable(model: LanguageModel) -> nn.Linear:
    """The head that will be edited. Raises `HeadError` where its weights are not one plain matrix in memory."""
    hf, site, _ = model.hf, model.site, model.head
    if getattr(hf, "hf_quantizer", None) is not None or getattr(hf.config, "quantization_config", None):
        raise HeadError(f"{model.name} is quantised: load it without, bake the edit and quantise after; or {ADVICE}")
    if model.adapter is not None and model.adapter.apart:
        raise HeadError(
            f"the adapter of {model.name} is beside its weights ({model.adapter.apart}): load it with --dtype float32 "
            f"and nothing quantised to have it merged, or {ADVICE}"
        )
    spread = any(hasattr(module, "_hf_hook") for module in hf.modules())
    if spread or any(parameter.device.type == "meta" for parameter in hf.parameters()):
        raise HeadError(
            f"{model.name} is offloaded or spread over devices: load it onto one (--device cpu) to bake an edit, "
            f"or {ADVICE}"
        )
    head = site.head
    plain = isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward and site.weights is None
    if not plain or getattr(hf, "_hf_peft_config_loaded", False):
        raise HeadError(
            f"the head of {model.name} ({type(head).__name__}) is not one plain matrix (an adapter or a packed head): "
            f"merge it into one first, or {ADVICE}"
        )
    assert isinstance(head, nn.Linear)  # noqa: S101 - for the type checker
    if head._forward_hooks or head._forward_pre_hooks:
        raise HeadError(f"something is hooked on the head of {model.name}: leave the `with apply` block to bake.")
    return head


def choose(model: LanguageModel, edit: ResolvedEdit, detection: Detection | None = None) -> BakePlan:
    """The best form of an edit in a model. A best guess has its direction only where `detection` is given.

    Raises `HeadError` where the model cannot be baked, `TpeError` where the edit is of another head.
    """
    head = check_bakeable(model)
    check_edit(model, edit)
    pruned = bool(edit.removed)
    is_filled = pruned and REPLACEMENTS[edit.intervention.replacement].fill is not None
    moves = pruned or bool(edit.rows)
    if not bool(edit.constant.any()) and not edit.biases:
        return BakePlan(carrier="none", moves_head=moves)
    norm = final_affine(model)
    if is_filled and norm is not None and not edit.biases:
        return BakePlan(carrier="norm", moves_head=bool(edit.rows), norm=norm)
    if head.bias is not None:
        return BakePlan(carrier="head-bias", moves_head=moves)
    if name := _offset(model):
        return BakePlan(carrier="token-offset", moves_head=moves, offset=name)
    if norm is not None and pruned:
        dim = edit.removed[0]
        return BakePlan(
            carrier="freed-column", moves_head=True, norm=norm, direction=np.eye(1, edit.hidden_size, dim)[0], dim=dim
        )
    empty = None if norm is None else _empty_direction(model, norm)
    if empty is not None:
        return BakePlan(carrier="empty-direction", moves_head=True, direction=empty)
    if detection is None:
        return BakePlan(carrier="best-guess", moves_head=True, unexplained=1.0)
    return _best_guess(detection)


def choose_head(model: LanguageModel, edit: ResolvedEdit, detection: Detection | None = None) -> BakePlan:
    """The best form of an edit that changes the head's matrix and nothing else; raises as `choose` does."""
    check_bakeable(model)
    check_edit(model, edit)
    if not bool(edit.constant.any()) and not edit.biases:
        return BakePlan(carrier="none", moves_head=bool(edit.removed) or bool(edit.rows))
    norm = final_affine(model)
    empty = None if norm is None else _empty_direction(model, norm)
    if empty is not None:
        return BakePlan(carrier="empty-direction", moves_head=True, direction=empty)
    if detection is None:
        return BakePlan(carrier="best-guess", moves_head=True, unexplained=1.0)
    return _best_guess(detection)


def without_constants(edit: ResolvedEdit) -> BakePlan:
    """The form of an edit whose constants are left out: what remains where the closest form would cost more."""
    return BakePlan(carrier="left-out", moves_head=bool(edit.removed) or bool(edit.rows), unexplained=1.0)


def check_edit(model: LanguageModel, edit: ResolvedEdit) -> None:
    """Raise `TpeError` where an edit is of another width, or steers a token that the tokenizer does not have."""
    head = model.head
    if edit.hidden_size != head.hidden_size:
        raise TpeError(
            f"the edit is for {edit.hidden_size} dimensions, but the head of {model.name} has {head.hidden_size}: "
            "bake it into the model it was made on."
        )
    edit.intervention.check_fits(head.hidden_size, head.vocab_rows)
    known = set(model.tokenizer.get_vocab().values())
    for entry in edit.intervention.steering:
        if entry.token_id not in known:
            raise TpeError(f"token id {entry.token_id} is not in the tokenizer of {model.name}: steer one that is.")


def _offset(model: LanguageModel) -> str:
    """The name of a saved buffer that the model adds to its logits, one number per token; empty where there is none."""
    hf, head = model.hf, model.site.head
    assert head is not None  # noqa: S101 - `check_bakeable` comes first
    rows, inputs, saved = model.head.total_rows, model.example_inputs(), hf.state_dict().keys()
    name: str
    for name, buffer in hf.named_buffers():
        if name not in saved or buffer.numel() != rows or not buffer.is_floating_point():
            continue
        prefix, _, attribute = name.rpartition(".")
        holder: Any = hf.get_submodule(prefix)
        ramp = torch.linspace(-1, 1, rows, device=buffer.device).to(buffer.dtype).reshape(buffer.shape)
        zeros = torch.zeros(head.out_features, device=model.device)
        seen = []
        for value in (torch.zeros_like(ramp), ramp):
            setattr(holder, attribute, value)
            try:
                seen.append(crafted_logits(hf, head, inputs, zeros).float())
            finally:
                setattr(holder, attribute, buffer)
        moved = (seen[1] - seen[0]).nan_to_num()  # masked tokens stay at -inf
        never = seen[0].isinf()
        if bool(torch.where(never, 0.0, moved - ramp.float().reshape(-1).to(moved.device)).abs().max() < 1e-2):
            return name
    return ""


def _empty_direction(model: LanguageModel, norm: FinalAffine) -> Floats | None:
    """[d] u with u . h = 1 for whatever a layer norm gives: sum_i (h_i - beta_i) / gain_i = 0.

    None where it does not centre, has a gain of 0, or where u . h would be the small rest of large terms.
    """
    if not norm.centred or not norm.gain.all():
        return None
    inverse = 1 / norm.gain
    total = float(inverse @ norm.beta)
    if total == 0:
        return None
    u: Floats = inverse / total
    h = model.hidden(model.example_inputs()).double().flatten(0, -2).cpu().numpy()
    return u if float(np.sqrt(((h * u) ** 2).sum(1)).max()) <= STEADY else None


def _best_guess(detection: Detection) -> BakePlan:
    """u = M^-1 m, M = E[h h^T] and m = E[h]: the linear function of h closest to 1 on the detecting text."""
    moment, mean = detection.second_moment, detection.mean_hidden
    ridge = JITTER * max(float(np.trace(moment)) / len(mean), 1e-30)
    direction = np.linalg.solve(moment + ridge * np.eye(len(mean)), mean).astype(np.float64)
    left = 1 - 2 * float(direction @ mean) + float(direction @ moment @ direction)
    return BakePlan(
        carrier="best-guess", moves_head=True, direction=direction, unexplained=at_most(1.0, at_least(0.0, left))
    )
