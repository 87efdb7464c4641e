"""What the inspector saves while it runs, and what of it comes back at the next start."""

from __future__ import annotations

import json
import re
import signal
import termios
import time
from pathlib import Path

import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tests.tui.openers import opener
from tests.tui.terminal_session import READY, Session
from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.question import Question
from tpe_tui.shell.sessions import SavedSession, SessionStore

OFFER = "u brings back the unexported edit: "


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "state")


def kept(store: SessionStore, name: str = "demo") -> SavedSession:
    found = store.read(name)
    assert found is not None
    return found


def told(app: TpeApp) -> str:
    return "\n".join(note.message for note in app._notifications)


async def died(app: TpeApp) -> None:
    """Save as every second does; what follows is not saved any more, as if the process were killed here."""
    app.remember()
    app.memory.close()


async def test_an_unexported_edit_is_offered_and_undo_brings_it_back_with_its_history(
    start: Start, store: SessionStore
) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "j", "space", "2", "]", "u", "1", "s")
        await answered(app, pilot)
        steps, edit = app.workspace.history.steps, app.workspace.history.intervention
        app.workspace.history.named["mine"] = edit
        assert (len(edit.pruned), len(steps)) == (2, 4)
        await died(app)
    async with start() as (app, pilot):
        history = app.workspace.history
        assert history.intervention.is_empty
        assert app.inspector.dims.sort == "slope_std"
        assert f"{OFFER}2 pruned (" in lines(app.inspector.strip)[0]
        await pilot.press("u")
        await answered(app, pilot)
        assert history.intervention == edit
        assert list(app.inspector.dims.pruned.nonzero()[0]) == list(edit.pruned)
        assert history.steps == steps
        assert history.named == {"mine": edit}
        await pilot.press("U")
        assert history.intervention == steps[3], "what was undone can be made again"
        await pilot.press("u", "u", "u")
        assert history.intervention.is_empty
        await pilot.press("u")
        assert app.workspace.status.text == "nothing to undo"


async def test_an_edit_that_is_not_taken_is_offered_again_and_stays_below_a_new_one(
    start: Start, store: SessionStore
) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        edit = app.workspace.history.intervention
        await died(app)
    before = kept(store)
    async with start() as (app, pilot):
        await pilot.press("q")  # asks nothing: nothing is lost
    assert app.return_value == 0
    assert kept(store).edit.changed == before.edit.changed
    async with start() as (app, pilot):
        assert f"{OFFER}1 pruned" in app.workspace.status.text
        await pilot.press("j", "space")
        other = app.workspace.history.intervention
        assert len(other.pruned) == 1
        assert other != edit
        await died(app)
    async with start() as (app, pilot):
        history = app.workspace.history
        await pilot.press("u")
        assert history.intervention == other
        await pilot.press("u", "u")
        assert history.intervention == edit


async def test_what_was_exported_is_not_offered(start: Start, store: SessionStore, tmp_path: Path) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "e")
        await type_line(pilot, str(tmp_path / "mask.json"))
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        await pilot.press("q")
    assert app.return_value == 0
    async with start() as (app, pilot):
        assert "positions of" in app.workspace.status.text
        assert app.workspace.history.intervention.is_empty
        assert not app.workspace.losses()
        await pilot.press("u")
        assert len(app.workspace.history.intervention.pruned) == 1
        assert not app.workspace.history.is_unsaved


async def test_a_session_is_written_while_it_runs_and_only_when_it_changes(start: Start, store: SessionStore) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: store.names() == ["demo"] and kept(store).edit.last.pruned)
        app.remember()
        app.memory.flush()
        written = kept(store).written, store.path("demo").stat().st_mtime_ns
        for _ in range(3):
            app.remember()
        app.memory.flush()
        assert (kept(store).written, store.path("demo").stat().st_mtime_ns) == written
        await pilot.press("j")
        app.remember()
        app.memory.flush()
        assert store.path("demo").stat().st_mtime_ns != written[1]
        assert kept(store).edit.changed <= kept(store).written


