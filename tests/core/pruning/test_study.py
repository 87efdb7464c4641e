"""Curves against whole evaluations in float64, the budget search against whole forwards of edited weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.costs import cost_of, float64_logits, replaced
from tests.helpers.heads import build, wrapped
from tests.helpers.tiny_models import WIDTH, save_tiny, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.detection.reading import corpus_spec
from tpe_core.detection.samples import Samples, read_sample, read_samples
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import ROTATE
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, run
from tpe_core.pruning import distill
from tpe_core.pruning import study as module
from tpe_core.pruning.budget import NoMaskError, check_budget, largest_under, search
from tpe_core.pruning.coordinates import covariance
from tpe_core.pruning.fitting import SPREAD, fitting_sample
from tpe_core.pruning.paths import coordinates_of, planned
from tpe_core.pruning.results import Cost, PruningCurve, PruningRequest, PruningResult, mean_cost, pruned_intervention
from tpe_core.pruning.saliency import gather_evidence, order_of
from tpe_core.pruning.sweep import sweep
from tpe_core.session import open_session
from tpe_tui.cli.main import main

FIGURES = {"kl", "js", "top1", "perplexity", "entropy"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "text.txt").write_text(text(3, 6000))
    (folder / "other.txt").write_text(text(9, 2000).upper())
    return str(folder / "text.txt"), str(folder / "other.txt")


@pytest.fixture(scope="module")
def opened(texts: tuple[str, str]) -> Any:
    made: dict[str, tuple[Analysis, Samples]] = {}

    def make(kind: str) -> tuple[Analysis, Samples]:
        if kind not in made:
            options = RunOptions(text=texts[:1], positions=2000, sample=300, cache=False)
            hf = build("softcap" if kind == "sharp" else kind)
            if kind == "sharp":  # far from uniform, where the least-squares fold is not the optimum already
                hf.model.norm.weight.data.mul_(6)
                options = replace(options, positions=20000, sample=3000)
            analysis = run(analyze(options, model=wrapped(hf)))
            local = analysis.detection.sample
            made[kind] = analysis, run(read_samples(analysis.model, local, analysis.source, texts[1:], size=300))
        return made[kind]

    return make


def study(
    analysis: Analysis,
    samples: Samples,
    orders: Sequence[str],
    replacements: Sequence[str],
    fractions: Sequence[float],
    *,
    seeds: int = 5,
    **more: Any,
) -> Steps[PruningResult]:
    request = PruningRequest(
        orders=tuple(orders),
        replacements=tuple(replacements),
        reference=False,
        draws=seeds,
        fractions=tuple(fractions),
    )
    return module.prune(analysis, samples, request, **more)


def means(curve: PruningCurve, domain: str = "heldout") -> tuple[Cost, ...]:
    """At every point, averaged over draws."""
    return tuple(mean_cost(curve.costs(domain, at)) for at in range(len(curve.removed)))


def order(analysis: Analysis, name: str) -> np.ndarray:
    return order_of(name, run(gather_evidence([name], analysis)))


@pytest.mark.parametrize("kind", ["identity", "softcap", "mask", "head bias"])
def test_every_point_is_a_whole_evaluation(opened, kind: str) -> None:
    analysis, samples = opened(kind)
    head = analysis.model.head
    ways = ("zero", "mean", "least-squares")
    result = run(
        study(analysis, samples, ["slope", "activation"], ways, [0.25, 0.5], domains=("local", "heldout", "ood"))
    )
    assert [(curve.order, curve.replace) for curve in result.curves] == [
        (name, way) for way in ways for name in ("slope", "activation")
    ]
    for domain, sample in samples.items():
        hidden = sample.hidden.astype(np.float64)
        base = float64_logits(head, hidden)
        own = cost_of(base, base, sample.next_ids)
        assert result.baseline[domain].perplexity == pytest.approx(own.perplexity, rel=1e-5)
        for curve in result.curves:
            dims = order(analysis, curve.order)
            for removed, cost in zip((4, 8), means(curve, domain), strict=True):
                other = float64_logits(head, replaced(hidden, dims[:removed], curve.replace, analysis.detection))
                wanted = cost_of(base, other, sample.next_ids)
                for name in ("kl", "js", "entropy", "nll"):
                    assert getattr(cost, name) == pytest.approx(getattr(wanted, name), abs=1e-5)
    assert means(result.curve("slope", "zero"), "ood") != means(result.curve("slope", "zero"))


def test_components_are_replaced_like_dimensions(opened) -> None:
    """In the coordinates of W's principal components: zero, the mean, and what the kept ones explain."""
    analysis, samples = opened("identity")
    head, detection, sample = analysis.model.head, analysis.detection, samples.heldout
    basis = analysis.components.directions
    dims, hidden = order(analysis, "component"), sample.hidden.astype(np.float64)
    gone, kept = dims[:6], dims[6:]
    base, mean = float64_logits(head, hidden), basis.T @ detection.mean_hidden
    c = basis.T @ covariance(detection) @ basis
    for way in ("zero", "mean", "least-squares"):
        e = hidden @ basis
        if way == "least-squares":
            e[:, gone] = mean[gone] + (e[:, kept] - mean[kept]) @ np.linalg.solve(
                c[np.ix_(kept, kept)], c[kept][:, gone]
            )
        else:
            e[:, gone] = mean[gone] if way == "mean" else 0
        wanted = cost_of(base, float64_logits(head, e @ basis.T), sample.next_ids)
        path = coordinates_of(analysis, "component", dims, way)
        assert run(sweep(head, {"": path}, (6,), sample)).costs[""][0].kl == pytest.approx(wanted.kl, abs=1e-5)


