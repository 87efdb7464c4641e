"""`tpe check` on one saved model of each kind: the card, as text and as JSON, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForMaskedLM

from tests.helpers.tasks import save_task_model, task_tokenizer
from tests.helpers.tiny_models import VOCAB, WIDTH, save_tiny
from tpe_tui.cli.main import main


def card(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, dict[str, Any]]:
    code = main(["check", str(folder), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("gpt2", {"tied": True, "bias": False, "post": {"kind": "identity", "scale": 1.0, "cap": None}}),
        ("gemma2", {"tied": True, "bias": False, "post": {"kind": "softcap", "scale": 1.0, "cap": 0.05}}),
        ("granite", {"tied": False, "bias": False, "post": {"kind": "scale", "scale": 0.25, "cap": None}}),
        ("gptj", {"tied": False, "bias": True, "post": {"kind": "identity", "scale": 1.0, "cap": None}}),
        ("neox", {"tied": False, "bias": False, "padding_rows": 12}),
    ],
)
def test_the_card_of_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, expected: dict[str, Any]
) -> None:
    code, found = card(capsys, save_tiny(tmp_path / kind, kind))
    usual = {
        "head": "Linear", "vocab_rows": VOCAB, "padding_rows": 0, "masked_rows": 0, "hidden_size": WIDTH,
        "task": "causal", "supported": True, "reason": "", "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    assert code == 0
    assert {name: found[name] for name in usual | expected} == usual | expected
    assert found["max_abs_error"] < 1e-5
    assert found["memory"]["needed_bytes"] > found["memory"]["body_bytes"] > 0


def test_a_bias_per_token_after_the_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = card(capsys, save_task_model(tmp_path / "bart", "bart"))
    assert code == 0
    assert found["task"] == "seq2seq"
    assert found["post"]["kind"] == "bias"
    assert not found["bias"]  # the head itself has none


def test_an_unsupported_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = task_tokenizer("bert")
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=max(tokenizer.get_vocab().values()) + 1, hidden_size=WIDTH, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, legacy=False, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    folder = tmp_path / "deberta"
    DebertaV2ForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    code, found = card(capsys, folder)
    assert code == 1
    assert not found["supported"]
    assert "16 x 16 transform" in found["reason"]
    assert found["max_abs_error"] is None
    assert main(["check", str(folder)]) == 1
    lines = capsys.readouterr().out
    assert "supported       no: " in lines
    assert "largest error   not measured" in lines
    assert main(["analyze", str(folder), "--no-cache"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tpe: ") or "\ntpe: " in error
    assert "cannot be inspected" in error


def test_the_card_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(save_tiny(tmp_path / "granite", "granite"))]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("after"))
    assert lines["after"] == "the head  scale 0.25: the logits are 0.25 (W h + b)"


def test_the_cost_of_the_heads_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny(tmp_path / "gpt2")
    text = tmp_path / "own.txt"
    text.write_text("the value of a list returns the number in str " * 400)
    asked = ["check", str(folder), "--precision", "--positions", "100", "--text", str(text), "--json"]
    assert main([*asked, "--dtype", "bfloat16"]) == 0
    found = json.loads(capsys.readouterr().out)["precision"]
    assert found.keys() == {
        "dtype", "text", "positions", "kl", "kl_max", "kl_rounding", "top1_flips", "tied_tops", "largest_logit",
        "dimensions", "saved_together", "half_variance", "tokens",
    }  # fmt: skip
    assert found["dimensions"][0].keys() == {"dim", "rms", "kl_in_float32", "saved"}
    assert found["tokens"][0].keys() == {"id", "token", "share"}
    assert (found["dtype"], found["positions"]) == ("bfloat16", 100)
    assert found["kl"] > 0
    assert main(asked) == 0
    plain = json.loads(capsys.readouterr().out)["precision"]
    assert (plain["dtype"], plain["kl"], plain["top1_flips"], plain["tokens"]) == ("float32", 0.0, 0.0, [])


def test_the_cost_of_the_heads_precision_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny(tmp_path / "gpt2")
    text = tmp_path / "own.txt"
    text.write_text("the value of a list returns the number in str " * 400)
    narrow = ["check", str(folder), "--dtype", "bfloat16"]
    assert main([*narrow, "--precision", "--positions", "70", "--text", str(text)]) == 0
    shown = capsys.readouterr().out
    assert "head precision  logits in bfloat16 against the float32 head: KL " in shown
    assert "70 positions of own.txt" in shown
    assert "\n  dimensions    of that KL, kept in float32 they save: " in shown
    assert main(["check", str(folder), "--precision"]) == 0
    assert "head precision  the logits are computed in float32: nothing is lost" in capsys.readouterr().out
    assert main(narrow) == 0
    assert "head precision  not measured: `tpe check --precision` does that" in capsys.readouterr().out
    assert main(["check", str(folder), "--text", str(text)]) == 2
    assert "are for --precision" in capsys.readouterr().err
