"""`tpe steer` and what it runs: documented names, what cannot be had, saved edits, and the figures of the README."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.corpus.domains import DOMAINS
from tpe_core.detection.samples import Samples, read_samples
from tpe_core.edits.intervention import METHODS
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession
from tpe_core.steering.effects import observe
from tpe_core.steering.few_shot import few_shot
from tpe_core.steering.results import DOSE
from tpe_core.steering.study import SteeringPlan, mid_frequency, study
from tpe_tui.cli.main import main


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("steer")
    for seed, name in enumerate(("text", "ood")):
        (folder / f"{name}.txt").write_text(text(seed + 3, 6000))
    return {
        "plain": str(save_tiny(folder / "plain")),
        "capped": str(save_tiny(folder / "capped", "gemma2")),
        "text": str(folder / "text.txt"),
        "ood": str(folder / "ood.txt"),
    }


@pytest.fixture(scope="module")
def studied(files: dict[str, str]) -> Any:
    made: dict[str, tuple[Analysis, Samples]] = {}

    def make(kind: str) -> tuple[Analysis, Samples]:
        if kind not in made:
            options = RunOptions(model=files[kind], text=(files["text"],), positions=2048, sample=512, cache=False)
            analysis = run(analyze(options))
            source = analysis.source
            found = run(read_samples(analysis.model, analysis.detection.sample, source, (files["ood"],), size=512))
            made[kind] = analysis, found
        return made[kind]

    return make


def test_every_token_method_and_ratio_is_tried(studied) -> None:
    analysis, samples = studied("plain")
    plan = SteeringPlan(
        token_ids=(7, 100), ratios=(0.5, 4.0), methods=METHODS, calibrate=True, dose=True, few_shot=True
    )
    found = run(study(analysis, samples, plan))
    tried = [(some.token_id, some.method, some.asked, some.calibrated) for some in found.results]
    assert tried == [(t, m, r, c) for t in (7, 100) for m in METHODS for r in (0.5, 4.0) for c in (False, True)]
    for result in found.results:
        if not result.calibrated:
            assert result.step == pytest.approx(math.log(result.asked))
        elif not result.problem:
            assert result.achieved["local"] == pytest.approx(result.asked, rel=1e-6)
        assert (result.relative_edit is None) == (result.method == "bias")
        assert result.together == (result.token_id,)
        assert result.paid is not None
        assert len(result.paid) == 5
        assert {payer.lost > 0 for payer in result.paid} == {result.step > 0}
        assert result.token_id not in {payer.token_id for payer in result.paid}
    row = analysis.model.head.columns[:, 7].norm()
    smallest = next(some for some in found.results if some.method == "min-norm" and not some.calibrated)
    slope = np.linalg.norm(analysis.encoding.slope)
    assert smallest.relative_edit == pytest.approx(math.log(2) / slope / float(row))
    assert {curve.asked for curve in found.dose} == {DOSE}
    assert len(found.dose) == 2 * len(METHODS)
    points = next(curve.points() for curve in found.dose if (curve.steered, curve.method) == (100, "top-k"))
    _, achieved, js = next(point for point in points if point[0] == 4.0)
    also = next(r for r in found.results if (r.token_id, r.method, r.asked, r.calibrated) == (100, "top-k", 4.0, False))
    assert achieved == pytest.approx(also.achieved)
    assert js == pytest.approx(also.js)


def test_few_shot_ends_where_the_study_is(studied) -> None:
    analysis, samples = studied("plain")
    found = run(
        study(analysis, samples, SteeringPlan(token_ids=(7, 100), ratios=(2.0,), methods=METHODS, few_shot=True))
    )
    assert {point.method for point in found.few_shot} == set(METHODS) - {"bias"}
    assert sorted({point.positions for point in found.few_shot}) == [32, 64, 128, 256, 512, 2048]
    for method in ("least-squares", "min-norm", "top-k"):
        (last,) = [point for point in found.few_shot if point.positions == 2048 and point.method == method]
        assert list(last.figures) == ["heldout", "local"]
        for domain, figures in last.figures.items():
            results = [some for some in found.results if some.method == method]
            logs = [math.log(some.achieved[domain]) for some in results]
            assert figures.achieved == pytest.approx(math.exp(np.mean(logs)))
            assert figures.spread == pytest.approx(np.std(logs))
            assert figures.kl == pytest.approx(np.mean([some.kl[domain] for some in results]))
        assert last.to_dict()["kl"] == last.figures["heldout"].kl
        assert last.to_dict()["local"]["achieved"] == last.figures["local"].achieved
    judged = run(observe(analysis.model.head, samples.heldout, (7,)))
    points = run(few_shot(analysis, {"heldout": judged}, (7,), ("min-norm",), (2.0,), counts=(16, 64)))
    assert [point.positions for point in points] == [16, 64, 2048]


def test_tokens_at_once_share_one_edit(studied) -> None:
    analysis, samples = studied("plain")
    plan = SteeringPlan(token_ids=(7, 100, 3), targets=(0.05,), methods=("bias",), together=True, calibrate=True)
    found = run(study(analysis, samples, plan))
    assert [some.calibrated for some in found.results] == [False] * 3 + [True] * 3
    assert len({some.kl["heldout"] for some in found.results[:3]}) == 1
    assert len({some.paid for some in found.results[:3]}) == 1
    for some in found.results:
        assert some.together == (7, 100, 3)
        assert some.asked * some.alpha["local"] == pytest.approx(0.05)
    assert [some.achieved["local"] * some.alpha["local"] for some in found.results[3:]] == pytest.approx([0.05] * 3)
    edit = found.intervention()
    assert [entry.token_id for entry in edit.steering] == [3, 7, 100]
    assert math.log(edit.ratio(7)) == pytest.approx(found.results[3].step)
    with pytest.raises(TpeError, match="only one edit can be saved"):
        run(study(analysis, samples, SteeringPlan(token_ids=(7,), ratios=(2.0, 3.0)))).intervention()


def test_what_cannot_be_had_is_said(studied) -> None:
    analysis, samples = studied("plain")
    (beyond,) = run(study(analysis, samples, SteeringPlan(token_ids=(7,), ratios=(1e9,)))).results
    assert "cannot have a mean probability" in beyond.problem
    assert "no edit of its row takes it to 1" in beyond.problem
    analysis, samples = studied("capped")
    plan = SteeringPlan(token_ids=(7,), ratios=(1.01, 50.0, 0.001), methods=("bias",), calibrate=True)
    near, exact, up, _, down, _ = run(study(analysis, samples, plan)).results
    assert near.problem == exact.problem == ""
    assert up.attainable[1] < up.target
    assert f"no edit of its row takes it to {up.attainable[1]:.3g}" in up.problem
    assert "under the soft cap no edit of its row takes it down" in down.problem


def test_plans_that_cannot_be_tried() -> None:
    for wrong, message in (
        ({"token_ids": (), "ratios": (2.0,)}, "needs a token"),
        ({"token_ids": (1,)}, "needs a token"),
        ({"token_ids": (1, 1), "ratios": (2.0,)}, "named twice"),
        ({"token_ids": (1,), "targets": (1.0,)}, "between 0 and 1, not 1.0"),
        ({"token_ids": (1,), "targets": (math.nan,)}, "between 0 and 1, not nan"),
        ({"token_ids": (1,), "ratios": (math.inf,)}, "finite number above 0"),
        ({"token_ids": (1,), "targets": (0.1,), "methods": ("uniform",)}, "slopes near 0"),
    ):
        with pytest.raises(TpeError, match=message):
            SteeringPlan(**wrong)


def test_mid_frequency_tokens_are_the_middle_half() -> None:
    surprisal = np.concatenate([np.random.default_rng(0).permutation(40).astype(float), [np.inf] * 10])
    drawn = mid_frequency(surprisal, 5)
    assert surprisal[list(drawn)].tolist() == [10, 15, 20, 24, 29]
    assert len(set(mid_frequency(surprisal, 20))) == 20
    for count in (0, 21):
        with pytest.raises(TpeError, match="20 tokens of middle frequency"):
            mid_frequency(surprisal, count)


def command(files: dict[str, str], *words: str, kind: str = "plain") -> list[str]:
    common = ["--text", files["text"], "--ood", files["ood"], "--positions", "2048", "--no-cache"]
    return ["steer", files[kind], *common, *words]


def test_command_prints_json_with_the_documented_names(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "edit.json"
    words = (
        "--token",
        "#7",
        "--ratio",
        "3",
        "--method",
        "bias",
        "--dose",
        "--few-shot",
        "--json",
        "--save",
        str(saved),
    )
    assert main(command(files, *words)) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {
        "schema", "model", "revision", "texts", "positions", "results", "summary", "dose", "few_shot",
    }  # fmt: skip
    (result,) = document["results"]
    assert set(result) == {
        "token", "token_id", "together", "method", "asked", "target", "calibrated", "step", "alpha", "achieved",
        "spread", "js", "kl", "relative_edit", "attainable", "problem", "paid",
    }  # fmt: skip
    for name in ("alpha", "achieved", "spread", "js", "kl"):
        assert set(result[name]) == set(DOMAINS)
    assert (result["token_id"], result["method"], result["asked"], result["relative_edit"]) == (7, "bias", 3, None)
    assert document["few_shot"] == []
    manifest = json.loads(saved.read_text())
    assert [(entry["token_id"], entry["method"]) for entry in manifest["steering"]] == [(7, "bias")]
    assert manifest["arrays"] is None


def test_a_set_is_shown_before_it_is_steered_and_saved_by_definition_and_ids(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "set.json"
    words = ("--set", "some = regex:^[a-d] - =a", "--token", "#7", "--ratio", "0.2", "--together", "--save", str(saved))
    assert main(command(files, *words, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    (shown,) = document["sets"]
    assert set(shown) == {"name", "definition", "tokens", "probability", "came", "examples"}
    token, some = document["results"]
    assert (token["token_id"], "set" in token, some["token_id"], some["set"]) == (7, False, None, "some")
    assert token["together"] == some["together"] == [7, "some"]
    assert some["alpha"]["local"] == pytest.approx(shown["probability"], rel=0.1)
    manifest = json.loads(saved.read_text())
    (kept,) = manifest["sets"]
    assert (kept["name"], kept["definition"], kept["ratio"]) == ("some", "regex:^[a-d] - =a", pytest.approx(0.2))
    assert len(kept["token_ids"]) == shown["tokens"] > 3
    assert [text["achieved_by_set"][0]["ratio"] for text in manifest["measured"]["texts"]] == list(
        some["achieved"].values()
    )
    assert main(["show", str(saved)]) == 0
    assert "regex:^[a-d] - =a" in capsys.readouterr().out
    assert main(command(files, "--set", "some = regex:^[a-d]", "--set", "file:no-such-file", "--ratio", "2")) == 1
    assert "no-such-file cannot be read" in capsys.readouterr().err


def test_a_set_is_printed_with_its_size_probability_and_examples(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(files, "--set", "some = regex:^[a-d]", "--ratio", "0.5")) == 0
    printed = capsys.readouterr().out
    assert "token sets: mean probability on 2,048 positions" in printed
    assert "set some (" in printed
    assert "1 token set steered one at a time" in printed
    assert main(command(files, "--set", "letters", "--ratio", "0.5")) == 1
    assert "'letters' is no term" in capsys.readouterr().err


def test_saved_edits_come_back(studied, tmp_path: Path) -> None:
    analysis, samples = studied("plain")
    session = LiveSession(analysis)
    for method in METHODS:
        (result,) = run(
            study(analysis, samples, SteeringPlan(token_ids=(9,), ratios=(3.0,), methods=(method,)))
        ).results
        edit = run(
            study(analysis, samples, SteeringPlan(token_ids=(9,), ratios=(3.0,), methods=(method,)))
        ).intervention()
        back = session.load(session.export(tmp_path / f"{method}.json", edit, "the list"))
        assert back.steering == edit.steering
        before, after = (session.probabilities("the list", some)[1] for some in (edit, back))
        np.testing.assert_allclose(before, after, atol=1e-12)
        assert result.problem == ""


def test_command_prints_tables(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--token", "·the", "--token", "#9", "--ratio", "0.5,2", "--method", "min-norm,least-squares"]
    assert main(command(files, *words, "--calibrate", "--dose", "--few-shot")) == 0
    out = capsys.readouterr().out
    for wanted in ("·the (#", "achieved ratio", "calibrated", "gained:", "paid:", "dose-response", "few-shot", "|dW|"):
        assert wanted in out
    assert main(command(files, "--mid-frequency", "20", "--ratio", "2")) == 0
    out = capsys.readouterr().out
    assert "all tokens: geometric mean" in out
    assert "--json has every token" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--token", "#7", "--ratio", "0"), 1, "a steering ratio must be a finite number above 0, not 0.0"),
        (("--token", "#7", "--ratio", "2,-1"), 1, "not -1.0"),
        (("--token", "#7", "--ratio", "inf"), 1, "not inf"),
        (("--token", "#7", "--ratio", "nan"), 1, "not nan"),
        (("--token", "#7", "--ratio", "two"), 2, "takes numbers"),
        (("--token", "#7", "--target", "1.5"), 2, "such as 0.01, not 1.5"),
        (("--token", "#7", "--ratio", "2", "--target", "0.1"), 2, "exclude each other"),
        (("--ratio", "2"), 2, "name a token"),
        (("--token", "#7", "--method", "uniform"), 1, "uniform Omega over all dimensions divides by slopes near 0"),
        (("--token", "#7", "--method", "best"), 1, "unknown steering method 'best'"),
        (("--token", "list number zq",), 1, "tokens here (#"),
        (("--token", "#320"), 1, "token id 320 does not exist"),
        (("--token", "#7", "--ratio", "2,3", "--save", "edit.json"), 1, "only one edit can be saved"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    files: dict[str, str],
    words: tuple[str, ...],
    code: int,
    message: str,
    *,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(files, *words)) == code
    assert not list(tmp_path.glob("edit.json*"))
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.slow
def test_least_squares_does_what_is_asked_on_held_out_text() -> None:
    """The bundled model: 64 tokens of middle frequency, held-out text; min-norm misses by more."""
    options = RunOptions(cache=False)
    analysis = run(analyze(options))
    samples = run(read_samples(analysis.model, analysis.detection.sample, analysis.source))
    ratios = (0.1, 0.2, 0.5, 2.0, 5.0, 10.0, 20.0)
    plan = SteeringPlan(token_ids=mid_frequency(analysis.surprisal, 64), ratios=ratios, methods=METHODS)
    rows = run(study(analysis, samples, plan)).summary()
    miss = {(row["method"], row["asked"]): abs(math.log(row["achieved"]["heldout"] / row["asked"])) for row in rows}
    assert {row["tokens"] for row in rows} == {64}
    for asked in (0.5, 2.0):
        assert miss["least-squares", asked] < math.log(1.1)
        assert miss["min-norm", asked] > 2 * math.log(1.1)
    for asked in ratios:
        assert miss["least-squares", asked] < miss["min-norm", asked]
        assert miss["least-squares", asked] == pytest.approx(miss["bias", asked], abs=0.01)
