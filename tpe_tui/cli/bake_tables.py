"""What `tpe bake` prints of what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.progress import size_text
from tpe_tui.cli.console import line

if TYPE_CHECKING:
    from tpe_core.checkpoint.bake import Baked
    from tpe_core.export.formats import Written
    from tpe_core.export.plan import Exported

__all__ = ["print_written"]

HELD = {
    "whole": "in the file with all its numbers: tpe show prints it, and tpe bake takes it",
    "json": "in the file without its arrays, which are too large for it: keep the saved file",
}
"""What of the intervention a GGUF file holds."""


def print_written(written: Written) -> None:
    """Where it is, the form of the edit in it, what was compared, and what is lost."""
    from tpe_core.checkpoint.bake import Baked
    from tpe_core.export.plan import Exported

    if isinstance(written, Baked):
        _print_baked(written)
    elif isinstance(written, Exported):
        _print_exported(written)


def _print_exported(exported: Exported) -> None:
    lines = [
        f"{exported.path}: the edit of {exported.model} as {exported.format} ({size_text(exported.size)})",
        f"form      {exported.verdict.how}",
        f"lost      {exported.lost}",
        f"verified  {exported.checked}",
    ]
    if (held := HELD.get(exported.facts.get("manifest", ""))) is not None:
        lines.append(f"edit      {held}")
    if exported.comparison is not None:
        lines.append(f"compared  {exported.comparison.sentence}")
    for words in lines:
        line(words)


def _print_baked(baked: Baked) -> None:
    checked, loss = baked.verified, baked.loss
    lines = [
        f"{baked.path}: {baked.model} with the edit in its weights ({baked.dtype}, {size_text(baked.size)})",
        f"form      {baked.form}",
    ]
    if loss is None:
        lines.append("lost      nothing but rounding")
    else:
        lines.append(
            f"lost      KL {loss.kl:.3g} nats from the edited distribution, over {loss.positions:,} positions of the "
            f"detecting text ({loss.kl_dropped:.3g} without the constants, {loss.kl_guess:.3g} with them along the "
            "direction closest to a constant)"
        )
    tested = "; the manifest's self-test holds" if checked.self_test else ""
    lines.append(
        f"verified  loaded back: logits within {checked.model_error:.2g} over {checked.positions:,} positions{tested}"
    )
    lines.append(f"compared  {baked.comparison.sentence}")
    for words in lines:
        line(words)
