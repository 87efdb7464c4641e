"""What an exported file says of texts is what the command or the session measured, and nothing where it did not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.analysis import analyze
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.manifest.manifest import Manifest, read_manifest
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.results import PruningRequest
from tpe_core.session import LiveSession
from tpe_core.steering.results import DoseRequest
from tpe_tui.cli.main import main


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], RunOptions]:
    """A tiny model and texts, as arguments and as options."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "text.txt").write_text(text(3, 3000))
    (folder / "other.txt").write_text(text(9, 1500))
    model = save_tiny(folder / "model")
    words = [str(model), "--text", str(folder / "text.txt"), "--positions", "512", "--no-cache"]
    chosen = RunOptions(model=str(model), text=(str(folder / "text.txt"),), positions=512, sample=64, cache=False)
    return [*words, "--ood", str(folder / "other.txt"), "--json"], chosen


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def figures(manifest: Manifest, domain: str) -> dict[str, Any]:
    assert manifest.measured is not None
    return next(each.model_dump() for each in manifest.measured.texts if each.domain == domain)


def test_a_pruned_share_carries_its_costs(given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mask.json"
    words = ["prune", *given[0], "--order", "random", "--fractions", "0.25"]
    shown = document(capsys, *words, "--seeds", "3", "--save", str(path))
    manifest, _ = read_manifest(path)
    assert (manifest.made_by, len(manifest.pruned)) == ("tpe prune, order random, draw 1 of 3, seed 0", 4)
    [first] = document(capsys, *words, "--seeds", "1")["curves"][0]["points"]  # the draw that was saved
    assert first["kl"] != shown["curves"][0]["points"][0]["kl"]
    assert figures(manifest, "heldout")["kl"] == first["kl"]
    assert figures(manifest, "ood")["base_perplexity"] == shown["baseline"]["ood"]["perplexity"]
    assert figures(manifest, "heldout")["positions"] == shown["positions"]["heldout"]


def test_the_mask_under_a_budget_carries_its_costs(given: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "mask.json"
    shown = document(capsys, "prune", *given[0], "--order", "slope", "--budget", "0.5", "--save", str(path))
    manifest, _ = read_manifest(path)
    assert manifest.made_by == "tpe prune, order slope, the largest mask under a KL of 0.5"
    [largest] = shown["largest"]
    for domain, costs in (("heldout", largest), ("ood", largest["ood"])):
        for name in ("kl", "js", "top1", "perplexity", "entropy"):
            assert figures(manifest, domain)[name] == costs[name]


def test_steering_carries_what_was_achieved(given: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "edit.json"
    shown = document(
        capsys, "steer", *given[0], "--token", "#20", "--token", "#30", "--together", "--ratio", "3", "--calibrate",
        "--save", str(path),
    )  # fmt: skip
    manifest, _ = read_manifest(path)
    kept = [result for result in shown["results"] if result["calibrated"]]
    assert manifest.made_by == "tpe steer"
    for domain in ("local", "heldout", "ood"):
        found = figures(manifest, domain)
        assert {each["token_id"]: each["ratio"] for each in found["achieved"]} == {
            result["token_id"]: result["achieved"][domain] for result in kept
        }
        assert (found["kl"], found["js"]) == (kept[0]["kl"][domain], kept[0]["js"][domain])
        assert found["perplexity"] is None


def test_a_session_adds_what_it_has_measured_of_exactly_this_edit(given: Any, tmp_path: Path) -> None:
    session = LiveSession(run(analyze(given[1])), given[1])

    def texts(edit: Intervention) -> Any:
        manifest, _ = read_manifest(session.export(tmp_path / "edit.json", edit, "the"))
        assert manifest.made_by == "the inspector"
        assert manifest.measured is not None
        return manifest.measured.texts

    assert texts(Intervention((1, 2))) == ()
    swept = run(
        session.sweep(
            PruningRequest(
                orders=("slope",), replacements=("mean", "zero"), reference=False, draws=1, fractions=(0.0, 0.25)
            )
        )
    )
    curve = swept.curve("slope", "mean")
    assert curve is not None
    mask = Intervention(curve.dims[:4], "mean")
    found = {each.domain: each for each in texts(mask)}
    assert set(found) == {"heldout", "ood"}
    for domain, each in found.items():
        assert each.kl == curve.draws(domain, "kl")[0, 1]
        assert each.perplexity == pytest.approx(curve.draws(domain, "perplexity")[0, 1])
        assert each.base_entropy == curve.draws(domain, "entropy")[0, 0]
        assert (each.text, each.positions) == (swept.texts[domain], swept.positions[domain])
    zero = {each.domain: each.kl for each in texts(mask.with_replacement("zero"))}
    assert zero["heldout"] != found["heldout"].kl
    for other in (mask.toggle([curve.dims[0]]), mask.toggle(curve.dims[3:5]), mask.steer(20, 2.0)):
        assert texts(other) == ()
    assert texts(mask.with_replacement("least-squares")) == ()
    edit = Intervention(steering=(Steering(20, 3.0), Steering(30, 0.5)))
    assert texts(edit) == ()
    run(session.read_for_steering(edit))
    results = session.steering(DoseRequest(20, "least-squares", edit)).results["least-squares"]
    for each in texts(edit):
        assert [entry.ratio for entry in each.achieved] == [one.achieved[each.domain] for one in results]
        assert each.kl == results[0].kl[each.domain]
    assert len(texts(edit)) == 3
    assert texts(replace(edit, pruned=(1,))) == ()
    assert texts(edit.steer(40, 2.0, "bias")) == ()  # two methods at once were not measured
