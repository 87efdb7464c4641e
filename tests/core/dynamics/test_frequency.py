"""Token counts: against a plain counter, from text of any size and from files, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_models import VOCAB, text, tiny_tokenizer
from tpe_core.corpus.corpus import TextSource, text_source
from tpe_core.corpus.token_ids import vocabulary_rows
from tpe_core.dynamics.measure.frequency import Frequencies, count_text, read_counts
from tpe_core.errors import CorpusError
from tpe_core.progress import run
from tpe_core.store import Store


class Repeated(TextSource):
    """One document after the other; remembers how many were taken."""

    label = "repeated"

    def __init__(self, document: str, times: int) -> None:
        self.document, self.times, self.taken = document, times, 0

    def fingerprint(self) -> str:
        return f"{self.times} {self.document[:10]}"

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for _ in range(self.times):
            self.taken += 1
            yield self.document, True


def test_counts_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    documents = [text(seed, 300) for seed in range(3)]
    for i, document in enumerate(documents):
        (tmp_path / f"{i}.txt").write_text(document)
    found = run(count_text(text_source([tmp_path]), tokenizer, VOCAB + 10))
    expected = Counter(token for document in documents for token in tokenizer(document, verbose=False)["input_ids"])
    expected[tokenizer.eos_token_id] += 2  # between documents
    assert {token: int(n) for token, n in enumerate(found.counts) if n} == dict(expected)
    assert len(found.counts) == VOCAB == vocabulary_rows(tokenizer)
    assert found.tokens == sum(expected.values())
    assert found.unseen == VOCAB - len(expected)
    frequency = [(expected[token] + 1) / (found.tokens + VOCAB) for token in range(VOCAB)]
    np.testing.assert_allclose(found.frequency, frequency, rtol=1e-14)
    np.testing.assert_allclose(found.surprisal, -np.log(frequency), rtol=1e-14)
    assert found.frequency.sum() == pytest.approx(1)
    assert str(found) == f"{found.tokens:,} tokens of 3 files from 0.txt, add-one smoothing"


def test_text_is_streamed_and_counted_once(tmp_path: Path) -> None:
    source, store = Repeated(text(1, 20_000), 8), Store(tmp_path)
    steps = count_text(source, tiny_tokenizer(), VOCAB, store)
    taken = []
    for event in steps:
        taken.append(source.taken)
        assert event.label == "count tokens"
    assert taken[1] < 8  # it was not all read before the first of it was counted
    first = run(count_text(source, tiny_tokenizer(), VOCAB, store))
    assert source.taken == 8  # the second time, from the cache
    again = run(count_text(Repeated(text(1, 20_000), 8), tiny_tokenizer(), VOCAB))
    assert np.array_equal(first.counts, again.counts)
    assert first.fingerprint == again.fingerprint
    other = run(count_text(Repeated(text(1, 20_000), 7), tiny_tokenizer(), VOCAB, store))
    assert other.tokens < first.tokens


def test_a_file_of_text_tells_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(0, 60_000))
    events = list(count_text(text_source([tmp_path / "a.txt"]), tiny_tokenizer(), VOCAB))
    size = (tmp_path / "a.txt").stat().st_size
    assert [event.total for event in events[1:]] == [size] * len(events[1:])
    assert events[-1].done == size


@pytest.mark.parametrize("name", ["counts.npy", "counts.json", "counts.txt"])
def test_counts_from_a_file(tmp_path: Path, name: str) -> None:
    counts, path = [5, 0, 3, 2**40], tmp_path / name
    if name.endswith(".npy"):
        np.save(path, np.array(counts, dtype=np.uint64))
    else:
        path.write_text(json.dumps(counts) if name.endswith(".json") else "\n".join(map(str, counts)))
    found = read_counts(path)
    assert found.counts.tolist() == counts
    assert found.counts.dtype == np.int64
    assert (found.unseen, found.label) == (1, name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "1\n-2\n3", "gives token 1 the count -2"),
        ("a.txt", "1\n2.5\n3", "gives token 1 the count 2.5"),
        ("a.txt", "1\nmany", "cannot be read"),
        ("a.txt", "0 0 0", "counts no token at all"),
        ("a.txt", "", "holds no counts"),
        ("a.json", '{"the": 3}', "no JSON list"),
        ("a.json", "[1, 2", "cannot be read"),
        ("a.json", '["1", 2]', "holds no counts"),
        ("a.json", "[1, NaN]", "gives token 1 the count nan"),
        ("a.json", "[[1, 2], [3, 4]]", "holds no counts"),
        ("a.npy", "no array", "cannot be read"),
        ("a.csv", "1,2", "must end in .npy, .json, .txt"),
        ("b.npy", None, "no file of counts"),
    ],
)
def test_what_is_no_counts_is_refused(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=says) as caught:
        read_counts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_counts_must_cover_the_head_or_its_tokenizer() -> None:
    counts = Frequencies.of(np.arange(1, 11), "c.npy")
    assert counts.for_rows(10, None) is counts
    assert counts.for_rows(12, 10) is counts
    with pytest.raises(CorpusError, match=r"c\.npy has 10 counts but the model's head has 12 rows: count"):
        counts.for_rows(12, None)
    with pytest.raises(CorpusError, match="12 rows and its tokenizer 11 tokens"):
        counts.for_rows(12, 11)
    with pytest.raises(CorpusError, match="counts token 8, which the model's tokenizer does not have"):
        counts.for_rows(10, 8)
    padded = Frequencies.of([3, 2, 1, 0, 0], "c.npy").for_rows(5, 3)
    assert padded.counts.tolist() == [3, 2, 1]


def test_text_that_does_not_go_with_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat")
    source = text_source([tmp_path / "a.txt"])
    with pytest.raises(CorpusError, match=r"gives the text \(a.txt\) token \d+, but the model's head has 50 rows"):
        run(count_text(source, tiny_tokenizer(), 50))

    class Strange:
        bos_token_id = eos_token_id = None
        unk_token_id = 0

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0, 0, 0, 1] for _ in texts]}

        def get_vocab(self) -> dict[str, int]:
            return {"?": 0, "a": 1}

    with pytest.raises(CorpusError, match=r"75% of the text .* is unknown to the model's tokenizer"):
        run(count_text(source, Strange(), 2))


def test_mostly_unseen_vocabularies_are_warned_about() -> None:
    assert Frequencies.of([1, 1, 0, 1], "a").warnings() == ()
    [said] = Frequencies.of([1, 0, 0, 0], "a").warnings()
    assert "3 of 4 tokens never occur in a" in said
