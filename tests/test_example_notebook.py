"""The notebook of docs/: its cells run, and say what is stored in it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
NUMBER = re.compile(r"(?<![\w.#])[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
TAG = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)


def said(output: Any) -> str:
    """What an output says in words: HTML without its tags, else text."""
    data = output.get("data", {})
    return TAG.sub(" ", data["text/html"]) if "text/html" in data else data.get("text/plain", output.get("text", ""))


def is_picture(output: Any) -> bool:
    return "image/png" in output.get("data", {})


def outputs(cell: Any) -> list[Any]:
    """What a cell puts out, less what libraries say on stderr."""
    return [one for one in cell.get("outputs", []) if one.get("name") != "stderr"]


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def assert_says_alike(stored: str, now: str) -> None:
    """The same words, and the same numbers within what another processor's rounding and a refit of few rows change."""
    assert NUMBER.sub("#", stored).split() == NUMBER.sub("#", now).split()
    for one, other in zip(NUMBER.findall(stored), NUMBER.findall(now), strict=True):
        assert number(other) == pytest.approx(number(one), rel=0.02, abs=0.02), (stored, now)


@pytest.mark.slow
def test_the_notebook_runs_and_says_what_is_stored_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPE_CACHE_DIR", str(tmp_path))
    stored = nbformat.read(NOTEBOOK, as_version=4)
    run = nbformat.read(NOTEBOOK, as_version=4)
    for cell in run.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(run, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = 0
    for before, now in zip(stored.cells, run.cells, strict=True):
        assert len(outputs(before)) == len(outputs(now)), before.source
        for one, other in zip(outputs(before), outputs(now), strict=True):
            assert is_picture(one) == is_picture(other)
            pictures += is_picture(one)
            if not is_picture(one):
                assert_says_alike(said(one), said(other))
    assert pictures >= 5


def test_the_notebook_is_stored_as_it_was_run() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1)), "from top to bottom, in one go"
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "Traceback" not in text
    assert str(ROOT) not in text
    assert len(text) < 1_000_000


def test_figures_that_moved_are_seen() -> None:
    assert_says_alike("R² 0.868 of 8,192", "R² 0.870 of 8,192")
    with pytest.raises(AssertionError):
        assert_says_alike("R² 0.868 of 8,192", "R² 0.768 of 8,192")
    with pytest.raises(AssertionError):
        assert_says_alike("R² 0.868", "R 0.868")


def test_the_page_shows_every_cell_and_what_it_put_out() -> None:
    pytest.importorskip("mkdocs")
    hooks = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
    page = hooks["on_page_markdown"]((ROOT / "docs" / "notebook.md").read_text(encoding="utf-8"), None)
    assert "cells of" not in page
    assert page.startswith("# Notebook")
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    for cell in cells:
        assert cell.source.partition("\n")[2] in page if cell is cells[0] else cell.source in page
    assert page.count("data:image/png;base64,") == sum(is_picture(one) for cell in cells for one in outputs(cell))
    for block in re.findall(r"^<div>.*$", page, re.MULTILINE):
        assert block.endswith("</div>"), "HTML stands on one line, so that Markdown leaves it alone"
