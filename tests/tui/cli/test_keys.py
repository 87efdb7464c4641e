"""`tpe keys`: the whole key table with the user's keys in force, and what is wrong with them, by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tpe_tui import keymap
from tpe_tui.cli.keys_tables import key_table, report
from tpe_tui.cli.main import main
from tpe_tui.dynamics.experiment_screen import ExperimentScreen
from tpe_tui.dynamics.screen import DynamicsScreen
from tpe_tui.generation.screen import GenerateScreen
from tpe_tui.keymap import ACTIONS
from tpe_tui.steering.screen import SteerScreen
from tpe_tui.sweep.screen import SweepScreen


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's keys file, not there yet."""
    path = tmp_path / "keys.toml"
    monkeypatch.setattr(keymap, "default_keys_file", lambda: path)
    return path


def told(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["keys", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_every_action_and_every_key_of_the_screens_is_listed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, table = told(capsys)
    assert code == 0
    assert not table["found"]
    assert [row["id"] for rows in table["inspector"].values() for row in rows] == [action.id for action in ACTIONS]
    assert [row["keys"] for rows in table["inspector"].values() for row in rows] == [
        action.keys.split(",") for action in ACTIONS
    ]
    for screen in (SweepScreen, SteerScreen, GenerateScreen, DynamicsScreen, ExperimentScreen):
        (rows,) = [rows for rows in table["studies"].values() if rows[0]["help"] == screen.KEYS[0][2]]
        assert [row["help"] for row in rows] == [about for _, _, about in screen.KEYS]


def test_the_text_fits_80_cells_and_names_the_ids(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines if file.name not in line) <= 80  # a path is whole, to be copied
    assert [line.split()[:2] for line in lines if "mask.range" in line] == [["v", "mask.range"]]
    text = " ".join(line.strip() for line in lines)
    assert all(action.id in text and action.help in text for action in ACTIONS), "a long help is wrapped, not cut"


def test_the_keys_that_take_a_number_say_what_it_counts(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for rows in told(capsys)[1]["inspector"].values() for row in rows]
    assert {row["id"]: row["counted"] for row in rows} == {action.id: action.counted for action in ACTIONS}
    studies = told(capsys)[1]["studies"]
    counted = {title: {row["help"] for row in rows if row["counted"]} for title, rows in studies.items()}
    assert {"previous curve", "next point: more removed"} <= counted["Pruning sweep"]
    assert {"undo", "redo", "look at the next token"} <= counted["Generation"]
    assert not counted["Jobs"] & {"first job", "cancel the job under the cursor, running or queued"}
    assert main(["keys"]) == 0
    assert "prune or restore the dimension, or the marked range [a number: dimensions" in " ".join(
        capsys.readouterr().out.split()
    )


def test_own_keys_are_in_force_and_marked(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('mask.toggle = ["space", "X"]\n')
    assert main(["keys"]) == 0
    out = capsys.readouterr().out
    assert "* space X          mask.toggle" in out
    assert out.count("\n* space X") == 5, "the inspector and the four studies that have the action"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('# mine\n\nmask.topple = "a"\n', 3, "'mask.topple'"),
        ('mask.toggle = [\n  "space",\n  "E"\n]\n[move]\ndown = "ctrl+i"\n', 6, "it is tab there"),
        ('find.search = "E"\nrun.open = "ctrl+["\n', 2, "it is escape there"),
        ('run.open = "ctrl+m"\n', 1, "it is enter there"),
        ('# one\nmove.up = [\n  "k",\n  "d",\n]\n', 2, "d now runs move.up and no longer steer.method"),
        ('mask.range = "E"\nmask.clear = "E"\n', 2, "E runs mask.range already"),
        ('\n\nmask.toggle = "O"\n', 3, "in Pruning sweep it is: choose the orders"),
        ('plot.next = "+"\n', 1, "in Generation it is: faster"),
        ("mask.toggle = \n", 1, "was not used"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_exit_code_1(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, said: str
) -> None:
    file.write_text(text)
    code, table = told(capsys)
    assert code == 1
    (problem,) = (each for each in table["problems"] if said in each)
    assert f"line {line}" in problem


@pytest.mark.parametrize("key", ["ctrl+s", "ctrl+b", "ctrl+a"])
def test_a_key_that_may_be_swallowed_is_a_note_and_no_mistake(file: Path, key: str) -> None:
    file.write_text(f'\nfind.search = "{key}"\n')
    table = key_table(file)
    assert table.problems == []
    assert len(table.notes) == 1
    assert f"line 2: {key}, which runs find.search" in table.notes[0]
    assert f"{key}, which" in " ".join(line.strip() for line in report(table))


def test_a_default_key_that_the_user_repeats_is_no_note(file: Path) -> None:
    file.write_text('app.quit = "ctrl+q"\n')
    assert key_table(file).notes == []
