"""Colours: which theme is taken, that every role is legible in it, and that no colour stands outside a theme."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from textual.color import Color
from textual.pilot import Pilot

import tpe_tui
from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import answered, until
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.cli.main import THEME_NAMES
from tpe_tui.shell.theme import FEW_COLOURS, LIGHT, THEME, THEMES, theme_of

STYLES = (Path(tpe_tui.__file__).parent / "shell" / "app.tcss").read_text()
TEXT = ("foreground", "muted", "secondary", "accent", "error", "up", "down")
GROUNDS = ("background", "panel", "cursor", "cursor-blurred", "range")


def colour(theme: object, name: str) -> Color:
    return Color.parse(getattr(theme, name, None) or theme.variables[name])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "environment", "theme"),
    [
        (None, {}, THEME),
        (None, {"COLORFGBG": "15;0"}, THEME),
        (None, {"COLORFGBG": "0;15"}, LIGHT),
        (None, {"COLORFGBG": "0;default;7"}, LIGHT),
        (None, {"COLORFGBG": "odd"}, THEME),
        (None, {"TPE_THEME": "light"}, LIGHT),
        (None, {"TPE_THEME": "dark", "COLORFGBG": "0;15"}, THEME),
        ("ansi", {"TPE_THEME": "light"}, FEW_COLOURS),
        ("dark", {"COLORFGBG": "0;15"}, THEME),
    ],
)  # fmt: skip
def test_the_theme_that_is_asked_for_else_what_the_terminal_says(
    name: str | None, environment: dict[str, str], theme: object
) -> None:
    assert theme_of(name, environment) is theme


def test_a_theme_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(TpeError, match=r"no theme 'solar' in TPE_THEME: choose one of dark, light, ansi\."):
        theme_of(None, {"TPE_THEME": "solar"})


def test_the_command_line_offers_every_theme() -> None:
    assert list(THEME_NAMES) == list(THEMES)


@pytest.mark.parametrize(("role", "ground"), list(itertools.product(TEXT, GROUNDS)))
def test_text_of_every_role_is_legible_in_the_light_theme_on_every_ground(role: str, ground: str) -> None:
    """WCAG 2's ratio for text, 4.5."""
    assert colour(LIGHT, role).get_contrast_text  # a colour that Textual knows
    first, second = (value.brightness for value in (colour(LIGHT, role), colour(LIGHT, ground)))
    assert first < second
    assert contrast(colour(LIGHT, role), colour(LIGHT, ground)) >= 4.5


def contrast(text: Color, ground: Color) -> float:
    """The ratio of relative luminances, (L1 + .05) / (L2 + .05): WCAG 2.1."""

    def luminance(value: Color) -> float:
        parts = [part / 255 for part in value.rgb]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(text), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_no_colour_stands_outside_a_theme() -> None:
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", STYLES) == []
    names = {name for theme in THEMES.values() for name in theme.variables}
    assert all(set(theme.variables) == names for theme in THEMES.values())


@pytest.mark.parametrize("view", ["edited", "plot", "sweep", "fit"])
@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_light(snap_compare, tmp_path: Path, size: tuple[int, int], view: str) -> None:
    app = TpeApp(
        RunOptions(), opener=opening(FakeSession()), lister=list, state_dir=tmp_path / "state",
        keys_file=tmp_path / "keys.toml", clock=lambda: 0.0,
    )  # fmt: skip
    app.suit(False, False, LIGHT)
    keys = {
        "edited": ["j", "space", "j", "space", "2", "j", "]", "]"],
        "plot": ["j", "space", "3", "h"],
        "sweep": ["w", "r"],
        "fit": ["F", "3", "l", "l"],
    }

    async def prepare(pilot: Pilot[int]) -> None:
        await until(pilot, lambda: app.workspace.session is not None)
        await answered(app, pilot)
        await pilot.press(*keys[view])
        await until(pilot, lambda: not app.workspace.is_busy)
        await pilot.pause(0.3)

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()
