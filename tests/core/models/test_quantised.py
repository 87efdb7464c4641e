"""Quantised checkpoints: heads right to the module's own logits, or refused by the method's name."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from tests.helpers.quantised import GROUP, compressed, plain, torchao, values
from tpe_core.errors import HeadError, ModelError, TpeError
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.models.quantised import GPU_METHODS, PACKAGES, ROUNDED_TOLERANCE, silence
from tpe_core.options import RunOptions

IDS = (torch.arange(48) * 7 % 300).reshape(2, 24)

INT8 = values(8)
DYNAMIC = {"strategy": "token", "dynamic": True}
COMPRESSED: dict[str, tuple[str, dict[str, Any]]] = {
    "w8": ("pack-quantized", {"weights": INT8}),
    "w4-groups": ("pack-quantized", {"weights": values(4, strategy="group", group_size=GROUP)}),
    "fp8": ("float-quantized", {"weights": values(8, "float")}),
    "w8a8": ("int-quantized", {"weights": INT8, "input_activations": values(8, **DYNAMIC)}),
    "w8a8-static": ("int-quantized", {"weights": INT8, "input_activations": values(8, strategy="tensor")}),
    "fp8a8": ("float-quantized", {"weights": values(8, "float"), "input_activations": values(8, "float", **DYNAMIC)}),
}
ROUNDING = {"w8a8", "w8a8-static", "fp8a8", "Int8DynamicActivationInt8Weight"}


def quanto(folder: Path, weights: str, head: bool) -> Path:
    skipped = [] if head else ["lm_head"]
    return plain(folder, {"quant_method": "quanto", "weights": weights, "modules_to_not_convert": skipped})


MAKERS: dict[str, Callable[[Path, bool], Path]] = {
    **{
        name: lambda folder, head, name=name: compressed(folder, *COMPRESSED[name], head=head)  # type: ignore[misc]
        for name in COMPRESSED
    },
    **{
        kind: lambda folder, head, kind=kind: torchao(folder, kind, head)  # type: ignore[misc]
        for kind in ("Int8WeightOnly", "Float8WeightOnly", "Int8DynamicActivationInt8Weight")
    },
    **{
        weights: lambda folder, head, weights=weights: quanto(folder, weights, head)  # type: ignore[misc]
        for weights in ("int8", "int4", "int2", "float8")
    },
}
METHOD = {
    **dict.fromkeys(COMPRESSED, "compressed-tensors"),
    **dict.fromkeys(("int8", "int4", "int2", "float8"), "quanto"),
}


def kinds_of(*kinds: str) -> list[Any]:
    """Kinds as parameters; those that quanto compiles a kernel for are slow: it takes a minute."""
    return [pytest.param(kind, marks=pytest.mark.slow) if kind in {"int4", "int2"} else kind for kind in kinds]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], LanguageModel]:
    opened: dict[tuple[str, bool], LanguageModel] = {}

    def model(kind: str, head: bool) -> LanguageModel:
        if (kind, head) not in opened:
            folder = MAKERS[kind](tmp_path_factory.mktemp("quantised") / "model", head)
            opened[kind, head] = load_model(RunOptions(model=str(folder)))
        return opened[kind, head]

    return model


def error_of(model: LanguageModel) -> float:
    """Largest difference of post(W h + b) from the model's own logits, as a share of the largest."""
    own = model.logits(IDS).float()
    return float((model.head.logits(model.hidden(IDS)) - own).abs().max() / own.abs().max())


@pytest.mark.parametrize("head", [False, True], ids=["body", "head"])
@pytest.mark.parametrize("kind", kinds_of(*(kind for kind in MAKERS if kind not in ROUNDING)))
def test_the_head_of_a_quantised_model_gives_its_own_logits(
    models: Callable[[str, bool], LanguageModel], kind: str, head: bool
) -> None:
    model = models(kind, head)
    assert error_of(model) < 1e-5
    assert model.report.quantisation is not None
    assert model.report.quantisation.method == METHOD.get(kind, "torchao")
    assert model.report.head_rounding is None
    assert not any("rounds" in sentence for sentence in model.warnings)


@pytest.mark.parametrize("kind", sorted(ROUNDING))
def test_a_float_head_on_a_body_that_rounds_activations_is_exact(
    models: Callable[[str, bool], LanguageModel], kind: str
) -> None:
    model = models(kind, False)
    assert error_of(model) < 1e-5
    assert model.report.quantisation is not None
    assert model.report.quantisation.activation_bits == 8


