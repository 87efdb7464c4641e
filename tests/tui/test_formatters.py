"""Every function of both front ends that writes a number: what it shows, read back, is the number as shown."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tpe_core.progress
import tpe_tui

FIGURE = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


class Shape(NamedTuple):
    """How a formatter is called and read: what it is given, what its text is multiplied by, the values it takes."""

    call: Callable[[Callable[..., str], float], str] = lambda function, value: function(value)
    scale: float = 1.0
    least: float = -1e300
    most: float = 1e300
    digits: int = 0  # significant ones that it promises of whatever is not 0
    cells: int = 1000
    whole: bool = False


FORMATTERS = {
    "tpe_tui.cells.number": Shape(digits=2, cells=8),
    "tpe_tui.cells.four_decimals": Shape(digits=1, cells=8),
    "tpe_tui.cells.p_value": Shape(least=0.0, most=1.0, digits=1),
    "tpe_tui.cells.count": Shape(whole=True),
    "tpe_tui.cells.percent": Shape(scale=0.01, least=0.0, most=1.0, digits=1, cells=7),
    "tpe_tui.cells.points": Shape(lambda f, v: f(v, fine=True), scale=0.01, least=-1.0, most=1.0, digits=1, cells=7),
    "tpe_tui.cells.tick": Shape(lambda f, v: f(v, 7), digits=9, cells=7),
    "tpe_tui.ratios.short_ratio": Shape(least=1e-300, digits=2, cells=8),
    "tpe_tui.ratios.share": Shape(scale=0.01, least=0.0, most=1.0, digits=3),
    "tpe_tui.cli.eval_tables._digits": Shape(),
    "tpe_tui.cli.demo_tables._cell": Shape(),
    "tpe_tui.cli.atlas_tables._number": Shape(lambda f, v: f(v, "8.4"), least=-99.0, most=999.0, cells=8),
    "tpe_tui.cli.manifest_tables.figure": Shape(lambda f, v: f("kl", v)),
    "tpe_tui.cli.manifest_tables._beside": Shape(lambda f, v: f("kl", v, None)),
    "tpe_tui.cli.steer_tables._ratio": Shape(digits=4),
    "tpe_tui.cli.steer_tables._mean": Shape(lambda f, v: f(v, 0.0).split(" ")[0]),
    "tpe_tui.cli.difference_tables._asked": Shape(lambda f, v: f(v, "bias"), least=1e-300),
    "tpe_tui.sweep.state.figure": Shape(lambda f, v: f("kl", v), least=1e-90, most=1e4, digits=1, cells=7),
    "tpe_tui.widgets.dim_table._signed": Shape(digits=2, cells=8),
    "tpe_tui.widgets.dim_table._t": Shape(cells=8),
    "tpe_tui.widgets.dim_table._r": Shape(least=-1.0, most=1.0, cells=6),
    "tpe_tui.fit.token_table._whole": Shape(whole=True),
    "tpe_tui.fit.token_table._figure": Shape(digits=2, cells=8),
    "tpe_tui.fit.token_table._signed": Shape(digits=2, cells=8),
    "tpe_tui.steering.dose_table._size": Shape(least=0.0, digits=2, cells=8),
    "tpe_tui.dynamics.table.figure": Shape(digits=1, cells=8),
    "tpe_tui.dynamics.plot._short": Shape(least=0, most=1e7, digits=6, whole=True),
    "tpe_tui.steering.dose_plot._power": Shape(lambda f, v: f(int(v)), least=-200, most=200, whole=True),
    "tpe_core.progress.size_text": Shape(least=0.0, most=9e14),
}
OTHERS = {  # text with numbers in it that are given, not measured; or no number at all
    "tpe_tui.cells.fit", "tpe_tui.cells.bar", "tpe_tui.sizes.too_small", "tpe_tui.cells.elapsed",
    "tpe_tui.cells.clock_or_date", "tpe_tui.cli.sessions_tables._model",
    "tpe_tui.shell.sessions.iso_moment", "tpe_tui.sweep.job.least_kl",
    "tpe_tui.cells.duration", "tpe_tui.sweep.state.how_long", "tpe_tui.glyphs._braille",
    "tpe_tui.head_card._post_text", "tpe_tui.generation.text.edit_text", "tpe_tui.cli.manifest_tables.safe",
    "tpe_tui.cli.steer_tables._domains", "tpe_tui.cli.steer_tables._named", "tpe_tui.cli.transfer_tables._cells",
    "tpe_tui.cli.cache_tables._row", "tpe_tui.cli.cache_tables._age", "tpe_tui.cli.cache_tables._name",
    "tpe_tui.cli.prune_tables._band", "tpe_tui.cli.kl_tables._nats", "tpe_tui.cli.kl_tables._share",
    "tpe_tui.dialogs.model_picker._fit_path", "tpe_tui.dialogs.model_picker._date",
    "tpe_tui.browser.address.shown_address", "tpe_tui.cli.atlas_tables._cell", "tpe_tui.cli.demo_tables._span",
}  # fmt: skip
SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "k": 1e3, "M": 1e6}
NUMBERS = {"float", "int", "float | None"}


def functions() -> Iterator[tuple[str, FunctionType]]:
    """Functions of the front ends that take a number first, or second after a name, and give a text."""
    packages = pkgutil.walk_packages(tpe_tui.__path__, "tpe_tui.")
    names = [found.name for found in packages if not found.name.endswith("__main__")]
    for module in [*map(importlib.import_module, names), tpe_core.progress]:
        for name, function in vars(module).items():
            if not isinstance(function, FunctionType) or function.__module__ != module.__name__:
                continue
            signature = inspect.signature(function)
            first = [str(each.annotation) for each in signature.parameters.values()][:2]
            if signature.return_annotation == "str" and NUMBERS & set(first):
                yield f"{module.__name__}.{name}", function


FOUND = dict(functions())


def read(text: str) -> tuple[float, float]:
    """What a text says, and half a unit of the last digit that it shows."""
    if power := re.fullmatch(r"(?:1/)?(\d+)(?:\^(-?\d+))?", text):
        value = float(power[1]) ** int(power[2] or 1)
        return (1 / value if text.startswith("1/") else value), 0.5
    match = FIGURE.search(text)
    assert match, text
    shown = match[0].replace(",", "")
    mantissa, _, exponent = shown.partition("e")
    decimals = len(mantissa.partition(".")[2])
    unit = next((size for name, size in SIZES.items() if text[match.end() :].strip() == name), 1.0)
    return float(shown) * unit, 0.5 * unit * 10.0 ** (int(exponent or 0) - decimals)


def test_every_formatter_is_known() -> None:
    assert FOUND.keys() - OTHERS == FORMATTERS.keys(), "say here what a new formatter's text promises"


@pytest.mark.parametrize("name", FORMATTERS)
@given(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(1e-9, 1e7),
        st.integers(0, 20).map(lambda k: 10.0**k),
    )
)
@example(1000.0)
@example(2000.0)
@example(-0.0)
@example(-1e-9)
@example(999.7)
@example(0.0014)
@example(3e-5)
@example(12345.0)
@example(99_999.6)
def test_a_number_shown_reads_back_as_the_number(name: str, value: float) -> None:
    shape = FORMATTERS[name]
    value = min(shape.most, max(shape.least, value))
    if name.endswith("_power"):
        value = round(value)
        assert read(shape.call(FOUND[name], value))[0] == 2.0**value
        return
    if shape.whole:
        value = float(round(value))
    shown = shape.call(FOUND[name], int(value) if shape.whole else value)
    assert len(shown) <= shape.cells
    if shown.startswith("<"):
        assert value < float(shown[1:])
        return
    if shown in ("", "·"):
        assert shown == "" or value == 0
        return
    said, half = (part * shape.scale for part in read(shown))
    noise = 1e-9 * abs(value)
    assert abs(said - value) <= half + noise
    assert not (said == 0 and "-" in shown), "no negative zero"
    digits = shape.digits - (not 1e-99 < abs(value) < 1e99)  # an exponent of three digits takes one away
    if digits > 0 and value:
        assert abs(said - value) <= 0.5 * 10.0 ** (1 - digits) * abs(value) + noise


@pytest.mark.parametrize(
    "name", [name for name, shape in FORMATTERS.items() if not shape.whole and "size_text" not in name]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_shown_as_none(name: str, value: float) -> None:
    if name.endswith("trajectory_plot._short"):
        pytest.skip("steps are whole")
    shown = FORMATTERS[name].call(FOUND[name], value)
    assert not re.search(r"\d", shown) or (value == -math.inf and shown == "<1e-99")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.9, "0:59"), (3725, "62:05"), (math.nan, "-:--"), (math.inf, "-:--")]
)
def test_a_duration_is_whole_minutes_and_seconds(seconds: float, text: str) -> None:
    from tpe_tui.cells import elapsed

    assert elapsed(seconds) == text


def test_no_figure_written_in_place_can_be_a_negative_zero() -> None:
    """Every fixed-point format of a report has Python's ``z``, which takes the sign off what rounds to 0."""
    root = Path(tpe_tui.__file__).parent
    without = []
    reports = [*root.glob("cli/*tables.py"), root / "cli" / "console.py"]
    assert len(reports) > 8
    for path in [*reports, *root.glob("*/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
                spec = "".join(part.value for part in node.format_spec.values if isinstance(part, ast.Constant))
                signed = path in reports or "+" in spec
                if (
                    signed
                    and re.fullmatch(r"[<>^]?\+?\d*\.\d+[f%]", spec)
                    and "fraction" not in ast.unparse(node.value)
                ):
                    without.append(f"{path.name}:{node.lineno} {spec}")
    assert not without
