"""A mask taken to another model: every figure against a whole evaluation in float64 by the definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.adapters import KINDS, adapted, save_adapter
from tests.helpers.costs import cost_of, float64_logits, replaced
from tests.helpers.manifests import make
from tests.helpers.tiny_models import WIDTH, save_tiny, text, tiny_tokenizer, tuned
from tpe_core.analysis import Analysis, analyze
from tpe_core.detection.samples import Samples, read_samples
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import TpeError
from tpe_core.manifest.manifest import write_manifest
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.refit import refit_basis
from tpe_core.session import open_session
from tpe_core.transfer import Mask, transfer
from tpe_tui.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")

DIMS = (1, 4, 5, 6, 11)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a scaled model and its fine-tune, and two kinds of text."""
    root = tmp_path_factory.mktemp("transfer")
    (root / "text.txt").write_text(text(3, 6000))
    (root / "other.txt").write_text(text(9, 2000).upper())
    save_tiny(root / "home", "granite")
    save_tiny(root / "tuned", "granite", tuned)
    return {name: str(root / name) for name in ("home", "tuned", "text.txt", "other.txt")}


def options(world: dict[str, str], model: str) -> RunOptions:
    return RunOptions(model=world[model], text=(world["text.txt"],), positions=2000, sample=300, cache=False)


@pytest.fixture(scope="module")
def both(world: dict[str, str]) -> dict[str, tuple[Analysis, Samples]]:
    found = {}
    for name in ("home", "tuned"):
        analysis = run(analyze(options(world, name)))
        local = analysis.detection.sample
        samples = run(read_samples(analysis.model, local, analysis.source, (world["other.txt"],), size=300))
        found[name] = analysis, samples
    return found


def mask(analysis: Analysis, replacement: str) -> Mask:
    basis = EditStatistics.of(analysis.encoding.slope, analysis.detection)
    return Mask("home", None, basis.resolve(Intervention(DIMS, replacement)), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("replacement", ["zero", "mean", "least-squares"])
def test_every_figure_is_a_whole_evaluation(both: dict[str, tuple[Analysis, Samples]], replacement: str) -> None:
    (home, _), (there, samples) = both["home"], both["tuned"]
    result = run(transfer(mask(home, replacement), there, samples, draws=2, seed=7))
    head, gone = there.model.head, np.array(DIMS)
    own = np.argsort(np.abs(there.encoding.slope), kind="stable")[: len(DIMS)]
    drawn = [np.argsort(np.random.default_rng([7, 2, draw]).random(WIDTH), kind="stable")[:5] for draw in range(2)]
    for domain in ("heldout", "ood"):
        sample = getattr(samples, domain)
        hidden, targets = sample.hidden.astype(np.float64), sample.next_ids
        base = float64_logits(head, hidden)

        def want(dims: np.ndarray, by: Analysis) -> Any:
            other = replaced(hidden, dims, replacement, by.detection)  # noqa: B023 - called here only
            return cost_of(base, float64_logits(head, other), targets)  # noqa: B023

        pairs = [
            (result.costs[domain], want(gone, home)),
            (result.own[domain], want(own, there)),
            *((cost, want(dims, there)) for cost, dims in zip(result.random.costs(domain, 0), drawn, strict=True)),
        ]
        pairs += [(result.refitted[domain], want(gone, there))] if replacement != "zero" else []
        for ours, theirs in pairs:
            for name in ("kl", "js", "top1", "nll", "entropy"):
                assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=2e-4, abs=2e-6), name
        assert result.baseline[domain].nll == pytest.approx(cost_of(base, base, targets).nll, rel=1e-5)
    assert bool(result.refitted) == (replacement != "zero")
    assert result.shared == len(set(own.tolist()) & set(DIMS))


