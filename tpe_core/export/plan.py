"""What an export is asked for, what a format can hold of it, and what was written: plain records.

Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tpe_core.checkpoint.comparison import RuntimeComparison
    from tpe_core.detection.detection import Detection
    from tpe_core.edits.edit import ResolvedEdit
    from tpe_core.models.model import LanguageModel

__all__ = ["MADE_BY", "MANIFEST_FILE", "Exported", "Holding", "Request", "Verdict"]

MANIFEST_FILE = "intervention.json"
"""The manifest's name in a folder."""
MADE_BY = "tpe.version"
"""The key by which a GGUF file is known to be one that tpe wrote."""

Holding = Literal["exactly", "at a cost", "not"]
"""How a format holds an edit: but for rounding, approximately (the cost is measured), or not at all."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one format can hold of an edit of one model.

    `how` is a clause: the form that the edit takes, what is lost, or why it cannot be held. `instead` are the formats
    that can, where this one cannot.
    """

    format: str
    holding: Holding
    how: str
    instead: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict as one sentence."""
        if self.holding == "not":
            others = " or ".join(f"--to {name}" for name in self.instead)
            remedy = f"{others} can" if others else "apply it as hooks instead: with tpe_core.apply(model, file)"
            return f"{self.format} cannot hold this edit: {self.how}; {remedy}."
        return f"{self.format} holds this edit {self.holding}: {self.how}."

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON of `tpe bake`."""
        return {"format": self.format, "holds": self.holding, "how": self.how, "instead": list(self.instead)}


@dataclass(frozen=True, kw_only=True)
class Request:
    """An edit of a model and where it is to be written.

    `manifest` is the file that the edit was read from, `detection` what measures a cost. `settings` are those of the
    format alone.
    """

    model: LanguageModel
    edit: ResolvedEdit
    out: Path
    manifest: Path | None = None
    detection: Detection | None = None
    allow_lossy: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written: where it is, what it holds, what is lost, and how its own runtime answered.

    `facts` are JSON values of the format alone; `lost` and `checked` are sentences without their full stop.
    """

    format: str
    path: Path
    size: int  # bytes
    model: str
    revision: str | None
    verdict: Verdict
    lost: str
    checked: str
    facts: Mapping[str, Any]
    comparison: RuntimeComparison | None = None  # None where the runtime is not installed, or there is none to run

    def record(self) -> dict[str, Any]:
        """What is saved with a folder, and the part of the JSON document that does not name the place."""
        return {
            "model": self.model,
            "revision": self.revision,
            "verdict": self.verdict.to_dict(),
            "lost": self.lost,
            "checked": self.checked,
            **self.facts,
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe bake --to` a format other than hf."""
        return {"schema": 1, "format": self.format, **self.record(), "path": str(self.path), "bytes": self.size}
