"""Draft vocabularies: coverage against full softmaxes, orders, sizes, files read back, and `tpe vocabulary`."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.corpus.domains import DOMAINS
from tpe_core.detection.samples import Samples, read_samples
from tpe_core.errors import ExistsError, TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.vocabulary.coverage import DraftVocabulary, draft_vocabulary, ladder
from tpe_core.vocabulary.files import FILES, write_vocabulary
from tpe_core.vocabulary.orders import ORDERS, TokenEvidence, ordered
from tpe_tui.cli.main import main

Read = tuple[Analysis, Samples]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("vocabulary")
    for seed, name in enumerate(("text", "ood")):
        (folder / f"{name}.txt").write_text(text(seed + 3, 6000))
    made = {name: str(folder / f"{name}.txt") for name in ("text", "ood")}
    return {**made, "model": str(save_tiny(folder / "model"))}


@pytest.fixture(scope="module")
def read(files: dict[str, str]) -> Read:
    options = RunOptions(model=files["model"], text=(files["text"],), positions=600, sample=300, cache=False)
    analysis = run(analyze(options))
    return analysis, run(
        read_samples(analysis.model, analysis.detection.sample, analysis.source, (files["ood"],), size=300)
    )


@pytest.fixture(scope="module")
def draft(read: Read) -> DraftVocabulary:
    return run(draft_vocabulary(*read, keep=40))


def brute_force(analysis: Analysis, hidden: Any, ids: Sequence[int]) -> float:
    """The mean over positions of the softmax's mass on `ids`, one position at a time in float64."""
    head, held = analysis.model.head, []
    for h in torch.from_numpy(hidden).double():
        logits = h @ head.columns.double()
        if head.bias is not None:
            logits = logits + head.bias.double()
        held.append(float(torch.softmax(logits, 0)[list(ids)].sum()))
    return float(np.mean(held))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [3, 40, 200])
def test_coverage_is_the_mass_of_full_softmaxes(read: Read, draft: DraftVocabulary, order: str, size: int) -> None:
    analysis, samples = read
    kept = draft.orders[order][:size]
    found, came = draft.coverage(size, order), draft.came(size, order)
    for name in ("heldout", "ood"):
        sample = getattr(samples, name)
        assert found[name] == pytest.approx(brute_force(analysis, sample.hidden, kept), abs=1e-6)
        assert came[name] == pytest.approx(np.mean([token in kept for token in sample.next_ids]))


def test_local_coverage_is_that_of_every_detected_position(files: dict[str, str]) -> None:
    options = RunOptions(model=files["model"], text=(files["text"],), positions=256, sample=256, cache=False)
    analysis = run(analyze(options))
    sample = analysis.detection.sample
    assert len(sample) == analysis.detection.positions
    samples = Samples(local=sample, heldout=sample, ood=sample, heldout_text="a", ood_text="b")
    draft = run(draft_vocabulary(analysis, samples, keep=30))
    kept = draft.orders[draft.order][:30]
    assert draft.coverage(30)["local"] == pytest.approx(brute_force(analysis, sample.hidden, kept), abs=1e-6)
    assert draft.came(30)["local"] == pytest.approx(float(np.isin(sample.next_ids, kept).mean()))


@pytest.mark.parametrize("order", ORDERS)
def test_coverage_grows_with_the_size_and_is_whole_at_v(draft: DraftVocabulary, order: str) -> None:
    for name in DOMAINS:
        for held in (draft.coverage, draft.came):
            grown = [held(size, order)[name] for size in range(1, draft.vocab_rows + 1)]
            assert all(a <= b + 1e-12 for a, b in itertools.pairwise(grown))
            assert grown[-1] == pytest.approx(1.0, abs=1e-6)
        assert sorted(draft.orders[order]) == list(range(draft.vocab_rows))


def test_no_rows_hold_more_of_the_local_text_than_those_by_alpha(draft: DraftVocabulary) -> None:
    special = len(draft.special)
    best = np.sort(np.delete(draft.shares["local"].probability, draft.special))[::-1]
    own = draft.shares["local"].probability[draft.special].sum()
    for size in (special + 1, 40, 100):
        assert draft.coverage(size, "alpha")["local"] == pytest.approx(own + best[: size - special].sum())


