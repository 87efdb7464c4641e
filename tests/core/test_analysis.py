"""The one path every front end takes: analysis, cache, JSON names, live session, saved masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.tiny_models import VOCAB, WIDTH, save_tiny, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.edits.edited_head import edited_logits
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import CorpusError, ManifestError, NumericalError, TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, run
from tpe_core.session import LiveSession


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """(model folder, text file)."""
    (tmp_path / "text.txt").write_text(text(3, 6000))
    return save_tiny(tmp_path / "model"), tmp_path / "text.txt"


def options(files: tuple[Path, Path], **changes: Any) -> RunOptions:
    return RunOptions(**({"model": str(files[0]), "text": (str(files[1]),), "positions": 2048, "sample": 64} | changes))


def analysed(files: tuple[Path, Path], **changes: Any) -> tuple[Analysis, list[Progress]]:
    events: list[Progress] = []
    return run(analyze(options(files, **changes)), events.append), events


def test_document_has_the_documented_names(files: tuple[Path, Path]) -> None:
    analysis, _ = analysed(files)
    document = json.loads(json.dumps(analysis.to_dict(), allow_nan=False))
    assert set(document) == {
        "schema", "model", "revision", "vocab_rows", "rows_excluded", "hidden_size", "head", "positions",
        "loss", "text", "encoding", "components", "components_weighted", "static_bias", "outlier_dimensions",
        "geometry", "undertrained", "sparsity", "stability", "dimensions",
    }  # fmt: skip
    assert set(document["encoding"]) == {
        "r2", "r2_adjusted", "r2_heldout_vocab", "r2_permuted", "cosine_to_mean_hidden", "jensen_correlation",
        "intercept", "condition_number", "rank", "undetermined",
    }  # fmt: skip
    assert set(document["components"]) == {"explained_variance_ratio", "correlations"}
    assert set(document["components_weighted"]) == {
        "explained_variance_ratio", "correlations", "correlations_weighted",
    }  # fmt: skip
    assert set(document["static_bias"]) == {
        "norm", "head_bias", "correlation", "slope", "r2_alone", "r2_fixed", "r2_offset", "r2_law", "r2_law_bias",
    }  # fmt: skip
    assert (document["static_bias"]["norm"], document["static_bias"]["head_bias"]) == ("transformer.ln_f", False)
    assert set(document["outlier_dimensions"]) == {
        "deviations", "rms_threshold", "variance_threshold", "dims", "overlap", "overlap_expected", "overlap_p",
    }  # fmt: skip
    assert set(document["geometry"]) == {
        "common_drift", "rank", "rank_tolerance", "null_space", "null_space_tolerance", "null_space_hidden",
    }  # fmt: skip
    assert set(document["undertrained"]) == {"reference", "reference_rows", "nearest", "worst_fitted"}
    assert set(document["undertrained"]["nearest"][0]) == {
        "token_id", "token", "distance", "surprisal", "residual", "count",
    }  # fmt: skip
    assert set(document["sparsity"]) == {"r2_by_k", "gini", "participation_ratio"}
    assert [entry["rank"] for entry in document["dimensions"]] == list(range(1, WIDTH + 1))
    assert set(document["stability"]) == {
        "groups", "splits", "positions_per_half", "cosine", "spearman", "bottom_overlap", "cosine_at_this_length",
        "positions_for_cosine",
    }  # fmt: skip
    assert set(document["stability"]["bottom_overlap"]) == {"0.1", "0.3", "0.5"}
    assert set(document["stability"]["positions_for_cosine"]) == {"0.9", "0.95", "0.99"}
    assert set(document["dimensions"][0]) == {
        "rank", "dim", "slope", "slope_std", "stderr", "t", "p", "q", "r", "text_stderr", "text_low", "text_high",
    }  # fmt: skip
    said = document["text"]
    assert set(said) == {"label", "fingerprint", "positions", "documents", "share"}
    assert (said["label"], said["documents"], said["positions"]) == ("text.txt", 1, 2048)
    assert said["fingerprint"] == analysis.source.fingerprint()
    words = files[1].read_text().split()  # a token each; 2048 of them in the three quarters that are not held out
    assert said["share"] == pytest.approx(2048 / 0.75 / len(words), rel=0.15)
    magnitudes = [abs(entry["slope"]) for entry in document["dimensions"]]
    assert magnitudes == sorted(magnitudes, reverse=True)
    assert (document["vocab_rows"], document["hidden_size"], document["positions"]) == (VOCAB, WIDTH, 2048)


def test_second_run_is_cached_and_equal(files: tuple[Path, Path]) -> None:
    first, events = analysed(files)
    second, again = analysed(files)
    assert any(event.label == "detect" for event in events)
    assert not any(event.label == "detect" for event in again)
    assert first.to_dict() == second.to_dict()
    assert first.corpus_fingerprint == second.corpus_fingerprint
    third, fresh = analysed(files, cache=False)
    assert any(event.label == "detect" for event in fresh)
    assert third.to_dict() == first.to_dict()


def test_a_changed_text_is_another_detection(files: tuple[Path, Path]) -> None:
    first, _ = analysed(files)
    files[1].write_text(text(4, 6000))
    second, events = analysed(files)
    assert any(event.label == "detect" for event in events)
    assert first.detection.counts.tolist() != second.detection.counts.tolist()


def test_an_unusable_cache_is_a_warning_not_a_failure(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.setenv("TPE_CACHE_DIR", str(tmp_path / "occupied"))
    analysis, _ = analysed(files)
    assert len(analysis.warnings) == 1
    assert "occupied" in analysis.warnings[0]
    assert analysis.encoding.rows == VOCAB


def test_a_corrupt_cache_entry_is_recomputed_with_a_warning(files: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = analysed(files)
    entries = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and "-read" not in path.name]
    assert len(entries) == 1
    data = bytearray(entries[0].read_bytes())
    data[len(data) // 2] ^= 1
    entries[0].write_bytes(data)
    second, events = analysed(files)
    assert len(second.warnings) == 1
    assert any(event.label == "detect" for event in events)
    assert first.to_dict() == second.to_dict()
    assert analysed(files)[0].warnings == ()


def test_short_texts(files: tuple[Path, Path]) -> None:
    analysis, _ = analysed(files, positions=10_000_000)
    assert 1000 < analysis.detection.positions < 100_000
    assert "of the 10,000,000 positions asked for" in analysis.warnings[0]
    files[1].write_text("the list")
    with pytest.raises(CorpusError):
        analysed(files)


def test_a_live_session_shows_the_engines_numbers(files: tuple[Path, Path]) -> None:
    analysis, _ = analysed(files)
    live = LiveSession(analysis)
    edit = Intervention((1, 5), "mean", (Steering(9, 3.0), Steering(11, 0.5, "min-norm")))
    result = live.evaluate("the list of", edit, keep=20)
    hidden, _, _ = analysis.model.last_hidden("the list of")
    basis = live.basis(edit)
    p = torch.softmax(analysis.model.head.logits(hidden).double(), -1).numpy()
    q = torch.softmax(edited_logits(analysis.model.head, edit, basis, hidden).double(), -1).numpy()
    np.testing.assert_allclose(result.base, p[result.ids], atol=1e-9)
    np.testing.assert_allclose(result.now, q[result.ids], atol=1e-6)
    assert result.kl == pytest.approx(float(p @ np.log(p / q)), abs=1e-6)
    middle = (p + q) / 2
    assert result.js == pytest.approx(0.5 * float(p @ np.log(p / middle) + q @ np.log(q / middle)), abs=1e-6)
    assert {9, 11} <= set(result.ids.tolist())
    assert (np.diff(result.now) <= 0).all()
    assert result.entropy_base == pytest.approx(float(-p @ np.log(p)), abs=1e-6)
    empty = live.evaluate("the list of", Intervention(replacement="mean"))
    assert (empty.kl, empty.js, empty.top1_changed) == (0.0, 0.0, False)
    np.testing.assert_array_equal(empty.base, empty.now)

    detail = live.dimension(3, 4)
    column = analysis.model.head.columns[3].numpy()
    assert [token for token, _ in detail.top] == np.argsort(-column)[:4].tolist()
    assert [token for token, _ in detail.bottom] == np.argsort(column)[:4].tolist()
    token = live.token(9, "the list of", edit)
    assert token.alpha == pytest.approx(np.exp(analysis.detection.log_alpha[9]))
    assert token.residual == pytest.approx(token.surprisal - token.predicted)
    beta = analysis.model.hf.transformer.ln_f.bias.detach().double().numpy()
    w = analysis.model.head.weight.double().numpy()
    assert token.static_bias == pytest.approx(w[9] @ beta, abs=1e-9)
    assert token.static_bias == pytest.approx(analysis.static_bias.values[9], abs=1e-9)
    assert token.untrained == pytest.approx(1 - analysis.undertrained.distance[9], abs=1e-9)
    chosen = live.table.where("sd_h > .5 and not pruned or outlier", (3,))
    above = np.sqrt(analysis.detection.variance_hidden) > 0.5
    assert chosen.tolist() == [
        (bool(above[d]) and d != 3) or bool(analysis.outliers.flags[d]) for d in range(len(chosen))
    ]
    rms = np.sqrt(np.diag(analysis.detection.hh_sum) / analysis.detection.positions)
    assert detail.rms_hidden == pytest.approx(rms[3])
    assert detail.outlier == bool(analysis.outliers.flags[3])
    assert (token.now, token.ratio) == (pytest.approx(q[9], abs=1e-6), 3.0)


def test_opening_a_session_pays_for_nothing_that_is_not_shown(files: tuple[Path, Path]) -> None:
    analysis, _ = analysed(files)
    live = LiveSession(analysis)
    live.evaluate("the list of", Intervention((1,)))
    lazy = {"final_norm", "static_bias", "untrained", "undertrained", "geometry", "components_weighted"}
    assert lazy & set(vars(analysis)) == set()
    live.dimension(0)
    live.token(4, "the list of", Intervention())
    assert (lazy | {"_rows"}) & set(vars(analysis)) == {"final_norm", "untrained"}  # no pass over W


def test_without_any_bias_there_is_no_static_bias(tmp_path: Path, files: tuple[Path, Path]) -> None:
    analysis, _ = analysed((save_tiny(tmp_path / "llama", "llama"), files[1]))
    assert analysis.static_bias is None
    assert analysis.to_dict()["static_bias"] is None
    assert np.isnan(LiveSession(analysis).token(3, "the", Intervention()).static_bias)


def test_padding_rows_are_the_untrained_ones(tmp_path: Path, files: tuple[Path, Path]) -> None:
    analysis, _ = analysed((save_tiny(tmp_path / "neox", "neox"), files[1]))
    head = analysis.model.head
    assert (analysis.untrained.reference, analysis.untrained.rows) == ("padding rows", head.padding_rows)
    columns = head.columns.double().numpy()
    centre, unused = columns[:, :VOCAB].mean(1), columns[:, VOCAB:].mean(1)
    row, towards = columns[:, 7] - centre, unused - centre
    expected = 1 - row @ towards / np.linalg.norm(row) / np.linalg.norm(towards)
    assert analysis.undertrained.distance[7] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("replacement", ["zero", "mean", "least-squares"])
def test_a_saved_mask_travels_even_to_another_text(files: tuple[Path, Path], tmp_path: Path, replacement: Any) -> None:
    first = LiveSession(analysed(files)[0])
    edit = Intervention((0, 3, 7), replacement, (Steering(20, 4.0), Steering(30, 0.2, "top-k")))
    path = first.export(tmp_path / "mask.json", edit, "the list of")
    saved = json.loads(path.read_text())
    assert saved["pruned"] == [0, 3, 7]
    assert saved["measured"]["kl"] == pytest.approx(first.evaluate("the list of", edit).kl)
    files[1].write_text(text(8, 6000))  # other text, other means and slopes: the manifest brings its own
    second = LiveSession(analysed(files)[0])
    loaded = second.load(path)
    assert replace(loaded, origin="") == edit
    for prompt in ("the list of", "value"):
        for ours, theirs in zip(second.probabilities(prompt, loaded), first.probabilities(prompt, edit), strict=True):
            assert np.abs(ours - theirs).max() < 1e-6


def test_masks_of_other_models_change_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    live = LiveSession(analysed(files)[0])
    path = live.export(tmp_path / "mask.json", Intervention((2,)), "the")

    def nudge(model: Any) -> None:
        model.transformer.wte.weight[0, 0] += 1

    other = LiveSession(analysed((save_tiny(tmp_path / "other", edit=nudge), files[1]))[0])
    before = other.probabilities("the", Intervention((2,), "mean"))
    with pytest.raises(ManifestError, match="another head"):
        other.load(path)
    saved = json.loads(path.read_text())
    saved["made_on"]["hidden_size"] = 99
    path.write_text(json.dumps(saved))
    with pytest.raises(ManifestError, match="99") as caught:
        live.load(path)
    assert str(WIDTH) in str(caught.value)
    path.write_text("{broken")
    with pytest.raises(ManifestError):
        live.load(path)
    np.testing.assert_array_equal(other.probabilities("the", Intervention((2,), "mean")), before)


def test_a_loaded_files_values_stay_with_its_edit(files: tuple[Path, Path], tmp_path: Path) -> None:
    own = Intervention((0, 3), "mean")
    files[1].write_text(text(8, 6000))
    path = LiveSession(analysed(files)[0]).export(tmp_path / "mask.json", own, "the")
    files[1].write_text(text(3, 6000))
    live = LiveSession(analysed(files)[0])
    before = live.probabilities("the", own)
    loaded = live.load(path)
    during = live.probabilities("the", loaded)
    assert np.abs(during[1] - before[1]).max() > 1e-6  # other text, other means
    np.testing.assert_array_equal(live.probabilities("the", own), before)  # as undo would ask
    assert np.abs(live.probabilities("the", loaded.toggle([5]).toggle([5]))[1] - during[1]).max() < 1e-12
    again = run(live.detect_again(options(files)))
    np.testing.assert_allclose(again.probabilities("the", loaded)[1], during[1], atol=1e-9)
    later = LiveSession(analysed(files)[0]).probabilities("the", loaded)  # its numbers are kept in the cache
    np.testing.assert_array_equal(later[1], during[1])
    with pytest.raises(TpeError, match="import the file again"):
        LiveSession(analysed(files)[0], replace(options(files), cache=False)).probabilities("the", loaded)


def test_nan_after_a_prompt_is_a_sentence(files: tuple[Path, Path]) -> None:
    live = LiveSession(analysed(files)[0])
    parameter = live.analysis.model.hf.transformer.ln_f.weight
    with torch.no_grad():
        parameter[0] = float("nan")
    with pytest.raises(NumericalError, match="hidden states hold NaN or infinity in float32 at token 1 of this prompt"):
        live.evaluate("value", Intervention((1,)))


def test_a_tokenizer_of_another_model_is_a_sentence(files: tuple[Path, Path]) -> None:
    from transformers import AutoModelForCausalLM

    from tests.helpers.tiny_models import tiny_config

    config = tiny_config("gpt2")
    config.vocab_size = 100
    AutoModelForCausalLM.from_config(config).save_pretrained(files[0])
    with pytest.raises(TpeError, match=r"which has 100 .*name the model that this tokenizer belongs to"):
        analysed(files)


def test_fewer_rows_than_dimensions(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from tests.helpers.tiny_models import tiny_config, tiny_tokenizer

    config = tiny_config("gpt2")
    config.n_embd, config.hidden_size = 512, 512
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "wide")
    tiny_tokenizer().save_pretrained(tmp_path / "wide")
    (tmp_path / "text.txt").write_text(text(3))
    with pytest.raises(TpeError, match="320 usable vocabulary rows cannot determine 512 slopes"):
        analysed((tmp_path / "wide", tmp_path / "text.txt"), positions=128)
