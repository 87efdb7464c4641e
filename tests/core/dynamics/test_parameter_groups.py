"""Parameters by group: names of real architectures, and distances against NumPy."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from tests.helpers.tiny_models import tiny_config
from tpe_core.dynamics.measure import parameter_groups
from tpe_core.dynamics.measure.parameter_groups import distances, groups_of, lengths, ratios


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("transformer.wte.weight", ("all", "embedding")),
        ("transformer.wpe.weight", ("all", "positions")),
        ("transformer.h.11.attn.c_attn.bias", ("all", "attention", "layer 11")),
        ("transformer.h.0.ln_1.weight", ("all", "norms", "layer 0")),
        ("transformer.ln_f.bias", ("all", "norms")),
        ("gpt_neox.layers.3.post_attention_layernorm.weight", ("all", "norms", "layer 3")),
        ("gpt_neox.layers.3.mlp.dense_h_to_4h.weight", ("all", "mlp", "layer 3")),
        ("embed_out.weight", ("all", "head")),
        ("model.layers.2.self_attn.q_norm.weight", ("all", "norms", "layer 2")),
        ("lm_head.weight", ("all", "head")),
        ("model.decoder.embed_positions.weight", ("all", "positions")),
        ("model.decoder.layers.7.fc1.weight", ("all", "mlp", "layer 7")),
        ("scale", ("all", "other")),
    ],
)
def test_names(name: str, groups: tuple[str, ...]) -> None:
    assert groups_of(name) == groups


@pytest.mark.parametrize("kind", ["gpt2", "gptj", "neox", "llama", "gemma2"])
def test_every_parameter_of_common_architectures_has_a_kind(kind: str) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config(kind))
    kinds = {name: groups_of(name)[1] for name, _ in model.named_parameters()}
    assert "other" not in kinds.values(), kinds
    assert {"embedding", "attention", "mlp", "norms"} <= set(kinds.values())
    layers = {groups_of(name)[2] for name, _ in model.named_parameters() if len(groups_of(name)) > 2}
    assert layers == {"layer 0", "layer 1"}


def test_a_masked_model_too() -> None:
    size = {"vocab_size": 50, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = BertForMaskedLM(BertConfig(**size, num_attention_heads=2))
    found = {name: groups_of(name)[1] for name, _ in model.named_parameters()}
    assert found["bert.embeddings.position_embeddings.weight"] == "positions"
    assert found["bert.embeddings.LayerNorm.weight"] == "norms"
    assert found["bert.encoder.layer.0.attention.output.dense.weight"] == "attention"
    assert found["bert.encoder.layer.0.output.dense.weight"] == "mlp"
    assert found["cls.predictions.bias"] == "head"


def test_distances_and_lengths_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameter_groups, "CHUNK_VALUES", 7)
    rng = np.random.default_rng(0)
    names = ["h.0.attn.w", "h.0.mlp.w", "h.1.mlp.w", "wte.weight"]
    a = {name: rng.normal(size=(5, 4)).astype(np.float32) for name in names}
    b = {name: rng.normal(size=(5, 4)).astype(np.float32) for name in names}

    def norm(chosen: list[str], difference: bool) -> float:
        parts = [a[name].astype(float) - (b[name] if difference else 0) for name in chosen]
        return float(np.linalg.norm(np.concatenate([part.ravel() for part in parts])))

    groups = {
        "all": names,
        "attention": names[:1],
        "mlp": names[1:3],
        "embedding": names[3:],
        "layer 0": names[:2],
        "layer 1": names[2:3],
    }
    found = distances((name, torch.from_numpy(a[name]), torch.from_numpy(b[name])) for name in names)
    length = lengths((name, torch.from_numpy(a[name])) for name in names)
    assert found == pytest.approx({group: norm(chosen, True) for group, chosen in groups.items()}, rel=1e-12)
    assert length == pytest.approx({group: norm(chosen, False) for group, chosen in groups.items()}, rel=1e-12)
    assert ratios(found, length | {"mlp": 0.0}) == pytest.approx(
        {group: found[group] / length[group] for group in groups if group != "mlp"}
    )


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_other_thread_is_woken_while_a_model_trains() -> None:
    """On a busy machine waiting for the others costs seconds, which the probe would take from the training."""
    script = (
        "import os, numpy, torch\n"
        "from tpe_core.dynamics.measure.parameter_groups import distances, lengths\n"
        "a, b = (torch.from_numpy(numpy.full(2**20, value, 'f')) for value in (1, 2))\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "print(lengths([('wte', a)])['all'], distances([('wte', a, b)])['all'], end=' ')\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
        "\n(a + b); assert len(os.listdir('/proc/self/task')) > before  # that is how it would be seen\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1024.0", "1024.0", "0"]
