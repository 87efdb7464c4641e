"""Figures against the step: where steps lie on both axes, what is drawn at them, and that every line has its width."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from rich.cells import cell_len

from tpe_tui.dynamics.plot import StepAxis, StepCurve, StepFigure, step_lines

STEPS = (0, 1, 3, 10, 30, 100, 300, 1000)


def curve(values=None, same=(), half=None, mark="●", steps=STEPS) -> StepCurve:
    values = values or tuple(at / (len(steps) - 1) for at in range(len(steps)))
    return StepCurve(
        steps=steps,
        values=tuple(values),
        mark=mark,
        role="curve0",
        same=tuple(step in same for step in steps),
        half=half,
    )


def text_of(picture: StepFigure, width: int = 72, height: int = 20) -> list[str]:
    return ["".join(text for text, _ in line) for line in step_lines(picture, width, height)]


def cells(rows: list[str], glyph: str) -> list[tuple[int, int]]:
    return [(y, x) for y, row in enumerate(rows[:-1]) for x, char in enumerate(row) if char == glyph and x > 7]


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("size", [(72, 30), (52, 12), (20, 6), (12, 3), (5, 1), (0, 0)])
def test_every_line_is_as_wide_as_asked(size: tuple[int, int], shares: bool, log: bool) -> None:
    picture = StepFigure(
        axis=StepAxis(STEPS, log),
        curves=(curve(), curve(mark="a", same=(10,), half=30)),
        cursor=30,
        shares=shares,
        skipped=(20,),
    )
    assert [sum(cell_len(text) for text, _ in line) for line in step_lines(picture, *size)] == [size[0]] * size[1]


def test_equal_factors_are_equal_ways_on_a_logarithmic_axis_and_step_0_stands_apart() -> None:
    axis = StepAxis(STEPS, log=True)
    assert axis.place(100) - axis.place(10) == pytest.approx(axis.place(1000) - axis.place(100))
    assert axis.low == axis.place(0) < axis.place(1) - 0.2
    rows = text_of(StepFigure(axis=axis, curves=(curve(),)))
    columns = sorted(x for _, x in cells(rows, "●"))
    assert len(columns) == len(STEPS)
    assert columns[0] == 8, "step 0 at the left edge"
    assert columns[-1] == 71
    between = [row[columns[0] + 1 : columns[1]] for row in rows[:-1]]
    assert all(part.isspace() for part in between), "no line where there is no scale"
    assert rows[-1].split()[:2] == ["0", "1"]
    assert rows[-1].endswith("step")


def test_equal_differences_are_equal_ways_on_a_linear_axis() -> None:
    rows = text_of(StepFigure(axis=StepAxis((0, 10, 20, 30), False), curves=(curve(steps=(0, 10, 20, 30)),)))
    columns = sorted(x for _, x in cells(rows, "●"))
    ways = [b - a for a, b in pairwise(columns)]
    assert max(ways) - min(ways) <= 1
    assert rows[-1].split()[0] == "0"


def test_a_click_finds_the_nearest_step() -> None:
    axis = StepAxis(STEPS, log=True)
    for step in STEPS:
        share = (axis.place(step) - axis.low) / (axis.high - axis.low)
        assert axis.nearest(share) == step
    assert axis.nearest(0.0) == 0
    assert axis.nearest(1.0) == 1000
    assert StepAxis(STEPS, False).nearest(0.5) == 300


@pytest.mark.parametrize("steps", [(), (0,), (7,), (5, 6), (0, 5), (143_000, 144_000)])
@pytest.mark.parametrize("log", [True, False])
def test_few_steps_have_an_axis_too(steps: tuple[int, ...], log: bool) -> None:
    axis = StepAxis(steps, log)
    assert axis.low < axis.high
    marks = axis.marks(10)
    assert marks
    assert all(math.isfinite(place) for place, _ in marks)
    rows = text_of(StepFigure(axis=axis, curves=(curve(steps=steps, values=[0.5] * len(steps)),) if steps else ()))
    assert len(cells(rows, "●")) == len(steps)


def test_duplicates_half_way_steps_skipped_ones_and_the_cursor_are_drawn_as_such() -> None:
    picture = StepFigure(
        axis=StepAxis((*STEPS, 50), True),
        curves=(curve(same=(10, 300), half=100),),
        cursor=30,
        shares=True,
        skipped=(50,),
    )
    rows = text_of(picture)
    assert len(cells(rows, "=")) == 2
    assert len(cells(rows, "●")) == len(STEPS) - 2
    (half,) = cells(rows, "½")
    at = next(cell for cell in cells(rows, "●") if cell[1] == half[1])
    assert at[0] - half[0] == 1, "above its point"
    (skipped,) = cells(rows, "!")
    assert skipped[0] == len(rows) - 2, "on the axis"
    drawn = step_lines(picture, 72, 20)
    here = [(text, role) for line in drawn for text, role in line if role == "here"]
    assert here == [("●", "here")]
    cursor = {x for _, x in cells(rows, "│")}
    assert len(cursor) == 1


def test_a_line_goes_through_own_checkpoints_only() -> None:
    values = [0.5] * len(STEPS)
    values[3] = 0.0
    picture = StepFigure(axis=StepAxis(STEPS, True), curves=(curve(values, same=(10,)),))
    rows = text_of(picture)
    ((low, _),) = cells(rows, "=")
    assert all(row[8:].isspace() for row in rows[low + 1 : -1])
    dots = {y for y, row in enumerate(rows[:-1]) for char in row[8:] if 0x2800 < ord(char) <= 0x28FF}
    assert dots == {y for y, _ in cells(rows, "●")}


def test_shares_lie_between_0_and_1_and_what_is_far_below_stays_on_the_edge() -> None:
    values = [-7.0, *([0.5] * (len(STEPS) - 2)), 1.0]
    rows = text_of(StepFigure(axis=StepAxis(STEPS, True), curves=(curve(values),)))
    labels = [float(row[:7]) for row in rows[:-1] if row[:7].strip()]
    assert {0.0, 0.5, 1.0} <= set(labels)
    assert min(labels) > -0.4
    assert cells(rows, "●")[-1][0] == len(rows) - 2


def test_figures_over_decades_have_a_logarithmic_axis_of_their_own() -> None:
    values = [10.0**-at for at in range(len(STEPS))]
    rows = text_of(StepFigure(axis=StepAxis(STEPS, True), curves=(curve(values),), shares=False), height=24)
    ys = [y for y, _ in sorted(cells(rows, "●"), key=lambda cell: cell[1])]
    ways = [b - a for a, b in pairwise(ys)]
    assert max(ways) - min(ways) <= 1
    assert "0.001" in "".join(row[:7] for row in rows)


def test_of_curves_that_coincide_each_is_seen() -> None:
    rows = text_of(StepFigure(axis=StepAxis(STEPS, True), curves=tuple(curve(mark=mark) for mark in "●▲■")))
    seen = [len(cells(rows, mark)) for mark in "●▲■"]
    assert sum(seen) == len(STEPS)
    assert min(seen) >= 2


def test_what_is_not_measured_is_not_drawn() -> None:
    rows = text_of(StepFigure(axis=StepAxis(STEPS, True), curves=(curve([math.nan] * len(STEPS)),), cursor=30))
    assert not cells(rows, "●")
    assert not cells(rows, "½")


@pytest.mark.parametrize("last", [1, 2, 3, 7, 10, 40, 1000])
@pytest.mark.parametrize("count", [2, 5, 21])
def test_a_linear_axis_names_whole_steps(last: int, count: int) -> None:
    marks = StepAxis((0, last), False).marks(count)
    assert {text for _, text in marks} >= {"0"}
    assert all(text.rstrip("kM").isdigit() for _, text in marks), marks
