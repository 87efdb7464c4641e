"""The comparison screen under a pilot: figures and overlays of several models, one that fails, the file it writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from tests.helpers.tiny_models import save_tiny, text
from tests.tui.helpers import lines, type_line, until
from tpe_core.encoding_comparison import FIGURES, compare_encodings
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_tui.comparison.app import ComparisonApp
from tpe_tui.comparison.plot import OVERLAYS, mark_of_model, overlay_lines
from tpe_tui.comparison.screen import ComparisonScreen
from tpe_tui.comparison.values import shown_value
from tpe_tui.dialogs.error import TextScreen

Open = Callable[..., AbstractAsyncContextManager[tuple[ComparisonApp, ComparisonScreen, Pilot[int]]]]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The analysis of a tiny model."""
    from tpe_core.analysis import analyze

    folder = tmp_path_factory.mktemp("analysed")
    (folder / "text.txt").write_text(text(3, 4000))
    options = RunOptions(
        model=str(save_tiny(folder / "model")), text=(str(folder / "text.txt"),), positions=1000, cache=False
    )
    return run(analyze(options)).to_dict()


@pytest.fixture
def files(document: dict[str, Any], tmp_path: Path) -> list[Path]:
    """Three analyses: two of one text, one of another, whose name is hostile."""
    written = []
    for name, changed in (
        ("first", {}),
        ("second", {"loss": 1.25}),
        ("third", {"model": "[bold]漢字\x1b[31m", "positions": 77}),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**document, **changed}))
        written.append(path)
    return written


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """`async with opened(*sources, size=…) as (app, screen, pilot)`, once the job has ended."""

    @asynccontextmanager
    async def start(
        *sources: RunOptions | Path, size: tuple[int, int] = (80, 24)
    ) -> AsyncIterator[tuple[ComparisonApp, ComparisonScreen, Pilot[int]]]:
        app = ComparisonApp(sources, state_dir=tmp_path / "state", keys_file=tmp_path / "keys.toml", clock=lambda: 0.0)
        async with app.run_test(size=size) as pilot:
            reader = app.reader
            await until(pilot, lambda: reader.job is None and (reader.result is not None or reader.failure is not None))
            await pilot.pause()
            screen = app.screen
            assert isinstance(screen, ComparisonScreen)
            yield app, screen, pilot
        app.host.stop()

    return start


async def test_every_figure_of_every_model_is_there(opened: Open, files: list[Path]) -> None:
    expected = run(compare_encodings(files))
    async with opened(*files, size=(160, 48)) as (app, screen, pilot):
        assert screen.table.n_rows == len(expected.figures)
        seen = []
        for _ in expected.figures:
            seen.append(lines(screen.table)[1 + screen.table.cursor - screen.table.top])
            await pilot.press("j")
        for line, figure in zip(seen, expected.figures, strict=True):
            assert figure.title.strip() in line
            for model in expected.models:
                assert shown_value(figure, model.value(figure)) in line
        assert "texts differ" in "".join(lines(screen.status))


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 34), (160, 48)])
async def test_a_mark_for_each_model_in_the_table_and_the_plot(
    opened: Open, files: list[Path], size: tuple[int, int]
) -> None:
    async with opened(*files, size=size) as (app, screen, pilot):
        assert all(cell_len(line) <= size[0] for line in lines(screen.table))
        for overlay in OVERLAYS:
            assert overlay.title in str(screen.plot.border_title)
            drawn = "\n".join(lines(screen.plot))
            assert mark_of_model(screen.table.selected)[0] in drawn
            await pilot.press("l")
        for number, _ in enumerate(files):
            head = lines(screen.table)[0]
            assert mark_of_model(number)[0] in head, "the selected model is among those that fit"
            assert screen.table.selected == number
            await pilot.press("tab")
        assert screen.table.selected == 0


def test_the_curves_are_those_of_the_documents(document: dict[str, Any], files: list[Path]) -> None:
    """The last point of each overlay is where the document says: all slopes, all components, the last k."""
    comparison = run(compare_encodings(files[:1]))
    table = comparison.to_table("compared_slopes")
    sizes = sorted((abs(entry["slope_std"]) for entry in document["dimensions"]), reverse=True)
    assert table.column("share") == pytest.approx([size / math.fsum(sizes) for size in sizes])
    for overlay in OVERLAYS:
        assert len(overlay_lines(comparison, overlay, 0, 60, 12)) == 12
        assert overlay_lines(comparison, overlay, 0, 5, 1)


async def test_one_that_fails_is_named_and_the_others_stay(opened: Open, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"model": "x"}')
    async with opened(files[0], broken, files[1]) as (app, screen, pilot):
        assert [model.name for model in screen.table.models] == ["first.json", "second.json"]
        assert "1 left out" in "".join(lines(screen.status))
        await pilot.press("i")
        assert isinstance(app.screen, TextScreen)
        assert "broken.json is left out" in app.screen._text
        await pilot.press("escape")
        await pilot.press("q")
        await until(pilot, lambda: app.return_code is not None)
        assert app.return_value == 0


async def test_nothing_to_show_says_why_and_ends_with_1(opened: Open, tmp_path: Path) -> None:
    async with opened(tmp_path / "nowhere.json") as (app, screen, pilot):
        assert "nowhere.json" in "".join(lines(screen.plot)) + "".join(lines(screen.strip))
        await pilot.press("e", "tab", "l", "j")
        assert isinstance(app.screen, ComparisonScreen)
        await pilot.press("q")
        await until(pilot, lambda: app.return_code is not None)
        assert app.return_value == 1


async def test_the_file_holds_the_same_figures(opened: Open, files: list[Path], tmp_path: Path) -> None:
    async with opened(*files) as (app, screen, pilot):
        await pilot.press("e")
        await type_line(pilot, str(tmp_path / "out.csv"))
        await until(pilot, lambda: (tmp_path / "out.csv").exists())
        rows = list(csv.DictReader((tmp_path / "out.csv").open()))
        assert [row["name"] for row in rows] == [model.name for model in screen.table.models]
        assert set(rows[0]) == {"name", *(figure.key for figure in FIGURES)}


async def test_the_command_line_that_prints_it(opened: Open, files: list[Path]) -> None:
    async with opened(*files) as (app, screen, pilot):
        await pilot.press("H")
        assert isinstance(app.screen, TextScreen)
        assert app.screen._text == f"tpe compare {' '.join(map(str, files))}"
