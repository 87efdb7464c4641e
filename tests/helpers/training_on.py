"""A tiny model with dimensions that matter and some that do nothing, masks of both, and texts to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.continued_training.options import TrainOnOptions
from tpe_core.edits.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session

__all__ = ["HARMLESS", "MATTERING", "Planted", "planted"]

HARMLESS, MATTERING = (2, 5, 9, 13), (0, 4, 7, 11)


def _plant(hf: Any) -> None:
    """Make the head's columns of harmless dimensions tiny and those of others large."""
    weight = hf.get_output_embeddings().weight
    weight[:, list(HARMLESS)] *= 0.001
    weight[:, list(MATTERING)] *= 2


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Where everything lies."""

    root: Path
    run: RunOptions

    def mask(self, name: str) -> Path:
        return self.root / f"{name}.json"

    def options(self, out: str, *masks: str, **changes: Any) -> TrainOnOptions:
        """Options of an experiment of seconds."""
        values: dict[str, Any] = {
            "masks": tuple(map(self.mask, masks or ("harmless",))),
            "out": self.root / out,
            "seeds": 1,
            "steps": 4,
            "every": 2,
            "batch": 2,
            "evaluated": 256,
            "learning_rate": 1e-3,
            "ood": (str(self.root / "other.txt"),),
        }
        return TrainOnOptions(self.run, **{**values, **changes})


def planted(root: Path, kind: str = "llama") -> Planted:
    """Write the model of a kind, its texts and its masks: ``harmless``, ``mattering``, ``steered``."""
    torch.set_num_threads(1)
    save_tiny(root / "model", kind, _plant)
    (root / "text.txt").write_text(text(3, 6000))
    (root / "other.txt").write_text(text(9, 2000).upper())
    options = RunOptions(str(root / "model"), text=(str(root / "text.txt"),), positions=2000, sample=300, cache=False)
    live = run(open_session(options))
    edits = {
        "harmless": Intervention(HARMLESS),
        "mattering": Intervention(MATTERING),
        "steered": Intervention(MATTERING, "mean").steer(7, 3.0),
    }
    for name, edit in edits.items():
        live.export(root / f"{name}.json", edit, "the")
    return Planted(root=root, run=options)
