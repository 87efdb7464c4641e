"""What fits on a terminal: the sizes that the screens are laid out for, and how names and bars share a line."""

from __future__ import annotations

from collections.abc import Sequence

from tpe_core.edit_history import EncodingTable, NextTokens, PruningForecast
from tpe_core.edits.intervention import Intervention
from tpe_tui.cells import escape_controls, fit, number
from tpe_tui.inspector.status_bar import Field

__all__ = ["SMALLEST", "inspect_fields", "short_name", "too_small"]

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


def inspect_fields(
    table: EncodingTable,
    edit: Intervention,
    answer: NextTokens | None,
    current: bool,
    forecast: PruningForecast | None,
) -> Sequence[Field]:
    """The inspector's status line; `current` says whether `answer` is about the prompt and the edit in force."""
    info, pruned = table.info, len(edit.pruned)
    fields = [
        Field(short_name(info.name), 0, "title"),
        Field(f"{info.vocab_rows:,}×{info.hidden_size}", 7),
        Field(f"{info.device} {info.dtype}", 9),
        Field(f"adj R² {table.r2_adjusted:.3f}", 5),
        Field(f"pruned {pruned}/{info.hidden_size} {edit.replacement}", 1, "down" if pruned else "row"),
        Field(f"steered {len(edit.steering)}" if edit.steering else "", 3, "steered"),
    ]
    if answer is None:
        return fields
    role = "row" if current else "muted"
    fields.append(Field(f"KL {number(answer.kl)}{'' if current else '…'}", 2, role))
    if forecast is not None and pruned:
        fields.append(Field(f"text ≈{number(forecast.kl)}", 4, "muted"))
    fields.append(Field("top-1 changed" if answer.top1_changed else "top-1 same", 6, role))
    took = answer.milliseconds
    fields.append(Field(f"{took:.1f} ms" if took < 1000 else f"{took / 1000:.1f} s", 8, "muted"))
    return fields