@pytest.mark.parametrize("kind", sorted(ROUNDING))
def test_a_head_that_rounds_its_input_says_by_how_much(models: Callable[[str, bool], LanguageModel], kind: str) -> None:
    model = models(kind, True)
    told = model.report.head_rounding
    assert told is not None
    assert model.report.supported
    own = model.logits(IDS).double().log_softmax(-1)
    ours = model.head.logits(model.hidden(IDS)).double().log_softmax(-1)
    kl = float((own.exp() * (own - ours)).sum(-1).mean())
    assert 1e-5 < error_of(model) < 1.5 * ROUNDED_TOLERANCE
    assert kl / 3 < told.kl < 3 * kl  # measured on another text
    assert sum("rounds its input before the product" in sentence for sentence in model.warnings) == 1
    assert model.card()["head_rounding"]["kl"] == told.kl


def test_w_of_a_head_that_rounds_its_input_is_what_its_codes_and_scales_say(
    models: Callable[[str, bool], LanguageModel], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    model = models("w8a8", True)
    saved = load_file(Path(model.name) / "model.safetensors")
    expected = saved["lm_head.weight"].float() * saved["lm_head.weight_scale"].float()
    assert torch.allclose(model.head.weight, expected, atol=1e-6)


def test_a_head_that_clips_its_input_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.quantised.ACTIVATION_SCALE", 0.005)  # 127 steps end at 0.6
    folder = compressed(tmp_path / "model", *COMPRESSED["w8a8-static"], head=True)
    model = load_model(RunOptions(model=str(folder)))
    assert not model.report.supported
    with pytest.raises(HeadError, match=r"compressed-tensors.*rounds its input.*largest"):
        _ = model.head


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["w8", "w4-groups", "Int8WeightOnly", "int8"], id="quick"),
        pytest.param(["w8", "w4-groups", "Int8WeightOnly", "int8", "int4"], id="all", marks=pytest.mark.slow),
    ],
)
def test_a_quantised_model_is_not_taken_for_the_float_one(
    models: Callable[[str, bool], LanguageModel], tmp_path: Path, kinds: list[str]
) -> None:
    float_model = load_model(RunOptions(model=str(plain(tmp_path / "model"))))
    prints = {float_model.fingerprint, *(models(kind, head).fingerprint for kind in kinds for head in (False, True))}
    assert len(prints) == 1 + 2 * len(kinds)


@pytest.mark.parametrize("kind", kinds_of("w4-groups", "Int8WeightOnly", "int4"))
def test_a_quantised_model_opened_twice_has_one_fingerprint(
    models: Callable[[str, bool], LanguageModel], kind: str
) -> None:
    model = models(kind, True)
    assert load_model(RunOptions(model=model.name)).fingerprint == model.fingerprint