def test_the_order_in_force_is_the_best_on_held_out_text(draft: DraftVocabulary) -> None:
    held = {order: draft.coverage(40, order)["heldout"] for order in ORDERS}
    assert draft.chosen
    assert held[draft.order] == max(held.values())
    assert draft.best(40) == draft.order


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_coverage_takes_the_fewest_rows_of_any_order(read: Read, share: float) -> None:
    draft = run(draft_vocabulary(*read, coverage=share))
    assert draft.coverage(draft.size)["heldout"] >= share - 1e-12
    floor = max(1, len(draft.special))
    assert draft.size >= floor
    if draft.size > floor:
        assert all(draft.coverage(draft.size - 1, order)["heldout"] < share for order in ORDERS)


def test_an_order_that_is_asked_for_is_taken_whatever_it_holds(read: Read) -> None:
    draft = run(draft_vocabulary(*read, keep=40, order="counts"))
    assert (draft.order, draft.chosen) == ("counts", False)
    assert set(draft.token_ids) == set(draft.orders["counts"][:40])


def test_special_tokens_are_kept_and_padding_rows_never(files: dict[str, str], tmp_path: Path) -> None:
    def no_end(hf: Any) -> None:
        hf.lm_head.weight[0] = 0.0

    folder = save_tiny(tmp_path, "neox", no_end)
    options = RunOptions(model=str(folder), text=(files["text"],), positions=300, sample=100, cache=False)
    analysis = run(analyze(options))
    found = run(read_samples(analysis.model, analysis.detection.sample, analysis.source, (files["ood"],), size=100))
    head = analysis.model.head
    assert head.padding_rows == 12
    for order in ORDERS:
        draft = run(draft_vocabulary(analysis, found, keep=1, order=order))
        assert draft.token_ids.tolist() == analysis.model.tokenizer.all_special_ids == [0]
        whole = run(draft_vocabulary(analysis, found, keep=head.vocab_rows, order=order))
        assert whole.token_ids.tolist() == list(range(head.vocab_rows))
        assert (len(whole.target_to_draft), whole.target_to_draft.sum()) == (head.total_rows, head.vocab_rows)
        padding = brute_force(analysis, found.heldout.hidden, range(head.vocab_rows, head.total_rows))
        assert padding > 1e-3
        assert whole.coverage(head.vocab_rows)["heldout"] == pytest.approx(1 - padding, abs=1e-6)
    with pytest.raises(TpeError, match="the rest is that of padding rows; ask for less"):
        run(draft_vocabulary(analysis, found, coverage=1 - padding / 2))


@pytest.mark.parametrize("keep", [0, 321])
def test_a_size_that_cannot_be_names_those_that_can(read: Read, keep: int) -> None:
    with pytest.raises(TpeError, match=r"choose from 1 \(the special tokens, .*\) to 320 \(all rows in use\)"):
        run(draft_vocabulary(*read, keep=keep))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 3), st.data())
def test_orders_sort_by_what_they_say(counts: list[int], seed: int, data: st.DataObject) -> None:
    rows, positions = len(counts), max(1, sum(counts))
    alpha = np.array(data.draw(st.lists(st.sampled_from([0.0, 1e-3, 0.1, 0.4]), min_size=rows, max_size=rows)))
    with np.errstate(divide="ignore"):
        evidence = TokenEvidence(log_alpha=np.log(alpha), counts=np.array(counts), positions=positions, seed=seed)
    first = np.array(data.draw(st.lists(st.integers(0, rows - 1), unique=True, max_size=3)), dtype=np.int64)
    keys = {
        "alpha": lambda i: (-alpha[i], i),
        "alpha+ids": lambda i: (-alpha[i], i) if alpha[i] * positions >= 1 - 1e-9 else (1.0, i),
        "alpha-zipf": lambda i: -round(alpha[i] / (i + 1), 12),
        "counts": lambda i: -counts[i],
        "counts+ids": lambda i: (-counts[i], i),
    }
    for name, key in keys.items():
        found = ordered(name, evidence, first).tolist()
        assert sorted(found) == list(range(rows))
        assert set(found[: len(first)]) == set(first.tolist())
        rest = [key(i) for i in found[len(first) :]]
        assert rest == sorted(rest)