def test_at_home_a_mask_costs_what_it_did(both: dict[str, tuple[Analysis, Samples]]) -> None:
    analysis, samples = both["home"]
    result = run(transfer(mask(analysis, "least-squares"), analysis, samples, draws=1))
    for domain in ("heldout", "ood"):
        assert result.costs[domain].kl == pytest.approx(result.refitted[domain].kl, rel=1e-6)
        assert result.costs[domain].kl > 0


def test_a_refit_lands_with_its_own_numbers_and_is_fitted_again(both: dict[str, tuple[Analysis, Samples]]) -> None:
    (home, at_home), (there, away) = both["home"], both["tuned"]
    basis = run(refit_basis(home, DIMS, EditStatistics.of(home.encoding.slope, home.detection)))
    edit = basis.resolve(Intervention(DIMS, "refit"))
    same = run(transfer(Mask("home", None, edit, 0), home, at_home, draws=1))
    moved = run(transfer(Mask("home", None, edit, 0), there, away, draws=1))
    again = run(refit_basis(there, DIMS, EditStatistics.of(there.encoding.slope, there.detection)))
    numbers = EditNumbers(again.resolve(Intervention(DIMS, "refit")))
    for domain in ("heldout", "ood"):
        assert same.costs[domain].kl == pytest.approx(same.refitted[domain].kl, rel=1e-6)
        sample = getattr(away, domain)
        hidden = torch.from_numpy(sample.hidden)
        base = float64_logits(there.model.head, sample.hidden.astype(np.float64))
        for found, ours in ((EditNumbers(edit), moved.costs), (numbers, moved.refitted)):
            other = found.logits(there.model.head, hidden).double().numpy()
            assert ours[domain].kl == pytest.approx(cost_of(base, other, sample.next_ids).kl, rel=2e-4, abs=2e-6)


def test_what_cannot_land_is_refused(both: dict[str, tuple[Analysis, Samples]]) -> None:
    analysis, samples = both["home"]
    wide = ResolvedEdit(intervention=Intervention((1,)), hidden_size=WIDTH + 8, constant=np.zeros(1))
    with pytest.raises(TpeError, match=rf"for {WIDTH + 8} dimensions \(far\), but .*home has {WIDTH}: it can only"):
        run(transfer(Mask("far", None, wide, 0), analysis, samples))
    everything = ResolvedEdit(
        intervention=Intervention(tuple(range(WIDTH))), hidden_size=WIDTH, constant=np.zeros(WIDTH)
    )
    with pytest.raises(TpeError, match=f"removes all {WIDTH} dimensions"):
        run(transfer(Mask("home", None, everything, 0), analysis, samples))


