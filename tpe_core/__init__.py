"""tpe_core: which dimensions of a language model's output embedding encode token probability.

The engine under the inspector, usable headless or from a notebook. Importing it is cheap: the names below are
resolved on first use, so that ``import tpe_core`` costs no torch and no transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis, analyze
    from tpe_core.checkpoint import Baked, bake
    from tpe_core.components import Components, principal_components
    from tpe_core.decoding import Decoding
    from tpe_core.design import Design
    from tpe_core.detection import Detection, HiddenSample, detect
    from tpe_core.dynamics import DynamicsOptions, plan_dynamics
    from tpe_core.edited_head import EditBasis, EditedHead, edited_logits
    from tpe_core.encoding import Encoding, fit_encoding
    from tpe_core.errors import TpeError
    from tpe_core.frequency import Frequencies, count_text, read_counts
    from tpe_core.head import HeadReport, OutputHead
    from tpe_core.head_fit import HeadFit, fit_head
    from tpe_core.hooks import Applied, apply
    from tpe_core.inspector import Inspector
    from tpe_core.intervention import Intervention, Steering
    from tpe_core.live import LiveSession, open_session
    from tpe_core.loading import load_model
    from tpe_core.manifest import read_edit
    from tpe_core.model import LanguageModel
    from tpe_core.options import RunOptions
    from tpe_core.paired import Pair, PairRequest
    from tpe_core.paired_generation import pair_texts
    from tpe_core.probe_log import follow, read_log
    from tpe_core.progress import Progress, run
    from tpe_core.steering import steering_direction
    from tpe_core.store import Store
    from tpe_core.training_probe import EncodingProbe
    from tpe_core.trajectory import Point, Trajectory

_HOMES = {
    "analysis": ("Analysis", "analyze"),
    "checkpoint": ("Baked", "bake"),
    "components": ("Components", "principal_components"),
    "decoding": ("Decoding",),
    "design": ("Design",),
    "detection": ("Detection", "HiddenSample", "detect"),
    "dynamics": ("DynamicsOptions", "plan_dynamics"),
    "edited_head": ("EditBasis", "EditedHead", "edited_logits"),
    "encoding": ("Encoding", "fit_encoding"),
    "errors": ("TpeError",),
    "frequency": ("Frequencies", "count_text", "read_counts"),
    "head": ("HeadReport", "OutputHead"),
    "head_fit": ("HeadFit", "fit_head"),
    "hooks": ("Applied", "apply"),
    "inspector": ("Inspector",),
    "intervention": ("Intervention", "Steering"),
    "live": ("LiveSession", "open_session"),
    "loading": ("load_model",),
    "manifest": ("read_edit",),
    "model": ("LanguageModel",),
    "options": ("RunOptions",),
    "paired": ("Pair", "PairRequest"),
    "paired_generation": ("pair_texts",),
    "probe_log": ("follow", "read_log"),
    "progress": ("Progress", "run"),
    "steering": ("steering_direction",),
    "store": ("Store",),
    "training_probe": ("EncodingProbe",),
    "trajectory": ("Point", "Trajectory"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Analysis",
    "Applied",
    "Baked",
    "Components",
    "Decoding",
    "Design",
    "Detection",
    "DynamicsOptions",
    "EditBasis",
    "EditedHead",
    "Encoding",
    "EncodingProbe",
    "Frequencies",
    "HeadFit",
    "HeadReport",
    "HiddenSample",
    "Inspector",
    "Intervention",
    "LanguageModel",
    "LiveSession",
    "OutputHead",
    "Pair",
    "PairRequest",
    "Point",
    "Progress",
    "RunOptions",
    "Steering",
    "Store",
    "TpeError",
    "Trajectory",
    "analyze",
    "apply",
    "bake",
    "count_text",
    "detect",
    "edited_logits",
    "fit_encoding",
    "fit_head",
    "follow",
    "load_model",
    "open_session",
    "pair_texts",
    "plan_dynamics",
    "principal_components",
    "read_counts",
    "read_edit",
    "read_log",
    "run",
    "steering_direction",
]


def __getattr__(name: str) -> Any:
    """Resolve a public name in its module on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
