"""What is printed: report cards of every kind of head, and the analysis in lines that say what is approximate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.models.head import POST_KINDS, HeadReport, Post
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_tui.cells import percent
from tpe_tui.cli.main import main
from tpe_tui.cli.tables import print_analysis, print_check


def card(capsys: pytest.CaptureFixture[str], **changes: Any) -> dict[str, str]:
    """The printed card as {label: value}."""
    facts = {
        "architecture": "SomeModel", "head": "Linear", "dtype": "float32", "device": "cpu", "vocab_rows": 50277,
        "padding_rows": 27, "hidden_size": 768, "post": Post(), "max_abs_error": 1e-6, "supported": True,
    }  # fmt: skip
    print_check(HeadReport(**(facts | changes)).to_dict())
    return {line[:15].strip(): line[16:] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        (Post(), "identity: the logits are W h + b"),
        (Post("scale", 0.0625), "scale 0.0625: the logits are 0.0625 (W h + b)"),
        (Post("softcap", 1.0, 30.0), "softcap, cap 30: the logits are 30 tanh((W h + b) / 30)"),
        (Post("softcap", 0.5, 15.0), "softcap, scale 0.5, cap 15: the logits are 15 tanh(0.5 (W h + b) / 15)"),
        (Post("bias"), "bias: a fixed bias per token is added"),
        (Post("mask"), "mask: some tokens are never predicted"),
        (Post("slice"), "slice: the last rows are cut off"),
        (Post("opaque"), "opaque: something that is not modelled"),
    ],
)
def test_the_card_says_what_follows_the_head(capsys: pytest.CaptureFixture[str], post: Post, expected: str) -> None:
    assert card(capsys, post=post)["after the head"] == expected


@pytest.mark.parametrize("kind", POST_KINDS)
def test_every_kind_has_words(capsys: pytest.CaptureFixture[str], kind: Any) -> None:
    post = Post(kind, 2.0 if kind == "scale" else 1.0, 5.0 if kind == "softcap" else None)
    assert card(capsys, post=post)["after the head"].startswith(kind)


def test_the_card_of_an_unsupported_masked_model(capsys: pytest.CaptureFixture[str]) -> None:
    lines = card(capsys, task="masked", supported=False, reason="it is two heads.", masked_rows=1024, tied=True)
    assert lines["task"] == "masked"
    assert lines["rows"] == "50,277 in use, 27 padding, 1,024 never predicted"
    assert lines["head"] == "Linear, tied to the input embedding"
    assert lines["supported"] == "no: it is two heads."


def printed(capsys: pytest.CaptureFixture[str], folder: Path, kind: str) -> tuple[Analysis, str]:
    (folder / "text.txt").write_text(text(3, 6000))
    model = str(save_tiny(folder / kind, kind))
    options = RunOptions(model, text=(str(folder / "text.txt"),), positions=1024, sample=16)
    analysis = run(analyze(options))
    capsys.readouterr()
    print_analysis(analysis)
    return analysis, capsys.readouterr().out


def test_an_analysis_names_its_static_bias_and_outliers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    analysis, out = printed(capsys, tmp_path, "gptj")
    assert analysis.static_bias is not None
    assert "static bias s (beta of transformer.ln_f and head bias)" in out
    assert f"corr(s, -log alpha) {analysis.static_bias.correlation:+.3f}" in out
    assert f"outlier dimensions of h: {len(analysis.outliers.dims)} of 16" in out
    assert f"common drift of W {analysis.geometry.common_drift:.3f}   rank {analysis.geometry.rank}" in out
    assert f"worst fitted (residual): {analysis.tokens[analysis.undertrained.worst_fitted[0]]} " in out
    assert "soft-capped" not in out
    assert "final logits" not in out


def test_an_analysis_says_how_much_of_the_ranking_is_the_texts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    analysis, out = printed(capsys, tmp_path, "gpt2")
    known = analysis.stability
    assert known is not None
    assert f"halves of the text share {percent(known.overlap[0.3])} of their bottom 30 %" in out
    assert f"rank correlation {known.spearman:.2f}" in out
    assert f"agree to cosine {known.cosine:.3f}, of two texts of 1,024 positions to {known.cosine_at(1024):.3f}" in out
    older = replace(analysis, stability=None, detection=replace(analysis.detection, groups=None))
    print_analysis(older)
    assert "without its parts: --refresh reads the text again" in capsys.readouterr().out
    assert older.to_dict()["stability"] is None
    print_analysis(replace(analysis, stability=None))
    assert "1,024 positions of text are too few to take apart" in capsys.readouterr().out


def test_a_mask_saved_by_slope_says_how_much_of_it_is_the_texts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(text(3, 6000))
    read, mask = str(tmp_path / "text.txt"), str(tmp_path / "mask.json")
    folder = str(save_tiny(tmp_path / "model"))
    known = run(analyze(RunOptions(folder, text=(read,), positions=1024, cache=False))).stability
    assert known is not None
    sentence = known.warning(np.argsort(np.abs(known.slope))[:4])
    assert "of the 4 pruned dimensions cannot be told from those that were kept, by this text: " in sentence
    words = ["prune", folder, "--order", "slope", "--fractions", "0.25", "--save", mask, "--text", read, "--ood", read]
    assert main([*words, "--positions", "1024", "--no-cache", "--threads", "1"]) == 0
    assert f"tpe: {sentence}" in capsys.readouterr().err


def test_a_soft_cap_is_said_to_make_the_law_approximate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out = printed(capsys, tmp_path, "gemma2")
    assert "the law is approximate here: the logits are soft-capped at 0.05" in out
    assert "static bias: none" in out


def test_a_scale_is_said_to_be_included(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out = printed(capsys, tmp_path, "granite")
    assert "in units of the final logits (the model's scale 0.25 included)" in out
    assert "soft-capped" not in out
