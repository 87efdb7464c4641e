"""What fits on a terminal: the sizes that the screens are laid out for, and how names and bars share a line."""

from __future__ import annotations

from tpe_tui.cells import escape_controls, fit

__all__ = ["SMALLEST", "model_title", "short_name", "too_small"]

SMALLEST = (60, 16)
NAME_CELLS = 24


def too_small(width: int, height: int) -> str:
    """The sentence for a terminal below `SMALLEST`; empty for any other."""
    if width >= SMALLEST[0] and height >= SMALLEST[1]:
        return ""
    return f"tpe needs at least {SMALLEST[0]}×{SMALLEST[1]} cells; this terminal has {width}×{height}."


def short_name(model: str) -> str:
    """A model's name; of a long path its last part."""
    text = escape_controls(model)
    if len(text) > NAME_CELLS:
        text = text.rstrip("/").rsplit("/", 1)[-1]
    return fit(text, NAME_CELLS) if len(text) > NAME_CELLS else text


def model_title(model: str, revision: str | None) -> str:
    """A model's name and, where its revision names an adapter on it, the last part of that one's."""
    _, found, adapter = (revision or "").partition("adapter:")
    title = short_name(model)
    return f"{title}+{short_name(adapter.rstrip('/').rsplit('/', 1)[-1])}" if found else title
