"""The key table, the user's own keys, and the memory between starts."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.tui.helpers import Start, answered
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.help import help_table
from tpe_tui.inspector.screen import GROUPS, InspectScreen
from tpe_tui.keymap import ACTIONS, BY_ID, EVERYWHERE, FOOTER, LOST, Keymap, load_keymap
from tpe_tui.shell.sessions import SessionStore
from tpe_tui.shell.view_memory import SavedView, ViewMemory
from tpe_tui.terminal_keys import key_name


def test_ids_and_keys_are_unique_and_reach_every_terminal() -> None:
    keys = [key for action in ACTIONS for key in action.keys.split(",")]
    assert len(set(keys)) == len(keys)
    assert len(BY_ID) == len(ACTIONS)
    assert not [key for key in keys if LOST.search(key)]


def test_every_action_has_a_method_and_a_sentence() -> None:
    missing = [
        action.id
        for action in ACTIONS
        if not hasattr(InspectScreen, f"action_{action.method}") and not hasattr(TpeApp, f"action_{action.method}")
    ]
    assert missing == []
    assert all(action.help for action in ACTIONS)


def test_an_action_belongs_to_one_group() -> None:
    for action in ACTIONS:
        groups = [name for name, kind in GROUPS.items() if hasattr(kind, action.method)]
        assert len(groups) == (action.id not in EVERYWHERE), action.id


def test_the_footer_names_at_most_six_labelled_actions() -> None:
    for ids in FOOTER.values():
        assert len(ids) <= 6
        assert all(BY_ID[name].label for name in ids)


def printed_help(width: int, ids: bool = False) -> str:
    printed = StringIO()
    Console(width=width, file=printed).print(help_table(Keymap(), ids))
    return printed.getvalue()


def test_help_lists_every_action() -> None:
    text = printed_help(400)
    assert all(action.help in text for action in ACTIONS)
    assert text.count("[a number: dimensions from the cursor down]") == 1
    assert all(action.id in printed_help(400, ids=True) for action in ACTIONS)


@pytest.mark.parametrize("ids", [False, True])
def test_a_long_line_of_the_help_goes_on_below_its_beginning(ids: bool) -> None:
    lines = printed_help(60, ids).splitlines()
    begins = lines[1].index(ACTIONS[0].help)
    titles = {action.group for action in ACTIONS}
    continued = [line for line in lines if line and line.strip() not in titles and not line[:begins].strip()]
    assert continued
    assert all(line[begins] != " " for line in continued)
    words = " ".join(" ".join(line[begins:] for line in lines).split())
    assert all(" ".join(action.help.split()) in words for action in ACTIONS)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_no_file_changes_nothing(tmp_path: Path) -> None:
    assert load_keymap(tmp_path / "none.toml") == Keymap()


def test_remapping_by_table_and_by_dotted_name(tmp_path: Path) -> None:
    keymap = load_keymap(write(tmp_path / "keys.toml", '"mask.toggle" = "X"\n[move]\ndown = ["E", "down"]\n'))
    assert keymap.keys("mask.toggle") == ("X",)
    assert keymap.keys("move.down") == ("E", "down")
    assert keymap.shown("move.down", every=True) == "E ↓"
    assert keymap.problems == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mask.toggle = ", "was not used"),
        ('mask.topple = "a"', "mask.topple"),
        ("mask.toggle = 3", "must be a key"),
        ('mask.toggle = ""', "must be a key"),
        ('mask.toggle = "ctrl+m"', "does not reach"),
        ('mask.toggle = "d"', "no longer steer.method"),
    ],
)
def test_problems_are_sentences(tmp_path: Path, text: str, said: str) -> None:
    keymap = load_keymap(write(tmp_path / "keys.toml", text))
    assert len(keymap.problems) == 1
    assert said in keymap.problems[0]


def test_binary_garbage_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert len(load_keymap(path).problems) == 1


async def test_a_remapped_key_works_and_the_old_one_does_not(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "keys.toml", 'mask.toggle = "a"\n')
    async with start() as (app, pilot):
        await pilot.press("space")
        assert app.workspace.history.intervention.pruned == ()
        await pilot.press("a")
        assert len(app.workspace.history.intervention.pruned) == 1
        assert app.inspector.footer.entries[0] == ("mask.toggle", "a", "Prune")


async def test_a_broken_file_is_a_notification(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "keys.toml", "[[[")
    async with start() as (app, pilot):
        assert any("keys.toml" in note.message for note in app._notifications)
        await pilot.press("space")
        assert len(app.workspace.history.intervention.pruned) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": 3}', '{"models": {"demo": [1]}}', "\x00"])
def test_a_broken_memory_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "inspector.json").write_text(text)
    memory = ViewMemory(tmp_path)
    assert memory.recall("demo") == SavedView()


def test_values_of_a_wrong_type_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "inspector.json").write_text('{"models": {"demo": {"prompt": 3, "sort": "t", "new": 1}}}')
    assert ViewMemory(tmp_path).recall("demo") == SavedView(sort="t")


async def test_the_view_is_restored_at_the_next_start(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("s", "S", "3", "l", "d", "m", "p")
        await pilot.press("end", "x", "enter")
        await answered(app, pilot)
        await pilot.press("q")
    async with start() as (app, _):
        inspector = app.inspector
        assert app.workspace.history.prompt == "Return the number ofx"
        assert (inspector.dims.sort, inspector.dims.descending) == ("slope_std", False)
        assert inspector.plot.name_shown == "PCs"
        assert app.workspace.history.method == "min-norm"
        assert app.workspace.history.intervention.replacement == "mean"
        assert app.workspace.history.undo_depth == (0, 0)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("Ctrl+T", "write ctrl+t"),
        ("gg", "two keys one after the other"),
        ("shift+d", "write D"),
        ("foobar", "no key that a terminal sends"),
        ("esc", "write escape"),
        ("ctrl+shift+a", "no key that a terminal sends"),
        ("super+a", "no key that a terminal sends"),
        ("<scroll-up>", "no key that a terminal sends"),
        ("\x01", "no key that a terminal sends"),
    ],
)
def test_a_key_that_no_terminal_sends_is_said_and_the_action_keeps_its_own(tmp_path: Path, key: str, said: str) -> None:
    keymap = load_keymap(write(tmp_path / "keys.toml", f"mask.toggle = {json.dumps(key)}\n"))
    assert keymap.keys("mask.toggle") == ("space",)
    assert len(keymap.problems) == 1
    assert said in keymap.problems[0]
    assert "mask.toggle keeps space" in keymap.problems[0]


def test_of_several_keys_those_that_are_none_are_left_out(tmp_path: Path) -> None:
    keymap = load_keymap(write(tmp_path / "keys.toml", 'mask.toggle = ["X", "foobar"]\nmask.range = ["X"]\n'))
    assert keymap.keys("mask.toggle") == ("X",)
    assert keymap.keys("mask.range") == ("v",), "X is another action's already"
    assert len(keymap.problems) == 2
    assert "X runs mask.toggle already" in keymap.problems[1]


def test_every_key_of_the_table_is_one_that_terminals_send() -> None:
    assert [key for action in ACTIONS for key in action.keys.split(",") if key_name(key) is None] == []


@pytest.mark.parametrize("key", ["!", ",", "slash", "ctrl+t", "f5", "X", "é"])
async def test_a_remapped_key_of_any_kind_is_pressed(start: Start, tmp_path: Path, key: str) -> None:
    write(tmp_path / "keys.toml", f'mask.toggle = "{key}"\n')
    async with start() as (app, pilot):
        await pilot.press({"!": "exclamation_mark", ",": "comma"}.get(key, key))
        assert len(app.workspace.history.intervention.pruned) == 1
        assert app.inspector.footer.entries[0][1] == {"slash": "/", "ctrl+t": "^t"}.get(key, key)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"models": 3}', DEEP, f'{{"models": {DEEP}', '{"models": {"demo": {"prompt": Infinity}}}', "\x00"],
    ids=["cut", "list", "number", "deep", "deeper", "infinity", "binary"],
)
async def test_a_broken_memory_is_set_aside_and_stops_no_start(start: Start, tmp_path: Path, text: str) -> None:
    file = tmp_path / "state" / "inspector.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    async with start() as (app, pilot):
        assert app.workspace.history.prompt == "Return the number of"
        assert any("is now inspector.broken.json" in note.message for note in app._notifications)
        await pilot.press("q")
    assert file.with_name("inspector.broken.json").read_text() == text
    kept = SessionStore(file.parent).read("demo")
    assert kept is not None
    assert kept.view.prompt == "Return the number of"


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "inspector.json").write_text('{"models": {"demo": {"prompt": "a\\ud800"}}}')
    assert ViewMemory(tmp_path).recall("demo").prompt == "a?"
