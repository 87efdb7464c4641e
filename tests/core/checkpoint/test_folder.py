"""Folders that appear finished or not at all: strangers' ones, full disks, and a kill at every step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.forked import Forked
from tpe_core.checkpoint.folder import RECORD, check_target, publish, staged_folder
from tpe_core.errors import TpeError


def write(out: Path, content: str = "new") -> None:
    """Publish a small folder."""
    with staged_folder(check_target(out), 100) as folder:
        (folder / "model.safetensors").write_text(content)
        (folder / "sub").mkdir()
        (folder / "sub" / "config.json").write_text("{}")
        publish(folder, check_target(out), {"model": "m"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_published_with_its_record_and_replaced_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write(out)
    assert names(out) == ["model.safetensors", "sub", RECORD]
    os.chmod(out / "model.safetensors", 0o600)  # no change of content
    write(out, "newer")
    assert (out / "model.safetensors").read_text() == "newer"
    assert (out / "model.safetensors").stat().st_mode == (out / RECORD).stat().st_mode
    assert names(tmp_path / "deep") == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert (tmp_path / "out" / RECORD).is_file()


def test_folders_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    (tmp_path / "pretender").mkdir()
    (tmp_path / "pretender" / RECORD).write_text('{"kind": "something else", "files": {}}')
    reasons = {
        "file": "exists and is no folder",
        "foreign": "was not written by tpe bake",
        "pretender": "was not written by tpe bake",
        "a\0b": "cannot be a folder's name",
        "n" * 300: "cannot be",
    }
    for name, reason in reasons.items():
        with pytest.raises(TpeError, match=reason):
            write(tmp_path / name)
    assert names(tmp_path) == ["file", "foreign", "pretender"]
    assert names(tmp_path / "foreign") == ["config.json"]


@pytest.mark.parametrize("change", ["added", "changed", "linked"])
def test_a_folder_of_ours_that_somebody_changed_is_refused(tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    write(out)
    if change == "added":
        (out / "sub" / "notes.md").write_text("mine")
    elif change == "changed":
        (out / "model.safetensors").write_text("old")  # as long as before
    else:
        (out / "link").symlink_to(tmp_path)
    with pytest.raises(TpeError, match="added or changed since"):
        write(out)
    assert (out / "model.safetensors").read_text() == ("old" if change == "changed" else "new")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged_folder(tmp_path / "out", 1) as folder:
            (folder / "x").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


def test_folders_made_for_it_go_with_a_failure_and_stay_with_what_is_published(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    out = tmp_path / "mine" / "a" / "b" / "out"

    def write(fails: bool) -> None:
        with staged_folder(out, 1) as folder:
            (folder / "x").write_text("x")
            if fails:
                raise TpeError("no")
            publish(folder, out, {})

    with pytest.raises(TpeError, match="no"):
        write(fails=True)
    assert names(tmp_path / "mine") == []
    write(fails=False)
    assert (out / "x").read_text() == "x"


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_000_000))
    with (
        pytest.raises(TpeError, match=r"takes 12 GB and .* has 3\.0 MB free"),
        staged_folder(tmp_path / "o", 12 * 10**9),
    ):
        pass
    assert names(tmp_path) == []


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from tpe_core.checkpoint.folder import staged_folder
from tpe_core.errors import TpeError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with staged_folder(Path(sys.argv[1]), 1) as folder:
        save_file({"w": torch.zeros(100_000)}, folder / "model.safetensors")
except TpeError as error:
    print(error)
"""


def test_a_disk_that_fills_up_on_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    process = Forked(FULL, str(tmp_path / "here" / "out"), folder=tmp_path / "process")
    said, _ = process.communicate(120)
    assert process.returncode == 0
    assert "cannot be written to" in said
    assert "make room" in said
    assert names(tmp_path / "here") == []


STOPPED = """
import os, sys, time
from pathlib import Path
from tests.core.checkpoint.test_folder import write
count = 0
def stopping(call):
    def inner(*args, **options):
        global count
        count += 1
        if count == int(sys.argv[2]):
            print("stopped", flush=True)
            time.sleep(600)
        return call(*args, **options)
    return inner
os.rename, Path.rename = stopping(os.rename), stopping(Path.rename)
Path.write_text, Path.mkdir, os.fsync = stopping(Path.write_text), stopping(Path.mkdir), stopping(os.fsync)
write(Path(sys.argv[1]), "killed")
print("finished", flush=True)
"""


def killed_at(out: Path, step: int) -> str:
    """Run `write` in another process, kill it before its so manieth call, and say what it said."""
    process = Forked(STOPPED, str(out), str(step), folder=out.parent.parent / f"process-{step}")
    while not (said := process.stdout.read_text()).endswith("\n"):
        assert process.returncode in {None, 0}
        time.sleep(0.002)
    process.kill()
    return said.strip()


def test_kill_9_leaves_the_finished_folder_or_none_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    outcomes, step = set(), 1
    while True:
        out = tmp_path / str(step) / "out"
        out.parent.mkdir()
        said = killed_at(out, step)
        outcomes.add(out.exists())
        if out.exists():
            assert (out / "model.safetensors").read_text() == "killed"
            assert check_target(out) == out  # complete, as its own record says
        write(out)
        assert (out / "model.safetensors").read_text() == "new"
        assert names(out.parent) == ["out"]
        if said == "finished":
            break
        step += 1
    assert step > 8
    assert outcomes == {True, False}


def test_kill_9_while_replacing_keeps_the_old_folder_or_brings_the_new(tmp_path: Path) -> None:
    seen, step = set(), 1
    while True:
        out = tmp_path / str(step) / "out"
        write(out, "old")
        said = killed_at(out, step)
        seen.add((out / "model.safetensors").read_text() if out.exists() else "aside")
        with staged_folder(check_target(out), 1):  # the next run, whatever becomes of it
            pass
        assert (out / "model.safetensors").read_text() in {"old", "killed"}
        assert names(out.parent) == ["out"]
        if said == "finished":
            break
        step += 1
    assert seen == {"old", "aside", "killed"}


def test_the_folder_of_a_run_that_still_works_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        theirs = tmp_path / f".out.{other.pid}-0123abcd.tmp"
        theirs.mkdir()
        write(tmp_path / "out")
        assert names(tmp_path) == [theirs.name, "out"]
    finally:
        other.kill()
        other.wait()
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]
