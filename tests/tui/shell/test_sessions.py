"""The store of sessions: what is written comes back, what is broken is told, and no two processes write one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.notebook import Note
from tpe_core.options import RunOptions
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.shell.session_writer import SessionWriter
from tpe_tui.shell.sessions import (
    BrokenSessionError,
    HeadFacts,
    NewerSessionError,
    SavedEdit,
    SavedSession,
    SessionError,
    SessionStore,
    default_name,
    same_model,
)
from tpe_tui.shell.view_memory import SavedView

HEAD = HeadFacts(sha256="ab" * 32, hidden_size=64, vocab_rows=600)
STEPS = (
    Intervention(replacement="mean"),
    Intervention((3, 14), "mean"),
    Intervention((3, 14, 15), "mean", (Steering(7, 2.0, "bias"),)),
    Intervention((14,), "refit", (Steering(7, 2.0, "bias"), Steering(8, 0.1)), "f" * 64),
)
HAN = TokenSet("script:Han - #5", (20, 30, 40), "Chinese")
VIEW = SavedView(
    prompt="two\nlines \x1b[1m 漢", sort="t", descending=False, pane=3, right=3, zoomed=True, dim=5, token=9
)


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "state")


def whole(name: str = "one") -> SavedSession:
    options = RunOptions(
        "some/model", revision="step1", adapter="me/adapter", gguf_file="a.gguf", positions=512, seed=3
    )
    edit = SavedEdit(
        steps=STEPS, at=2, saved=STEPS[1], named=(("a b", STEPS[3]),), is_held_back=True, changed=1_764_000_000.0
    )
    return SavedSession(name=name, options=options, view=VIEW, edit=edit, head=HEAD, written=1_764_000_060.0)


def test_steered_sets_come_back_and_their_ids_are_written_once(store: SessionStore) -> None:
    steps = (
        Intervention().steer_set(HAN, 0.5),
        Intervention().steer_set(HAN, 0.25).steer(7, 2.0),
        Intervention((1,)).steer_set(HAN, 0.25).steer(7, 2.0),
        Intervention((1,)).steer(7, 2.0),
    )
    edit = SavedEdit(steps=steps, at=1, saved=steps[0], named=(("a", steps[1]),), changed=1_764_000_000.0)
    store.write(replace(whole(), edit=edit))
    assert store.read("one").edit.steps == steps
    assert store.read("one").edit.saved == steps[0]
    assert store.read("one").edit.named == (("a", steps[1]),)
    kept = document_of(store)["edit"]["steps"]
    assert [entry["sets"][0][2] if "sets" in entry else None for entry in kept] == [[20, 30, 40], None, None, None]


def document_of(store: SessionStore, name: str = "one") -> dict:
    return json.loads(store.path(name).read_text(encoding="utf-8"))


def test_everything_of_a_session_comes_back(store: SessionStore) -> None:
    assert store.read("one") is None
    store.write(whole())
    assert store.read("one") == whole()
    assert store.names() == ["one"]
    assert [path.name for path in store.folder.iterdir()] == ["one.json"]


def test_code_of_a_model_is_not_allowed_by_a_file(store: SessionStore) -> None:
    session = whole()
    store.write(replace(session, options=replace(session.options, trust_remote_code=True, offline=True, cache=False)))
    assert store.read("one") == session
    document = document_of(store)
    document["options"]["trust_remote_code"] = True
    store.path("one").write_text(json.dumps(document))
    found = store.read("one")
    assert found is not None
    assert not found.options.trust_remote_code


def test_a_model_is_found_again_from_another_folder(
    store: SessionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here/model", "there"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "text.txt").write_text("a text")
    monkeypatch.chdir(tmp_path / "here")
    options = RunOptions("model", text=("text.txt",))
    store.write(SavedSession(name="one", options=options))
    absolute = store.read("one")
    assert absolute is not None
    assert same_model(absolute.options, options)
    monkeypatch.chdir(tmp_path / "there")
    assert not same_model(absolute.options, options), "another folder's model is another one"
    assert absolute.options.model == str(tmp_path / "here" / "model")
    assert absolute.options.text == (str(tmp_path / "here" / "text.txt"),)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (RunOptions("demo"), "demo"),
        (RunOptions("EleutherAI/pythia-160m", revision="step1000"), "pythia-160m-step1000"),
        (RunOptions("/models/a b/"), "a-b"),
        (RunOptions("m", adapter="you/lora"), "m-lora"),
        (RunOptions("../.."), "model"),
        (RunOptions("漢字"), "model"),
        (RunOptions("x" * 300), "x" * 48),
    ],
)
def test_a_session_is_called_after_its_model(options: RunOptions, name: str, store: SessionStore) -> None:
    assert default_name(options) == name
    assert store.path(name).parent == store.folder


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-a", "x" * 65, "a\n", "ü"])
def test_what_is_no_name_is_refused_in_a_sentence(name: str, store: SessionStore) -> None:
    with pytest.raises(SessionError, match="no session can be called"):
        store.path(name)


def test_a_long_history_loses_its_oldest_steps_and_keeps_the_one_in_force(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.shell.sessions.MAX_DIMS", 40)
    masks = [Intervention(tuple(range(first, first + 10))) for first in range(0, 100, 10)]
    for at, kept in ((9, masks[8:]), (3, masks[3:])):
        store.write(SavedSession(name="one", options=RunOptions(), edit=SavedEdit(steps=tuple(masks), at=at)))
        found = store.read("one")
        assert found is not None
        assert found.edit.steps == tuple(kept)
        assert found.edit.last == masks[at]


BROKEN = {
    "cut": "{",
    "list": "[]",
    "another file": '{"kind": "tpe.intervention", "schema": 1}',
    "no schema": '{"kind": "tpe.session"}',
    "deep": "[" * 100_000,
    "binary": "\x00\ufffd",
    "infinity": '{"kind": "tpe.session", "schema": 1, "edit": {"at": Infinity}}',
    "too large": '{"kind": "tpe.session", "schema": 1, "edit": {"at": 1e999}}',
    "many digits": '{"kind": "tpe.session", "schema": 1, "edit": {"at": ' + "9" * 5000 + "}}",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_a_file_that_holds_no_session_is_told_and_set_aside(text: str, store: SessionStore) -> None:
    store.folder.mkdir(parents=True)
    store.path("one").write_text(text)
    with pytest.raises(BrokenSessionError, match=r"the session one could not be read \(.+\)\.$"):
        store.read("one")
    aside = store.set_aside("one")
    assert aside is not None
    assert aside.read_text() == text
    assert store.names() == []
    assert store.read("one") is None


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("options", 3),
        ("options.model", 3),
        ("options.model", None),
        ("options.text", "text.txt"),
        ("options.positions", 1e3),
        ("options.positions", -1),
        ("options.seed", True),
        ("head.hidden_size", "64"),
        ("edit.steps", []),
        ("edit.steps", {}),
        ("edit.steps", [{}] * 10_001),
        ("edit.at", 4),
        ("edit.at", -1),
        ("edit.steps.1", None),
        ("edit.steps.1.toggled", 3),
        ("edit.steps.1.toggled", [-1]),
        ("edit.steps.1.toggled", [1.5]),
        ("edit.steps.1.toggled", [10**30]),
        ("edit.steps.1.replacement", "no such"),
        ("edit.steps.2.sets", [["a", "#1", None, 2.0, "bias"]]),
        ("edit.steps.2.sets", [["a", "#1", [True], 2.0, "bias"]]),
        ("edit.steps.2.sets", [["a", "#1", [], 2.0, "bias"]]),
        ("edit.steps.2.sets", [["a", "#1", [1]]]),
        ("edit.steps.2.sets", {}),
        ("edit.steps.2.steering", [[7, 2.0]]),
        ("edit.steps.2.steering", [[7, 0, "bias"]]),
        ("edit.steps.2.steering", [[7, True, "bias"]]),
        ("edit.steps.2.steering", [[7, 2.0, "uniform"]]),
        ("edit.steps.2.steering", [[7, 2.0, "bias"], [7, 3.0, "bias"]]),
        ("edit.saved", [1]),
        ("edit.named", {}),
        ("edit.named", [["a name"]]),
        ("edit.named", [[3, {}]]),
    ],
)
def test_a_value_that_means_nothing_is_told(place: str, value: object, store: SessionStore) -> None:
    store.write(whole())
    document = document_of(store)
    entry, names = document, place.split(".")
    for name in names[:-1]:
        entry = entry[int(name)] if isinstance(entry, list) else entry[name]
    entry[int(names[-1]) if isinstance(entry, list) else names[-1]] = value
    store.path("one").write_text(json.dumps(document))
    with pytest.raises(BrokenSessionError, match="could not be read"):
        store.read("one")


def test_a_session_of_a_newer_version_is_neither_read_nor_set_aside(store: SessionStore) -> None:
    store.write(whole())
    store.path("one").write_text(json.dumps({**document_of(store), "schema": 2}))
    with pytest.raises(NewerSessionError, match="written by a newer tpe"):
        store.read("one")
    assert store.names() == ["one"]


HOLD = """
import sys, time
from pathlib import Path
from tpe_tui.shell.sessions import SessionStore
lock = SessionStore(Path(sys.argv[1])).lock("one")
print("held" if lock else "busy", flush=True)
time.sleep(60)
"""


def test_a_lock_is_one_processs_and_ends_with_it_however_it_ends(store: SessionStore) -> None:
    command = [sys.executable, "-c", HOLD, str(store.folder.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert store.lock("one") is None
        assert store.is_open("one")
        assert store.holder("one") == f"process {process.pid}"
        store.write(whole())
        with pytest.raises(SessionError, match=f"is open in process {process.pid}"):
            store.delete("one")
        process.kill()
    assert not store.is_open("one")
    lock = store.lock("one")
    assert lock is not None
    assert store.lock("one") is None, "nor has this process two"
    lock.release()
    lock.release()
    store.delete("one")
    assert list(store.folder.iterdir()) == []
    with pytest.raises(SessionError, match="there is no session one"):
        store.delete("one")


def test_many_that_lock_and_release_never_have_it_at_once(store: SessionStore) -> None:
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(40):
            lock = store.lock("one")
            if lock is not None:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                done[0] += 1
                inside[0] -= 1
                lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert done[0] >= 40


def test_a_folder_that_cannot_be_written_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = SessionStore(tmp_path / "file")
    lock = store.lock("one")
    assert lock is not None
    lock.release()
    assert (store.names(), store.is_open("one")) == ([], False)


def test_a_rename_takes_the_first_free_name(store: SessionStore) -> None:
    for name in ("one", "one-2"):
        store.write(whole(name))
    taken = store.lock("one-3")
    assert store.rename("one", "one") == "one-4"
    assert store.names() == ["one-2", "one-4"]
    assert taken is not None
    taken.release()


def test_the_writer_writes_the_last_state_and_says_what_stops_it(store: SessionStore, tmp_path: Path) -> None:
    writer = SessionWriter(store)
    for dim in range(50):
        writer.give(replace(whole(), edit=SavedEdit(steps=(Intervention((dim,)),))))
    writer.flush()
    found = store.read("one")
    assert found is not None
    assert found.edit.last.pruned == (49,)
    assert writer.problem == ""
    store.folder = tmp_path / "file" / "sessions"
    (tmp_path / "file").write_text("no folder")
    writer.give(whole())
    writer.flush()
    assert writer.problem.startswith("the session is not kept for the next start: ")
    assert os.fspath(store.path("one").name) in writer.problem


def noted(dim: int) -> Note:
    edit = Intervention((dim,))
    return Note(time=1e9, model="demo", prompt="a\nb \ud800", edit=edit, change="prune", kl=0.1, js=0.05, top_base="·a",
                top_now="·b")  # fmt: skip


def test_notes_are_added_one_behind_the_other_and_broken_ones_are_passed_over(store: SessionStore) -> None:
    assert store.read_notes("one") == []
    store.append_notes("one", [noted(1), noted(2)])
    path = store._notes_path("one")
    path.write_bytes(path.read_bytes() + b'{"time": 1\n[1]\n{"edit": 3')  # the last one was cut
    store.append_notes("one", [noted(3)])
    assert [note["edit"]["pruned"] for note in store.read_notes("one")] == [[1], [2], [3]]
    assert path.stat().st_mode & 0o077 == 0


def test_of_a_long_notebook_the_older_half_is_dropped(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_tui.shell.sessions.MAX_NOTES_BYTES", 2000)
    for dim in range(40):
        store.append_notes("one", [noted(dim)])
    kept = [note["edit"]["pruned"][0] for note in store.read_notes("one")]
    assert kept == list(range(kept[0], 40))
    assert 2 <= len(kept) < 40
    assert store._notes_path("one").stat().st_size <= 2000


def test_the_writer_loses_no_note_while_a_slow_disk_writes(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, go_on, append = SessionWriter(store), threading.Event(), SessionStore.append_notes

    def slow(self: SessionStore, name: str, notes: list[Note]) -> None:
        go_on.wait(20)
        append(self, name, notes)

    monkeypatch.setattr(SessionStore, "append_notes", slow)
    for dim in range(5):
        writer.give_notes("one", [noted(dim)])
    go_on.set()
    writer.flush()
    assert [note["edit"]["pruned"] for note in store.read_notes("one")] == [[dim] for dim in range(5)]
