"""A text given to an editor: what comes back, and a sentence for every way in which nothing does."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual.app import SuspendNotSupported

from tpe_core.errors import TpeError
from tpe_tui.shell.editor import edited, editor_command


@pytest.fixture
def suspended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An app that gives the terminal away; what the editor prints goes to a file."""
    times: list[str] = []

    @contextmanager
    def suspend() -> Iterator[None]:
        times.append("away")
        with (tmp_path / "screen").open("w") as screen, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            yield
        times.append("back")

    suspend.times = times  # type: ignore[attr-defined]
    return suspend


def editor(folder: Path, code: str) -> dict[str, str]:
    """An environment whose editor runs Python code with the file's name in `name`."""
    script = folder / "an editor.py"
    script.write_text(f"import os, sys, pathlib\nname = pathlib.Path(sys.argv[-1])\n{code}\n")
    return {"EDITOR": f"{sys.executable} '{script}' --wait"}


def test_what_the_editor_leaves_comes_back_as_it_is(tmp_path: Path, suspended) -> None:
    text = "first line\n\n\tthird \\n 漢字\u200d"
    seen = tmp_path / "seen"
    code = (
        f"seen = pathlib.Path({str(seen)!r}); seen.write_bytes(name.read_bytes()); os.chmod(seen, name.stat().st_mode)"
    )
    back = edited(text, suspended, editor(tmp_path, code))
    assert back == text
    assert seen.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(seen.stat().st_mode) == 0o600
    assert suspended.times == ["away", "back"]
    changed = edited(text, suspended, editor(tmp_path, "name.write_text('one\\r\\ntwo\\n\\n')"))
    assert changed == "one\ntwo\n", "a line break at the end is the editor's"
    assert edited("a\n", suspended, editor(tmp_path, "")) == "a\n"


def test_no_text_is_left_behind(tmp_path: Path, suspended, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    edited("secret", suspended, editor(tmp_path, ""))
    for code in ("sys.exit(3)", "name.unlink()"):
        with pytest.raises(TpeError):
            edited("secret", suspended, editor(tmp_path, code))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("sys.exit(3)", "ended with code 3: the prompt is as it was"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9: the prompt is as it was"),
        ("name.unlink()", "No such file or directory"),
        ("name.write_bytes(b'\\xff\\xfe')", "is not UTF-8 text: the prompt is as it was"),
    ],
)
def test_an_editor_that_fails_is_a_sentence(tmp_path: Path, suspended, code: str, sentence: str) -> None:
    with pytest.raises(TpeError, match=sentence):
        edited("text", suspended, editor(tmp_path, code))
    assert suspended.times[0] == "away"


def test_visual_goes_before_editor_and_either_may_have_options() -> None:
    assert editor_command({"VISUAL": "code --wait", "EDITOR": "ed"}) == ["code", "--wait"]
    assert editor_command({"VISUAL": " ", "EDITOR": "'my editor' -x"}) == ["my editor", "-x"]
    for environment, sentence in (
        ({}, "no editor is set: set VISUAL or EDITOR"),
        ({"EDITOR": "vi 'open"}, "EDITOR is no command line"),
    ):
        with pytest.raises(TpeError, match=sentence):
            editor_command(environment)


def test_an_editor_that_is_not_there_and_a_terminal_that_cannot_be_given_are_sentences(suspended) -> None:
    with pytest.raises(TpeError, match=r"'no-such-editor' could not be started .*: set VISUAL or EDITOR"):
        edited("text", suspended, {"EDITOR": "no-such-editor"})

    @contextmanager
    def never() -> Iterator[None]:
        raise SuspendNotSupported("no")
        yield

    with pytest.raises(TpeError, match="cannot be given to an editor"):
        edited("text", never, {"EDITOR": "vi"})
