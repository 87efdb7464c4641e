"""An exported edit's self-test: what transformers alone gives under the edit, and nothing else, passes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.helpers.tasks import save_task_model
from tests.helpers.tiny_models import VOCAB, save_tiny, text
from tpe_core.analysis import analyze
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.hooks import apply
from tpe_core.manifest.manifest import Manifest, TestPrompt, read_edit
from tpe_core.manifest.self_test import TOLERANCES, Mismatch, check, prompt_logits, prompts_of
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession
from tpe_tui.cli.main import main

FULL = (Steering(20, 4.0), Steering(30, 0.2, "top-k"), Steering(40, 8.0, "bias"))


def opened(folder: Path, **options: Any) -> LiveSession:
    words = folder.parent / "text.txt"
    words.write_text(text(3, 3000))
    chosen = RunOptions(model=str(folder), text=(str(words),), positions=1024, sample=64, **options)
    return LiveSession(run(analyze(chosen)), chosen)


def exported(folder: Path, edit: Intervention, **options: Any) -> tuple[Path, LiveSession]:
    session = opened(folder, **options)
    return session.export(folder.parent / "edit.json", edit, session.default_prompt), session


def with_transformers_alone(
    folder: Path, edit: ResolvedEdit, cap: float | None = None
) -> Callable[[str], NDArray[Any]]:
    """Final logits after a prompt: the body by transformers, the edited head by numpy in float64."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    head, seen = model.get_output_embeddings(), []
    head.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1].double().numpy()))

    def logits(prompt: str) -> NDArray[Any]:
        with torch.no_grad():
            model(**tokenizer(prompt, return_tensors="pt"))
        h = seen[-1].copy()
        kept = np.array([dim for dim in range(len(h)) if dim not in edit.removed])
        h[list(edit.removed)] = edit.constant + (0 if edit.fold is None else edit.fold @ h[kept])
        z = head.weight.detach().double().numpy() @ h
        z += 0 if head.bias is None else head.bias.detach().double().numpy()
        z /= getattr(model.config, "logits_scaling", 1.0)
        for token_id, row in edit.rows.items():
            z[token_id] += row @ h
        for token_id, bias in edit.biases.items():
            z[token_id] += bias
        return z if cap is None else cap * np.tanh(z / cap)

    return logits


@pytest.mark.parametrize(
    ("kind", "replacement"),
    [("gpt2", "zero"), ("gptj", "mean"), ("neox", "least-squares"), ("granite", "least-squares"), ("gemma2", "mean")],
)
def test_transformers_alone_reproduces_it_and_without_the_edit_nothing_does(
    tmp_path: Path, kind: str, replacement: Any
) -> None:
    folder = save_tiny(tmp_path / "model", kind)
    path, session = exported(folder, Intervention((0, 3, 7), replacement, FULL))
    manifest, edit = read_edit(path)
    assert manifest.self_test is not None
    assert [each.prompt for each in manifest.self_test.prompts] == list(prompts_of(session.analysis.model))
    assert (manifest.self_test.task, manifest.self_test.dtype) == ("causal", "float32")
    cap = manifest.made_on.post.cap
    assert check(manifest, with_transformers_alone(folder, edit, cap), tolerance=1e-5) == []
    unedited = ResolvedEdit(intervention=Intervention(), hidden_size=edit.hidden_size, constant=np.zeros(0))
    found = check(manifest, with_transformers_alone(folder, unedited, cap))
    assert {each.prompt for each in found} == set(prompts_of(session.analysis.model))
    for each in manifest.self_test.prompts:
        assert {entry.token_id for entry in (*each.top, *each.steered)} >= {20, 30, 40}
        assert max(entry.token_id for entry in (*each.top, *each.steered)) < VOCAB  # padding rows are nobody's token


@pytest.mark.parametrize("kind", ["bert", "t5", "bart"])
def test_other_tasks_are_asked_where_they_answer(tmp_path: Path, kind: str) -> None:
    path, session = exported(save_task_model(tmp_path / "model", kind), Intervention((0, 3), "mean", FULL[:1]))
    manifest, edit = read_edit(path)
    model = session.analysis.model
    assert manifest.self_test is not None
    assert manifest.self_test.task == ("masked" if kind == "bert" else "seq2seq")
    assert len({each.prompt for each in manifest.self_test.prompts}) == 3
    with apply(model, edit):
        assert check(manifest, prompt_logits(model), tolerance=1e-5) == []
    assert check(manifest, prompt_logits(model))


def test_the_second_export_runs_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, session = exported(save_tiny(tmp_path / "model"), Intervention((1,)))
    calls: list[str] = []
    last = type(session.analysis.model).last_hidden
    monkeypatch.setattr(
        type(session.analysis.model), "last_hidden", lambda model, prompt: calls.append(prompt) or last(model, prompt)
    )
    session.export(path, Intervention((2,)), session.default_prompt)
    assert calls == []
    assert read_edit(path)[0].pruned == (2,)


