"""Docstrings of many files are parsed elsewhere, and here whatever becomes of that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tpe_core.demo import docstrings, parsing
from tpe_core.demo.parsing import FEW, parsed
from tpe_core.progress import attended

TEXT = "Says what it is for, at some length, so that it is longer than the shortest that is read: number"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Ten files: documented ones, one that is no Python, one that is missing, one whose text is no UTF-8 as it is."""
    names = [tmp_path / f"file {at}.py" for at in range(10)]
    for at, path in enumerate(names[:-1]):
        path.write_text(f'"""{TEXT} {at} \\ud800."""\ndef f():\n    """{TEXT} {at}, of f."""\n')
    names[3].write_text("def broken(:")
    names[4].write_bytes(b'"""\xff"""')
    return names


@pytest.fixture
def here(paths: list[Path]) -> list[list[str]]:
    return [docstrings.docstrings(path) for path in paths]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes that are started."""
    processes: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def recorded(*args: Any, **kwargs: Any) -> subprocess.Popen[str]:
        processes.append(popen(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr(parsing.subprocess, "Popen", recorded)
    return processes


def test_another_process_parses_what_would_hold_up_every_thread_of_this_one(
    paths: list[Path], here: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed_here(path: Path) -> list[str]:
        raise AssertionError(path)

    monkeypatch.setattr(docstrings, "docstrings", parsed_here)
    assert list(parsed(paths)) == here
    assert [len(each) for each in here] == [2, 2, 2, 0, 0, 2, 2, 2, 2, 0]
    assert "\ud800" in here[0][0]


def test_a_few_files_start_no_process(paths: list[Path], started: list[subprocess.Popen[str]]) -> None:
    assert len(list(parsed(paths[:FEW]))) == FEW
    assert not started


@pytest.mark.parametrize("answers", [0, 1, 3])
@pytest.mark.parametrize("last", ['["half of', "no JSON\n"])
def test_files_that_an_ended_process_did_not_answer_for_are_parsed_here(
    *,
    answers: int,
    last: str,
    paths: list[Path],
    here: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ending = tmp_path / "ending.py"
    ending.write_text(
        "import json, sys\nnames = json.load(sys.stdin)\n"
        f"for name in names[:{answers}]: print(json.dumps([name]))\n"
        f"print({last!r}, end='')\n"
    )
    monkeypatch.setattr(docstrings, "__file__", str(ending))
    assert list(parsed(paths)) == [[str(path)] for path in paths[:answers]] + here[answers:]


@pytest.mark.parametrize("interpreter", ["/nowhere/python", "", None])
def test_without_an_interpreter_to_start_the_files_are_parsed_here(
    interpreter: str | None, paths: list[Path], here: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", interpreter)
    assert list(parsed(paths)) == here


def test_a_reader_that_needs_no_more_ends_the_process(paths: list[Path], started: list[subprocess.Popen[str]]) -> None:
    reading = parsed(paths)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    (process,) = started
    assert process.returncode is not None


def test_it_pauses_while_it_waits_and_a_pause_can_end_it(
    paths: list[Path], started: list[subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(docstrings, "__file__", str(silent))
    pauses = 0

    def attend(progress: object) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 5:
            raise KeyboardInterrupt

    with attended(attend), pytest.raises(KeyboardInterrupt):
        list(parsed(paths))
    (process,) = started
    assert process.returncode is not None
