"""What an intervention does to the logits, from h alone: the definition, and the live form that follows single toggles.

Head edits never change h, so nothing here runs the model. Pruning replaces entries of h at the head's input
(equal to zeroing columns of W, and out of reach of a tied input embedding); steering adds to single logits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edit_numbers import EditNumbers, edit_logits
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.models.head import OutputHead

__all__ = ["EditedHead", "edited_logits"]

REFRESH_EVERY = 256  # toggled columns between two full products; also the point where one product is cheaper


def edited_logits(head: OutputHead, intervention: Intervention, basis: EditStatistics, h: Tensor) -> Tensor:
    """[..., V_all] logits of the edited head for hidden states [..., d], with the numbers that a basis gives.

    `EditedHead` follows this. Raises `TpeError` for a dimension or token the head does not have.

    Example:
        >>> edit = tpe.Intervention((3, 14), "mean")
        >>> hidden = model.hidden(model.example_inputs())
        >>> tpe.edited_logits(model.head, edit, live.basis(edit), hidden).shape[-1] == model.head.total_rows
        True
    """
    intervention.check_fits(head.hidden_size, head.vocab_rows)
    return edit_logits(head, basis.resolve(intervention), h)


class EditedHead:
    """The edited logits of one hidden state, kept up to date as the intervention changes.

    Toggling dimension i costs one column, ``z -= W_:i (h_i - fill_i)``, instead of a product. The running z is
    float64, so that a thousand toggles leave no trace; every `REFRESH_EVERY` columns it is computed afresh all the
    same, and with nothing pruned it is the base itself, bit for bit. Under ``least-squares`` every toggle changes
    what stands in for all pruned dimensions, so each costs a solve and a full product, as taking up a refit does.

    Args:
        head: The head whose logits are followed.
        basis: Replacement values and directions; `set_basis` changes them.

    Example:
        >>> edited = tpe.EditedHead(model.head, live.basis(tpe.Intervention()))
        >>> edited.set_hidden(model.last_hidden("Return the")[0])
        >>> before, after = (edited.distribution(tpe.Intervention(dims)) for dims in ((), (3, 14)))
        >>> edited.logits(tpe.Intervention()).shape == (model.head.total_rows,)
        True
    """

    def __init__(self, head: OutputHead, basis: EditStatistics) -> None:
        self.head = head
        self.basis = basis
        self._hidden = torch.zeros(head.hidden_size, device=head.columns.device)
        self.set_hidden(self._hidden)

    def set_hidden(self, hidden: Tensor) -> None:
        """Start from another hidden state [d], unedited."""
        self._hidden = hidden.to(self.head.columns.device).float()
        self._base = self.head.raw(self._hidden).to(self._double)
        self._reset()

    def set_basis(self, basis: EditStatistics) -> None:
        """Use other replacement values and directions."""
        self.basis = basis
        self._reset()

    @property
    def _double(self) -> torch.dtype:
        return torch.float32 if self._hidden.device.type == "mps" else torch.float64

    def _reset(self) -> None:
        self._z = self._base.clone()
        self._at = Intervention()
        self._columns = 0
        self._removed: dict[int, float] = {}  # dim -> h_i - fill_i as subtracted

    def base_logits(self) -> Tensor:
        """[V_all] logits of the unedited head, float64."""
        return self.head.post(self._base)

    def distribution(self, intervention: Intervention) -> Distribution:
        """The next-token distribution under an intervention, until the next one. Raises `TpeError` as `logits` does."""
        return Distribution(self.logits(intervention))

    def logits(self, intervention: Intervention) -> Tensor:
        """[V_all] logits under an intervention, float64. Raises `TpeError` as `edited_logits` does."""
        intervention.check_fits(self.head.hidden_size, self.head.vocab_rows)
        if intervention.replacement != self._at.replacement:
            self._reset()
        self._prune(intervention)
        self._at = intervention
        if not intervention.steering:
            return self.head.post(self._z)
        numbers, z = self._numbers(intervention), self._z.clone()
        numbers.shift(z, numbers.replaced(self._hidden))
        return self.head.post(z)

    def _numbers(self, intervention: Intervention) -> EditNumbers:
        return EditNumbers(self.basis.resolve(intervention))

    def _prune(self, intervention: Intervention) -> None:
        wanted, present = set(intervention.pruned), set(self._removed)
        changed = sorted(wanted ^ present)
        if not changed:
            return
        if not wanted:
            self._reset()
            return
        self._columns += len(changed)
        if self._columns > REFRESH_EVERY or REPLACEMENTS[intervention.replacement].rebuilds:
            self._refresh(intervention)
            return
        fill = self.basis.fill(intervention.replacement)
        for dim in changed:
            if dim in present:
                amount = -self._removed.pop(dim)
            else:
                amount = float(self._hidden[dim]) - (0.0 if fill is None else float(fill[dim]))
                self._removed[dim] = amount
            self._z.add_(self.head.columns[dim], alpha=-amount)

    def _refresh(self, intervention: Intervention) -> None:
        dims = list(intervention.pruned)
        edited = self._numbers(replace(intervention, steering=())).replaced(self._hidden)
        self._z = self.head.raw(edited).to(self._double)
        differences = (self._hidden - edited)[dims].tolist()
        self._removed = dict(zip(dims, differences, strict=True))
        self._columns = 0