async def test_a_named_session_comes_back_whole(start: Start, store: SessionStore) -> None:
    async with start(session_name="work") as (app, pilot):
        await pilot.press("s", "S", "j", "space", "j", "v", "j", "3", "l", "2", "j", "b", "z", "p")
        await type_line(pilot, "def f(x):")
        await answered(app, pilot)
        inspector = app.inspector
        view, history = inspector.view(), app.workspace.history
        await died(app)
    assert store.names() == ["work"]
    async with start(session_name="work") as (app, pilot):
        assert app.inspector.view() == view
        assert (view.pane, view.zoomed, view.by_base, view.descending) == (2, True, True, False)
        assert view.range_from >= 0
        assert view.prompt == "def f(x):"
        assert app.workspace.history.intervention == history.intervention
        assert app.workspace.history.steps == history.steps
        assert app.workspace.history.is_unsaved
        assert "not exported" in lines(app.inspector.status)[0]
        assert re.fullmatch(r"the session work of \d\d:\d\d: 1 pruned, 1 step to undo", app.workspace.status.text)
    async with start() as (app, pilot):  # the model's own session is another one
        assert app.workspace.history.intervention.is_empty
        assert app.workspace.history.undo_depth == (0, 0)


async def test_a_new_session_looks_like_the_models_own_and_edits_as_if_there_were_none(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("s", "m", "d", "space")
        edits = app.workspace.history.method, app.workspace.history.intervention.replacement
        sort = app.inspector.dims.sort
        await died(app)
    async with start(session_name="work") as (app, pilot):
        fresh = EditHistory()
        assert app.inspector.dims.sort == sort
        found = app.workspace.history.method, app.workspace.history.intervention.replacement
        assert found == (fresh.method, fresh.intervention.replacement)
        assert all(one != other for one, other in zip(found, edits, strict=True))


async def test_the_list_of_prompts_and_the_curves_of_a_sweep_come_back(start: Start, store: SessionStore) -> None:
    async with start() as (app, pilot):
        app.inspector.runs.prompts.add(["one", "two\nlines"])
        await pilot.press("w", "enter")
        sweep = app.inspector.runs.sweep
        await until(pilot, lambda: sweep.result is not None and sweep.job is None)
        measured = sweep.result
        assert measured is not None
        await died(app)
    assert store.names() == ["demo"]
    session = FakeSession()
    async with start(session) as (app, pilot):
        sweep = app.inspector.runs.sweep
        assert app.inspector.runs.prompts.prompts == ["one", "two\nlines"]
        assert sweep.result is not None
        assert sweep.result.to_dict() == measured.to_dict()
        assert not sweep.stale
        await pilot.press("w", "right", "enter")
        assert app.workspace.history.intervention.pruned, "a point of it can be applied"
        assert "sweep" not in session.calls
        before = app.memory.store._sweep_path("demo").stat().st_mtime_ns
        await died(app)
    assert store._sweep_path("demo").stat().st_mtime_ns == before, "what was read is not written again"
    head = kept(store).head
    assert head is not None
    for positions, is_outdated in ((RunOptions().positions, False), (123, True)):
        found = store.read_sweep("demo", RunOptions(positions=positions), head)
        assert found is not None
        assert found[1] is is_outdated
    store.delete("demo")
    assert not list(store.folder.iterdir())


async def test_every_edit_that_was_tried_is_noted_over_all_starts(start: Start, store: SessionStore) -> None:
    for prompt, keys in (("one", ["space", "j", "space"]), ("two", ["space"])):
        async with start() as (app, pilot):
            await pilot.press("p")
            await type_line(pilot, prompt)
            for key in keys:
                await pilot.press(key)
                await answered(app, pilot)
                app.remember()
            await died(app)
    notes = store.read_notes("demo")
    tried = [(note["prompt"], len(note["edit"]["pruned"])) for note in notes if note["edit"]["pruned"]]
    assert tried == [("one", 1), ("one", 2), ("two", 1)]
    assert all(note["kl"] >= 0 for note in notes)
    assert len({json.dumps(note) for note in notes}) == len(notes), "none is written twice"
    store.rename("demo", "demo")
    assert store.read_notes("demo-2") == notes
    store.delete("demo-2")
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "tpe.session-sweep"}', b"\xff"])
async def test_curves_that_cannot_be_read_stop_no_start(start: Start, store: SessionStore, content: bytes) -> None:
    store.folder.mkdir(parents=True)
    store._sweep_path("demo").write_bytes(content)
    async with start() as (app, _):
        assert app.inspector.runs.sweep.result is None


async def test_curves_of_another_head_are_left_alone(start: Start, store: SessionStore) -> None:
    async with start() as (app, pilot):
        await pilot.press("w", "enter")
        await until(pilot, lambda: app.inspector.runs.sweep.result is not None and app.inspector.runs.sweep.job is None)
        await died(app)
    other = FakeSession()
    other.head_sha256 = "f" * 64
    async with start(other) as (app, _):
        assert app.inspector.runs.sweep.result is None


