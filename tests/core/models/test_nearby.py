"""Models near by: what counts as one, how far is looked, and that a slow or broken folder holds nobody up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tpe_core.models import nearby
from tpe_core.models.nearby import local_paths, models_nearby


def gguf(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"G" * size)
    return path


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model-00001-of-00002.safetensors").write_bytes(b"w" * 5)
    (path / "model-00002-of-00002.safetensors").write_bytes(b"w" * 7)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_gguf_files_here_and_one_folder_down_and_model_folders_here_are_found(here: Path) -> None:
    gguf(here / "a.gguf", 11)
    gguf(here / "models" / "B.GGUF", 13)
    gguf(here / "models" / "deeper" / "c.gguf")
    folder(here / "trained")
    assert [(model.path, model.size) for model in models_nearby()] == [
        ("./a.gguf", 11), ("./models/B.GGUF", 13), ("./trained", 12),
    ]  # fmt: skip


def test_what_is_no_model_or_no_whole_one_is_left_out(here: Path) -> None:
    for name in ("m-00002-of-00003.gguf", "mmproj-m.gguf", "notes.txt", ".hidden/d.gguf", "m.gguf.part"):
        gguf(here / name)
    (here / "folder.gguf").mkdir()
    (here / "empty").mkdir()
    (here / "settings").mkdir()
    (here / "settings" / "config.json").write_text("{}")
    os.symlink(here / "nowhere", here / "broken.gguf")
    gguf(here / "m-00001-of-00003.gguf")
    assert [model.path for model in models_nearby()] == ["./m-00001-of-00003.gguf"]


def test_a_folder_that_cannot_be_read_is_no_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_nearby(here / "none") == ()
    gguf(here / "below" / "a.gguf")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("below"):
            raise PermissionError(13, "no")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert models_nearby() == ()


def test_when_the_time_is_over_what_was_found_is_returned(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        gguf(here / f"{number:02}.gguf")
    clock = iter(range(1000))
    monkeypatch.setattr(nearby.time, "monotonic", lambda: float(next(clock)))
    assert len(models_nearby(seconds=6.0)) == 6


def test_at_most_so_many_are_listed(here: Path) -> None:
    for number in range(nearby.MOST + 10):
        gguf(here / f"{number:03}.gguf")
    assert len(models_nearby()) == nearby.MOST


def test_a_path_is_completed_to_models_and_to_folders_with_a_slash(here: Path) -> None:
    gguf(here / "runs" / "one.gguf")
    folder(here / "runs" / "other")
    (here / "runs" / "plain").mkdir()
    (here / "runs" / ".git").mkdir()
    assert local_paths("./ru") == (("./runs/", False),)
    assert local_paths("./runs/") == (("./runs/one.gguf", True), ("./runs/other", True), ("./runs/plain/", False))
    assert local_paths("./runs/o") == (("./runs/one.gguf", True), ("./runs/other", True))
    assert local_paths(f"{here}/runs/pl") == ((f"{here}/runs/plain/", False),)
    assert local_paths("./none/x") == ()


def test_the_home_folder_stays_a_tilde(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    gguf(here / "m.gguf")
    assert local_paths("~/m") == (("~/m.gguf", True),)
