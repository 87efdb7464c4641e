"""Terminals and streams without Unicode, and terminals with few colours."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.color import Color, ColorSystem
from textual.pilot import Pilot

import tpe_tui
from tests.tui.fakes import CACHED, FakeSession, opening
from tests.tui.helpers import answered, until
from tests.tui.trajectories import FakeReader
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.cli import console
from tpe_tui.cli.main import main
from tpe_tui.dynamics.app import DynamicsApp
from tpe_tui.glyphs import ASCII, ascii_cells, ascii_token, wants_ascii
from tpe_tui.shell.theme import FEW_COLOURS
from tpe_tui.steering.state import METHOD_MARKS
from tpe_tui.token_text import CHANGED, DIFFERS, END
from tpe_tui.widgets.canvas import RAMP
from tpe_tui.widgets.curve_style import PALETTE, REFERENCE
from tpe_tui.widgets.token_strip import LEVELS

VIEWS = {
    "edited": ["j", "space", "j", "space", "2", "j", "]", "]"],
    "PCA": ["3", "h"],
    "token": ["2", "j", "4"],
    "positions": ["j", "space", "5", "h"],
    "prompts": ["space", "L", "a", "o", "n", "e", "enter"],
    "help": ["?"],
    "ask": ["t"],
    "card": ["C"],
    "palette": ["ctrl+p"],
    "sweep": ["w", "r", "l", "j", "j"],
    "orders": ["w", "O", "j"],
    "steer": ["2", "j", "T", "]", "a"],
    "search": ["T", "/", "n", "a"],
    "generate": ["j", "space", "a"],
    "picker": ["o", "g", "p", "down"],
    "edits": ["space", "j", "space", "V", "k", "d"],
}


def screen_text(app: TpeApp | DynamicsApp) -> str:
    """What the compositor gives to the terminal."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def seen_in_ascii(app: TpeApp, pilot: Pilot[int], keys: list[str]) -> str:
    """The screen after some keys, once nothing runs."""
    await until(pilot, lambda: app.workspace.session is not None)
    await answered(app, pilot)
    await pilot.press(*keys)
    await until(pilot, lambda: app.inspector.runs.sweep.job is None and app.inspector.runs.generation.job is None)
    await pilot.pause()
    return screen_text(app)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_of_the_inspector_is_drawn_in_ascii_alone(
    tmp_path: Path, view: str, size: tuple[int, int]
) -> None:
    app = TpeApp(
        RunOptions(), opener=opening(FakeSession()), lister=lambda: CACHED,
        state_dir=tmp_path / "state", keys_file=tmp_path / "keys.toml", clock=lambda: 0.0,
    )  # fmt: skip
    app.suit(True, few_colours=True)
    async with app.run_test(size=size) as pilot:
        text = await seen_in_ascii(app, pilot, VIEWS[view])
        assert sorted({char for char in text if not char.isascii()}) == []
        assert {cell_len(line) for line in text.splitlines()} == {size[0]}
    app.host.stop()


async def test_the_screen_of_a_training_is_drawn_in_ascii_alone(tmp_path: Path) -> None:
    app = DynamicsApp(
        ("demo", "flawed"), FakeReader(), state_dir=tmp_path, keys_file=tmp_path / "keys.toml", clock=lambda: 0.0
    )
    app.suit(True, few_colours=False)
    async with app.run_test(size=(160, 48)) as pilot:
        await until(
            pilot, lambda: app.reader.state.job is None and not any(one.pending for one in app.reader.state.sources)
        )
        text = screen_text(app)
        assert text.isascii()
        assert text.count("+") > 3, "there are plots"
    app.host.stop()


def test_every_glyph_in_the_sources_has_a_stand_in_of_one_cell() -> None:
    without = set()
    for path in Path(tpe_tui.__file__).parent.rglob("*.py"):
        if path.name in ("glyphs.py",):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        without |= {char for text in texts for char in text if not char.isascii() and "?" in ascii_cells(char)}
    assert without <= set("␡\ufffd")
    assert all(len(stand_in) == 1 and stand_in.isascii() for stand_in in ASCII.values())


@pytest.mark.parametrize(
    "marks",
    [
        [mark for mark, _ in (*PALETTE, REFERENCE)],
        [mark for mark, _ in METHOD_MARKS.values()],
        list(RAMP),
        list(LEVELS),
        [DIFFERS, CHANGED, END],
    ],
)
def test_marks_that_tell_things_apart_are_told_apart_in_ascii(marks: list[str]) -> None:
    assert len({ascii_cells(mark) for mark in marks}) == len(marks)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python leaves LANG=C behind
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "de_DE.ISO-8859-1", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ({}, False),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "TERM": "linux"}, True),
    ],
)
def test_the_locale_chooses_the_glyphs(environment: dict[str, str], wanted: bool) -> None:
    assert wants_ascii(environment) == wanted


def test_a_token_is_escaped_in_ascii() -> None:
    assert ascii_token("·caf\u00e9") == "_caf\\xe9"
    assert ascii_token("a⏎") == "a\\n"
    assert ascii_token("⟨E2 80⟩") == "<E2 80>"
    assert ascii_token("plain") == "plain"
    assert ascii_token("_name") != ascii_token("·name") == "_name"
    assert ascii_token("\\n") != ascii_token("⏎") == "\\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_table_is_printed_whatever_its_stream_can_encode(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    console.line("·the … ±.2 caf\u00e9 漢")
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert shown == ("·the … ±.2 caf\u00e9 漢\n" if encoding == "utf-8" else ".the ~ +.2 caf\\xe9 \\u6f22\n")


def test_up_and_down_are_told_apart_by_the_colours_that_every_terminal_has() -> None:
    """Reduced to 16 colours, those of the usual theme are greys."""
    standard = ColorSystem.STANDARD
    names = {"up": FEW_COLOURS.variables["up"], "down": FEW_COLOURS.variables["down"], "text": FEW_COLOURS.foreground}
    reduced = {name: Color.parse(colour).downgrade(standard).number for name, colour in names.items()}
    assert reduced == {"up": 2, "down": 1, "text": 7}


@pytest.mark.parametrize(("option", "expected"), [("--ascii", True), ("--no-ascii", False), ("", None)])
def test_the_command_line_chooses_the_glyphs(
    monkeypatch: pytest.MonkeyPatch, option: str, expected: bool | None
) -> None:
    chosen: list[bool | None] = []
    monkeypatch.setattr("tpe_tui.cli.main.on_terminal", lambda: True)
    monkeypatch.setattr("tpe_tui.app.run_app", lambda *_, ascii_only, **_more: chosen.append(ascii_only) or 0)
    assert main(["demo", *([option] if option else [])]) == 0
    assert chosen == [expected]


async def test_the_cursor_is_told_without_colour(tmp_path: Path) -> None:
    app = TpeApp(RunOptions(), opener=opening(FakeSession()), state_dir=tmp_path, keys_file=tmp_path / "keys.toml")
    app.suit(False, few_colours=True)
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.workspace.session is not None)
        await answered(app, pilot)
        for pane in (app.inspector.dims, app.inspector.tokens):
            row = pane.render_line(1 + pane.cursor - pane.top)
            other = pane.render_line(2 + pane.cursor - pane.top)
            assert any(segment.style and segment.style.reverse for segment in row)
            assert not any(segment.style and segment.style.reverse for segment in other)
    app.host.stop()