def test_ties_of_counts_depend_on_the_seed_alone() -> None:
    evidence = TokenEvidence(log_alpha=np.zeros(50), counts=np.zeros(50, np.int64), positions=1, seed=3)
    none = np.empty(0, np.int64)
    assert np.array_equal(ordered("counts", evidence, none), ordered("counts", evidence, none))
    assert not np.array_equal(ordered("counts", evidence, none), ordered("counts", replace(evidence, seed=4), none))
    assert ordered("counts+ids", evidence, none).tolist() == list(range(50))


def test_a_ladder_is_of_powers_of_two_below_v() -> None:
    assert ladder(49152) == (1024, 2048, 4096, 8192, 16384, 32768)
    assert ladder(8192) == (256, 512, 1024, 2048, 4096)
    assert ladder(262144, special=3000)[:2] == (4096, 8192)
    assert ladder(1) == ()
    assert ladder(2) == (1,)


def test_files_read_back_as_the_rows_kept(draft: DraftVocabulary, tmp_path: Path) -> None:
    for ending in ("json", "npy", "safetensors"):
        write_vocabulary(tmp_path / f"a.{ending}", draft)
    document = json.loads((tmp_path / "a.json").read_text())
    ids = np.load(tmp_path / "a.npy")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == {"d2t", "t2d"}
        d2t, t2d = file.get_tensor("d2t"), file.get_tensor("t2d")
        facts = file.metadata()
    assert ids.tolist() == document["token_ids"] == sorted(draft.orders[draft.order][:40].tolist())
    assert (d2t.dtype, t2d.dtype, tuple(t2d.shape)) == (torch.int64, torch.bool, (draft.total_rows,))
    assert (torch.arange(40) + d2t).tolist() == ids.tolist(), "a draft token's id and its offset are the target's id"
    assert t2d.nonzero()[:, 0].tolist() == ids.tolist()
    assert document["order"] == facts["order"] == draft.order
    assert document["probability"]["heldout"] == draft.coverage(40)["heldout"]


def test_logits_of_kept_rows_go_back_to_the_targets_width(read: Read, draft: DraftVocabulary, tmp_path: Path) -> None:
    """As a serving program uses the arrays: a draft head of t2d's rows, its winner mapped by d2t."""
    analysis, samples = read
    write_vocabulary(tmp_path / "a.safetensors", draft)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        d2t, t2d = file.get_tensor("d2t"), file.get_tensor("t2d")
    logits = analysis.model.head.logits(torch.from_numpy(samples.heldout.hidden))
    small = logits[:, t2d]
    winner = small.argmax(1)
    everywhere = logits.masked_fill(~t2d, -math.inf).argmax(1)
    assert torch.equal(winner + d2t[winner], everywhere)


STRANGE = {
    "a.json": [b'{"token_ids": [1, 2]}', b"[1, 2]", b"words"],
    "a.npy": [b"words", "shuffled", "floats"],
    "a.safetensors": [b"words", "head"],
}


def strange(path: Path, content: bytes | str) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "head":
        from safetensors.numpy import save_file

        save_file({"d2t": np.zeros(2, np.int64), "t2d": np.ones(2, bool), "lm_head.weight": np.ones(2)}, path)
    else:
        np.save(path, np.array([3, 1, 2]) if content == "shuffled" else np.array([1.0, 2.0]))


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, all_ in STRANGE.items() for each in all_])
def test_a_file_of_another_kind_is_never_replaced(
    draft: DraftVocabulary, tmp_path: Path, name: str, content: bytes | str
) -> None:
    strange(tmp_path / name, content)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(TpeError, match="left as it is; choose another name"):
        write_vocabulary(tmp_path / name, draft, replace=True)
    assert (tmp_path / name).read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", STRANGE)
