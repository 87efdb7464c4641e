"""Two models compared over a text: every figure against both models' whole logits in float64, by the definitions."""

from __future__ import annotations

import json
import math
import struct
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from tests.helpers.adapters import KINDS, adapted, save_adapter
from tests.helpers.tiny_models import VOCAB, save_tiny, text, tiny_tokenizer, tuned
from tpe_core.comparison import divergence
from tpe_core.comparison.divergence import ModelComparison, compare_models
from tpe_core.comparison.measures import apart, flips, retained
from tpe_core.comparison.states import BaseStates, read_states, states_of
from tpe_core.corpus.sources import text_source
from tpe_core.errors import TpeError
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.token_sets.token_classes import CLASSES, class_of, token_classes
from tpe_tui.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")

POSITIONS = 512
GROUP = {"name", "tokens", "kl", "probability"}
FACTS = {
    "model", "revision", "dtype", "task", "hidden_size", "head_sha256", "tokenizer_sha256", "has_tokenizer",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models with one tokenizer, and a text."""
    root = tmp_path_factory.mktemp("comparison")
    (root / "text.txt").write_text(text(3, 6000))
    for kind in ("granite", "gemma2", "neox"):
        save_tiny(root / kind, kind)
        save_tiny(root / f"{kind}-tuned", kind, tuned)
    for kind in ("gemma2", "gemma2-tuned"):  # a cap that does not make most logits equal
        config = json.loads((root / kind / "config.json").read_text())
        (root / kind / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 5.0}))
    save_tiny(root / "gpt2")
    save_adapter(root / "granite", root / "lora", KINDS["lora-head"]())
    return root


def options(world: Path, model: str, **more: Any) -> RunOptions:
    text = (str(world / "text.txt"),)
    return RunOptions(model=str(world / model), text=text, positions=POSITIONS, cache=False, **more)


@pytest.fixture(scope="module")
def states(world: Path) -> BaseStates:
    model = load_model(options(world, "granite"))
    return run(states_of(model, text_source([world / "text.txt"]), POSITIONS))


def whole_logits(hf: Any, states: BaseStates) -> np.ndarray:
    """[n, V_all] a model's own logits of the text, by its whole forward."""
    with torch.inference_mode():
        logits = hf(input_ids=torch.from_numpy(states.corpus.blocks)).logits
    return logits.flatten(0, 1).double().numpy()


def folder_logits(folder: Path, states: BaseStates) -> np.ndarray:
    return whole_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), states)


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - np.logaddexp.reduce(z, 1, keepdims=True)


