"""An edit applied to a loaded transformers model by hooks on its output head, for as long as a ``with`` block lasts.

Whatever runs the model meanwhile (its own ``generate``, an evaluation harness) sees the edited logits. No weight is
read for an edit or written: tied input embeddings, offloaded and quantised heads stay as they are, bit for bit.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from tpe_core.corpus.corpus import tokenizer_fingerprint
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import HeadError, TpeError
from tpe_core.models.head import OutputHead, Task
from tpe_core.models.head_sites import HeadSite, find_site
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import open_head
from tpe_core.models.sampling import decoder_start

__all__ = ["Applied", "apply"]

PROBED_POSITIONS = 12  # length of the input that a bare model's head is measured with


@contextmanager
def apply(model: Any, edit: ResolvedEdit | Intervention | Path | str, *, force: bool = False) -> Iterator[Applied]:
    """Edit the logits of `model` while the block runs: ``with apply(model, edit): model.generate(...)``.

    `model` is a `LanguageModel` or any transformers model with an output head that `tpe check` accepts; a bare one's
    head is measured first (a few short forwards). `edit` is a `ResolvedEdit`, the file of an exported one, or an
    `Intervention` that needs no measured numbers (pruning to zero, steering by ``bias``). A file is applied to the
    head it was made for; `force` takes another head of the same shape, and its tokens as they are numbered.

    The model's dtype and device stay; the edit's arithmetic is float64 and is rounded once. Leaving the block, by an
    exception too, restores the model exactly. Blocks nest, on one model: hidden states go through every edit's
    replacement, the outermost first, and every steered row sees what comes out of the last one; where two blocks
    replace the same dimension the inner one wins, and shifts of the same token add up. So nested blocks that share
    neither are one edit of both. The block's value can change its edit midway (`Applied.change`).

    Raises `TpeError` in one sentence, before anything is hooked, where the head is of another width, has no such
    token or is not supported; code that multiplies with the head's weights without calling its module (a fused loss)
    is not reached.

    Example:
        >>> inputs = model.example_inputs()
        >>> before = model.hf(**inputs).logits
        >>> with tpe.apply(model, live.resolved(tpe.Intervention((3, 14), "mean"))):
        ...     after = model.hf(**inputs).logits
        >>> bool((before == after).all()), bool((model.hf(**inputs).logits == before).all())
        (False, True)
    """
    target = _open(model)
    chosen = _edit_for(target, edit, force)
    applied = Applied(target, chosen)
    hooks = _HOOKED.get(target.module)
    if hooks is None:
        hooks = _HOOKED[target.module] = _Hooks(target.site)
    hooks.add(applied)
    try:
        yield applied
    finally:
        if hooks.remove(applied):
            del _HOOKED[target.module]


class Applied:
    """One edit that is at work on a model: the value of an `apply` block.

    Example:
        >>> with tpe.apply(model, tpe.Intervention((3,))) as applied:
        ...     applied.change(tpe.Intervention((3, 14)))
        ...     applied.edit.removed
        (3, 14)
    """

    def __init__(self, target: _Target, edit: ResolvedEdit) -> None:
        self._target = target
        self._numbers = target.numbers(edit)

    @property
    def edit(self) -> ResolvedEdit:
        """The edit of the next forward pass."""
        return self._numbers.edit

    def change(self, edit: ResolvedEdit | Intervention) -> None:
        """Edit differently from the next forward pass on; raises as `apply` does and changes nothing then."""
        self._numbers = self._target.numbers(_edit_for(self._target, edit, force=False))


@dataclass(frozen=True)
class _Target:
    """A model's head as hooks meet it. `scale` turns the module's output into final logits."""

    name: str
    site: HeadSite
    head: OutputHead
    tokenizer: Any  # None where only the model is there

    def numbers(self, edit: ResolvedEdit) -> EditNumbers:
        numbers = EditNumbers(edit, self.head.post.scale)
        numbers.on(self.head.columns.device)  # now, rather than in a forward pass that may be compiled
        return numbers

    @property
    def module(self) -> nn.Module:
        assert self.site.module is not None  # noqa: S101 - `_open` refuses such a site
        return self.site.module


def _open(model: Any) -> _Target:
    """What to hook. Raises `HeadError` where the model's head is not ``post(W h + b)``."""
    if isinstance(model, LanguageModel):
        return _Target(model.name, model.site, model.head, model.tokenizer)
    hf = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    name = type(hf).__name__
    if not isinstance(hf, nn.Module) or not hasattr(hf, "get_output_embeddings"):
        raise HeadError(f"{name} is no transformers model: load one with from_pretrained or tpe_core.load_model.")
    site = find_site(hf)
    if site.module is None:
        raise HeadError(f"{name} cannot be edited: {site.reason}")
    rows = getattr(hf.get_input_embeddings(), "num_embeddings", None) or hf.config.get_text_config().vocab_size
    task: Task = "seq2seq" if getattr(hf.config, "is_encoder_decoder", False) else "causal"
    hooks = _HOOKED.get(site.module)
    with _resting(hooks):
        head, report = open_head(hf, rows, PROBED_POSITIONS, task, decoder_start(hf))
    if head is None:
        raise HeadError(f"{name} cannot be edited: {report.reason}")
    return _Target(name, site, head, None)


