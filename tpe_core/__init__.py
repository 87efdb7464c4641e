"""tpe_core: which dimensions of a language model's output embedding encode token probability.

The engine under the inspector, usable headless or from a notebook. Importing it is cheap: the names below are
resolved on first use, so that ``import tpe_core`` costs no torch and no transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis, analyze
    from tpe_core.components import Components, principal_components
    from tpe_core.design import Design
    from tpe_core.detection import Detection, HiddenSample, detect
    from tpe_core.edited_head import EditBasis, EditedHead, edited_logits
    from tpe_core.encoding import Encoding, fit_encoding
    from tpe_core.errors import TpeError
    from tpe_core.head import HeadReport, OutputHead
    from tpe_core.inspector import Inspector
    from tpe_core.intervention import Intervention, Steering
    from tpe_core.live import LiveSession, open_session
    from tpe_core.loading import load_model
    from tpe_core.model import LanguageModel
    from tpe_core.options import RunOptions
    from tpe_core.progress import Progress, run
    from tpe_core.steering import steering_direction
    from tpe_core.store import Store

_HOMES = {
    "analysis": ("Analysis", "analyze"),
    "components": ("Components", "principal_components"),
    "design": ("Design",),
    "detection": ("Detection", "HiddenSample", "detect"),
    "edited_head": ("EditBasis", "EditedHead", "edited_logits"),
    "encoding": ("Encoding", "fit_encoding"),
    "errors": ("TpeError",),
    "head": ("HeadReport", "OutputHead"),
    "inspector": ("Inspector",),
    "intervention": ("Intervention", "Steering"),
    "live": ("LiveSession", "open_session"),
    "loading": ("load_model",),
    "model": ("LanguageModel",),
    "options": ("RunOptions",),
    "progress": ("Progress", "run"),
    "steering": ("steering_direction",),
    "store": ("Store",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Analysis",
    "Components",
    "Design",
    "Detection",
    "EditBasis",
    "EditedHead",
    "Encoding",
    "HeadReport",
    "HiddenSample",
    "Inspector",
    "Intervention",
    "LanguageModel",
    "LiveSession",
    "OutputHead",
    "Progress",
    "RunOptions",
    "Steering",
    "Store",
    "TpeError",
    "analyze",
    "detect",
    "edited_logits",
    "fit_encoding",
    "load_model",
    "open_session",
    "principal_components",
    "run",
    "steering_direction",
]


def __getattr__(name: str) -> Any:
    """Resolve a public name in its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
