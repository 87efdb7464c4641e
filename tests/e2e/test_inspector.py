"""The inspector at work: keys in, screen out, a manifest on disk, in terminals of several sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import POSITIONS, WIDTH
from tests.e2e.opening import SETTLED, START, opened
from tests.e2e.terminal import Terminal

Open = Callable[..., Terminal]


@pytest.mark.slow
def test_a_session_from_start_to_shell(terminal: Open, tmp_path: Path) -> None:
    term = terminal()
    term.command("stty -g >before")
    opened(term)
    assert float(term.wait(SETTLED)[1]) == 0
    assert term.pruned() == set()
    rows = term.rows()

    term.keys("j", "Space")
    term.wait(f"pruned 1/{WIDTH}")
    term.until(lambda: term.pruned() == {2}, "rank 2 is marked")
    assert float(term.wait(SETTLED)[1]) > 0
    term.keys("k", "Space")
    term.wait(f"pruned 2/{WIDTH}")
    term.until(lambda: term.pruned() == {1, 2}, "rank 1 is marked")
    term.keys("u")
    term.wait(f"pruned 1/{WIDTH}")
    term.until(lambda: term.pruned() == {2}, "the mark of rank 1 is gone")

    term.keys("2")
    term.wait(r"▸2 Next token")
    term.keys("]", "]")
    term.wait(r"◆ \S+ +×1\.41")
    term.wait("steered 1")
    term.keys("u")
    token = term.wait(r"◆ (\S+) +×1\.19")[1].rstrip("…")
    kl = float(term.wait(SETTLED)[1])

    path = tmp_path / "edit.json"
    term.keys("e")
    term.answer("export the edit to", str(path))
    term.wait("written to")
    term.keys("q")
    assert term.exit_code() == 0
    term.wait_without("Next token")
    term.assert_clean()
    term.command("stty -g >new; mv new after")
    after = term.folder / "after"
    term.until(after.exists, "stty has written")
    assert after.read_text() == (term.folder / "before").read_text()

    manifest = json.loads(path.read_text())
    assert manifest["pruned"] == [rows[2].dim]
    assert manifest["replacement"] == "zero"
    [steered] = manifest["steering"]
    assert steered["ratio"] == pytest.approx(2**0.25)
    assert steered["token"].startswith(token)
    assert manifest["measured"]["positions"] == int(POSITIONS)
    assert manifest["measured"]["kl"] == pytest.approx(kl, abs=5e-4)


def test_the_inspector_shows_what_the_json_says(terminal: Open, analysis: dict[str, Any]) -> None:
    term = terminal()
    opened(term)
    shown = float(term.wait(r"adj R² ([\d.]+)")[1])
    assert shown == pytest.approx(analysis["encoding"]["r2_adjusted"], abs=6e-4)
    rows = term.rows()
    for rank, row in rows.items():
        entry = analysis["dimensions"][rank - 1]
        assert (rank, row.dim) == (entry["rank"], entry["dim"])
        for text, name in ((row.slope, "slope"), (row.std, "slope_std"), (row.r, "r")):
            step = 10.0 ** -len(text.partition(".")[2])
            assert float(text) == pytest.approx(entry[name], abs=0.501 * step), (rank, name)


def test_a_saved_mask_is_in_force_at_start(terminal: Open, masks: dict[str, Any]) -> None:
    term = terminal(160, 48)
    saved = masks["mean"]
    term.start(f"{START} --mask {saved['path']}")
    term.wait(f"pruned {len(saved['pruned'])}/{WIDTH} mean")
    term.wait("steered 1")
    term.wait("imported")
    manifest = json.loads(Path(saved["path"]).read_text())
    assert float(term.wait(SETTLED)[1]) == pytest.approx(manifest["measured"]["kl"], rel=1e-3, abs=6e-4)


def test_another_size_is_another_layout(terminal: Open) -> None:
    term = terminal(160, 48)
    opened(term)
    term.wait(r"3 Plot")
    term.wait(r"4 Detail")
    term.until(lambda: len(term.rows()) > 30, "the table is long")
    term.resize(80, 24)
    term.wait_without("3 Plot")
    term.wait("2 Next token")
    term.until(lambda: 1 in term.rows(), "the table begins at its first row")
    term.resize(50, 12)
    term.wait(r"tpe needs at least 60×16")
    term.wait_without("Next token")
    term.resize(160, 48)
    term.wait(r"4 Detail")
    term.until(lambda: len(term.rows()) > 30, "the long table is back")
    term.keys("q")
    assert term.exit_code() == 0
    term.assert_clean()


def test_a_model_that_is_not_there(terminal: Open) -> None:
    term = terminal()
    term.start("tpe ./nosuchfolder/")
    term.wait(r"there is no folder \./nosuchfolder")
    term.wait("opening the model failed")
    term.keys("Escape")
    term.wait_without("y copies")
    term.keys("q")
    assert term.exit_code() == 1
    term.wait(r"tpe: there is no folder \./nosuchfolder")
    term.assert_clean()
