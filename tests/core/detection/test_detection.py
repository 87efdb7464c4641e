"""The streaming pass against brute force in float64, merged, killed and resumed."""

from __future__ import annotations

import signal
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.forked import Forked
from tests.helpers.tiny_models import random_corpus, save_tiny, slice_corpus
from tpe_core.corpus.corpus import STRETCHES, Corpus
from tpe_core.detection.detection import Detection, detect, detection_key, load_detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.errors import NumericalError, TpeError
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.store import Store

KINDS = ["gpt2", "gptj", "neox", "llama"]


def brute_force(model: LanguageModel, corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """(log alpha, E[h]) from whole forwards and a full float64 softmax over every row."""
    ids = torch.from_numpy(corpus.blocks)
    hidden = torch.cat([model.hidden(row[None]) for row in ids]).double().flatten(0, 1)
    logits = hidden @ model.head.columns.double()
    if model.head.bias is not None:
        logits = logits + model.head.bias.double()
    whole = torch.cat([model.logits(row[None]) for row in ids]).double().flatten(0, 1)
    assert float((logits - whole).abs().max()) < 1e-4 * max(1.0, float(whole.abs().max()))
    log_p = torch.log_softmax(logits, -1)
    log_alpha = torch.logsumexp(log_p, 0) - np.log(len(log_p))
    return log_alpha.numpy(), hidden.mean(0).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_brute_force(tiny, kind: str) -> None:
    model, corpus = tiny(kind), random_corpus(6, 40)
    found = run(detect(model, corpus, sample_size=50))
    log_alpha, mean = brute_force(model, corpus)
    assert np.abs(np.expm1(found.log_alpha - log_alpha)).max() < 1e-6
    np.testing.assert_allclose(found.mean_hidden, mean, rtol=0, atol=1e-9)
    assert found.positions == 240
    assert found.counts.sum() == 240
    assert np.exp(found.log_alpha).sum() == pytest.approx(1, abs=1e-6)


def test_rows_far_below_float32_are_rescued(tmp_path: Path) -> None:
    def sink(model) -> None:  # a head whose bias puts rows at e^-100, e^-150, ... e^-700
        model.lm_head.bias.zero_()
        model.lm_head.bias[10:23] = -torch.arange(100.0, 750.0, 50.0)

    model = load_model(RunOptions(model=str(save_tiny(tmp_path, "gptj", sink))))
    corpus = random_corpus(4, 32)
    found = run(detect(model, corpus))
    log_alpha, _ = brute_force(model, corpus)
    assert log_alpha.min() < -650  # 1e-300: far below what float32 holds
    assert np.isfinite(found.log_alpha).all()
    assert np.abs(np.expm1(found.log_alpha - log_alpha)).max() < 1e-6
    assert (found.p_sum[10:23] == 0).all()  # all of it came through the log domain


def equal(a: Detection, b: Detection, tolerance: float = 1e-12) -> None:
    assert a.positions == b.positions
    assert np.abs(np.expm1(a.log_alpha - b.log_alpha)).max() < tolerance
    np.testing.assert_allclose(a.hh_sum, b.hh_sum, rtol=tolerance, atol=tolerance * np.abs(b.hh_sum).max())
    np.testing.assert_allclose(a.h_sum, b.h_sum, rtol=tolerance, atol=tolerance * np.abs(b.h_sum).max())
    assert a.nll_sum == pytest.approx(b.nll_sum, rel=tolerance)
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_array_equal(a.sample.priority, b.sample.priority)
    np.testing.assert_array_equal(a.sample.next_ids, b.sample.next_ids)
    np.testing.assert_allclose(a.sample.hidden, b.sample.hidden, rtol=0, atol=0)
    assert a.groups is not None
    assert b.groups is not None
    np.testing.assert_array_equal(a.groups.positions, b.groups.positions)
    assert np.abs(np.expm1(a.groups.log_sums - b.groups.log_sums)).max() < tolerance


@pytest.mark.parametrize("batch", [1, 5])  # blocks per forward pass: a chunk of one group, and of several
def test_groups_are_brute_force_over_stretches_of_the_text(tiny, batch: int) -> None:
    model, corpus = tiny("gptj"), random_corpus(13, 40)
    found = run(detect(model, corpus, batch_size=batch))
    assert found.groups is not None
    assert (np.diff(corpus.stretch) >= 0).all()
    for stretch in range(STRETCHES):
        blocks = np.flatnonzero(corpus.stretch == stretch)
        assert len(blocks) in (1, 2)
        log_alpha, _ = brute_force(model, slice_corpus(corpus, blocks[0], blocks[-1] + 1))
        assert found.groups.positions[stretch] == 40 * len(blocks)
        own = found.groups.log_sums[stretch] - np.log(40 * len(blocks))
        assert np.abs(np.expm1(own - log_alpha)).max() < 1e-6
    whole = np.logaddexp.reduce(found.groups.log_sums, 0) - np.log(found.positions)
    np.testing.assert_allclose(whole, found.log_alpha, rtol=1e-12)


def test_a_detection_stored_without_groups_still_opens(tiny, tmp_path: Path) -> None:
    model, corpus, store = tiny("gpt2"), random_corpus(9, 48), Store(tmp_path)
    whole = run(detect(model, corpus, batch_size=1))
    key = detection_key(model, corpus.fingerprint, 4096, 0)
    older = {name: values for name, values in whole.to_arrays().items() if not name.startswith("group_")}
    store.save(key, older, {"next_block": 9})
    assert list(detect(model, corpus, store=store)) == []  # found, not computed
    found = load_detection(store, key, model.head)
    assert found is not None
    assert found[0].groups is None
    np.testing.assert_array_equal(found[0].log_alpha, whole.log_alpha)
    assert (found[0] + whole).groups is None  # half of the positions would be in none


def test_split_and_merged_is_the_same(tiny) -> None:
    model, corpus = tiny("gpt2"), random_corpus(9, 48)
    whole = run(detect(model, corpus, sample_size=60, batch_size=1))
    parts = [
        run(detect(model, slice_corpus(corpus, a, b), sample_size=60, batch_size=1))
        for a, b in ((0, 4), (4, 5), (5, 9))
    ]
    equal((parts[0] + parts[1]) + parts[2], whole)
    equal(parts[2] + (parts[0] + parts[1]), whole)


def test_stopped_and_resumed_is_the_same(tiny, tmp_path: Path) -> None:
    model, corpus, store = tiny("gpt2"), random_corpus(9, 48), Store(tmp_path)
    whole = run(detect(model, corpus, batch_size=1))
    steps = detect(model, corpus, batch_size=1, store=store, save_seconds=0)
    for _ in range(5):
        next(steps)
    steps.close()  # a cancelled pass
    again = detect(model, corpus, batch_size=1, store=store)
    first = next(again)
    assert first.note == "resumed"
    assert first.done == 4 * 48
    equal(run(again), whole)
    assert list(detect(model, corpus, batch_size=1, store=store)) == []  # finished: found, not computed


def test_killed_and_resumed_is_the_same(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from tests.helpers.tiny_models import random_corpus
        from tpe_core.detection.detection import detect
        from tpe_core.models.loading import load_model
        from tpe_core.options import RunOptions
        from tpe_core.store import Store
        model = load_model(RunOptions(model={str(folder)!r}))
        store = Store(Path({str(tmp_path / "store")!r}))
        for event in detect(model, random_corpus(12, 48), batch_size=1, store=store, save_seconds=0):
            print(event.done, flush=True)
            time.sleep(0.2)
    """)
    process = Forked(script, folder=tmp_path / "process")
    end = time.monotonic() + 120
    while f"{5 * 48}\n" not in process.stdout.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    assert process.returncode == -signal.SIGKILL
    model, corpus, store = load_model(RunOptions(model=str(folder))), random_corpus(12, 48), Store(tmp_path / "store")
    resumed = detect(model, corpus, batch_size=1, store=store)
    first = next(resumed)
    assert first.note == "resumed"
    assert first.done >= 4 * 48
    equal(run(resumed), run(detect(model, corpus, batch_size=1)))


def test_sample_is_uniform_and_real(tiny) -> None:
    model, corpus = tiny("llama"), random_corpus(8, 32)
    found = run(detect(model, corpus, sample_size=40))
    assert len(found.sample) == 40
    assert (np.diff(found.sample.priority.astype(float)) >= 0).all()
    hidden = model.hidden(torch.from_numpy(corpus.blocks)).flatten(0, 1).numpy()
    targets = corpus.targets.ravel()
    for h, token in zip(found.sample.hidden, found.sample.next_ids, strict=True):
        at = np.abs(hidden - h).max(1).argmin()
        assert np.abs(hidden[at] - h).max() < 1e-5
        assert targets[at] == token
    assert len(run(detect(model, corpus, sample_size=1000)).sample) == 256
    assert len(run(detect(model, corpus, sample_size=0)).sample) == 0


def test_loss_and_log_z(tiny) -> None:
    model, corpus = tiny("gpt2"), random_corpus(3, 32)
    found = run(detect(model, corpus))
    logits = model.logits(torch.from_numpy(corpus.blocks)).double()
    log_z = torch.logsumexp(logits, -1)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(corpus.targets).flatten())
    assert found.loss == pytest.approx(float(loss), rel=1e-6)
    assert found.mean_log_z == pytest.approx(float(log_z.mean()), rel=1e-6)


def test_nan_is_a_sentence(tmp_path: Path, tiny) -> None:
    model = tiny("gpt2")
    parameter = model.hf.transformer.ln_f.weight
    kept = parameter.detach().clone()
    try:
        with torch.no_grad():
            parameter[0] = float("nan")
        with pytest.raises(NumericalError, match="hidden states hold NaN"):
            run(detect(model, random_corpus(2, 16)))
    finally:
        with torch.no_grad():
            parameter.copy_(kept)


def test_different_heads_do_not_add(tiny) -> None:
    a = run(detect(tiny("gpt2"), random_corpus(2, 16)))
    b = run(detect(tiny("neox"), random_corpus(2, 16)))
    with pytest.raises(TpeError, match="cannot be added"):
        a + b


def test_priorities_depend_on_content_only() -> None:
    np.testing.assert_array_equal(HiddenSample.priorities(7, 5, 0), HiddenSample.priorities(7, 5, 0))
    assert (HiddenSample.priorities(7, 5, 0) != HiddenSample.priorities(8, 5, 0)).any()


def test_cancel_takes_one_step(tiny) -> None:
    steps = detect(tiny("gpt2"), random_corpus(64, 48), batch_size=1)
    next(steps)
    started = time.perf_counter()
    next(steps)
    steps.close()
    assert time.perf_counter() - started < 5
    with pytest.raises(StopIteration):
        next(steps)


@pytest.mark.parametrize(
    "failure", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")]
)
def test_out_of_memory_halves_the_batch(tiny, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    model, corpus = tiny("gpt2"), random_corpus(11, 40)
    wanted = run(detect(model, corpus, sample_size=50))
    whole = LanguageModel.hidden
    sizes = []

    def short(self: LanguageModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise failure
        return whole(self, inputs)

    monkeypatch.setattr(LanguageModel, "hidden", short)
    notes: list[str] = []
    found = run(detect(model, corpus, sample_size=50, batch_size=8), lambda event: notes.append(event.note))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert "out of memory: 2 blocks at a time" in notes
    # Other batches round float32 sums otherwise; nothing is lost or counted twice.
    assert np.abs(np.expm1(found.log_alpha - wanted.log_alpha)).max() < 1e-6
    np.testing.assert_array_equal(found.counts, wanted.counts)
    np.testing.assert_array_equal(found.sample.priority, wanted.sample.priority)


def test_not_even_one_block_fits(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: LanguageModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(LanguageModel, "hidden", never)
    with pytest.raises(TpeError, match=r"one block of 40 positions does not fit .* --dtype bfloat16"):
        run(detect(tiny("gpt2"), random_corpus(3, 40)))


def test_another_failure_is_not_taken_for_a_lack_of_memory(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: LanguageModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(LanguageModel, "hidden", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run(detect(tiny("gpt2"), random_corpus(3, 40)))