def test_the_document_has_the_documented_names_and_a_band_for_random(opened) -> None:
    analysis, samples = opened("identity")
    result = run(study(analysis, samples, ["slope", "random"], ["zero", ROTATE], [0.25, 0.5, 0.5], seeds=3))
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(document) == {
        "schema", "model", "revision", "hidden_size", "positions", "texts", "baseline", "curves"
    }  # fmt: skip
    assert set(document["baseline"]) == {"perplexity", "entropy", "ood"}
    assert set(document["baseline"]["ood"]) == {"perplexity", "entropy"}
    slope, random, rotate = document["curves"]
    assert [(curve["order"], curve["replace"]) for curve in (slope, random, rotate)] == [
        ("slope", "zero"), ("random", "zero"), ("rotate", "rotate")
    ]  # fmt: skip
    for curve in (slope, rotate):
        for point, removed in zip(curve["points"], (4, 8), strict=True):
            assert set(point) == FIGURES | {"fraction", "removed", "ood"}
            assert set(point["ood"]) == FIGURES
            assert (point["removed"], point["fraction"]) == (removed, removed / WIDTH)
    drawn = result.curve("random", "zero")
    draws = [[cost.kl for cost in drawn.costs(domain, 1)] for domain in ("heldout", "ood")]
    assert len(set(draws[0])) == 3
    point = random["points"][1]
    for figures, values, domain in ((point, draws[0], "heldout"), (point["ood"], draws[1], "ood")):
        assert figures["kl"] == pytest.approx(np.mean(values))
        assert figures["range"]["kl"] == [min(values), max(values)]
        assert set(figures["range"]) == FIGURES
        assert drawn.draws(domain, "kl")[:, 1].tolist() == values


