"""The bundled model's training recipe: every choice that decides its weights, with the reason beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tpe_core.clamping import at_most
from tpe_core.dynamics.trajectory import log_steps

__all__ = ["MINIATURE", "SMALL", "Recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A small GPT-2 on docstrings: float16 weights under 12 MB, an hour or two of training on two cores."""

    vocab_size: int = 8192  # large enough for a long tail of rare tokens, the regression's subject
    hidden_size: int = 256
    n_layer: int = 4
    n_head: int = 4
    context: int = 256  # tokens; also the block length of detection
    batch_size: int = 16  # blocks per step: 4,096 tokens
    steps: int = 3600
    matrix_lr: float = 0.02  # Muon, for the weight matrices inside the blocks
    other_lr: float = 0.003  # AdamW, for embeddings, norms and biases
    warmup_steps: int = 100
    cooldown_share: float = 0.3125  # the last share of the steps decays linearly to `final_lr`
    final_lr: float = 0.02  # as a share of the peak
    weight_decay: float = 0.1  # on matrices and embeddings
    clip: float = 1.0
    seed: int = 0
    documents: int | None = None  # the first so many docstrings (of held-out ones a tenth of that); None: all
    architecture: str = "gpt2"  # of `tpe_core.demo.network.ARCHITECTURES`
    tied: bool = True  # whether input and output embedding are one matrix
    optimizer: str = "muon"  # for the blocks' matrices; adamw: AdamW at `other_lr` for everything

    def learning_rate(self, step: int) -> float:
        """Share of the peak learning rate at `step`: linear warm-up, constant, linear cool-down."""
        start = self.steps * (1 - self.cooldown_share)
        warm = at_most(1.0, (step + 1) / self.warmup_steps)
        cool = 1.0 if step < start else 1 - (1 - self.final_lr) * (step - start) / max(1, self.steps - start)
        return warm * cool

    def checkpoint_steps(self) -> list[int]:
        """Log-spaced steps (two per doubling) whose head and distance to the final weights the run records."""
        return log_steps(self.steps)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values; left out is what is not set, and of what came later its default."""
        return {name: value for name, value in asdict(self).items() if value is not None and LATER.get(name) != value}


LATER = {"architecture": "gpt2", "tied": True, "optimizer": "muon"}  # not in the recipes of older runs
SMALL = Recipe(
    vocab_size=2048,
    hidden_size=128,
    n_layer=2,
    context=128,
    steps=500,
    warmup_steps=20,
    documents=4000,
)
"""Two minutes on a CPU, the reading of the docstrings included: for looking at a run's dynamics, not at its model."""

MINIATURE = Recipe(
    vocab_size=512,
    hidden_size=64,
    n_layer=2,
    context=64,
    batch_size=8,
    steps=400,
    warmup_steps=20,
    documents=4000,
    optimizer="adamw",
)
"""Ten seconds on one idle core: for experiments that train arm and control with several seeds."""