def _edit_for(target: _Target, edit: ResolvedEdit | Intervention | Path | str, force: bool) -> ResolvedEdit:
    """The numbers to apply. Raises `TpeError` where they are not there, or are another head's."""
    if isinstance(edit, Path | str):
        return _from_file(target, Path(edit), force)
    chosen = edit if isinstance(edit, ResolvedEdit) else _without_basis(edit, target.head.hidden_size)
    if chosen.hidden_size != target.head.hidden_size:
        raise HeadError(
            f"the edit is for {chosen.hidden_size} dimensions, but the head of {target.name} has "
            f"{target.head.hidden_size}: apply it to the model it was made on."
        )
    chosen.intervention.check_fits(target.head.hidden_size, target.head.vocab_rows)
    return chosen


def _from_file(target: _Target, path: Path, force: bool) -> ResolvedEdit:
    from tpe_core.manifest.manifest import check_fits, read_edit

    manifest, edit = read_edit(path)
    made = manifest.made_on
    known = target.tokenizer is not None
    head = target.head if known else replace(target.head, vocab_rows=min(made.vocab_rows, target.head.total_rows))
    check_fits(
        manifest,
        head_sha256=made.head_sha256 if force else head.sha256,
        vocab_rows=head.vocab_rows,
        hidden_size=head.hidden_size,
        tokenizer_sha256=tokenizer_fingerprint(target.tokenizer) if known else made.tokenizer_sha256,
        force=force,
    )
    return edit


def _without_basis(intervention: Intervention, width: int) -> ResolvedEdit:
    measured: list[str] = [entry.method for entry in intervention.steering if entry.method != "bias"]
    if intervention.pruned and REPLACEMENTS[intervention.replacement].is_measured:
        measured.append(intervention.replacement)
    if measured:
        raise TpeError(
            f"an intervention with {measured[-1]!r} needs numbers measured on text: "
            "give apply basis.resolve(intervention), or the file of an exported one."
        )
    biases = {entry.token_id: math.log(entry.ratio) for entry in intervention.steering}
    return ResolvedEdit(
        intervention=intervention, hidden_size=width, constant=np.zeros(len(intervention.pruned)), biases=biases
    )


class _Hooks:
    """The hooks of one head while any block edits it, and those blocks' edits in the order they were entered."""

    def __init__(self, site: HeadSite) -> None:
        self._site = site
        self._entered: list[Applied] = []
        self._handles: list[Any] = []
        self._hidden: Tensor | None = None  # the final h, of a head whose product is another module
        self.resting = False

    def add(self, applied: Applied) -> None:
        module, product = self._site.module, self._site.head
        assert module is not None  # noqa: S101 - `_open` refuses such a site
        assert product is not None  # noqa: S101 - it is `module` where nothing else is
        if not self._handles:
            hook = product.register_forward_hook(self._after, with_kwargs=True)
            if self._site.stage == "input":
                self._handles = [module.register_forward_pre_hook(self._before, with_kwargs=True), hook]
            else:
                self._handles = [module.register_forward_hook(self._made), hook]
            _forget_compiled()
        self._entered.append(applied)

    def remove(self, applied: Applied) -> bool:
        """Take one edit out, and the hooks with the last; whether it was the last."""
        self._entered.remove(applied)
        if self._entered:
            return False
        for handle in self._handles:
            handle.remove()
        self._handles, self._hidden = [], None
        _forget_compiled()
        return True

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self._replaced(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: self._replaced(kwargs[name])}

    def _made(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        self._hidden = self._replaced(output)
        return self._hidden

    def _after(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        hidden = self._hidden if self._site.stage == "output" else (args[0] if args else next(iter(kwargs.values())))
        if self.resting or hidden is None:
            return
        for applied in list(self._entered):
            applied._numbers.shift(output, hidden)
        self._hidden = None

    def _replaced(self, hidden: Tensor) -> Tensor:
        if not self.resting:
            for applied in list(self._entered):
                hidden = applied._numbers.replaced(hidden)
        return hidden


_HOOKED: WeakKeyDictionary[nn.Module, _Hooks] = WeakKeyDictionary()  # by the hooked module, while blocks are open


@contextmanager
def _resting(hooks: _Hooks | None) -> Iterator[None]:
    """Suspend a head's hooks for the block, so that the unedited model can be measured."""
    if hooks is None:
        yield
        return
    hooks.resting = True
    try:
        yield
    finally:
        hooks.resting = False


def _forget_compiled() -> None:
    """Have compiled forwards compiled again: what was compiled before does not see that hooks have come or gone."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
