"""The inspector's own colours: calm, dark, and legible when reduced to 256 colours or to grey."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["THEME"]

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