async def test_a_filter_that_is_not_understood_any_more_stops_no_start(
    start: Start, store: SessionStore, tmp_path: Path
) -> None:
    async with start(session_name="work") as (app, _):
        app.inspector.dims.filter = "pruned"
        await died(app)
    (file,) = (path for path in (tmp_path / "state").rglob("work.json"))
    written = file.read_text()
    assert '"pruned"' in written
    file.write_text(written.replace('"dims_filter": "pruned"', '"dims_filter": "no_such_column > 1"'))
    assert "no_such_column" in file.read_text()
    async with start(session_name="work") as (app, _):
        assert app.inspector.dims.filter == ""
        assert app.inspector.dims.n_rows == 64


async def test_a_refit_or_an_imported_edit_comes_back_with_its_numbers(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, known = [], "f" * 64
    monkeypatch.setattr(
        "tpe_tui.shell.session_memory.are_kept", lambda head, origin: kept.append(head) or origin == known
    )
    async with start() as (app, pilot):
        await pilot.press("space")
        edit = app.workspace.history.intervention
        imported = Intervention(edit.pruned, "refit", (), known)
        app.workspace.history.apply(imported)
        app.workspace.history.named = {"lost": Intervention((1,), "mean", (), "e" * 64)}
        await died(app)
    async with start() as (app, pilot):
        assert app.memory.take_said() == ()
        assert set(kept) == {app.workspace.session.head_sha256}
        await pilot.press("u")
        await answered(app, pilot)
        assert app.workspace.history.intervention == imported
        assert app.workspace.history.named == {"lost": Intervention((1,), "mean")}


async def test_a_refit_that_is_kept_no_more_is_what_is_measured_here_and_that_is_said(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        edit = app.workspace.history.intervention
        app.workspace.history.apply(Intervention(edit.pruned, "refit", (), "f" * 64))
        await died(app)
    async with start() as (app, pilot):
        assert "are in the cache no more" in told(app)
        assert "it has least-squares as measured here" in told(app)
        await pilot.press("u")
        await answered(app, pilot)
        assert app.workspace.history.intervention == Intervention(edit.pruned, "least-squares")


async def test_leaving_says_that_the_session_keeps_the_edit(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "q")
        assert isinstance(app.screen, Question)
        said = " ".join(str(widget.render()) for widget in app.screen.query("Static"))
        assert "The session demo keeps it for the next start." in said
        await pilot.press("y")
    assert app.return_value == 0


@pytest.mark.parametrize("seed", [1, 0])
async def test_an_edit_of_another_head_is_told_and_not_applied(start: Start, store: SessionStore, seed: int) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        edit = app.workspace.history.intervention
        await died(app)
    other = FakeSession(seed=seed, d=64 if seed else 24)
    for name in ([], ["demo"]):
        async with start(other, session_name=name[0] if name else None) as (app, pilot):
            assert app.workspace.history.undo_depth == (0, 0)
            assert app.workspace.history.intervention.is_empty
            assert OFFER not in app.workspace.status.text
            if not name:
                why = "it was made on another head" if seed else "it is for 64 dimensions, and this head has 24"
                assert why in told(app)
                assert "It is kept as the session demo-2." in told(app)
    assert kept(store, "demo-2").edit.last == edit


async def test_a_second_inspector_of_a_model_has_its_own_session_and_says_so(start: Start, store: SessionStore) -> None:
    async with start() as (first, _):
        first.remember()
        async with start() as (second, other):
            assert "the session demo is open in process" in told(second)
            assert "this one is demo-2." in told(second)
            await other.press("space")
            second.remember()
            second.memory.flush()
            assert (first.memory.name, second.memory.name) == ("demo", "demo-2")
        first.remember()
        first.memory.flush()
    assert kept(store).edit.last.is_empty
    assert kept(store, "demo-2").edit.last.pruned
    async with start() as (again, _):
        assert again.memory.name == "demo"
        assert told(again) == ""


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "[" * 100_000, '{"kind": "tpe.session", "schema": 1, "edit": {"at": Infinity}}'],
    ids=["cut", "list", "deep", "infinity"],
)
async def test_a_broken_session_is_set_aside_and_stops_no_start(start: Start, store: SessionStore, text: str) -> None:
    store.folder.mkdir(parents=True)
    store.path("demo").write_text(text)
    async with start() as (app, pilot):
        assert app.workspace.history.prompt == "Return the number of"
        assert "It is now demo.json.broken: nothing is restored." in told(app)
        await pilot.press("q")
    assert (store.folder / "demo.json.broken").read_text() == text
    assert kept(store).view.prompt == "Return the number of"