def test_the_command_prints_a_table_and_one_document(
    world: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--text", world["text.txt"], "--positions", "2000"]
    saved, outside = str(tmp_path / "mask.json"), ["--ood", world["other.txt"]]
    cut = ["--order", "slope", "--replace", "mean", "--fractions", "0.5", "--save", saved]
    assert main(["prune", world["home"], *cut, "--seeds", "1", *small, *outside]) == 0
    pruned = capsys.readouterr().out
    asked = ["transfer", saved, world["tuned"], "--seeds", "2", *small, *outside]
    assert main([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    landed = document["targets"][0]
    assert document["mask"]["removed"] == len(document["mask"]["dims"]) == WIDTH // 2
    assert f"{document['home']['transferred']['kl']:.4f}" in pruned
    assert landed["model"] == world["tuned"]
    assert landed["random"]["draws"] == 2
    assert landed["own"]["order"] == "slope"
    assert {"kl", "js", "top1", "perplexity", "entropy", "ood"} == landed["transferred"].keys()
    assert main([*asked, "--measure-home"]) == 0
    table = capsys.readouterr().out
    for figures in (landed["transferred"], landed["refitted"], landed["own"], document["home"]["transferred"]):
        assert f"{figures['kl']:.4f}" in table
        assert f"{figures['ood']['js']:.4f}" in table
    assert f"{landed['own']['shared']} shared" in table
    assert main(["transfer", saved, str(save_tiny(tmp_path / "gpt2")), *small, "--json"]) == 0  # only the width counts
    capsys.readouterr()


def test_an_adapter_is_a_revision_of_its_base(
    world: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mask of the base costs on `adapter:FOLDER` what it costs on the model that peft merges and saves."""
    base, saved = Path(world["home"]), tmp_path / "mask.json"
    folder = save_adapter(base, tmp_path / "lora", KINDS["lora-head"]())
    adapted(base, folder).merge_and_unload().save_pretrained(tmp_path / "merged")
    tiny_tokenizer().save_pretrained(tmp_path / "merged")
    small = ["--seeds", "1", "--text", world["text.txt"], "--positions", "512", "--ood", world["other.txt"], "--json"]
    cut = ["--order", "slope", "--replace", "zero", "--fractions", "0.25", "--save", str(saved)]
    assert main(["prune", world["home"], *cut, *small]) == 0
    capsys.readouterr()
    landed = []
    for words in ([world["home"], "--revision", f"adapter:{folder}"], [str(tmp_path / "merged")]):
        assert main(["transfer", str(saved), *words, *small]) == 0
        landed.append(json.loads(capsys.readouterr().out)["targets"][0])
    assert (landed[0]["model"], landed[0]["revision"]) == (world["home"], f"adapter:{folder}")
    for part in ("baseline", "transferred"):
        ours, theirs = landed[0][part], landed[1][part]
        for figures, others in ((ours, theirs), (ours["ood"], theirs["ood"])):
            for name in figures.keys() - {"ood"}:
                assert figures[name] == pytest.approx(others[name], rel=1e-4, abs=1e-6), name


def test_another_width_is_refused_before_its_text_is_read(
    world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*_: object) -> None:
        pytest.fail("a text was read")

    write_manifest(tmp_path / "wide.json", make(Intervention((1,)), width=WIDTH + 8), {})
    monkeypatch.setattr("tpe_core.analysis.analyze", read)
    assert main(["transfer", str(tmp_path / "wide.json"), world["tuned"], "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"has {WIDTH}: it can only go to a model of the same width." in err


def test_every_model_reads_the_text_of_standard_input(
    world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run(open_session(options(world, "home"))).export(tmp_path / "mask.json", Intervention((1, 4)), "the")
    asked = ["transfer", str(file), world["tuned"], "--measure-home", "--seeds", "1", "--positions", "2000", "--json"]
    asked += ["--ood", world["other.txt"]]
    assert main([*asked, "--text", world["text.txt"]]) == 0
    wanted = json.loads(capsys.readouterr().out)
    with Path(world["text.txt"]).open() as typed:
        monkeypatch.setattr("sys.stdin", typed)
        assert main([*asked, "--text", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    for one, other in ((found["home"], wanted["home"]), (found["targets"][0], wanted["targets"][0])):
        assert one["baseline"]["ood"] == pytest.approx(other["baseline"]["ood"])
        assert one["positions"] == other["positions"]


def test_a_file_that_prunes_nothing_or_steers_too(
    world: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = run(open_session(options(world, "home")))
    steered = (Steering(7, 2.0, "bias"),)
    nothing = session.export(tmp_path / "nothing.json", Intervention(steering=steered), "the")
    assert main(["transfer", str(nothing), world["tuned"]]) == 1
    assert "prunes no dimension" in capsys.readouterr().err
    file = str(session.export(tmp_path / "both.json", Intervention(DIMS, steering=steered), "the"))
    small = ["--text", world["text.txt"], "--positions", "2000", "--ood", world["other.txt"], "--seeds", "1"]
    assert main(["transfer", file, world["home"], *small]) == 0
    said = capsys.readouterr()
    assert "the file steers tokens, too (1): only its mask is transferred" in said.err
    assert "the file holds no costs of the mask alone" in said.out
