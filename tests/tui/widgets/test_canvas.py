"""The canvas as a pure function, and the formats of cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tpe_tui.cells import bar, escape_controls, fit, number, percent, points, shown_prompt, typed_prompt
from tpe_tui.widgets.canvas import GUTTER, RAMP, Series, draw, ticks
from tpe_tui.widgets.plot_base import wrapped


def text_of(lines) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def ramp_line(n: int = 50) -> Series:
    x = np.linspace(0.0, 10.0, n)
    return Series(x, x, kind="line", role="bar")


@pytest.mark.parametrize("kind", ["line", "dots", "stems", "glyph"])
@pytest.mark.parametrize("size", [(20, 6), (45, 17), (79, 3)])
def test_every_line_has_the_width_asked_for(kind: str, size: tuple[int, int]) -> None:
    width, height = size
    x = np.arange(30.0)
    lines = text_of(draw([Series(x, np.sin(x), kind=kind)], width, height, "x", "y"))  # type: ignore[arg-type]
    assert len(lines) == height
    assert [cell_len(line) for line in lines] == [width] * height


def test_a_rising_line_goes_from_lower_left_to_upper_right() -> None:
    lines = text_of(draw([ramp_line()], 40, 11))
    area = [line[GUTTER + 1 :] for line in lines[:-1]]
    assert area[0][-1] != " "
    assert area[0][0] == " "
    assert area[-1][0] != " "
    assert area[-1][-1] == " "


def test_same_input_same_output_and_inputs_untouched() -> None:
    x = np.array([3.0, 1.0, 2.0])
    y = np.array([1.0, np.nan, 2.0])
    first = draw([Series(x, y)], 30, 8)
    assert draw([Series(x, y)], 30, 8) == first
    assert x.tolist() == [3.0, 1.0, 2.0]


def test_later_series_cover_earlier_ones_with_their_role() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0])
    lines = draw(
        [Series(x, y, kind="dots", role="bar"), Series(x[1:2], y[1:2], kind="glyph", role="down", glyph="x")], 31, 8
    )
    assert ("x", "down") in [run for line in lines for run in line]
    assert any(role == "bar" for line in lines for _, role in line)


def test_stems_reach_the_floor() -> None:
    x = np.arange(1.0, 40.0)
    area = [line[GUTTER + 1 :] for line in text_of(draw([Series(x, 40 - x, kind="stems")], 40, 10))[:-1]]
    assert " " not in area[-1]
    assert area[0][0] != " "
    assert area[0][5:].strip() == ""


def test_cells_show_levels_by_glyph() -> None:
    x, y, level = np.array([0.0, 5.0, 10.0]), np.zeros(3), np.array([0.0, 0.5, 1.0])
    runs = [run for line in draw([Series(x, y, kind="cells", level=level)], 40, 8) for run in line]
    assert (RAMP[0], "ramp0") in runs
    assert (RAMP[2], "ramp2") in runs
    assert (RAMP[4], "ramp4") in runs


@pytest.mark.parametrize(
    "series",
    [
        [],
        [Series(np.empty(0), np.empty(0))],
        [Series(np.array([np.nan]), np.array([np.inf]))],
        [Series(np.ones(3), np.ones(3))],
        [Series(np.ones(1), np.zeros(1), kind="stems")],
        [Series(np.ones(1), np.zeros(1), kind="line")],
    ],
)
def test_degenerate_data_draws_an_empty_frame(series: list[Series]) -> None:
    lines = text_of(draw(series, 30, 8))
    assert len(lines) == 8
    assert all(cell_len(line) == 30 for line in lines)


def test_too_small_an_area_is_blank() -> None:
    assert text_of(draw([ramp_line()], 9, 3)) == [" " * 9] * 3
    assert draw([ramp_line()], 40, 0) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_are_round_and_inside(low: float, span: float, count: int) -> None:
    high = low + span
    found = ticks(low, high, count)
    assert len(found) <= count + 2
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert all(low - slack <= value <= high + slack for value in found)
    assert found == sorted(found)


def test_ticks_of_a_known_axis() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(-0.3, 0.3, 3) == [-0.2, 0.0, 0.2]
    assert ticks(2, 2, 5) == [2]


@given(st.text(), st.integers(0, 40), st.booleans())
def test_fit_always_gives_the_width(text: str, width: int, right: bool) -> None:
    assert cell_len(fit(escape_controls(text), width, right)) == width


def test_fit_cuts_wide_characters_with_an_ellipsis() -> None:
    assert fit("漢字漢字", 5) == "漢字…"
    assert fit("漢字漢字", 4) == "漢… "
    assert fit("ab", 5, right=True) == "   ab"


@given(st.text())
def test_escaped_text_has_no_control_or_bidi_characters(text: str) -> None:
    shown = escape_controls(text + "\x1b[31m\x00\u202e")
    assert not {"\x1b", "\x00", "\u202e"} & set(shown)


@given(st.text())
def test_prompts_survive_the_edit_line(prompt: str) -> None:
    assert typed_prompt(shown_prompt(prompt)) == prompt
    assert typed_prompt(escape_controls(shown_prompt(prompt))) == prompt
    assert "\n" not in shown_prompt(prompt)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.5, "50.0%"),
        (1.0, "100%"),
        (0.0, "0%"),
        (1e-9, "1.0e-7%"),
        (3.14e-5, "0.0031%"),
        (1e-13, "1e-11%"),
        (float("nan"), "nan"),
        (0.0123, "1.23%"),
    ],
)
def test_percent(p: float, text: str) -> None:
    assert percent(p) == text
    assert len(percent(p)) <= 7


def test_points_are_signed_and_small_changes_are_a_dot() -> None:
    assert points(0.031) == "+3.10"
    assert points(-0.25) == "-25.0"
    assert points(1e-6) == "·"


@given(st.floats(-1e12, 1e12))
def test_numbers_are_short(value: float) -> None:
    assert len(number(value, signed=True)) <= 9


def test_bar_counts_eighths() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1 / 32, 4) == "▏   "
    assert bar(2.0, 3) == "███"
    assert bar(-1.0, 3) == "   "


@pytest.mark.parametrize("width", [20, 40, 56, 58, 76, 118])
def test_an_explanation_is_wrapped_beside_its_label(width: int) -> None:
    given = (
        "How many dimensions can go, and at what cost?",
        "",
        "  ordered by   slope, random, activation, fisher, fisher-obs, magnitude, variance",
        "All of it takes some time; rough curves of all orders come first.",
    )
    shown = wrapped(given, width)
    assert all(len(line) <= width for line in shown)
    assert " ".join(" ".join(shown).split()) == " ".join(" ".join(given).split()), "no word is lost"
    if width >= 40:
        below = shown[next(at for at, line in enumerate(shown) if "ordered by" in line) + 1]
        assert below.startswith(" " * 15) == (width < 80)
