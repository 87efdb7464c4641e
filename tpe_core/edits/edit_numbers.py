"""An edit's arrays as tensors, and what they do to hidden states and to logits: the definition of an edit.

Arithmetic is float64 (float32 on a device without it) and is rounded once, to the dtype that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import HeadError, TpeError
from tpe_core.models.head import OutputHead

__all__ = ["EditNumbers", "edit_logits"]


def edit_logits(head: OutputHead, edit: ResolvedEdit, h: Tensor) -> Tensor:
    """[..., V_all] float32 logits of the edited head for hidden states [..., d]: ``post(W' h' + b)``, by one product.

    Raises `TpeError` where the edit is of another head. For many calls, keep an `EditNumbers` and ask it.
    """
    return EditNumbers(edit).logits(head, h)


@dataclass
class EditNumbers:
    """An edit's arrays as tensors, made once for each device.

    `scale` turns the output that is shifted into final logits, in whose units an edit is: 1 for an `OutputHead`'s.
    """

    edit: ResolvedEdit
    scale: float = 1.0
    _made: dict[torch.device, dict[str, Tensor]] = field(default_factory=dict)

    def logits(self, head: OutputHead, h: Tensor) -> Tensor:
        """[..., V_all] float32 logits of a head under the edit. Raises `TpeError` where the edit is of another head."""
        if self.edit.hidden_size != head.hidden_size:
            raise TpeError(f"the edit is for {self.edit.hidden_size} dimensions, but this head has {head.hidden_size}.")
        self.edit.intervention.check_fits(head.hidden_size, head.vocab_rows)
        replaced = self.replaced(h.to(device=head.columns.device, dtype=torch.float32))
        z = head.raw(replaced)
        self.shift(z, replaced)
        return head.post(z)

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The tensors on a device, by name."""
        if device not in self._made:
            self._made[device] = self._make(device)
        return self._made[device]

    def _make(self, device: torch.device) -> dict[str, Tensor]:
        edit, real = self.edit, torch.float32 if device.type == "mps" else torch.float64
        arrays: dict[str, Any] = {"constant": edit.constant}
        ids: dict[str, Any] = {"written": edit.written, "moved": list(edit.rows), "raised": list(edit.biases)}
        if edit.fold is not None:
            arrays["fold"], ids["kept"] = edit.fold.T, edit.kept
        if edit.rows:
            # Tokens that are steered alike share one array: a set of any size is one column.
            distinct = {id(row): row for row in edit.rows.values()}
            arrays["rows"] = np.stack(list(distinct.values()), 1) / self.scale
            if len(distinct) < len(edit.rows):
                place = {key: at for at, key in enumerate(distinct)}
                ids["column"] = [place[id(row)] for row in edit.rows.values()]
        if edit.biases:
            arrays["biases"] = np.array(list(edit.biases.values())) / self.scale
        with torch.inference_mode(False):  # else a later backward pass could not use them
            made = {name: torch.as_tensor(array, dtype=real, device=device) for name, array in arrays.items()}
            return made | {name: torch.tensor(of, dtype=torch.int64, device=device) for name, of in ids.items()}

    def replaced(self, h: Tensor) -> Tensor:
        """h' [..., d] of the hidden states h, which is `h` itself where nothing is removed."""
        if not self.edit.removed:
            return h
        if h.shape[-1] != self.edit.hidden_size:
            raise HeadError(f"the edit is for {self.edit.hidden_size} dimensions, but the head is given {h.shape[-1]}.")
        at = self.on(h.device)
        values = at["constant"]
        if "fold" in at:
            values = values + h.index_select(-1, at["kept"]).to(values.dtype) @ at["fold"]
        values = values.to(h.dtype).expand(*h.shape[:-1], len(at["written"]))
        return h.index_copy(-1, at["written"], values)

    def shift(self, y: Tensor, h: Tensor) -> None:
        """Move the steered tokens' entries of the head's output y [..., V] in place, given the final h [..., d]."""
        if self.edit.rows:
            here = self.on(h.device)
            moved = h.to(here["rows"].dtype) @ here["rows"]
            if "column" in here:
                moved = moved.index_select(-1, here["column"])
            _add(y, self.on(y.device)["moved"], moved.to(y.device))
        if self.edit.biases:
            there = self.on(y.device)
            _add(y, there["raised"], there["biases"])


def _add(y: Tensor, ids: Tensor, shift: Tensor) -> None:
    moved = y.index_select(-1, ids).to(shift.dtype) + shift
    y.index_copy_(-1, ids, moved.to(y.dtype))