async def test_a_session_of_a_newer_version_is_left_alone(start: Start, store: SessionStore) -> None:
    store.folder.mkdir(parents=True)
    text = json.dumps({"kind": "tpe.session", "schema": 99})
    store.path("demo").write_text(text)
    async with start() as (app, pilot):
        assert "written by a newer tpe" in told(app)
        assert app.memory.name == "demo-2"
        await pilot.press("q")
    assert store.path("demo").read_text() == text


async def test_a_view_of_an_earlier_version_begins_the_first_session(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "state" / "inspector.json"
    file.parent.mkdir()
    view = {"prompt": "an old one", "sort": "t", "descending": False, "plot": "PCA", "method": "bias"}
    file.write_text(json.dumps({"schema": 1, "models": {"demo": {**view, "replacement": "mean"}}}))
    before = file.read_bytes()
    async with start() as (app, pilot):
        assert app.workspace.history.prompt == "an old one"
        assert app.workspace.history.method == "bias"
        assert app.workspace.history.intervention == Intervention(replacement="mean")
        assert (app.inspector.dims.sort, app.inspector.dims.descending) == ("t", False)
        await pilot.press("s")
        await pilot.press("q")
    assert file.read_bytes() == before
    async with start() as (app, pilot):
        assert app.inspector.dims.sort == "r", "from then on the session says it"


async def test_another_model_has_its_own_session_and_the_edit_of_the_first_waits(
    start: Start, store: SessionStore
) -> None:
    demo, other = FakeSession(), FakeSession(seed=1, d=24, name="other")
    async with start(demo, opener=opener(demo, other)) as (app, pilot):
        await pilot.press("space")
        edit = app.workspace.history.intervention
        app.open_model(other=RunOptions("other"))
        await until(pilot, lambda: app.workspace.session is other)
        await answered(app, pilot)
        assert kept(store).edit.last == edit, "saved when the other one is opened"
        assert not store.is_open("demo")
        await pilot.press("j", "space")
        app.open_model(other=RunOptions("demo"))
        await until(pilot, lambda: app.workspace.session is demo)
        await answered(app, pilot)
        assert OFFER not in app.workspace.status.text, "its edit is in force"
        assert app.workspace.history.intervention == edit
        await died(app)
    assert store.names() == ["demo", "other"]
    assert len(kept(store, "other").edit.last.pruned) == 1


def saved_mask(store: SessionStore, dims: int, seconds: float = 10.0) -> SavedSession:
    """Wait until the edit of so many dimensions is on disk."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = store.read("demo")
        if found is not None and len(found.edit.last.pruned) == dims:
            return found
        time.sleep(0.02)
    raise AssertionError("it was not saved")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_process_that_is_ended_leaves_its_edit_and_the_next_one_offers_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    store = SessionStore(tmp_path / "STATE" / "tpe")
    first = Session(tmp_path)
    try:
        first.until(READY)
        first.press(b" j j ")
        if number == signal.SIGKILL:
            saved_mask(store, 3)
        else:
            first.settle(0.2)
        first.process.send_signal(number)
        assert first.ended() == (-number if number == signal.SIGKILL else 128 + number)
    finally:
        first.close()
    found = saved_mask(store, 3, 0.1)
    second = Session(tmp_path)
    try:
        second.until(b"brings back the unexported edit: 3 pruned")
        second.press(b"u")
        second.until(b"not exported")
        assert second.left_unsaved() == 0
        assert termios.tcgetattr(second.slave) == second.before
    finally:
        second.close()
    assert kept(store).edit.last == found.edit.last
    assert not kept(store).edit.is_held_back
    assert sorted(path.name for path in store.folder.iterdir()) == ["demo.json", "demo.notes"]


def test_a_mistake_of_its_own_loses_no_edit(tmp_path: Path) -> None:
    session = Session(tmp_path, "crash")
    try:
        session.until(READY)
        session.press(b"jj y")
        assert session.ended() == 1
    finally:
        session.close()
    found = kept(SessionStore(tmp_path / "STATE" / "tpe"))
    assert len(found.edit.last.pruned) == 1
    assert not found.edit.is_exported