def check_figures(result: ModelComparison, ours: np.ndarray, theirs: np.ndarray, targets: np.ndarray) -> None:
    """Every figure of a comparison against two models' logits [n, V] of the rows compared."""
    log_p, log_q = log_softmax(ours), log_softmax(theirs)
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = np.log((p + q) / 2)
    kl = (p * (log_p - log_q)).sum(1)
    assert result.kl.max() > 5e-5, "there is something to see"
    np.testing.assert_allclose(result.kl, kl, atol=1e-6)
    np.testing.assert_allclose(result.kl_reverse, (q * (log_q - log_p)).sum(1), atol=1e-6)
    np.testing.assert_allclose(result.js, (p * (log_p - log_m) + q * (log_q - log_m)).sum(1) / 2, atol=1e-6)
    assert result.flipped.tolist() == (p.argmax(1) != q.argmax(1)).tolist()
    orders = np.argsort(-ours, 1), np.argsort(-theirs, 1)
    for k, share in result.kept.items():
        both = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(*orders, strict=True)]
        assert share == pytest.approx(np.mean(both), abs=2 / len(p)), k
    rows = np.arange(len(targets))
    for name, log in zip(result.perplexities, (log_p, log_q), strict=True):
        assert name == pytest.approx(math.exp(-log[rows, targets].mean()), rel=1e-5)
    assert result.perplexity_ratio == pytest.approx(result.perplexities[1] / result.perplexities[0], rel=1e-9)
    sizes = np.sort(kl)
    assert result.percentiles["50"] == pytest.approx(np.median(kl), abs=1e-6)
    assert sizes[-10] <= result.percentiles["99"] <= sizes[-1] + 1e-6
    assert result.percentiles["max"] == result.worst.kl == pytest.approx(sizes[-1], abs=1e-6)
    means = kl.reshape(result.blocks, -1).mean(1)
    assert result.kl_stderr == pytest.approx(np.std(means, ddof=1) / math.sqrt(len(means)), rel=1e-3, abs=1e-8)
    assert {group.name: group.tokens for group in result.deciles if group.name != "padding"}.keys() >= {"1", "10"}
    for groups in (result.classes, result.deciles):
        assert sum(group.kl for group in groups if group.kl >= 0) <= 1 + 1e-9
        assert sum(group.probability for group in groups) <= 1 + 1e-9
    assert sum(group.kl for group in result.classes) == pytest.approx(1)
    by_token = (p * (log_p - log_q) - p + q).sum(0)
    classes = token_classes(tiny_tokenizer(), VOCAB)
    for group in result.classes:
        if group.name != "padding":
            of_it = np.flatnonzero(classes == CLASSES.index(group.name))
            assert group.tokens == len(of_it)
            assert group.kl == pytest.approx(by_token[of_it].sum() / by_token.sum(), abs=2e-4)
            assert group.probability == pytest.approx(p.mean(0)[of_it].sum(), abs=1e-5)
    rare_first = np.argsort(p.mean(0)[:VOCAB], kind="stable")
    assert result.deciles[9].kl == pytest.approx(by_token[rare_first[-VOCAB // 10 :]].sum() / by_token.sum(), abs=2e-4)


@pytest.mark.parametrize(
    ("base", "other", "rows", "padding"),
    [
        ("granite", "granite-tuned", VOCAB, 0),
        ("gemma2", "gemma2-tuned", VOCAB, 0),
        ("neox", "neox-tuned", VOCAB + 12, 12),
        ("neox", "gpt2", VOCAB, 0),
    ],
    ids=["scaled", "capped", "padded alike", "padded differently"],
)
def test_every_figure_is_that_of_both_models_whole_logits(
    base: str, other: str, rows: int, padding: int, *, world: Path, states: BaseStates
) -> None:
    result = run(compare_models(options(world, base), options(world, other)))
    assert (result.rows, result.padding_rows, result.positions) == (rows, padding, POSITIONS)
    ours, theirs = (folder_logits(world / name, states)[:, :rows] for name in (base, other))
    check_figures(result, ours, theirs, states.next_ids)


def test_a_model_lies_exactly_nowhere_from_itself(world: Path) -> None:
    result = run(compare_models(options(world, "granite"), options(world, "granite")))
    for values in (result.kl, result.kl_reverse, result.js, result.flipped):
        assert not values.any()
    assert set(result.kept.values()) == {1.0}
    assert result.perplexity_ratio == 1
    assert all(math.isnan(group.kl) for group in result.classes), "there is nothing to share"


def test_a_bfloat16_twin_is_its_own_hidden_states_under_its_own_head(world: Path, states: BaseStates) -> None:
    result = run(compare_models(options(world, "neox"), options(world, "neox", dtype="bfloat16")))
    assert (result.base.dtype, result.other.dtype) == ("float32", "bfloat16")
    twin = AutoModelForCausalLM.from_pretrained(world / "neox", dtype=torch.bfloat16).eval()
    found = []
    with torch.inference_mode():
        for blocks in torch.from_numpy(states.corpus.blocks).split(4):
            found.append(twin.gpt_neox(input_ids=blocks).last_hidden_state.flatten(0, 1).double())
        logits = torch.cat(found) @ twin.get_output_embeddings().weight.double().T
    check_figures(result, folder_logits(world / "neox", states), logits.numpy(), states.next_ids)


@pytest.mark.parametrize("named", [{"adapter": "lora"}, {"revision": "adapter:lora"}], ids=["adapter", "revision"])
def test_an_adapter_is_compared_with_its_base(named: dict[str, str], world: Path, states: BaseStates) -> None:
    ((name, value),) = named.items()
    other = options(world, "granite", **{name: value.replace("lora", str(world / "lora"))})
    result = run(compare_models(options(world, "granite"), other))
    theirs = whole_logits(adapted(world / "granite", world / "lora"), states)
    check_figures(result, folder_logits(world / "granite", states), theirs, states.next_ids)
    assert result.other.revision == f"adapter:{world / 'lora'}"


def test_a_saved_base_gives_the_same_figures_without_the_base(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "base.safetensors"
    steps = compare_models(options(world, "granite", dtype="bfloat16"), options(world, "granite-tuned"), save=file)
    first = run(steps)
    loaded: list[str] = []
    load = divergence.load_steps

    def noted(wanted: RunOptions, **more: Any) -> Any:
        loaded.append(wanted.model)
        return load(wanted, **more)

    monkeypatch.setattr(divergence, "load_steps", noted)
    again = run(compare_models(file, options(world, "granite-tuned")))
    assert loaded == [str(world / "granite-tuned")]
    document, other = first.to_dict(), again.to_dict()
    for each in (document, other):
        each.pop("warnings")  # they speak of the machine, too
    assert document == other
    kept = read_states(file)
    assert kept.hidden.dtype == torch.bfloat16
    assert kept.head.sha256 == kept.facts.head_sha256
    assert document["bytes"]["hidden_states_and_head"] == kept.hidden.nbytes + kept.head.columns.nbytes
    assert document["bytes"]["float32_logits"] == 4 * POSITIONS * VOCAB
    assert file.stat().st_size < document["bytes"]["hidden_states_and_head"] + 40_000
    assert list(tmp_path.iterdir()) == [file]


def test_one_model_is_in_memory_at_a_time(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, alive = divergence.load_steps, []

    def watched(wanted: RunOptions, **more: Any) -> Any:
        assert [each for each in alive if each() is not None] == []
        model = yield from load(wanted, **more)
        alive.append(weakref.ref(model.hf))
        return model

    monkeypatch.setattr(divergence, "load_steps", watched)
    run(compare_models(options(world, "granite"), options(world, "granite-tuned")))
    assert len(alive) == 2


def test_progress_has_two_stages_and_closing_the_job_ends_it(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    steps = compare_models(options(world, "granite"), options(world, "granite-tuned"), save=file)
    labels = []
    for event in steps:
        labels.append(event.label)
        if event.label == "compare" and event.done:
            steps.close()
    seen = list(dict.fromkeys(labels))
    assert seen.index("base: hidden states") < seen.index("write hidden states") < seen.index("compare")
    assert labels.count("base: hidden states") > 2
    assert file.is_file()


def edited_file(file: Path, how: str, tmp_path: Path) -> Path:
    """A file of hidden states that is wrong in some way."""
    data, wrong = file.read_bytes(), tmp_path / f"{how}.safetensors"
    header = struct.unpack("<Q", data[:8])[0]
    if how == "empty":
        wrong.write_bytes(b"")
    elif how == "cut":
        wrong.write_bytes(data[:-100])
    elif how == "cut in its header":
        wrong.write_bytes(data[: header // 2])
    elif how == "changed":
        place = 8 + header + 4000
        wrong.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    elif how == "another version":
        wrong.write_bytes(data.replace(b'"version":"1"', b'"version":"7"'))
    elif how == "weights":
        save_file({"weight": torch.zeros(3)}, wrong)
    else:
        wrong.write_text("some text")
    return wrong


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("empty", "cut or of another kind"),
        ("cut", "cut or of another kind"),
        ("cut in its header", "cut or of another kind"),
        ("text", "cut or of another kind"),
        ("changed", "its hash differs"),
        ("another version", "of version 7, and this program reads 1"),
        ("weights", "not hidden states that tpe kl --save wrote"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    how: str, said: str, *, world: Path, states: BaseStates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "base.safetensors"
    states.write(file)
    wrong = edited_file(file, how, tmp_path)
    assert main(["kl", str(wrong), str(world / "granite-tuned")]) == 1
    err = capsys.readouterr().err.strip()
    last = err.splitlines()[-1]
    assert said in last
    assert wrong.name in last
    assert "Traceback" not in err


def test_a_file_is_not_replaced_unasked_and_never_one_of_another_kind(
    world: Path, states: BaseStates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "base.safetensors", tmp_path / "weights.safetensors"
    states.write(file)
    save_file({"weight": torch.zeros(3)}, other)
    words = ["kl", str(world / "no-such-model"), "x", "--save"]
    assert main([*words, str(file)]) == 1
    assert "add --force to replace it" in capsys.readouterr().err
    assert main([*words, str(other), "--force"]) == 1
    assert "weights.safetensors" in capsys.readouterr().err
    before = file.stat().st_mtime_ns
    small = ["--text", str(world / "text.txt"), "--positions", "128", "--no-cache", "--force"]
    assert main(["kl", str(world / "granite"), str(world / "granite-tuned"), "--save", str(file), *small]) == 0
    assert file.stat().st_mtime_ns > before


def test_different_tokenizers_are_told_by_the_first_difference(world: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "renamed", "granite")
    rules = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = rules["model"]["vocab"]
    apart = next(token for token, token_id in vocabulary.items() if token_id == 200)
    vocabulary |= {apart: 201, next(token for token, token_id in vocabulary.items() if token_id == 201): 200}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(TpeError, match=r"differ: id 200 is '.' in .*granite and '.' in .*renamed: an exact KL needs"):
        run(compare_models(options(world, "granite"), options(tmp_path, "renamed", device="cpu")))


def test_a_token_more_is_a_different_tokenizer(world: Path, tmp_path: Path) -> None:
    longer = tiny_tokenizer()
    longer.add_tokens([AddedToken("<|user|>", special=True)])
    folder = save_tiny(tmp_path / "longer", "neox")
    longer.save_pretrained(folder)
    with pytest.raises(TpeError, match=rf"id {VOCAB} is not there in .*neox and '<\|user\|>' in .*longer"):
        run(compare_models(options(world, "neox"), RunOptions(model=str(folder), cache=False)))


def test_other_rules_over_the_same_tokens_are_a_warning(world: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "ruled", "granite")
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    result = run(compare_models(options(world, "granite"), RunOptions(model=str(folder), cache=False)))
    assert not result.kl.any(), "the ids are those of the base"
    assert any("different rules" in warning for warning in result.warnings)


def test_a_shorter_context_cannot_read_the_blocks(world: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "short", "granite")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32}))
    with pytest.raises(TpeError, match=r"reads 32 tokens at a time, and .* was given blocks of 64: make it the base"):
        run(compare_models(options(world, "granite"), RunOptions(model=str(folder), cache=False)))


def test_models_of_ids_need_no_tokenizer(world: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(0, VOCAB, 3000).astype(np.uint16))
    base = RunOptions(str(world / "granite"), text=(str(tmp_path / "ids.npy"),), vocabulary="ids", positions=256)
    other = RunOptions(str(world / "granite-tuned"), vocabulary="ids")
    result = run(compare_models(base, other, save=tmp_path / "base.safetensors"))
    assert result.kl.min() > 0
    assert {group.name for group in result.classes} == {"special", "unnamed"}
    again = run(compare_models(tmp_path / "base.safetensors", other))
    assert (again.kl == result.kl).all()
    with pytest.raises(TpeError, match=r"granite-tuned has a tokenizer and .*granite none"):
        run(compare_models(tmp_path / "base.safetensors", RunOptions(str(world / "granite-tuned"))))


def test_the_command_prints_a_table_and_one_document(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "base.safetensors")
    small = ["--text", str(world / "text.txt"), "--positions", str(POSITIONS), "--no-cache"]
    words = ["kl", str(world / "granite"), str(world / "granite-tuned"), *small]
    assert main([*words, "--json", "--save", file]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == {
        "schema", "base", "other", "text", "text_fingerprint", "positions", "blocks", "normalised_over", "kl",
        "kl_stderr", "kl_reverse", "js", "top1", "top1_flips", "top_k_kept", "perplexity", "kl_percentiles", "worst",
        "kl_by_class", "kl_by_alpha_decile", "bytes", "warnings",
    }  # fmt: skip
    assert document["base"].keys() == document["other"].keys() == FACTS
    assert document["top_k_kept"].keys() == {"5", "10", "100"}
    assert document["perplexity"].keys() == {"base", "other", "ratio"}
    assert document["kl_percentiles"].keys() == {"50", "90", "99", "99.9", "max"}
    assert document["worst"].keys() == {"kl", "block", "position", "before", "next", "after", "base", "other"}
    assert document["normalised_over"].keys() == {"rows", "padding_rows"}
    assert document["bytes"].keys() == {"hidden_states_and_head", "float32_logits"}
    assert all(group.keys() == GROUP for group in document["kl_by_class"] + document["kl_by_alpha_decile"])
    assert len(document["kl_by_alpha_decile"]) == 10
    assert main(words) == 0
    table = capsys.readouterr().out
    assert f"{document['kl']:.4f} ± " in table
    assert f"{document['js']:.4f}" in table
    assert f"{document['top1_flips']:,} (" in table
    assert "float32 logits of these positions would take" in table
    assert main(["kl", file, str(world / "granite-tuned")]) == 0
    assert capsys.readouterr().out == table
    assert main(["kl", file, "--other-adapter", str(world / "lora"), "--json"]) == 0
    adapted_one = json.loads(capsys.readouterr().out)
    assert adapted_one["other"]["model"] == str(world / "granite")
    assert adapted_one["other"]["revision"] == f"adapter:{world / 'lora'}"
    assert main(["kl", str(world / "granite"), "--other-dtype", "bfloat16", *small, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["other"]["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text", "t.txt"], "--text"),
        (["--revision", "main"], "--revision"),
        (["--save", "other.st"], "--save"),
        (["--positions", "1024"], "--positions"),
    ],
)
def test_what_a_file_says_already_is_not_asked_again(
    words: list[str], said: str, *, states: BaseStates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("some text")
    states.write(Path("base.safetensors"))
    assert main(["kl", "base.safetensors", "other", *words]) == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"holds hidden states and their text: leave out {said}" in err


def test_nothing_to_compare_with_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kl", "demo"]) == 2
    assert "name the other model" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_tokens_that_are_never_predicted_count_nothing_or_make_kl_infinite() -> None:
    base = torch.tensor([[1.0, 2.0, -math.inf, 0.0]])
    other = torch.tensor([[1.5, 1.0, -math.inf, 0.2]])
    found = apart(base, other, torch.tensor([1]))
    p, q = base.double().softmax(1)[0], other.double().softmax(1)[0]
    seen = [0, 1, 3]
    want = float((p[seen] * (p[seen].log() - q[seen].log())).sum())
    assert float(found.kl) == pytest.approx(want, rel=1e-12)
    assert float(found.by_token.sum()) == pytest.approx(want, rel=1e-12)
    assert float(found.by_token.min()) >= 0
    without = apart(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, -math.inf, 0.0]]), torch.tensor([0]))
    assert math.isinf(float(without.kl))
    assert float(without.kl_reverse) == pytest.approx(
        float(-torch.tensor([1.0, 2.0, 0.0]).softmax(0)[[0, 2]].sum().log()), rel=1e-6
    )
    assert 0 < float(without.js) < math.log(2)


def test_tiny_differences_are_told_from_none() -> None:
    base = torch.zeros(1, 4, dtype=torch.float64)
    other = base.clone()
    other[0, 0] = 1e-5
    found = apart(base, other, torch.tensor([0]))
    assert float(found.kl) == pytest.approx(1e-10 * 3 / 32, rel=1e-3)  # half the variance of the change under P


def test_ties_and_short_vocabularies() -> None:
    base, other = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[2.0, 2.0, 1.0]])
    assert flips(base, other).tolist() == [False]
    assert flips(base, torch.tensor([[1.0, 2.0, 1.0]])).tolist() == [True]
    assert retained(base, other).tolist() == [[1.0, 1.0, 1.0]]
    wide = torch.arange(200.0)[None]
    assert retained(wide, wide.roll(5, 1)).tolist() == [[0.0, 0.5, 0.95]]


@pytest.mark.parametrize(
    ("spelling", "decoded", "wordpiece", "name"),
    [
        ("Ġthe", " the", False, "word-beginning"),
        ("▁the", "the", False, "word-beginning"),
        ("ing", "ing", False, "word-continuation"),
        ("##ing", "##ing", True, "word-continuation"),
        ("ing", "ing", True, "word-beginning"),
        ("##!", "##!", False, "punctuation"),
        ("Ġ17", " 17", False, "digits"),
        ("½", "½", False, "digits"),
        ("▁(", "(", False, "punctuation"),
        ("▁▁", "", False, "whitespace"),
        ("Ċ", "\n", False, "whitespace"),
        ("<0xE2>", "\ufffd", False, "byte-fallback"),
        ("âĢ", "\ufffd", False, "byte-fallback"),
        ("Ġмир", " мир", False, "other script"),
        ("的", "的", False, "other script"),
        ("é", "é", False, "word-continuation"),
        (None, "", False, "unnamed"),
    ],
)
def test_the_class_of_a_token(spelling: str | None, decoded: str, wordpiece: bool, name: str) -> None:
    assert class_of(spelling, decoded, wordpiece) == name
