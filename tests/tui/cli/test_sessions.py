"""`tpe sessions` and `tpe --session`: what they list, open and remove, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import tpe_tui.app
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import FAILED, USAGE
from tpe_core.notebook import Note
from tpe_core.options import RunOptions
from tpe_tui.cli.main import main
from tpe_tui.cli.sessions import complete_session
from tpe_tui.shell.sessions import SavedEdit, SavedSession, SessionStore
from tpe_tui.shell.view_memory import SavedView

EDIT = Intervention((3, 14), "mean", (Steering(7, 2.0),))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionStore:
    """Three sessions: an edit in no file, an exported one, nothing edited."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = SessionStore()
    assert store.folder.is_relative_to(tmp_path)
    edit = SavedEdit(steps=(Intervention(), EDIT), at=1, changed=1_764_000_000.0)
    options = RunOptions("some/model", revision="step1", positions=512)
    view = SavedView(prompt="a prompt")
    store.write(SavedSession(name="heads", options=options, view=view, edit=edit, written=1_764_000_000.0))
    exported = replace(edit, saved=EDIT)
    store.write(SavedSession(name="demo", options=RunOptions(), edit=exported, written=1_764_000_200.0))
    store.write(SavedSession(name="empty", options=RunOptions("/models/" + "x" * 90), written=1_764_000_100.0))
    return store


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunOptions, str | None]]:
    """A terminal to draw on, and what the inspector is opened with there."""
    calls: list[tuple[RunOptions, str | None]] = []

    def run_app(options: RunOptions, *_args: object, session_name: str | None = None, **_more: object) -> int:
        calls.append((options, session_name))
        return 0

    monkeypatch.setattr(tpe_tui.app, "run_app", run_app)
    for module in ("main", "sessions"):
        monkeypatch.setattr(f"tpe_tui.cli.{module}.on_terminal", lambda: True)
    return calls


@pytest.mark.usefixtures("store")
def test_the_list_names_session_edit_and_model_the_last_saved_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:4])) <= 80
    assert [line.split()[0] for line in lines[1:4]] == ["demo", "empty", "heads"]
    assert lines[1].split() == ["demo", "2025-11-24", "2", "pruned,", "1", "steered", "exported", "demo"]
    assert lines[2].split()[:3] == ["empty", "2025-11-24", "—"]
    assert lines[2].endswith("xxx")
    assert "not exported" in lines[3]


def test_the_list_as_json(store: SessionStore, capsys: pytest.CaptureFixture[str]) -> None:
    (store.folder / "torn.json").write_text("{")
    lock = store.lock("heads")
    assert main(["sessions", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["folder"] == str(store.folder)
    by_name = {entry["name"]: entry for entry in document["sessions"]}
    heads = by_name["heads"]
    assert (heads["model"], heads["revision"], heads["adapter"], heads["gguf_file"]) == (
        "some/model",
        "step1",
        None,
        None,
    )
    assert heads["edit"] == {
        "pruned": 2, "steered": 1, "exported": False, "steps": 2, "changed": "2025-11-24T16:00:00+00:00"
    }  # fmt: skip
    assert (heads["open"], heads["prompt"], by_name["demo"]["open"]) == (True, "a prompt", False)
    assert by_name["demo"]["edit"]["exported"]
    assert "the session torn could not be read" in by_name["torn"]["problem"]
    assert lock is not None
    lock.release()


def test_no_session_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    assert main(["sessions"]) == 0
    assert capsys.readouterr().out.startswith("No session is kept in ")


def test_opening_takes_the_sessions_model_and_its_options(
    store: SessionStore, opened: list[tuple[RunOptions, str | None]]
) -> None:
    assert main(["sessions", "open", "heads"]) == 0
    assert main(["--session", "heads"]) == 0
    assert main(["some/model", "--session", "heads", "--revision", "step1", "--seed", "7", "--device", "cpu"]) == 0
    whole = RunOptions("some/model", revision="step1", positions=512)
    assert opened == [(whole, "heads"), (whole, "heads"), (replace(whole, seed=7, device="cpu"), "heads")]


def test_a_new_name_begins_a_session_of_the_model_that_is_given(
    store: SessionStore, opened: list[tuple[RunOptions, str | None]]
) -> None:
    assert main(["--session", "other", "gpt2"]) == 0
    (store.folder / "torn.json").write_text("{")
    assert main(["gpt2", "--session", "torn"]) == 0
    assert opened == [(RunOptions("gpt2"), "other"), (RunOptions("gpt2"), "torn")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpt2", "--session", "heads"], "the session heads is of some/model step1, not of gpt2 step1"),
        (["--session", "heads", "--revision", "main"], "not of some/model main"),
        (["--session", "../heads"], "no session can be called"),
        (["sessions", "open", "nope"], "there is no session nope"),
        (["sessions", "open", "heads"], "is open in process"),
        (["sessions", "delete", "heads"], "is open in process"),
        (["sessions", "delete", "nope"], "there is no session nope"),
        (["sessions", "delete", "../../x"], "no session can be called"),
    ],
)
def test_what_cannot_be_opened_or_removed_is_one_sentence(
    store: SessionStore,
    opened: list[tuple[RunOptions, str | None]],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    lock = store.lock("heads")
    assert main(words) == FAILED
    assert said in capsys.readouterr().err
    assert not opened
    assert store.names() == ["demo", "empty", "heads"]
    assert lock is not None
    lock.release()


@pytest.mark.parametrize(
    "words",
    [
        ["sessions", "close"],
        ["sessions", "list", "heads"],
        ["sessions", "open"],
        ["sessions", "delete"],
        ["sessions", "delete", "heads", "--json"],
        ["--session", "heads"],  # without a terminal
        ["--session", "heads", "--json"],
    ],
)
def test_wrong_usage_is_refused(store: SessionStore, words: list[str]) -> None:
    assert main(words) == USAGE
    assert store.names() == ["demo", "empty", "heads"]


def test_a_session_is_removed(store: SessionStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "delete", "heads"]) == 0
    assert "heads is removed" in capsys.readouterr().out
    assert store.names() == ["demo", "empty"]
    assert [path.name for path in store.folder.glob("heads*")] == []


def test_names_are_completed(store: SessionStore) -> None:
    assert complete_session("") == ["demo", "empty", "heads"]
    assert complete_session("h") == ["heads"]


def test_the_notes_of_a_session_are_printed_as_markdown_or_json(
    store: SessionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Note(time=1e9, model="some/model", prompt="a|b", edit=EDIT, change="prune 2 dims", kl=0.25, js=0.06,
                top_base="·a", top_now="·b")  # fmt: skip
    store.append_notes("heads", [note])
    assert main(["sessions", "notes", "heads"]) == 0
    markdown = capsys.readouterr().out
    assert "## some/model" in markdown
    assert "| prune 2 dims | 2 (mean) | 1 | 0.25 | 0.06 | ·a → ·b | a\\|b |" in markdown
    assert main(["sessions", "notes", "heads", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "kind": "tpe.notebook",
        "schema": 1,
        "notes": [note.to_dict() | {"edit": document["notes"][0]["edit"]}],
    }
    assert document["notes"][0]["edit"]["pruned"] == [3, 14]


@pytest.mark.parametrize(("name", "said"), [("demo", "has no notes yet"), ("nobody", "is not there")])
@pytest.mark.usefixtures("store")
def test_a_session_without_notes_says_so(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "notes", name]) == FAILED
    assert said in capsys.readouterr().err
