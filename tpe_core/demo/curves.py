"""What an experiment on frequencies and curriculum came to, as read from its document. Plain values without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpe_core.errors import TpeError
from tpe_core.json_text import parse_json
from tpe_core.outputs import shown_path
from tpe_core.shown import Shown
from tpe_core.tables import Table

__all__ = ["DOCUMENT", "CurriculumCurves", "read_curves"]

DOCUMENT = "experiment.json"
KIND = "tpe.curriculum"


@dataclass(frozen=True, kw_only=True)
class CurriculumCurves(Shown):
    """An arm and its control by step, over seeds; `document` is that of `tpe demo train`."""

    document: Mapping[str, Any]

    def curves(self) -> Table:
        """A row for each step, run kind and figure: mean, interval and number of seeds; the control comes first."""
        document = self.document
        return Table.of(
            {"experiment": document["experiment"], "arm": arm, "step": entry["step"], "figure": figure,
             **{name: band[name] for name in ("mean", "low", "high", "seeds")}}
            for arm in (document["control"], document["arm"])
            for entry in document["steps"]
            for figure, band in entry[arm].items()
        )  # fmt: skip

    def figures(self) -> Table:
        """A row for each figure that compares the arm with its control, over seeds."""
        document = self.document
        return Table.of(
            {"experiment": document["experiment"], "figure": name, **band} for name, band in document["figures"].items()
        )

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"curriculum": self.curves, "curriculum_figures": self.figures}

    def _subject(self) -> str:
        return str(self.document["experiment"])

    def _summary(self) -> Mapping[str, object]:
        return {name: band["mean"] for name, band in self.document["figures"].items()}


def read_curves(folder: Path) -> CurriculumCurves:
    """The experiment of a folder of `tpe demo train`. Raises `TpeError` where it holds none that is finished."""
    path = folder / DOCUMENT
    try:
        document = parse_json(path.read_bytes())
        if document["kind"] != KIND:
            raise ValueError(document["kind"])
        curves = CurriculumCurves(document=document)
        if not len(curves.curves()) or not len(curves.figures()):
            raise ValueError("no steps")
    except OSError as error:
        raise TpeError(f"{shown_path(path)} cannot be read ({error.strerror or error}): check the path.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TpeError(f"{shown_path(path)} is no finished experiment on frequencies: train it to its end.") from None
    return curves
