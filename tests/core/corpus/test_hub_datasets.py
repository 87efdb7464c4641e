"""Data sets of the hub: what an address names, how records are streamed, and what is said where that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest

from tpe_core.corpus.corpus import text_source
from tpe_core.corpus.hub_datasets import HubDataset
from tpe_core.errors import CorpusError

COMMIT = "c" * 40


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub with one data set of three records; the calls that reached the loader."""
    calls: list[dict[str, Any]] = []

    def load(name: str, config: str | None, **options: Any) -> Any:
        calls.append({"name": name, "config": config, **options})
        rows = datasets.Dataset.from_dict({"id": [1, 2, 3], "text": ["one", "two\r\n", "three"]})
        return rows.to_iterable_dataset()

    def info(_: object, name: str, revision: str | None = None) -> Any:
        if name == "none/here":
            raise OSError("404: no such\ndata set")
        return SimpleNamespace(sha=COMMIT if revision is None else revision * 40)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    return calls


def test_records_are_streamed_from_the_commit_that_the_revision_is(hub: list[dict[str, Any]]) -> None:
    source = text_source(["hf://datasets/some/words"])
    assert list(source.documents()) == ["one", "two\n", "three"]
    assert source.label == "some/words (train)"
    expected = {"data_files": None, "split": "train", "revision": COMMIT, "streaming": True}
    assert hub == [{"name": "some/words", "config": None, **expected}]


def test_an_address_names_revision_files_configuration_and_split(hub: list[dict[str, Any]]) -> None:
    source = text_source(["hf://datasets/some/words@d/data/*.parquet?config=en&split=test"], text_field="text")
    assert list(source.documents()) == ["one", "two\n", "three"]
    assert source.label == "some/words@d/data/*.parquet (en, test)"
    assert hub[0]["name"] == "some/words"
    assert (hub[0]["config"], hub[0]["data_files"], hub[0]["split"]) == ("en", "data/*.parquet", "test")
    assert hub[0]["revision"] == "d" * 40


@pytest.mark.usefixtures("hub")
def test_the_fingerprint_is_commit_split_and_field() -> None:
    def fingerprint(address: str, field: str | None = None) -> str:
        return text_source([f"hf://datasets/some/words{address}"], text_field=field).fingerprint()

    assert fingerprint("") == fingerprint("") == fingerprint("@c")
    assert len({fingerprint(""), fingerprint("@d"), fingerprint("?split=test"), fingerprint("", "text")}) == 4


@pytest.mark.usefixtures("hub")
def test_what_fails_is_one_sentence(tmp_path: Path) -> None:
    def refused(*paths: str | Path, **options: Any) -> str:
        with pytest.raises(CorpusError) as failure:
            list(text_source(paths, **options).documents())
        assert "\n" not in str(failure.value)
        return str(failure.value)

    assert "cannot be read (404: no such data set): check the name" in refused("hf://datasets/none/here")
    assert "which may not be asked: leave --offline out" in refused("hf://datasets/some/words", offline=True)
    for address in ("hf://models/some/words", "hf://datasets/", "hf://datasets/a/b?rows=3", "hf://datasets/a/b?split="):
        assert f"{address} names no data set of the hub: write hf://datasets/" in refused(address)
    assert "cannot be mixed" in refused("hf://datasets/some/words", tmp_path)
    assert "record 1 of some/words (train) has no field body" in refused("hf://datasets/some/words", text_field="body")
    assert isinstance(text_source(["hf://datasets/none/here"]), HubDataset)  # nothing is asked before it is read


def test_a_saved_data_set_is_read_in_its_order(tmp_path: Path) -> None:
    texts = [f"document {at}" for at in range(90)]
    rows = datasets.Dataset.from_dict({"id": list(range(90)), "text": texts})
    rows.save_to_disk(tmp_path / "saved", num_shards=12)
    rows.select([3, 1, 2]).save_to_disk(tmp_path / "chosen")
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "split")
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "splits")
    assert list(text_source([tmp_path / "saved"]).documents()) == texts
    assert list(text_source([tmp_path / "split"]).documents()) == texts
    assert list(text_source([tmp_path / "chosen"]).documents()) == [texts[3], texts[1], texts[2]]
    with pytest.raises(CorpusError, match=r"holds the splits train, test: name one, such as .*splits/train"):
        text_source([tmp_path / "splits"])
    assert list(text_source([tmp_path / "splits/test"]).documents()) == texts
    next((tmp_path / "saved").glob("data-00002*")).unlink()
    with pytest.raises(CorpusError, match=r"lacks its file data-00002-of-00012\.arrow"):
        text_source([tmp_path / "saved"])
    (tmp_path / "chosen/state.json").write_text("{")
    with pytest.raises(CorpusError, match="is not what the datasets library writes"):
        text_source([tmp_path / "chosen"])
