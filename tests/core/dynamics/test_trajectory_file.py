"""Trajectories as files: what is in them, to the last digit, and that no failure costs the file that was there."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from tests.helpers.trajectories import FIRST, RUN
from tpe_core.dynamics.trajectory import Point, Trajectory
from tpe_core.dynamics.trajectory_file import document, figures, table, write_trajectories
from tpe_core.errors import TpeError

OTHER = Trajectory(
    source="b",
    frequencies="counts",
    tokens=5,
    unseen=0,
    points=(Point(name="x", step=3, r2_adjusted=0.5, travel={"layer 2": 0.75}),),
)


def test_every_measured_figure_has_one_flat_name() -> None:
    assert figures(FIRST) == {
        "r2": 0.1 + 0.2,
        "r2_adjusted": -0.01,
        "pc_correlation.1": 0.5,
        "pc_correlation.2": -0.25,
        "convergence.all": 1.0,
    }
    assert figures(Point(name="empty", step=0)) == {}
    assert figures(Point(name="broken", step=0, r2=math.nan, loss=math.inf)) == {}


def test_csv_has_a_checkpoint_a_line_and_every_digit() -> None:
    rows = list(csv.DictReader(table([RUN, OTHER]).splitlines()))
    assert [(row["source"], row["name"], row["step"]) for row in rows] == [
        ("runs/a", "step0", "0"), ("runs/a", "step,8", "8"), ("b", "x", "3")
    ]  # fmt: skip
    assert [row["duplicate_of"] for row in rows] == ["", "step0", ""]
    assert float(rows[0]["r2"]) == 0.1 + 0.2
    assert float(rows[1]["convergence.mlp"]) == 1 / 3
    assert float(rows[1]["change.all"]) == 1e-17
    assert rows[2]["r2"] == rows[0]["convergence.mlp"] == rows[0]["loss"] == ""
    assert float(rows[2]["travel.layer 2"]) == 0.75


def test_json_is_the_document_of_the_command_line(tmp_path: Path) -> None:
    path = write_trajectories(tmp_path / "new" / "one.json", [RUN])
    one = json.loads(path.read_text())
    assert one == json.loads(json.dumps(RUN.to_dict()))
    assert one["skipped"] == [{"name": "step4", "step": 4, "reason": "cut short"}]
    several = document([RUN, OTHER])
    assert [entry["source"] for entry in several["sources"]] == ["runs/a", "b"]
    assert write_trajectories(tmp_path / "all.CSV", [RUN, OTHER]).read_text() == table([RUN, OTHER])


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("data.txt", [RUN], "neither .json nor .csv"),
        ("data", [RUN], "neither .json nor .csv"),
        ("data.json", [], "no trajectory to write"),
        ("folder.csv", [RUN], "is a folder"),
        ("file/data.csv", [RUN], "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, name: str, given: list[Trajectory], said: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(TpeError, match=said):
        write_trajectories(tmp_path / name, given)
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written is left"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.json"
    write_trajectories(path, [OTHER])
    before = path.read_text()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tpe_core.store.os.fsync", full)
    with pytest.raises(TpeError, match="No space left"):
        write_trajectories(path, [RUN])
    assert path.read_text() == before
    assert [*tmp_path.iterdir()] == [path]
