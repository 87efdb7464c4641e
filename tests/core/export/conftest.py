"""Tiny models and edits of every kind, made once for the tests of exports."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.helpers.checkpoints import ROWS, loaded
from tests.helpers.tiny_models import random_corpus
from tpe_core.detection.detection import Detection, detect
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Method, Steering
from tpe_core.export.formats import export
from tpe_core.export.plan import Request
from tpe_core.models.head import Task
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run

TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
MODELS: dict[str, tuple[Task, str, dict[str, Any]]] = {
    "gpt2-tied": ("causal", "gpt2", TIED),
    "neox-untied": ("causal", "gpt_neox", UNTIED),
    "llama-tied": ("causal", "llama", TIED),
    "llama-untied": ("causal", "llama", UNTIED),
    "gptj-untied": ("causal", "gptj", UNTIED),
    "gemma2-tied": ("causal", "gemma2", TIED | {"final_logit_softcapping": 7.5}),
    "granite-tied": ("causal", "granite", TIED | {"logits_scaling": 7.0}),
    "t5-tied": ("seq2seq", "t5", {}),
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """A model by its name in `MODELS`, made once."""
    made: dict[str, LanguageModel] = {}

    def make(name: str) -> LanguageModel:
        if name not in made:
            task, model_type, fixed = MODELS[name]
            made[name] = loaded(tmp_path_factory.mktemp(name), task, model_type, **fixed)
        return made[name]

    return make


@pytest.fixture(scope="session")
def detected(tiny: Callable[[str], LanguageModel]) -> Callable[[str], Detection]:
    """The detection of a model of `tiny` on random tokens, made once."""
    made: dict[str, Detection] = {}

    def make(name: str) -> Detection:
        if name not in made:
            made[name] = run(detect(tiny(name), random_corpus(8, 32, vocab=ROWS)))
        return made[name]

    return make


def steered(
    width: int, ids: Sequence[int], methods: Sequence[Method] = ("least-squares",), pruned: Sequence[int] = ()
) -> ResolvedEdit:
    """Tokens steered by ratios between 0.25 and 4 along a random direction for each method, in turn."""
    rng = np.random.default_rng(len(ids))
    directions = {method: rng.normal(size=width) for method in methods if method != "bias"}
    ratios = np.exp(rng.uniform(-1.4, 1.4, len(ids))).tolist()
    entries = [Steering(i, ratios[at], methods[at % len(methods)]) for at, i in enumerate(ids)]
    return ResolvedEdit(
        intervention=Intervention(tuple(pruned), "zero", tuple(entries)),
        hidden_size=width,
        constant=np.zeros(len(pruned)),
        rows={e.token_id: math.log(e.ratio) * directions[e.method] for e in entries if e.method != "bias"},
        biases={e.token_id: math.log(e.ratio) for e in entries if e.method == "bias"},
    )


def interruptions(request: Request, to: str) -> int:
    """End an export before each of its steps, one after the other; how many steps there were."""
    step = 0
    while True:
        steps = export(request, to)
        try:
            for _ in range(step + 1):
                next(steps)
        except StopIteration:
            return step
        with pytest.raises(KeyboardInterrupt):
            steps.throw(KeyboardInterrupt)
        assert list(request.out.parent.iterdir()) == []
        step += 1