def manifest_with(self_test: Any) -> Manifest:
    from tests.helpers.manifests import make

    plain = make()
    assert plain.self_test is not None
    return plain.model_copy(update={"self_test": plain.self_test.model_copy(update={"prompts": (self_test,)})})


def asked(*logits: float, steered: tuple[float, ...] = ()) -> TestPrompt:
    """Tokens 0, 1, ... with these logits, then steered ones from 8 on."""
    entries = [{"token_id": i, "token": f"t{i}", "logit": value} for i, value in enumerate(logits)]
    moved = [{"token_id": 8 + i, "token": "s", "logit": value} for i, value in enumerate(steered)]
    return TestPrompt.model_validate_json(json.dumps({"prompt": "a", "top": entries, "steered": moved}))


def answer(changes: dict[int, float], rows: int = 12) -> Callable[[str], NDArray[np.float64]]:
    logits = np.full(rows, -5.0)
    logits[:3] = 10.0, 9.0, 8.0
    logits[8] = -1.0
    for token_id, value in changes.items():
        logits[token_id] = value
    return lambda prompt: logits


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({0: 10.0009}, []),  # a ten-thousandth of the largest
        ({0: 10.002}, [(0, 10.0, 10.002)]),
        ({8: -1.002}, [(8, -1.0, -1.002)]),
        ({5: 8.0009}, []),
        ({5: 8.002}, [(5, 8.0, 8.002)]),  # a token that should not be among the first
        ({4: 11.0, 5: 12.0}, [(5, 8.0, 12.0)]),
        ({1: float("-inf")}, [(1, 9.0, float("-inf"))]),
        ({5: float("-inf")}, []),  # never predicted
        ({11: 99.0}, []),  # a padding row
    ],
)
def test_what_counts_as_a_mismatch(changes: dict[int, float], wrong: list[tuple[int, float, float]]) -> None:
    found = check(manifest_with(asked(10.0, 9.0, 8.0, steered=(-1.0,))), answer(changes))
    assert [(each.token_id, each.expected, each.found) for each in found] == wrong


def test_nan_and_missing_rows_are_mismatches() -> None:
    manifest = manifest_with(asked(10.0, 9.0, 8.0))
    for token_id in (0, 5):
        [found] = check(manifest, answer({token_id: float("nan")}))
        assert (found.token_id, np.isnan(found.found)) == (token_id, True)
    [short] = check(manifest, answer({}, rows=9))
    assert str(short) == "after 'a' there are 9 logits, not 10"
    assert check(manifest, lambda prompt: np.float64(3.0))
    assert (
        str(Mismatch(prompt="\x1b[2J", token_id=3, token="·the", expected=1.0, found=2.0))
        == "after '␛[2J' ·the (#3) has the logit 2.0000, not 1.0000"
    )


def test_a_coarser_dtype_is_given_more_room() -> None:
    manifest = manifest_with(asked(10.0, 9.0, 8.0))
    for dtype, relative in TOLERANCES.items():
        assert check(manifest, answer({0: 10 * (1 + 0.9 * relative)}), dtype=dtype) == []
        assert check(manifest, answer({0: 10 * (1 + 1.1 * relative)}), dtype=dtype)
    assert check(manifest, answer({0: 10.5}), tolerance=0.1) == []


def test_bfloat16_models_pass_their_own_test(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    path, _ = exported(folder, Intervention((0, 3, 7), "mean", FULL), dtype="bfloat16")
    manifest, edit = read_edit(path)
    assert manifest.self_test is not None
    assert manifest.self_test.dtype == "bfloat16"
    model = load_model(RunOptions(model=str(folder), dtype="bfloat16"))
    with apply(model, edit):
        assert check(manifest, prompt_logits(model)) == []
    assert check(manifest, prompt_logits(model))


def test_show_runs_it_on_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny(tmp_path / "model")
    path, _ = exported(folder, Intervention((0, 3, 7), "mean", FULL))
    capsys.readouterr()
    assert main(["show", str(path), "--on", str(folder)]) == 0
    assert "3 prompts, reproduced" in capsys.readouterr().out
    document = json.loads(path.read_text())
    document["self_test"]["prompts"][1]["top"][0]["logit"] += 1.0
    path.write_text(json.dumps(document))
    assert main(["show", str(path), "--on", str(folder)]) == 1
    assert "1 logits differ" in capsys.readouterr().out
    assert main(["show", str(path), "--on", str(folder), "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [entry["expected"] - entry["found"] for entry in shown["mismatches"]] == [pytest.approx(1.0, abs=1e-4)]
    assert main(["show", str(path), "--on", str(save_tiny(tmp_path / "wide", "neox"))]) == 1
    assert "for another head" in capsys.readouterr().err