EXAMPLES: dict[str, dict[str, Any]] = {
    "aqlm": {"in_group_size": 8, "nbits_per_codebook": 16},
    "auto-round": {"bits": 4, "group_size": 32},
    "awq": {"bits": 4, "group_size": 32, "version": "gemm"},
    "bitnet": {"modules_to_not_convert": ["lm_head"]},
    "bitsandbytes_4bit": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "bitsandbytes_8bit": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "compressed-tensors": {
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"all": {"targets": ["Linear"], "weights": INT8}},
    },
    "eetq": {"weights": "int8"},
    "fbgemm_fp8": {"activation_scale_ub": 1200.0},
    "fouroversix": {"scale_rule": "mse"},
    "fp8": {"weight_block_size": [32, 32]},
    "fp_quant": {"forward_dtype": "mxfp4"},
    "gemma": {"num_bits": 4},
    "gguf": {},
    "gptq": {"bits": 4, "group_size": 32},
    "higgs": {"bits": 4},
    "hqq": {"quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
    "metal": {"bits": 4, "group_size": 32},
    "mxfp4": {},
    "mxfp8": {},
    "nvfp4": {},
    "quanto": {"weights": "int8"},
    "quark": {"global_quant_config": {"weight": {"dtype": "int4"}}},
    "sinq": {"nbits": 4, "group_size": 64},
    "spqr": {"bits": 3, "beta1": 16, "beta2": 16, "shapes": {}},
    "torchao": {"quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}, "_version": 2}}},
    "vptq": {"config_for_layers": {}},
}


@pytest.mark.parametrize("method", sorted(AUTO_QUANTIZATION_CONFIG_MAPPING))
def test_every_method_that_transformers_knows_is_right_or_refused_by_name(tmp_path: Path, method: str) -> None:
    """The weights beside each config are floats: whatever loads must give its own logits, and no scale be made up."""
    assert method in EXAMPLES, f"transformers knows a new method {method!r}: give an example of its config"
    folder = plain(tmp_path / "model", {"quant_method": method, **EXAMPLES[method]})
    named = method.removesuffix("_4bit").removesuffix("_8bit")
    try:
        model = load_model(RunOptions(model=str(folder)))
    except TpeError as refused:
        sentence = str(refused)
        assert f"quantised with {named}" in sentence or f"the {named} weights of" in sentence
        assert "\n" not in sentence
        packages = [package for _, package in PACKAGES.get(named, ())]
        if packages and named not in ("torchao", "quanto", "compressed-tensors"):
            assert any(package in sentence for package in packages)
        if named in GPU_METHODS and not torch.cuda.is_available():
            assert "a GPU" in sentence
    else:
        assert model.report.quantisation is not None
        assert model.report.quantisation.method == named
        assert error_of(model) < 1e-5


def test_scales_that_loading_leaves_unread_are_refused(tmp_path: Path) -> None:
    folder = compressed(tmp_path / "model", *COMPRESSED["w8a8"], head=True)
    path = folder / "config.json"
    document = json.loads(path.read_text())
    del document["quantization_config"]
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"8 tensors of a quantisation.*no method is named.*lm_head\.weight_scale"):
        load_model(RunOptions(model=str(folder)))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"bits": 4}, "does not say how .*quant_method"),
        ({"quant_method": "of-tomorrow", "bits": 3}, r"quantised with of-tomorrow \(3 bits\), a method that this"),
        ({"quant_method": "quanto", "weights": "int8", "activations": "int8"}, "quanto .8 bits, activations in 8 bits"),
    ],
)
def test_a_config_that_no_method_reads_is_refused(tmp_path: Path, document: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_model(RunOptions(model=str(plain(tmp_path / "model", document))))


def test_a_quantised_model_is_not_quantised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.models.placement._quantizer", lambda bits, dtype: None)
    folder = quanto(tmp_path / "model", "int8", False)
    with pytest.raises(ModelError, match=r"quantised with quanto \(8 bits\) already: leave out --quantize 4bit"):
        load_model(RunOptions(model=str(folder), quantize="4bit"))


def test_unpacked_weights_are_counted_as_the_floats_they_become(
    models: Callable[[str, bool], LanguageModel], tmp_path: Path
) -> None:
    memory = models("w4-groups", True).memory
    float_memory = load_model(RunOptions(model=str(plain(tmp_path / "model")))).memory
    assert memory is not None
    assert float_memory is not None
    assert memory.body_bytes == float_memory.body_bytes


def fp8_blocks(folder: Path, size: int = 32) -> Path:
    """A checkpoint of blockwise float8, as the method's own kernels read it: codes, and a scale per block."""
    from safetensors.torch import load_file, save_file

    plain(folder, {"quant_method": "fp8", "weight_block_size": [size, size], "modules_to_not_convert": ["lm_head"]})
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        weight = tensors[name]
        blocks = weight.unflatten(0, (-1, size)).unflatten(2, (-1, size))  # [rows, size, columns, size]
        scale = blocks.abs().amax((1, 3)) / 448
        tensors[name] = (blocks / scale[:, None, :, None]).reshape(weight.shape).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_blocks_of_float8_are_unpacked_with_their_scales_where_there_is_no_gpu(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = load_model(RunOptions(model=str(fp8_blocks(tmp_path / "model"))))
    assert error_of(model) < 1e-5
    saved = load_file(tmp_path / "model" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    scale = saved[f"{name}_scale_inv"].repeat_interleave(32, 0).repeat_interleave(32, 1)
    expected = saved[name].float() * scale
    loaded = dict(model.hf.named_parameters())[name].float()
    assert torch.allclose(loaded, expected, rtol=2**-7)
    assert model.card()["quantisation"] == {"method": "fp8", "bits": 8, "activation_bits": None, "unpacked": True}


QUIET = """
import sys
from pathlib import Path
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
for folder in sys.argv[1:]:
    assert load_model(RunOptions(model=folder)).head is not None
assert "torchao" in sys.modules
"""


def test_libraries_of_quantisation_write_nothing_on_the_terminal(
    models: Callable[[str, bool], LanguageModel],
) -> None:
    folders = [models(kind, True).name for kind in ("w4-groups", "Int8WeightOnly")]
    run = subprocess.run([sys.executable, "-c", QUIET, "demo", *folders], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_other_messages_of_the_silenced_libraries_still_come_through() -> None:
    silence()
    assert logging.getLogger("torchao").isEnabledFor(logging.ERROR)
    pytree = logging.getLogger("torch.utils._pytree")

    def passes(message: str) -> bool:
        return bool(pytree.filter(pytree.makeRecord(pytree.name, logging.WARNING, "", 0, message, (int,), None)))

    assert passes("%s is registered twice")
    assert not passes("%s is an Enum subclass and is now natively supported")
