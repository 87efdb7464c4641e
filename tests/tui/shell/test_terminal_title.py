"""The terminal's title: how far a job is, how it ended, and the title of before given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.terminal_session import LEFT, READY, Session
from tpe_core.progress import Progress
from tpe_tui.shell.terminal_title import KEEP, LONG_SECONDS, RESTORE, SECONDS, TerminalTitle, understands_titles


class Written:
    """What a title wrote, and the time it is given."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.now = 100.0
        self.title = TerminalTitle(self.texts.append, lambda: self.now)
        self.title.model = "demo"

    def taken(self) -> list[str]:
        texts, self.texts[:] = list(self.texts), []
        return texts


def titled(text: str) -> str:
    return f"\x1b]2;{text}\x07"


def test_a_running_job_is_told_once_a_second_at_most_and_only_where_it_says_more() -> None:
    said = Written()
    for done in range(100):
        said.title.running("pruning sweep", Progress("pruning sweep", done, 200))
    assert said.taken() == [titled("0% pruning sweep - tpe demo")]
    said.now += SECONDS
    said.title.running("pruning sweep", Progress("pruning sweep", 100, 200))
    said.now += SECONDS
    said.title.running("pruning sweep", Progress("pruning sweep", 100, 200))
    assert said.taken() == [titled("50% pruning sweep - tpe demo")]
    said.now += SECONDS
    said.title.running("detection", Progress("read hidden states", 3))
    assert said.taken() == [titled("detection - tpe demo")]


@pytest.mark.parametrize("state", ["done", "failed"])
def test_the_end_of_a_long_job_rings_and_stands_in_the_title_until_a_key_is_pressed(state: str) -> None:
    said = Written()
    said.title.ended("refit", state, LONG_SECONDS)
    assert said.taken() == [titled(f"refit {state} - tpe demo"), "\a"]
    said.title.seen()
    said.title.seen()
    assert said.taken() == [titled("tpe demo")]


def test_several_jobs_are_counted_and_the_one_that_ended_stays_told_while_the_next_runs() -> None:
    said = Written()
    said.title.running("pruning sweep", Progress("pruning sweep", 43, 100), 1)
    assert said.taken() == [titled("2 jobs, 43% pruning sweep - tpe demo")]
    said.title.ended("pruning sweep", "done", LONG_SECONDS, 1)
    assert said.taken() == [titled("pruning sweep done - tpe demo"), "\a"]
    said.title.running("refit", Progress("refit", 1, 2))
    assert said.taken() == [titled("pruning sweep done; 50% refit - tpe demo")]
    said.title.seen()
    said.title.running("refit", Progress("refit", 1, 2))
    assert said.taken() == [titled("tpe demo"), titled("50% refit - tpe demo")]
    said.title.ended("refit", "cancelled", LONG_SECONDS, 1)
    assert said.taken() == [], "the next one is told soon"


@pytest.mark.parametrize(("state", "seconds"), [("done", LONG_SECONDS / 2), ("cancelled", 9 * LONG_SECONDS)])
def test_a_short_job_and_one_that_the_user_ended_say_nothing(state: str, seconds: float) -> None:
    said = Written()
    said.title.ended("forecast", state, seconds)
    said.title.seen()
    assert said.taken() == [titled("tpe demo")]


def test_a_title_is_written_again_after_another_program_had_the_terminal() -> None:
    said = Written()
    said.title.again()
    assert said.taken() == []
    said.title.idle()
    said.title.again()
    assert said.taken() == 2 * [titled("tpe demo")]


def test_a_models_name_cannot_end_the_title_or_begin_another_sequence() -> None:
    said = Written()
    said.title.model = "evil\x07\x1b]52;c;aGk=\x07\u202e" + "x" * 200
    said.title.idle()
    [text] = said.taken()
    inside = text.removeprefix("\x1b]2;").removesuffix("\x07")
    assert inside.isprintable()
    assert len(inside) <= 80


def test_terminals_that_would_print_a_title_get_none() -> None:
    assert understands_titles({"TERM": "xterm-256color"})
    assert understands_titles({"TERM": "tmux-256color"})
    assert not any(understands_titles({"TERM": name}) for name in ("linux", "dumb", "vt100"))
    assert not understands_titles({})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.close()


def test_the_title_names_the_model_and_the_terminal_gets_its_own_back(opened: Session) -> None:
    opened.until(READY)
    opened.until(titled("tpe demo").encode())
    opened.press(b"q")
    assert opened.ended() == 0
    kept, left, restored = (opened.seen.find(text) for text in (KEEP.encode(), LEFT, RESTORE.encode()))
    assert -1 < kept < left < restored
