"""Whether a head that the probe calls supported is right: on an input the probe never saw, against the model itself."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.shrink import VOCAB, inputs
from tpe_core.models.capture import capture
from tpe_core.models.head import OutputHead
from tpe_core.models.head_sites import find_site

__all__ = ["TOKENS", "error_on_fresh_input"]

TOKENS = VOCAB - 12  # ids of the tokenizer; the other rows are padding
NEVER = -1e4  # a masked token's logit is below


def error_on_fresh_input(model: nn.Module, head: OutputHead, length: int = 17) -> float:
    """Largest difference to the model's own logits, as a share of the largest; masked tokens must be the same."""
    hidden, output = capture(model, find_site(model), inputs(model, TOKENS, length), stop=False)
    own, ours = output.logits.float(), head.logits(hidden)
    masked = own <= NEVER
    assert torch.equal(masked, ours <= NEVER), "masked tokens differ"
    assert bool(own.masked_fill(masked, 0.0).std(-1).gt(0.1).all()), "degenerate logits show nothing"
    return float((own - ours).masked_fill(masked, 0.0).abs().max() / own.masked_fill(masked, 0.0).abs().max())
