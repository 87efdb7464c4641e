"""The inspector's own colours: calm, dark, and legible when reduced to 256 colours or to grey."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["FEW_COLOURS", "THEME"]

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
