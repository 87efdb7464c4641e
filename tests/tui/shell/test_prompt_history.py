"""Earlier prompts: the latest first, each once, bounded, private, whatever the file holds."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tpe_tui.shell.prompt_history import LONGEST, MOST, PromptHistory


def test_the_latest_prompt_is_first_and_each_is_there_once(tmp_path: Path) -> None:
    history = PromptHistory(tmp_path / "state")
    assert history.earlier() == []
    for prompts in (["a"], ["b\nand more"], ["a", "c"], ["a"]):
        assert history.add(*prompts)
    assert PromptHistory(tmp_path / "state").earlier() == ["a", "c", "b\nand more"]


def test_at_most_so_many_are_kept_and_none_that_is_endless(tmp_path: Path) -> None:
    history = PromptHistory(tmp_path)
    for number in range(MOST + 5):
        history.add(f"prompt {number}")
    history.add("x" * (LONGEST + 1), "")
    kept = history.earlier()
    assert len(kept) == MOST == 200
    assert kept[0] == f"prompt {MOST + 4}"
    assert kept[-1] == "prompt 5"


def test_only_the_user_can_read_them(tmp_path: Path) -> None:
    history = PromptHistory(tmp_path / "state")
    history.add("secret")
    history.add("another")
    assert stat.S_IMODE(history.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in history.path.parent.iterdir()] == ["prompts.json"]


def test_two_instances_keep_each_others_prompts(tmp_path: Path) -> None:
    one, other = PromptHistory(tmp_path), PromptHistory(tmp_path)
    one.add("of one")
    other.add("of the other")
    one.add("of one again")
    assert other.earlier() == ["of one again", "of the other", "of one"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"prompts": 3}', '{"prompts": {"a": 1}}', "\x00"])
def test_a_broken_file_is_no_history_and_is_replaced(tmp_path: Path, content: str) -> None:
    history = PromptHistory(tmp_path)
    history.path.write_text(content)
    assert history.earlier() == []
    assert history.add("new")
    assert json.loads(history.path.read_text()) == {"schema": 1, "prompts": ["new"]}


def test_what_is_no_prompt_is_left_out(tmp_path: Path) -> None:
    history = PromptHistory(tmp_path)
    history.path.write_text(json.dumps({"prompts": ["a", 3, None, "", "a", "\ud800"]}))
    assert history.earlier() == ["a", "?"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    history = PromptHistory(tmp_path / "state")
    assert not history.add("new")
    assert "earlier prompts are not kept" in history.problem
