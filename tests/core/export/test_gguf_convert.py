"""GGUF files made of Hugging Face folders: what llama.cpp computes of them against transformers, by architecture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import normalizers, pre_tokenizers

from benchmarks.real_models import MODELS
from tests.core.export.conftest import interruptions, steered
from tests.helpers.checkpoints import word_tokenizer
from tests.helpers.convertible import KINDS, save_convertible
from tests.helpers.word_rules import RULES, byte_level_by_rule, character_level
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError, TpeError
from tpe_core.export import gguf_convert, gguf_file
from tpe_core.export.formats import export, planned
from tpe_core.export.gguf_convert import convert_with_head, shortest_type
from tpe_core.export.gguf_copy import encoded
from tpe_core.export.gguf_vocabulary import GgufVocabulary, gguf_vocabulary
from tpe_core.export.llama_cpp import is_installed, tokens_in_llama_cpp
from tpe_core.export.plan import Exported, Request
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session

needs_llama = pytest.mark.skipif(not is_installed(), reason="xllamacpp is not installed")


@pytest.fixture(scope="module")
def folder_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """A model of `KINDS` loaded from its folder, made once."""
    made: dict[str, LanguageModel] = {}

    def make(name: str) -> LanguageModel:
        if name not in made:
            made[name] = load_model(RunOptions(model=str(save_convertible(tmp_path_factory.mktemp(name), name))))
        return made[name]

    return make


def written(model: LanguageModel, edit: ResolvedEdit, out: Path, **settings: object) -> Exported:
    exported = run(export(Request(model=model, edit=edit, out=out, settings=settings), "gguf"))
    assert isinstance(exported, Exported)
    return exported


def mild(width: int) -> ResolvedEdit:
    """A hundred tokens steered along a direction of length 1, as h of a root-mean-square norm has length sqrt(d)."""
    edit = steered(width, range(8, 108))
    return replace(edit, rows={token_id: row / math.sqrt(width) for token_id, row in edit.rows.items()})


@needs_llama
@pytest.mark.parametrize("name", KINDS)
def test_llama_cpp_computes_what_transformers_does_of_every_architecture(
    folder_model: Callable[[str], LanguageModel], name: str, tmp_path: Path
) -> None:
    model = folder_model(name)
    edit = mild(model.head.hidden_size)
    exported = written(model, edit, tmp_path / "out.gguf", head_type="f16")
    comparison = exported.comparison
    assert comparison is not None
    assert comparison.unedited_difference < 0.004
    assert comparison.ratio is not None
    assert comparison.ratio <= 1.5
    plain = [{pair.token_id: pair.predicted for pair in prompt.tokens} for prompt in comparison.unedited]
    moved = [
        abs(pair.found - before.get(pair.token_id, 0.0))
        for prompt, before in zip(comparison.edited, plain, strict=True)
        for pair in prompt.tokens
    ]
    assert sum(moved) / len(plain) > 5 * comparison.edited_difference
    assert exported.facts["untied"] == model.head.tied


UNREAD = ("smollm3", "olmo2", "gpt_neox", "gpt_neox-serial")
"""What transformers 5 does not read from GGUF files."""


@pytest.mark.parametrize("name", KINDS)
def test_what_tpe_writes_it_opens_with_the_same_head(
    folder_model: Callable[[str], LanguageModel], name: str, tmp_path: Path
) -> None:
    model = folder_model(name)
    head = encoded(model.site.head.weight, "f32")  # type: ignore[union-attr]
    run(convert_with_head(model, tmp_path / "out.gguf", head, {"tpe.version": "0"}))
    if name in UNREAD:
        with pytest.raises(ModelError, match=r"which transformers .* cannot load from GGUF files"):
            load_model(RunOptions(str(tmp_path / "out.gguf")))
        return
    opened = load_model(RunOptions(str(tmp_path / "out.gguf")))
    rows = model.head.weight.shape[0]
    assert torch.equal(opened.head.weight[:rows].float(), model.head.weight.float())
    assert opened.context >= model.context


@needs_llama
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_llama_cpp_cuts_texts_as_the_tokenizer_does(rule: str, begins: bool, tmp_path: Path) -> None:
    tokenizer = byte_level_by_rule(rule, begins)
    vocabulary = gguf_vocabulary(tokenizer, len(tokenizer))
    assert isinstance(vocabulary, GgufVocabulary)
    assert (vocabulary.pre, vocabulary.adds_bos) == (rule, begins)
    check_tokens(tokenizer, tmp_path)


@needs_llama
@pytest.mark.parametrize("space_first", [False, True])
def test_llama_cpp_cuts_texts_as_a_tokenizer_over_characters_does(space_first: bool, tmp_path: Path) -> None:
    tokenizer = character_level(space_first)
    vocabulary = gguf_vocabulary(tokenizer, len(tokenizer))
    assert isinstance(vocabulary, GgufVocabulary)
    assert (vocabulary.model, vocabulary.adds_bos, vocabulary.adds_space) == ("llama", True, space_first)
    check_tokens(tokenizer, tmp_path)


def check_tokens(tokenizer: Any, place: Path) -> None:
    """Write a tiny Llama with a tokenizer as a GGUF file, and compare the tokens of many texts."""
    model = load_model(RunOptions(model=str(save_convertible(place / "model", "llama", tokenizer=tokenizer))))
    head = encoded(model.site.head.weight, "f16")  # type: ignore[union-attr]
    run(convert_with_head(model, place / "out.gguf", head, {}))
    rng = np.random.default_rng(0)
    pieces = [*"the The 's 'LL 12 1999 . ?! ( é 日本 नम 🙂".split(), " ", "  ", "\n", "\r\n", "\t"]
    texts = [text for text in ("".join(rng.choice(pieces, 12)) for _ in range(200)) if text.strip()]
    for text, ids in zip(texts, run(tokens_in_llama_cpp(place / "out.gguf", texts)), strict=True):
        assert ids == tokenizer(text)["input_ids"], text


@needs_llama
@pytest.mark.real
@pytest.mark.parametrize("head_type", ["f16", "f32", "q8_0"])
def test_a_pretrained_folder_runs_in_llama_cpp_with_two_steered_tokens(
    real_models: Path, tmp_path: Path, head_type: str
) -> None:
    source = load_model(RunOptions(str(real_models / MODELS["smollm2"].file)))
    source.hf.save_pretrained(tmp_path / "folder")
    source.tokenizer.save_pretrained(tmp_path / "folder")
    session = run(open_session(RunOptions(str(tmp_path / "folder"), positions=2048, sample=512, cache=False)))
    edit = session.resolved(Intervention().steer(7042, 0.1).steer(4528, 20.0))
    comparison = written(session.analysis.model, edit, tmp_path / "out.gguf", head_type=head_type).comparison
    assert comparison is not None
    assert comparison.unedited_difference < 0.02
    assert comparison.ratio is not None
    assert comparison.ratio <= 1.5


def test_what_cannot_be_converted_is_one_sentence_that_names_what_can(tmp_path: Path) -> None:
    def refused(name: str, **facts: Any) -> str:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        model = load_model(RunOptions(model=str(save_convertible(place, name, **facts))))
        verdict = planned(model, mild(model.head.hidden_size), "gguf")
        assert verdict.holding == "not"
        assert verdict.instead == ("hf", "peft", "logit-bias")
        assert verdict.sentence.endswith("--to hf or --to peft or --to logit-bias can.")
        return verdict.sentence

    converter = "convert the unedited folder with llama.cpp's convert_hf_to_gguf.py and edit that file"
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 32}
    assert "its rotary embedding is scaled as 'yarn', and tpe writes default, linear" in refused(
        "qwen2", rope_parameters=yarn
    )
    assert "its activation is relu, and llama.cpp computes silu" in refused("llama", hidden_act="relu")
    assert f"is of the kind WordLevel, and tpe writes BPE; {converter}" in refused("llama", tokenizer=word_tokenizer())
    prefixed = byte_level_by_rule("gpt-2")
    prefixed.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert f"by a rule that is none of those tpe names (gpt-2, smollm, qwen2, llama-bpe, dbrx); {converter}" in refused(
        "llama", tokenizer=prefixed
    )
    lowered = character_level()
    lowered.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("b", "d"), normalizers.Replace(" ", "▁")]
    )
    assert "changes a text before it cuts it" in refused("llama", tokenizer=lowered)


def test_an_architecture_that_is_not_known_is_refused_with_those_that_are(
    tiny: Callable[[str], LanguageModel],
) -> None:
    model = tiny("gptj-untied")
    sentence = planned(model, steered(model.head.hidden_size, (20,)), "gguf").sentence
    assert "is of the architecture gptj, and tpe writes llama, mistral, smollm3, qwen2, qwen3, olmo2" in sentence
    assert "convert_hf_to_gguf.py" in sentence


def test_every_parameter_is_stored_as_it_is_under_ggmls_name(
    folder_model: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    model = folder_model("gpt2")
    head = encoded(model.site.head.weight, "f32")  # type: ignore[union-attr]
    untied = run(convert_with_head(model, tmp_path / "out.gguf", head, {"tpe.version": "0"}))
    assert untied
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    weights = {name: tensor.detach().numpy() for name, tensor in model.hf.state_dict().items()}
    assert len(tensors) == len(weights)
    for name, theirs, turned in (
        ("token_embd.weight", "transformer.wte.weight", False),
        ("output.weight", "lm_head.weight", False),
        ("blk.1.attn_qkv.weight", "transformer.h.1.attn.c_attn.weight", True),
        ("blk.0.ffn_up.bias", "transformer.h.0.mlp.c_fc.bias", False),
        ("output_norm.weight", "transformer.ln_f.weight", False),
    ):
        wanted = weights[theirs].T if turned else weights[theirs]
        assert np.array_equal(tensors[name].data.astype(np.float32), wanted), name
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.attn_output.weight"] == "F16"  # which holds the values of this model
    assert kinds["position_embd.weight"] == kinds["blk.0.attn_norm.weight"] == "F32"


@pytest.mark.parametrize(("values", "kind"), [([1.5, -3.0], "F16"), ([1e30, 2.0], "BF16"), ([0.1, 2.0], "F32")])
def test_a_matrix_is_stored_in_the_shortest_type_that_holds_its_values(values: list[float], kind: str) -> None:
    tensor = torch.tensor([values]) if kind == "F32" else torch.tensor([values]).bfloat16().float()
    assert shortest_type(tensor) == kind


@needs_llama
def test_a_conversion_that_llama_cpp_computes_otherwise_is_not_published(
    folder_model: Callable[[str], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = folder_model("llama")
    monkeypatch.setattr(gguf_convert, "_reordered", lambda _model, _architecture, planned: planned.tensor)
    with pytest.raises(TpeError, match=r"computes something else of the converted model.*convert_hf_to_gguf"):
        written(model, mild(model.head.hidden_size), tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


@needs_llama
def test_a_tokenizer_that_llama_cpp_reads_otherwise_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_convertible(tmp_path / "model", "llama", tokenizer=byte_level_by_rule("gpt-2"))
    model = load_model(RunOptions(model=str(folder)))
    real = gguf_convert.gguf_vocabulary

    def other(tokenizer: Any, rows: int) -> Any:
        return replace(real(tokenizer, rows), pre="smollm")

    monkeypatch.setattr(gguf_convert, "gguf_vocabulary", other)
    with pytest.raises(TpeError, match=r"cuts .* into \d+ tokens other than the \d+ of .*, so none was written"):
        written(model, mild(model.head.hidden_size), tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_conversion_that_is_interrupted_at_any_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "is_installed", lambda: False)
    model = load_model(RunOptions(model=str(save_convertible(tmp_path / "model", "qwen2", num_hidden_layers=1))))
    out = tmp_path / "place" / "out.gguf"
    out.parent.mkdir()
    assert interruptions(Request(model=model, edit=mild(model.head.hidden_size), out=out), "gguf") > 10
    assert out.exists()
