"""An experiment's folder as it is read by who does not train: what it holds, which run is under way, what changed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.experiment_folders import planned, record_of, write_experiment, write_run
from tpe_core.continued_training.folder import (
    RUN,
    SETTINGS,
    experiment_of,
    read_experiment,
    run_folder,
    run_states,
    stamp,
)
from tpe_core.errors import TpeError


def test_a_folder_under_way_is_read_with_what_is_planned(tmp_path: Path) -> None:
    keys = write_experiment(tmp_path, done=3)
    result = read_experiment(tmp_path)
    assert result.plan == tuple(keys)
    assert [run.key for run in result.runs] == keys[:4]
    assert result.runs[3].points == record_of(keys[3]).points[:3]
    states = [*run_states(result).values()]
    assert states == ["done"] * 3 + ["running"] + ["waiting"] * (len(keys) - 4)


def test_a_run_that_ended_early_is_not_under_way(tmp_path: Path) -> None:
    keys = write_experiment(tmp_path, done=1)
    write_run(tmp_path, record_of(keys[1], (0, 10), stopped="the loss became nan at step 13: the run was ended."))
    states = run_states(read_experiment(tmp_path))
    assert [states[key] for key in keys[:4]] == ["done", "stopped", "running", "waiting"]


def test_a_stamp_differs_once_a_run_has_written(tmp_path: Path) -> None:
    keys = write_experiment(tmp_path, done=3)
    before = stamp(tmp_path)
    assert stamp(tmp_path) == before
    write_run(tmp_path, record_of(keys[3]))
    after = stamp(tmp_path)
    assert [at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other] == [4]


def test_more_runs_than_before_make_another_stamp(tmp_path: Path) -> None:
    write_experiment(tmp_path, done=3, keys=planned(seeds=1))
    before = stamp(tmp_path)
    write_experiment(tmp_path, done=3, keys=planned(seeds=2))
    assert len(stamp(tmp_path)) > len(before)


def test_the_experiment_that_a_log_belongs_to(tmp_path: Path) -> None:
    keys = write_experiment(tmp_path / "runs")
    for key in (keys[0], keys[1]):
        assert experiment_of(run_folder(tmp_path / "runs", key) / "probe.jsonl") == tmp_path / "runs"
    assert experiment_of(tmp_path / "other" / "probe.jsonl") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": "demo", "runs": [["same"]]}', "\x00"])
def test_settings_that_are_none_are_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / SETTINGS).write_text(content)
    for read in (read_experiment, stamp):
        with pytest.raises(TpeError, match=r"settings\.json cannot be read .*check the path"):
            read(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mask.json").write_text("{}")
    with pytest.raises(TpeError, match="holds no experiment of tpe train-on"):
        read_experiment(tmp_path / "mask.json")


def test_a_broken_run_is_named(tmp_path: Path) -> None:
    keys = write_experiment(tmp_path, done=2)
    (run_folder(tmp_path, keys[1]) / RUN).write_text('{"run": {}}')
    with pytest.raises(TpeError, match=r"run\.json is no run that can be read"):
        read_experiment(tmp_path)


def test_a_run_without_points_is_not_done(tmp_path: Path) -> None:
    keys = write_experiment(tmp_path, done=0)
    write_run(tmp_path, replace(record_of(keys[0]), points=()))
    assert run_states(read_experiment(tmp_path))[keys[0]] == "running"


def test_reading_imports_no_torch(tmp_path: Path) -> None:
    write_experiment(tmp_path, done=1)
    code = (
        "import sys; from pathlib import Path; import tpe_core as tpe; "
        f"r = tpe.read_experiment(Path({str(tmp_path)!r})); r.bands(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
