"""Every figure from its table: drawn in both styles and at two widths, read back, the same bytes each time."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tests.helpers.figure_tables import HOSTILE, table
from tpe_core.errors import ExistsError, TpeError
from tpe_core.plots.drawing import DRAWINGS, Drawing
from tpe_core.plots.figures import PHONE, WIDTH, draw, png, svg, write_figure
from tpe_core.plots.style import SMALL, STYLES
from tpe_core.tables import Table


def figure_of(name: str, **how: Any) -> Figure:
    return draw(name, table(DRAWINGS[name].table), **how)


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def said(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_drawn_with_labels_that_can_be_read_and_lie_inside(name: str, style: str) -> None:
    for width in (WIDTH, PHONE):
        figure = figure_of(name, style=style, width=width, subject="model $1")
        assert "model $1" in said(figure)
        assert figure.get_facecolor() == matplotlib.colors.to_rgba(STYLES[style].ground)
        for axes in figure.axes:
            assert axes.get_xlabel() or axes.get_ylabel(), "every axis says what it shows"
        drawn = figure.get_window_extent()
        figure.draw_without_rendering()
        for text in texts(figure):
            assert text.get_fontsize() >= SMALL
            assert not text.get_parse_math()
            if "\n" in text.get_text() or text.get_figure() is None or text.get_text() not in visible(figure):
                continue
            box = text.get_window_extent()
            assert box.x0 >= drawn.x0 - 1, text
            assert box.x1 <= drawn.x1 + 1, text
            assert box.y0 >= drawn.y0 - 1, text
            assert box.y1 <= drawn.y1 + 1, text


def visible(figure: Figure) -> set[str]:
    """Titles, axis labels, legends and headings: what must not be cut off. Ticks out of view have texts, too."""
    shown = {axes.get_xlabel() for axes in figure.axes} | {axes.get_ylabel() for axes in figure.axes}
    shown |= {text.get_text() for text in figure.texts} | {
        text.get_text() for axes in figure.axes for text in axes.texts
    }
    shown |= {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    return shown | {axes.get_title(loc="left") for axes in figure.axes}


@pytest.mark.parametrize("name", DRAWINGS)
def test_legends_and_names_cover_neither_each_other_nor_the_axes(name: str) -> None:
    for width in (WIDTH, PHONE):
        figure = figure_of(name, width=width)
        figure.draw_without_rendering()
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
        for axes in figure.axes:
            boxes = [text.get_window_extent() for text in axes.texts]
            assert not any(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[:at])


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_has_the_same_bytes_each_time_whatever_a_user_set(name: str) -> None:
    first, again = figure_of(name), figure_of(name)
    pictures, drawings = png(first), svg(first)
    assert (png(first), svg(first)) == (pictures, drawings), "writing it changes nothing"
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": None, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        assert (png(again), svg(again)) == (pictures, drawings)
        assert svg(figure_of(name)) == drawings
        assert dict(matplotlib.rcParams) == before, "settings stay the user's"
    assert b"<dc:date>" not in drawings
    assert b"matplotlib" not in drawings.lower().replace(b"matplotlib.axis", b"")
    image = Image.open(io.BytesIO(pictures))
    assert image.size[0] == WIDTH * 200
    assert set(image.info) <= {"dpi"}


def test_two_processes_write_the_same_bytes() -> None:
    code = (
        "import hashlib\n"
        "from tests.helpers.figure_tables import table\n"
        "from tpe_core.plots.figures import draw, png, svg\n"
        "figure = draw('predicted_actual', table('fit'))\n"
        "print(hashlib.sha256(png(figure) + svg(figure)).hexdigest())"
    )
    root = Path(__file__).parents[3]
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root,
                          env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": seed}).stdout for seed in "12"]  # fmt: skip
    assert run[0] == run[1] != ""


def test_a_figure_draws_what_its_table_holds() -> None:
    figure = figure_of("predicted_actual")
    held = table("fit")
    (axes,) = figure.axes
    points = np.asarray(axes.collections[0].get_offsets())
    actual, predicted = np.array(held.column("minus_log_alpha")), np.array(held.column("predicted"))
    fitted = np.isfinite(predicted)
    assert np.allclose(points, np.column_stack([actual, predicted])[fitted])
    r2 = 1 - np.sum((actual - predicted)[fitted] ** 2) / np.sum((actual[fitted] - actual[fitted].mean()) ** 2)
    assert f"R² {r2:.3f}" in said(figure)
    assert "399 tokens" in said(figure)


def test_curves_of_pruning_are_those_of_the_held_out_text() -> None:
    figure = figure_of("pruning_curves")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["replaced by zero", "replaced by least-squares"]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert len(axes.lines) == 4, "three orders, and the rotated reference in each panel"
        for line in axes.lines:
            assert np.allclose(np.asarray(line.get_ydata()), (np.asarray(line.get_xdata()) / 100) ** 2)
    reference = STYLES["light"].reference
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours.count(reference) == 2, "random and rotate are grey"


def test_series_differ_by_more_than_colour() -> None:
    for name in ("steering_ratios", "compared_r2_by_k", "dynamics"):
        (axes, *_) = figure_of(name).axes
        lines = [line for line in axes.lines if line.get_linestyle() != "None" and line.get_marker() != "None"]
        looks = [(line.get_marker(), line.get_linestyle()) for line in lines]
        assert len(set(looks)) == len(looks) > 1, name


def test_tokens_are_never_read_as_formulas_and_what_the_font_lacks_is_shown_by_number() -> None:
    shown = said(figure_of("predicted_actual"))
    assert "$x^2$" in shown
    assert "_private" in shown
    assert "⟨U+6F22⟩" in shown
    assert "漢" not in shown
    assert sum(token in shown for token in HOSTILE) >= 5


def test_panels_stand_under_one_another_on_a_phone() -> None:
    wide, narrow = figure_of("slope_spectrum"), figure_of("slope_spectrum", width=PHONE)
    assert len({round(axes.get_position().y0, 3) for axes in wide.axes}) == 1
    assert len({round(axes.get_position().y0, 3) for axes in narrow.axes}) == 2


def test_steps_stand_on_a_logarithmic_and_a_linear_axis() -> None:
    for name in ("dynamics", "dynamics_layers"):
        figure = figure_of(name)
        assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["layer 0", "layer 1", "layer 2"]


def test_generation_shows_what_was_measured_only() -> None:
    held = table("generation").columns
    figure = draw("generation", Table({name: held[name] for name in ("order", "share", "mauve")}))
    assert len(figure.axes) == 1
    with pytest.raises(TpeError, match="none of mauve, distinct"):
        draw("generation", Table({name: held[name] for name in ("order", "share")}))


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_table_that_cannot_be_drawn_is_refused_in_a_sentence(name: str) -> None:
    held = table(DRAWINGS[name].table)
    with pytest.raises(TpeError, match=f"{name} cannot be drawn: its table has no column"):
        draw(name, Table({"nothing": [1]}))
    with pytest.raises(TpeError, match="has no rows"):
        draw(name, Table({column: [] for column in held.columns}))
    numbers = {"nan": [float("nan")], "missing": [None]}
    for empty in numbers.values():
        text = {column: ["x"] for column, values in held.columns.items() if isinstance(values[0], str)}
        with pytest.raises(TpeError, match=r"^the figure .*\.$"):
            draw(name, Table({**dict.fromkeys(held.columns, empty), **text}))


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_table_of_one_row_is_drawn_or_refused_in_a_sentence(name: str) -> None:
    held = table(DRAWINGS[name].table)
    refused = {
        "pruning_curves": "no point with something removed",
        "continued_kl": r"no rows of kl\.heldout",
    }
    one = Table({column: values[:1] for column, values in held.columns.items()})
    if name in refused:
        with pytest.raises(TpeError, match=refused[name]):
            draw(name, one)
    elif name == "dynamics_layers":
        with pytest.raises(TpeError, match="no rows of layers"):
            draw(name, one)
    else:
        assert png(draw(name, one), 50).startswith(b"\x89PNG")


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(TpeError, match=r"unknown figure 'pie': choose one of .*predicted_actual"):
        draw("pie", table("fit"))
    with pytest.raises(TpeError, match="unknown style 'sepia': choose one of light, dark"):
        figure_of("pca", style="sepia")


def test_a_missing_matplotlib_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TpeError, match=r"pip install 'tpe-tui\[plots\]'\.$"):
        draw("r2_by_k", table("r2_by_k"))


def test_no_matplotlib_is_imported_before_a_figure_is_drawn() -> None:
    code = "import tpe_core.plots.figures, sys; print('matplotlib' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_figure_is_written_by_its_name_and_replaces_only_a_picture(tmp_path: Path) -> None:
    figure = figure_of("r2_by_k")
    assert write_figure(figure, tmp_path / "a.svg").read_bytes() == svg(figure)
    assert write_figure(figure, tmp_path / "a.png").read_bytes() == png(figure)
    with pytest.raises(ExistsError):
        write_figure(figure, tmp_path / "a.png")
    write_figure(figure, tmp_path / "a.png", replace=True)
    (tmp_path / "b.png").write_text("my notes")
    with pytest.raises(TpeError, match=r"b\.png"):
        write_figure(figure, tmp_path / "b.png", replace=True)
    assert (tmp_path / "b.png").read_text() == "my notes"
    with pytest.raises(TpeError, match="neither PNG nor SVG"):
        write_figure(figure, tmp_path / "a.pdf")


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    picture = figure_of("pca")._repr_png_()  # type: ignore[attr-defined]
    assert picture.startswith(b"\x89PNG")


def test_another_figure_is_one_declaration() -> None:
    def dots(held: Table, canvas: Any) -> None:
        (axes,) = canvas.panels()
        axes.set_xlabel("x")
        canvas.heading("Dots")

    entry = Drawing(name="dots", table="dots", about="dots", columns=("x",), numbers=("x",), draw=dots)
    with DRAWINGS.registered(entry):
        assert "Dots" in said(draw("dots", Table({"x": [1]})))
