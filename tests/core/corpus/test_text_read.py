"""How much of a text was read: documents and share, for every format, and what is kept of it beside a detection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tokenizers import byte_level
from tpe_core.corpus import corpus as corpus_module
from tpe_core.corpus.corpus import read_corpus, text_source
from tpe_core.corpus.reading import Meter
from tpe_core.progress import run

WORDS = "the cat and the dog sat on the mat then the other ran to a barn "


def read(path: Path, positions: int) -> tuple[int | None, float | None]:
    corpus = run(
        read_corpus(
            text_source([path]),
            byte_level(),
            block_length=8,
            positions=positions,
            part="all",
            tokenizer_fingerprint="t",
        )
    )
    assert corpus.read is not None
    assert corpus.read.positions == corpus.positions
    assert corpus.read.label == path.name
    return corpus.read.documents, corpus.read.share


@pytest.mark.parametrize("batch", [2000, 10**6])
@pytest.mark.parametrize("name", ["text.txt", "text.jsonl"])
def test_the_share_is_that_of_the_tokens_used_whatever_is_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, batch: int
) -> None:
    monkeypatch.setattr(corpus_module, "BATCH", batch)
    path, count = tmp_path / name, 400
    path.write_text(WORDS * count if name == "text.txt" else (json.dumps(WORDS) + "\n") * count)
    tokenizer = byte_level()
    each = len(tokenizer(WORDS, add_special_tokens=False)["input_ids"]) + (name != "text.txt")
    documents, share = read(path, 100 * each)
    assert share == pytest.approx(0.25, abs=0.02)
    assert documents == 1 if name == "text.txt" else abs((documents or 0) - 100) <= 2
    documents, share = read(path, 10**9)
    assert share == 1
    assert documents == (1 if name == "text.txt" else count)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.floats(0, 1)), min_size=1, max_size=9), st.data())
def test_between_two_marks_the_share_grows_evenly(marks: list[tuple[int, bool, float]], data: st.DataObject) -> None:
    meter, shares = Meter(), sorted(share for _, _, share in marks)
    begun, tokens = [0], [0]
    for (count, begins, _), share in zip(marks, shares, strict=True):
        meter.add(count, begins, share)
        begun.append(begun[-1] + begins)
        tokens.append(tokens[-1] + count)
    token = data.draw(st.integers(0, tokens[-1]))
    documents, share = meter.at(token)
    after = next(at for at, mark in enumerate(tokens) if mark >= token)
    assert documents == begun[after]
    assert share is not None
    assert [0.0, *shares][max(0, after - 1)] - 1e-12 <= share <= [0.0, *shares][after] + 1e-12


def test_a_share_that_nobody_knows_stays_unknown() -> None:
    meter = Meter()
    meter.add(5, True, None)
    assert meter.at(3) == meter.at(5) == (1, None)