def test_groups_and_partial_results(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis, samples = opened("identity")
    arguments = (analysis, samples, ["slope", "random"], ["zero"], [0.25, 0.5])
    whole = run(study(*arguments, seeds=3))
    monkeypatch.setattr(module, "COLUMNS_BYTES", 1)
    events: list[Progress] = []
    assert run(study(*arguments, seeds=3), events.append).to_dict() == whole.to_dict()
    swept = [event for event in events if event.label == "prune"]
    assert [event.done for event in swept] == sorted(event.done for event in swept)
    assert (swept[-1].done, swept[-1].total) == (2400, 2400)
    partial = [event.partial for event in swept if event.partial is not None]
    assert all(isinstance(some, PruningResult) for some in partial)
    assert [curve.order for curve in partial[0].curves] == ["slope"]
    assert set(partial[0].curves[0].figures) == {"heldout"}
    (first,) = {means(event.partial.curves[0]) for event in swept if event.done == 300 and event.partial is not None}
    assert first == means(whole.curve("slope", "zero"))
    assert len(partial[-1].curves[1].figures["ood"]) == 3
    complete = [[len(curve.figures["ood"]) for curve in some.curves] for some in partial if some.complete]
    assert complete == [[1], [1, 1], [1, 2], [1, 3]], "a result is complete between paths, never within one"


def test_the_plan_has_everything_once() -> None:
    keys = planned(["slope", "random", "slope"], ["zero", ROTATE], 2)
    assert keys == [("slope", "zero", 0), ("random", "zero", 0), ("random", "zero", 1), (ROTATE, ROTATE, 0)]
    for orders, ways, draws, words in (
        (["slop"], ["zero"], 1, "unknown order 'slop': choose one of slope"),
        (["slope"], ["none"], 1, "unknown replacement 'none': choose one of zero, mean, least-squares, rotate"),
        (["random"], ["zero"], 0, "at least one draw, not 0"),
        ([], ["zero"], 1, "nothing is asked for"),
    ):
        with pytest.raises(TpeError, match=words):
            planned(orders, ways, draws)


def edited_model(analysis: Analysis, dims: np.ndarray, way: str) -> Any:
    """A copy of the whole model whose head's weights do what the mask does."""
    hf = copy.deepcopy(analysis.model.hf)
    old = hf.get_output_embeddings()
    w, detection = old.weight.detach().double().clone(), analysis.detection
    head = nn.Linear(w.shape[1], w.shape[0])
    constant = torch.zeros(len(w), dtype=torch.float64) if old.bias is None else old.bias.detach().double()
    if way == "least-squares":
        kept, mean = np.setdiff1d(np.arange(WIDTH), dims), detection.mean_hidden
        c = covariance(detection)
        fold = torch.from_numpy(np.linalg.solve(c[np.ix_(kept, kept)], c[np.ix_(kept, dims)]))
        lost = w[:, dims]
        constant = constant + lost @ (torch.from_numpy(mean[dims]) - torch.from_numpy(mean[kept]) @ fold)
        w[:, kept] += lost @ fold.T
    w[:, dims] = 0
    with torch.no_grad():
        head.weight.copy_(w)
        head.bias.copy_(constant)
    hf.config.tie_word_embeddings = False
    hf.set_output_embeddings(head)
    return hf.eval()


@pytest.mark.parametrize("kind", ["identity", "softcap", "head bias"])
@pytest.mark.parametrize("way", ["zero", "least-squares"])
def test_the_budget_holds_in_whole_forwards_of_edited_weights(opened, texts, kind: str, way: str) -> None:
    """Over every held-out position: under the budget, and one dimension more is not."""
    analysis, _ = opened(kind)
    model = analysis.model
    reading = corpus_spec(analysis.source, model, 300, "heldout")
    corpus = run(reading.corpus())
    everything = run(read_samples(model, analysis.detection.sample, analysis.source, texts[1:], size=corpus.positions))
    assert len(everything.heldout) == corpus.positions
    blocks = torch.from_numpy(corpus.blocks)
    with torch.inference_mode():
        base = model.hf(blocks).logits.double().log_softmax(-1)

    def whole(dims: np.ndarray) -> float:
        with torch.inference_mode():
            other = edited_model(analysis, dims, way)(blocks).logits.double().log_softmax(-1)
        return float((base.exp() * (base - other)).sum(-1).mean())

    dims = order(analysis, "slope")
    budget = (whole(dims[:6]) + whole(dims[:7])) / 2
    found = run(largest_under(analysis, everything.heldout, "slope", way, budget, ood=everything.ood))
    assert found.dims == tuple(dims[: found.removed])
    assert whole(dims[: found.removed]) <= budget < whole(dims[: found.removed + 1])
    assert found.cost.kl == pytest.approx(whole(dims[: found.removed]), abs=1e-5)
    assert found.following is not None
    assert found.following.kl == pytest.approx(whole(dims[: found.removed + 1]), abs=1e-5)
    assert found.ood is not None
    assert found.ood.kl != found.cost.kl


def test_the_search_finds_what_looking_everywhere_finds(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpe_core.pruning import budget as searching

    monkeypatch.setattr(searching, "COARSE", 2)  # so that there is something left to cut
    analysis, samples = opened("identity")
    head = analysis.model.head
    # What the model itself expects follows: a random model's perplexity on anything else falls as it is pruned.
    expected = head.logits(torch.from_numpy(samples.heldout.hidden)).argmax(1).numpy()
    sample = replace(samples.heldout, next_ids=expected)
    path = coordinates_of(analysis, "activation", order(analysis, "activation"), "mean")
    swept = run(sweep(head, {"": path}, range(WIDTH), sample))
    costs = swept.costs[""]
    assert [cost.kl for cost in costs] == sorted(cost.kl for cost in costs)
    for metric in ("kl", "perplexity"):
        values = [getattr(cost, metric) for cost in costs]
        for k in (1, 5, 9, 13):
            budget = (values[k] + values[k + 1]) / 2
            found = run(largest_under(analysis, sample, "activation", "mean", budget, metric=metric))
            assert (found.metric, found.budget) == (metric, budget)
            assert values[found.removed] <= budget < values[found.removed + 1]
            assert metric == "perplexity" or found.removed == k
            assert found.cost.nll == pytest.approx(costs[found.removed].nll, abs=1e-6)
            assert found.following is not None
            assert found.following.nll == pytest.approx(costs[found.removed + 1].nll, abs=1e-6)
    most = run(largest_under(analysis, sample, "activation", "mean", 1e6))
    assert (most.removed, most.following) == (WIDTH - 1, None)
    rotated = run(largest_under(analysis, sample, "slope", ROTATE, 0.5))
    assert (rotated.order, rotated.dims) == (ROTATE, ())


def test_budgets_that_cannot_be_met(opened) -> None:
    analysis, samples = opened("identity")
    with pytest.raises(NoMaskError, match=r"no mask of slope, zero stays under a KL of 1e-09 nats: removing its first"):
        run(largest_under(analysis, samples.heldout, "slope", "zero", 1e-9))
    with pytest.raises(NoMaskError, match=r"under a perplexity of 1.5: pruning nothing already gives"):
        run(largest_under(analysis, samples.heldout, "slope", "zero", 1.5, metric="perplexity"))
    for budget, metric, words in (
        (0, "kl", "above 0, not 0"),
        (-1, "kl", "above 0, not -1"),
        (float("nan"), "kl", "not nan"),
        (1, "loss", "unknown budget 'loss': choose one of kl, perplexity"),
    ):
        with pytest.raises(TpeError, match=words):
            check_budget(budget, metric)
        with pytest.raises(TpeError, match=words):
            run(largest_under(analysis, samples.heldout, "slope", "zero", budget, metric=metric))


def test_a_search_goes_on_where_one_order_has_no_mask(opened) -> None:
    analysis, samples = opened("identity")
    first = {
        way: means(run(study(analysis, samples, ["slope"], [way], [1 / WIDTH])).curves[0]) for way in ("zero", ROTATE)
    }
    budget = (first["zero"][0].kl + first[ROTATE][0].kl) / 2
    found = run(search(analysis, samples, ["slope"], ["zero", ROTATE], budget))
    assert [(one.order, one.replace) for one in found.found] == [(ROTATE, ROTATE)]
    assert len(found.refused) == 1
    assert found.refused[0].startswith("no mask of slope, zero")
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["budget"] == {"metric": "kl", "value": budget}
    assert set(document["baseline"]) == {"perplexity", "entropy", "ood"}
    (entry,) = document["largest"]
    assert set(entry) == FIGURES | {"order", "replace", "draw", "fraction", "removed", "ood", "following", "dims"}
    with pytest.raises(NoMaskError, match="no mask of slope"):
        run(search(analysis, samples, ["slope"], ["zero"], 1e-9))


def test_a_point_becomes_an_edit(opened) -> None:
    analysis, samples = opened("identity")
    dims = order(analysis, "slope-std")[:5]

    def curve(name: str, way: str) -> PruningCurve:
        orders = [] if way == ROTATE else [name]
        return run(study(analysis, samples, orders, [way], [0.5])).curves[0]

    assert curve("slope-std", "mean").mask(5) == Intervention(tuple(dims.tolist()), "mean")
    assert pruned_intervention("slope", "zero", (3, 1)) == Intervention((1, 3), "zero")
    for name, way, words in (
        ("component", "zero", "principal components cannot be saved"),
        (ROTATE, ROTATE, "rotated directions cannot be saved"),
        ("slope", "nonsense", "replaced by nonsense cannot be saved as one: choose zero or mean"),
    ):
        with pytest.raises(TpeError, match=words):
            pruned_intervention(name, way, ())
        if way != "nonsense":
            with pytest.raises(TpeError, match=words):
                curve(name, way).mask(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "gpt2")


@pytest.fixture
def tpe(folder: Path, texts: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> tuple[int, str, str]:
        given = ["--text", texts[0], "--ood", texts[1], "--positions", "2000", "--no-cache", *arguments]
        code = main(["prune", str(folder), *given])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_command_prints_both_texts_side_by_side(tpe) -> None:
    code, out, err = tpe("--fractions", "0.25,0.5", "--seeds", "2")
    assert code == 0, err
    lines = out.splitlines()
    assert sum(line.startswith("slope ") for line in lines) == 2
    assert sum(line.startswith("random ") for line in lines) == 2
    assert sum(line.startswith("  KL over 2 draws") for line in lines) == 2
    assert any(line.split() == ["held-out", "out", "of", "domain"] for line in lines)
    (columns,) = (line for line in lines if line.startswith("order"))
    assert columns.count("perplex.") == columns.count("top-1") == 2
    code, again, err = tpe("--fractions", "0.25", "--fractions", "0.5", "--seeds", "2", "--json")
    assert code == 0, err
    points = json.loads(again)["curves"][0]["points"]
    shown = [line.split() for line in lines if line.startswith("slope ")]
    assert [f"{point['kl']:.4f}" for point in points] == [cells[4] for cells in shown]
    assert [f"{point['ood']['kl']:.4f}" for point in points] == [cells[9] for cells in shown]


@pytest.mark.parametrize("way", ["zero", "mean", "least-squares", "refit"])
def test_the_command_saves_a_mask_that_the_inspector_opens(tpe, folder: Path, texts, tmp_path: Path, way: str) -> None:
    path = tmp_path / "mask.json"
    code, out, err = tpe("--order", "slope", "--replace", way, "--fractions", "0.25", "--save", str(path))
    assert code == 0, err
    assert f"wrote {path}" in err
    options = RunOptions(model=str(folder), text=texts[:1], positions=2000, cache=False)
    session = run(open_session(options))
    loaded = session.load(path)
    slope = np.abs(session.analysis.encoding.slope)
    assert set(loaded.pruned) == set(np.argsort(slope)[:4].tolist())
    assert loaded.replacement == way


def test_the_command_searches_a_budget_and_saves_its_mask(tpe, tmp_path: Path) -> None:
    path = tmp_path / "mask.json"
    code, out, err = tpe("--order", "slope", "--budget", "0.1", "--json", "--save", str(path))
    assert code == 0, err
    (entry,) = json.loads(out)["largest"]
    assert entry["kl"] <= 0.1 < entry["following"]["kl"]
    assert json.loads(path.read_text())["pruned"] == sorted(entry["dims"])
    code, out, err = tpe("--order", "random", "--budget-perplexity", "1e9", "--seeds", "2")
    assert code == 0, err
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("random ")] == [
        ["random", "1", "zero"], ["random", "2", "zero"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--order", "best"), 1, "unknown order 'best'"),
        (("--replace", "nothing"), 1, "unknown replacement 'nothing'"),
        (("--fractions", "0.1,1.5"), 1, "between 0 and 1, not 1.5"),
        (("--fractions", "many"), 2, "a fraction must be a number"),
        (("--budget", "0"), 1, "above 0, not 0.0"),
        (("--budget", "1e-9", "--order", "slope"), 1, "no mask of slope, zero stays under a KL of 1e-09 nats"),
        (("--budget", "1", "--fractions", "0.1"), 2, "give one of --fractions"),
        (("--budget", "0.1", "--replace", "refit"), 1, "refit"),
        (
            ("--save", "m.json", "--order", "slope", "--replace", "distill", "--fractions", "0.1"),
            1,
            "replaced by distill",
        ),
        (("--save", "mask.json"), 2, "--save writes one mask"),
        (("--save", "mask.json", "--order", "slope", "--fractions", "0.1,0.2"), 2, "--save writes one mask"),
        (("--save", "mask.json", "--replace", "rotate", "--fractions", "0.1"), 1, "rotated directions cannot be saved"),
    ],
)
def test_what_the_command_refuses(tpe, arguments: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = tpe(*arguments)
    assert found == code
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    assert not Path("mask.json").exists()


@pytest.mark.parametrize("fitted", ["refit", "distill"])
def test_fitted_points_are_not_dearer_than_the_fold(opened, fitted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "STEPS", 400)  # a third of what it takes by itself
    analysis, samples = opened("sharp")
    events: list[Progress] = []
    result = run(study(analysis, samples, ["slope"], ["least-squares", fitted], [0.25, 0.5]), events.append)
    folded, distilled = (result.curve("slope", way) for way in ("least-squares", fitted))
    for domain in ("heldout", "ood"):
        assert distilled.figures[domain].shape == folded.figures[domain].shape
        assert distilled.removed == folded.removed
    for before, after in zip(means(folded), means(distilled), strict=True):
        # This model's rows are random: h made anew gains nothing there, tokens of their own constant do.
        assert 0 < after.kl < before.kl * (1.000001 if fitted == "refit" else 1)
    told = [event for event in events if event.label == "fit heads"]
    shares = [0.0, *(event.done / event.total for event in told), 1.0]
    assert max(np.diff(shares)) < 0.03, "looks at the positions held back and measuring count, too"
    assert min(np.diff(shares)) >= 0
    assert {event.amount for event in told} == {"0/2", "1/2", "2/2"}
    assert any(f"slope, {fitted}, " in event.note and f"{fitted} 100/" in event.note for event in told)
    partial = [event.partial for event in events if isinstance(event.partial, PruningResult)]
    assert [len(some.curve("slope", fitted).removed) for some in partial if len(some.curves) == 2] == [1, 2]
    with pytest.raises(TpeError, match="principal components"):
        planned(["component"], [fitted])
    assert planned(["random"], [fitted], 5) == [("random", fitted, 0)]
    alone = run(study(analysis, samples, ["slope"], [fitted], [0.25], fit_positions=500))
    assert alone.baseline == result.baseline


def test_what_a_fit_is_made_on_is_drawn_from_more_text_than_it_has_positions(opened) -> None:
    analysis, _ = opened("identity")
    many = 200
    near, far = (
        run(read_sample(analysis.model, corpus_spec(analysis.source, analysis.model, size), size, 0, None)).hidden
        for size in (many, SPREAD * many)
    )
    found = run(fitting_sample(analysis, many)).hidden
    assert found.shape == near.shape == (many, WIDTH)
    read = {row.tobytes() for row in far}
    assert {row.tobytes() for row in found} < read
    assert len({row.tobytes() for row in found} & {row.tobytes() for row in near}) < many / 2


@pytest.mark.slow
def test_what_stands_in_for_removed_dimensions_pays_on_the_bundled_model() -> None:
    """At what `slope`, `zero` costs with 30 % removed, `least-squares` removes 45 % and `distill` 60 %."""
    analysis = run(analyze(RunOptions(cache=False)))
    samples = run(read_samples(analysis.model, analysis.detection.sample, analysis.source))

    def kl(order: str, replacement: str, fraction: float) -> float:
        found = run(
            study(analysis, samples, [order], [replacement], [fraction], fit_positions=32_768, domains=("heldout",))
        )
        return found.curve(order, replacement).costs("heldout", 0)[0].kl

    limit = kl("slope", "zero", 0.3)
    assert limit < kl("random", "zero", 0.3)
    assert kl("fisher-obs", "least-squares", 0.45) < limit
    assert kl("fisher-obs", "distill", 0.6) < limit


def test_generate_writes_text_at_every_point_of_a_mask(
    tmp_path: Path, texts: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "prune", str(save_tiny(tmp_path / "tiny")), "--text", texts[0], "--ood", texts[1], "--positions", "2000",
        "--order", "slope,component", "--fractions", "0.25,0.5", "--generate", "32", "--no-cache", "--json",
    ]  # fmt: skip
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(each["order"], each["removed"]) for each in document["generation"]] == [("slope", 4), ("slope", 8)]
    for each in document["generation"]:
        assert 0 < each["mauve"]["value"] <= 1
        assert each["base"] == document["generation"][0]["base"]
    assert main([*words[:-1], "--budget", "0.1"]) == 2
    assert main([*words[:11], "--generate", "8"]) == 2
