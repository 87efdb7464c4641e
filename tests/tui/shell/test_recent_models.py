"""The models that were opened, kept for the next start: an order, a bound, and nothing that can break a start."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tpe_core.options import RunOptions
from tpe_tui.shell.recent_models import MOST, RecentModels


@pytest.fixture
def recent(tmp_path: Path) -> RecentModels:
    clock = iter(range(1, 1000))
    return RecentModels(tmp_path / "state", now=lambda: float(next(clock)))


def names(recent: RecentModels) -> list[str]:
    return [model.model for model in recent.earlier()]


def test_the_last_opened_stands_first_and_each_once(recent: RecentModels) -> None:
    assert names(recent) == []
    for model in ("a", "b", "a", "c"):
        assert recent.add(RunOptions(model))
    assert names(recent) == ["c", "a", "b"]
    assert [model.used for model in recent.earlier()] == [4.0, 3.0, 2.0]


def test_revisions_adapters_and_files_of_one_model_are_models_of_their_own(recent: RecentModels) -> None:
    for options in (
        RunOptions("a"), RunOptions("a", revision="x"), RunOptions("a", adapter="b/c"), RunOptions("a", gguf_file="q"),
    ):  # fmt: skip
        recent.add(options)
    assert len(recent.earlier()) == 4
    assert recent.earlier()[0].gguf_file == "q"


def test_local_models_are_kept_by_their_whole_path(
    recent: RecentModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.gguf").touch()
    recent.add(RunOptions("m.gguf"))
    recent.add(RunOptions("owner/m"))
    assert names(recent) == ["owner/m", str(tmp_path / "m.gguf")]
    assert [model.is_local for model in recent.earlier()] == [False, True]


def test_at_most_so_many_are_kept_in_a_file_that_only_the_user_reads(recent: RecentModels) -> None:
    for number in range(MOST + 5):
        recent.add(RunOptions(f"m{number}"))
    assert len(names(recent)) == MOST
    assert names(recent)[0] == f"m{MOST + 4}"
    assert stat.S_IMODE(recent.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"models": 5}', '{"models": [1, null, {}, {"model": ""}, {"model": 5}]}',
        '{"models": [{"model": "a", "revision": 5}]}', "\x00" * 100, "[" * 100_000,
    ],
)  # fmt: skip
def test_a_broken_file_is_an_empty_list_and_is_written_anew(recent: RecentModels, content: str) -> None:
    recent.path.parent.mkdir()
    recent.path.write_text(content)
    assert names(recent) == []
    assert recent.add(RunOptions("a"))
    assert names(recent) == ["a"]


def test_a_time_that_is_none_is_the_earliest(recent: RecentModels) -> None:
    recent.path.parent.mkdir()
    entries = [{"model": "a", "used": "x"}, {"model": "b", "used": 1e300}, {"model": "c", "used": 7}]
    recent.path.write_text(json.dumps({"models": entries}))
    assert [(model.model, model.used) for model in recent.earlier()] == [("c", 7.0), ("a", 0.0), ("b", 0.0)]


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert not RecentModels(tmp_path / "state").add(RunOptions("a"))
