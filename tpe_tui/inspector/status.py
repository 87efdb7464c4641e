"""The inspector's status line: what is loaded, how well the law holds, what is edited and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from tpe_core.edits.intervention import Intervention
from tpe_core.snapshots import EncodingTable, LostTokens, NextTokens, PruningForecast
from tpe_tui.cells import number
from tpe_tui.sizes import model_title
from tpe_tui.widgets.bars import Field

__all__ = ["inspect_fields"]


def inspect_fields(
    table: EncodingTable,
    edit: Intervention,
    answer: NextTokens | None,
    current: bool,
    forecast: PruningForecast | None,
    *,
    lost: LostTokens | None = None,
) -> Sequence[Field]:
    """The inspector's status line; `current` says whether `answer` is about the prompt and the edit in force.

    `lost` are the tokens that the edit makes unreachable, where that is known.
    """
    info, pruned = table.info, len(edit.pruned)
    fields = [
        Field(model_title(info.name, info.revision), 0, "title"),
        Field(f"{info.vocab_rows:,}×{info.hidden_size}", 7),
        Field(f"{info.device} {info.dtype}", 9),
        Field(f"adj R² {table.r2_adjusted:.3f}", 5),
        Field(f"pruned {pruned}/{info.hidden_size} {edit.replacement}", 1, "down" if pruned else "row"),
        Field(f"steered {len(edit.steering)}" if edit.steering else "", 3, "steered"),
    ]
    if lost is not None and lost.ids:
        fields.append(Field(f"{'' if lost.is_complete else '≥'}{len(lost.ids)} unreachable", 2, "warn"))
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
