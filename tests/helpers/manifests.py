"""A manifest of a made-up model."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.manifest.manifest import (
    Expected,
    MadeOn,
    Manifest,
    Measured,
    MeasuredText,
    PostRecord,
    SelfTest,
    SteeredToken,
    TestPrompt,
)

HEAD, TOKENIZER, TEXT = "a" * 64, "b" * 64, "c" * 64
ROWS, WIDTH = 10, 6
THE = "·the"
EDIT = Intervention((5, 1), "mean", (Steering(7, 2.0), Steering(3, 0.5, "min-norm")))


def make(edit: Intervention = EDIT, prompt: str = "The cat", model: str = "demo", width: int = WIDTH) -> Manifest:
    return Manifest(
        pruned=edit.pruned,
        replacement=edit.replacement,
        steering=tuple(
            SteeredToken(token_id=entry.token_id, token=THE, ratio=entry.ratio, method=entry.method)
            for entry in edit.steering
        ),
        made_on=MadeOn(
            model=model,
            revision=None,
            head_sha256=HEAD,
            vocab_rows=ROWS if width == WIDTH else 2**31 - 1,
            hidden_size=width,
            tokenizer_sha256=TOKENIZER,
            post=PostRecord(kind="identity", scale=1.0, cap=None),
            tied=True,
        ),
        made_by="a test",
        measured=Measured(
            text="docs",
            corpus_fingerprint=TEXT,
            positions=100,
            prompt=prompt,
            kl=0.25,
            js=None,
            texts=(MeasuredText(domain="heldout", text="docs", positions=50, kl=0.5, top1=0.75),),
        ),
        self_test=SelfTest(
            task="causal",
            dtype="float32",
            prompts=(TestPrompt(prompt="a b", top=(Expected(token_id=3, token=THE, logit=1.5),), steered=()),),
        ),
        versions={"tpe": "0", "torch": "1", "transformers": "2"},
        created="2026-01-02T05:04:05+02:00",
    )


def arrays_of(manifest: Manifest) -> dict[str, Any]:
    shapes = manifest.needed_arrays()
    return {name: np.linspace(0, index + 1, shape[0]) for index, (name, shape) in enumerate(shapes.items())}
