"""A training run without training: checkpoints on a path from random weights to ones that encode token frequencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.helpers.tiny_models import VOCAB, text, tiny_config, tiny_tokenizer
from tpe_core.dynamics.plan import DynamicsOptions, dynamics
from tpe_core.dynamics.trajectory import Trajectory
from tpe_core.options import RunOptions
from tpe_core.progress import run

__all__ = [
    "STEPS",
    "TEXT",
    "asked",
    "by_step",
    "head_of",
    "measure",
    "save_run",
    "surprisal",
    "text_counts",
    "weights_of",
]

STEPS = (0, 100, 200, 300, 400, 500)

RNG = np.random.default_rng(5)
TEXT = text(3, 3000) + "".join(chr(33 + int(at)) for at in RNG.zipf(1.2, 6000) if at < 8000)
"""Words and characters of every frequency, so that most of the tiny vocabulary occurs."""


def text_counts() -> np.ndarray:
    """[V] how often each token occurs in `TEXT`, counted one by one."""
    counted = Counter(tiny_tokenizer()(TEXT, verbose=False)["input_ids"])
    return np.array([counted[token] for token in range(VOCAB)])


def surprisal() -> np.ndarray:
    """[V] -log of add-one frequencies of `TEXT`."""
    counts = text_counts()
    return -np.log((counts + 1) / (counts.sum() + VOCAB))


def state(kind: str, share: float) -> Any:
    """A model `share` of the way from its start to its end."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind))
    generator = torch.Generator().manual_seed(1)
    head = model.get_output_embeddings().weight
    y = torch.from_numpy(surprisal()).float()
    with torch.no_grad():
        for parameter in model.parameters():
            end = parameter + 0.1 * torch.randn(parameter.shape, generator=generator)
            if parameter is head:
                encoded = (y - y.mean())[:, None] * torch.randn(1, head.shape[1], generator=generator)
                end[: len(y)] += 0.2 * encoded
            parameter.lerp_(end, share)
    return model


def save_run(
    folder: Path, steps: Sequence[int], kind: str = "gpt2", name: str = "checkpoint-{}", **options: Any
) -> Path:
    """Checkpoints at `steps` of which the last is the end, and the tokenizer beside them; the encoding comes early."""
    for step in steps:
        state(kind, (step / steps[-1]) ** 0.5).save_pretrained(folder / name.format(step), **options)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "text.txt").write_text(TEXT)
    return folder


def head_of(folder: Path) -> np.ndarray:
    """[V_all, d] float64: the output embedding as transformers loads it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    return np.asarray(model.get_output_embeddings().weight.detach().double().numpy())


def asked(folder: Path, **others: Any) -> DynamicsOptions:
    """What to measure of a folder that `save_run` made."""
    words = (str(folder / "text.txt"),) if "counts" not in others else ()
    return DynamicsOptions(RunOptions(model=str(folder), text=words), **others)


def measure(folder: Path, **others: Any) -> Trajectory:
    """Its trajectory."""
    return run(dynamics(asked(folder, **others)))


def by_step(found: Trajectory) -> dict[int, Any]:
    """Points by step."""
    return {point.step: point for point in found.points}


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """A checkpoint's tensors in float64."""
    return {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
