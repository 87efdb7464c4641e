"""n-gram figures against counts made by hand, and what must hold for any samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpe_core.errors import TpeError
from tpe_core.generation.text_quality import ORDERS, distinct, ngrams, repetition, text_quality

sample = st.lists(st.integers(0, 5), min_size=1, max_size=20)
samples = st.lists(sample, min_size=1, max_size=8)


def test_ngrams_by_hand() -> None:
    assert ngrams([7, 8, 9], 2) == [(7, 8), (8, 9)]
    assert ngrams([7, 8, 9], 3) == [(7, 8, 9)]
    assert ngrams([7, 8, 9], 4) == []
    with pytest.raises(TpeError, match="not 0"):
        ngrams([1], 0)


def test_distinct_pools_the_samples() -> None:
    # unigrams 1 2 1 | 1 2 3: three different of six; bigrams 12 21 | 12 23: three of four
    assert distinct([[1, 2, 1], [1, 2, 3]], 1) == 3 / 6
    assert distinct([[1, 2, 1], [1, 2, 3]], 2) == 3 / 4
    assert distinct([[1, 2, 1], [1, 2, 3]], 4) is None


def test_repetition_stays_within_a_sample() -> None:
    # 1 2 1 2: bigrams 12 21 12, one of three repeats; 1 2 3 has none; [9] is too short to count
    assert repetition([[1, 2, 1, 2], [1, 2, 3], [9]], 2) == pytest.approx((1 / 3 + 0) / 2)
    assert repetition([[1, 2, 3], [1, 2, 3]], 1) == 0
    assert repetition([[5] * 11], 2) == pytest.approx(9 / 10)
    assert repetition([[9]], 2) is None


@given(samples, st.sampled_from(ORDERS))
def test_bounds_and_what_copies_do(found: list[list[int]], n: int) -> None:
    share, repeated = distinct(found, n), repetition(found, n)
    assert (share is None) == (repeated is None) == all(len(each) < n for each in found)
    if share is None or repeated is None:
        return
    assert 0 < share <= 1
    assert 0 <= repeated < 1
    assert distinct(found * 2, n) == pytest.approx(share / 2)  # the same n-grams, twice as often
    assert repetition(found * 2, n) == pytest.approx(repeated)  # never looks across samples
    assert repetition(found[::-1], n) == pytest.approx(repeated)
    if len(found) == 1:
        assert repeated == pytest.approx(1 - share)


@given(samples)
def test_relabelled_tokens_change_nothing(found: list[list[int]]) -> None:
    ended = [True] * len(found)
    assert text_quality([[7 - token for token in each] for each in found], ended) == text_quality(found, ended)


def test_the_whole_table() -> None:
    found = text_quality([[1, 2, 0], [3, 3, 3, 3, 3]], [True, False])
    assert (found.samples, found.tokens, found.mean_length, found.ended) == (2, 8, 4.0, 0.5)
    assert found.to_dict()["distinct"] == [4 / 8, 3 / 6, 2 / 4, 1 / 2]
    assert found.to_dict()["repetition"] == [pytest.approx(value) for value in (0.8 / 2, 0.75 / 2, (2 / 3) / 2, 1 / 2)]
    with pytest.raises(TpeError, match="0 samples"):
        text_quality([], [])
    with pytest.raises(TpeError, match="1 samples with 2"):
        text_quality([[1]], [True, False])
