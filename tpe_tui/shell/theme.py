"""The inspector's own colours: calm, dark or light, and legible when reduced to 256 colours or to grey."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

from tpe_core.errors import TpeError

__all__ = ["FEW_COLOURS", "LIGHT", "THEME", "THEMES", "VARIABLE", "theme_of"]

VARIABLE = "TPE_THEME"
"""The environment's variable that names a theme."""

LIGHT_GROUNDS = frozenset({"7", "15"})  # white and bright white of the sixteen colours

DARK_PLOTS = {
    "ramp0": "#f4dca0", "ramp1": "#d8b070", "ramp2": "#8ea2a8", "ramp3": "#64829a", "ramp4": "#4e6a84",
    "curve0": "#7fb0d0", "curve1": "#8a949e", "curve2": "#98c090", "curve3": "#e0b870", "curve4": "#c89ac8",
    "curve5": "#d4d8dc", "band": "#56606a", "differs": "#7fb0d0",
}  # fmt: skip
LIGHT_PLOTS = {
    "ramp0": "#8a4b00", "ramp1": "#a86f1c", "ramp2": "#64757c", "ramp3": "#6f8ea4", "ramp4": "#93abbe",
    "curve0": "#1f5f8b", "curve1": "#565e66", "curve2": "#22602a", "curve3": "#7d5000", "curve4": "#7d3c7d",
    "curve5": "#24292e", "band": "#b3bac0", "differs": "#235a82",
}  # fmt: skip

THEME = Theme(
    name="tpe",
    primary="#7fb0d0",
    secondary="#5f87a0",
    accent="#e0b870",
    warning="#e0b870",
    error="#e08080",
    success="#98c090",
    foreground="#d4d8dc",
    background="#14181c",
    surface="#14181c",
    panel="#20272e",
    dark=True,
    variables={
        **DARK_PLOTS,
        "muted": "#8a949e",
        "line": "#3a444e",
        "cursor": "#2f4a60",
        "cursor-blurred": "#252d35",
        "range": "#3a3c2c",
        "down": "#e09a86",
        "up": "#98c090",
        "input-cursor-background": "#e0b870",
        "input-cursor-foreground": "#14181c",
    },
)

LIGHT = Theme(
    name="tpe-light",
    primary="#1f5f8b",
    secondary="#235a82",
    accent="#7d5000",
    warning="#7d5000",
    error="#a61b1b",
    success="#22602a",
    foreground="#24292e",
    background="#fbfaf7",
    surface="#fbfaf7",
    panel="#ece9e2",
    dark=False,
    variables={
        **LIGHT_PLOTS,
        "muted": "#565e66",
        "line": "#bcc1c5",
        "cursor": "#cfe3f3",
        "cursor-blurred": "#e6e8e9",
        "range": "#f2e9c4",
        "down": "#9a3412",
        "up": "#22602a",
        "input-cursor-background": "#7d5000",
        "input-cursor-foreground": "#fbfaf7",
    },
)

FEW_COLOURS = Theme(
    name="tpe-16",
    primary="#00aaaa",
    secondary="#00aaaa",
    accent="#aa5500",
    warning="#aa5500",
    error="#aa0000",
    success="#00aa00",
    foreground="#aaaaaa",
    background="#000000",
    surface="#000000",
    panel="#000000",
    dark=True,
    variables={
        **DARK_PLOTS,
        "muted": "#aaaaaa",
        "line": "#00aaaa",
        "cursor": "#000000",
        "cursor-blurred": "#000000",
        "range": "#000000",
        "down": "#aa0000",
        "up": "#00aa00",
        "input-cursor-background": "#aaaaaa",
        "input-cursor-foreground": "#000000",
    },
)
"""Exactly the eight colours that every terminal has; the cursor and a range are told by reverse video and underline."""

THEMES: Mapping[str, Theme] = {"dark": THEME, "light": LIGHT, "ansi": FEW_COLOURS}
"""Every theme by the name that is typed."""


def theme_of(name: str | None, environment: Mapping[str, str]) -> Theme:
    """The theme of that name; without one that of ``TPE_THEME``, else light where ``COLORFGBG`` says so, else dark.

    Raises `TpeError` where there is none of the name.
    """
    asked = name or environment.get(VARIABLE)
    if asked:
        if asked not in THEMES:
            where = "" if name else f" in {VARIABLE}"
            raise TpeError(f"there is no theme {asked[:40]!r}{where}: choose one of {', '.join(THEMES)}.")
        return THEMES[asked]
    ground = environment.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT if ground in LIGHT_GROUNDS else THEME
