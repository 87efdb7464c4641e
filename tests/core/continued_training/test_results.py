"""Bands, contrasts and tables of made-up runs; the order of blocks."""

from __future__ import annotations

from collections import Counter

import pytest
import scipy.stats

from tests.helpers.tiny_models import random_corpus
from tpe_core.continued_training.batches import Batches, block_order
from tpe_core.continued_training.results import Band, ContinuedTraining, MaskFigures, RunRecord, StepFigures


def figures(step: int, gap: float, kl: float) -> StepFigures:
    return StepFigures(
        step=step, loss={"heldout": 3.0 + gap}, gap={"heldout": gap}, kl={"heldout": kl}, r2=0.8, r2_adjusted=0.8,
        r2_heldout_vocab=0.7, gini=0.5, participation_ratio=9.0, slope_cosine=0.9, steered={"7": 2.0},
        masks={"low": MaskFigures(cost_kl=kl, cost_loss=gap, overlap=0.5)},
    )  # fmt: skip


def record(variant: str, seed: int, kl: float, **changes: str) -> RunRecord:
    return RunRecord(
        scenario="same",
        mask="" if variant == "unedited" else "low",
        variant=variant,
        seed=seed,
        points=(figures(0, 0.1, kl), figures(4, kl / 2, kl)),
        **changes,  # type: ignore[arg-type]
    )


def result(kept: tuple[float, ...], random: tuple[float, ...]) -> ContinuedTraining:
    runs = [record("kept", seed, kl) for seed, kl in enumerate(kept)]
    runs += [record("random", seed, kl) for seed, kl in enumerate(random)]
    return ContinuedTraining(model="demo", settings={}, runs=tuple(runs), planned=9)


def test_a_band_is_the_t_interval_of_scipy() -> None:
    values = [1.0, 2.0, 4.0]
    band = Band.of(values)
    assert band is not None
    low, high = scipy.stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=scipy.stats.sem(values))
    assert (band.low, band.high) == (pytest.approx(low), pytest.approx(high))
    assert Band.of([2.0]) == Band(2.0, None, None, 1)
    assert Band.of([]) is None


@pytest.mark.parametrize(
    ("kept", "random", "verdict"),
    [
        ((0.1, 0.11, 0.12), (0.5, 0.52, 0.51), "better than random"),
        ((0.5, 0.52, 0.51), (0.1, 0.11, 0.12), "worse than random"),
        ((0.1, 0.5, 0.3), (0.2, 0.3, 0.4), "not told apart"),
        ((0.1,), (0.2,), "one seed"),
    ],
)
def test_a_kept_mask_is_compared_with_random_ones_of_its_seeds(
    kept: tuple[float, ...], random: tuple[float, ...], verdict: str
) -> None:
    contrasts = {each["figure"]: each for each in result(kept, random).contrasts()}
    assert contrasts["kl.heldout"]["verdict"] == verdict
    differences = [ours - theirs for ours, theirs in zip(kept, random, strict=True)]
    assert contrasts["kl.heldout"]["mean"] == pytest.approx(sum(differences) / len(differences))


def test_the_unedited_run_stands_under_every_mask_and_what_is_written_is_read_again() -> None:
    runs = (record("unedited", 0, 0.0), record("kept", 0, 0.2, stopped="the loss became nan"))
    whole = ContinuedTraining(model="demo", settings={"steps": 4}, runs=runs, planned=2)
    assert {(each["mask"], each["variant"]) for each in whole.bands()} == {("low", "unedited"), ("low", "kept")}
    assert tuple(RunRecord.from_dict(each) for each in whole.to_dict()["runs"]) == runs
    assert whole.stopped == runs[1:]
    table = whole.to_table("runs")
    assert table.column("step") == [0, 4, 0, 4]
    assert table.column("cost_kl") == [None, None, 0.2, 0.2]  # the unedited run serves every mask
    assert len(whole.to_table()) == len(whole.bands())


def test_every_block_comes_once_before_any_comes_again_and_the_seed_decides() -> None:
    order = block_order(5, 12, 0)
    assert sorted(order[:5]) == sorted(order[5:10]) == list(range(5))
    assert max(Counter(order.tolist()).values()) == 3
    assert (order == block_order(5, 12, 0)).all()
    assert (order != block_order(5, 12, 1)).any()


def test_batches_hold_ids_and_what_follows() -> None:
    corpus = random_corpus(6, 8)
    batches = Batches(corpus, steps=2, batch=3, seed=0)
    assert len(batches) == 6
    for at, block in enumerate(batches.order):
        assert batches[at]["input_ids"].tolist() == corpus.blocks[block].tolist()
        assert batches[at]["labels"].tolist() == corpus.targets[block].tolist()
    assert batches.counts(400).sum() == 48