def test_its_like_is_replaced_only_where_that_is_said(draft: DraftVocabulary, tmp_path: Path, name: str) -> None:
    path = write_vocabulary(tmp_path / name, draft)
    before = path.stat().st_ino
    with pytest.raises(ExistsError):
        write_vocabulary(path, draft)
    assert path.stat().st_ino == before
    write_vocabulary(path, draft, replace=True)
    assert path.stat().st_ino != before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(
    draft: DraftVocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = write_vocabulary(tmp_path / "a.npy", draft)
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(TpeError, match="No space left on device"):
        write_vocabulary(path, replace(draft, size=20), replace=True)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_a_name_that_says_nothing_is_refused_with_those_that_do(draft: DraftVocabulary, tmp_path: Path) -> None:
    with pytest.raises(TpeError, match=r"\.json: .*\.npy: .*\.safetensors: "):
        write_vocabulary(tmp_path / "ids.txt", draft)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "one of the two"),
        ({"keep": 3, "coverage": 0.5}, "one of the two"),
        ({"coverage": 1.0}, "a share between 0 and 1"),
        ({"coverage": math.nan}, "a share between 0 and 1"),
        ({"keep": 9, "order": "luck"}, "choose one of alpha"),
    ],
)
def test_what_cannot_be_is_one_sentence(read: Read, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(TpeError, match=said):
        run(draft_vocabulary(*read, **asked))


def command(files: dict[str, str], *more: str) -> int:
    words = ["vocabulary", files["model"], "--text", files["text"], "--ood", files["ood"], "--positions", "600"]
    return main([*words, "--no-cache", *more])


def test_the_command_writes_what_the_engine_chooses(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [str(tmp_path / name) for name in ("a.json", "a.npy")]
    assert command(files, "--keep", "40", "--json", "--out", outs[0], "--out", outs[1]) == 0
    document = json.loads(capsys.readouterr().out)
    written = json.loads(Path(outs[0]).read_text())
    assert document["rows"] == len(written["token_ids"]) == 40
    assert document["asked"] == {"keep": 40, "coverage": None, "order": None}
    assert document["probability"] == written["probability"]
    assert np.load(outs[1]).tolist() == written["token_ids"]
    rungs = {rung["rows"]: rung["orders"] for rung in document["ladder"]}
    assert rungs[40][document["order"]]["probability"] == document["probability"]
    assert set(rungs[40]) == set(ORDERS)


def test_the_table_says_which_order_is_best_where(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(files, "--coverage", "0.5", "--order", "counts") == 0
    out = capsys.readouterr().out
    assert "in the order counts, as asked" in out
    assert "the special token is among them\n" in out
    assert "most on held-out text: " in out
    assert "most on out-of-domain text: " in out
    for order in ORDERS:
        assert f"  {order} " in out


def test_the_documentation_lists_every_order_and_file() -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
    section = page.partition("## Draft vocabularies")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE) == [*ORDERS, *FILES]


def test_a_file_that_is_there_is_refused_before_the_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.npy").write_bytes(b"words")
    assert main(["vocabulary", "./no-such-model", "--keep", "9", "--out", str(tmp_path / "a.npy"), "--force"]) == 1
    assert "is not a draft vocabulary" in " ".join(capsys.readouterr().err.split())
    assert main(["vocabulary", "./no-such-model", "--keep", "9", "--coverage", "0.5"]) == 2
    assert "exclude each other" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("suffix", FILES)
def test_kill_9_before_any_step_of_writing_leaves_no_file_or_the_earlier_one(
    draft: DraftVocabulary, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / f"rows{suffix}", []

    def before(name: str) -> None:
        real = getattr(os, name)

        def call(*words: Any) -> Any:
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            seen.append((name, path.read_bytes() if path.exists() else b""))
            return real(*words)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace"):
        before(name)
    write_vocabulary(path, draft)
    first = path.read_bytes()
    assert [(name, data) for name, data in seen if name == "replace" or not data] == [("fsync", b""), ("replace", b"")]
    seen.clear()
    write_vocabulary(path, replace(draft, size=50), replace=True)
    assert [data for name, data in seen][:2] == [first, first]
    assert path.read_bytes() != first
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
