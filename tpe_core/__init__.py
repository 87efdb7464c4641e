"""tpe_core: which dimensions of a language model's output embedding encode token probability.

The engine under the inspector, usable headless or from a notebook. Importing it is cheap: the names below are
resolved on first use, so that ``import tpe_core`` costs no torch and no transformers.

The examples of their docstrings go on from these lines::

    from pathlib import Path

    import numpy as np

    import tpe_core as tpe

    live = tpe.run(tpe.open_session(tpe.RunOptions("demo")))
    analysis, model = live.analysis, live.analysis.model
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis, analyze
    from tpe_core.atlas.token_atlas import TokenAtlas, token_atlas
    from tpe_core.checkpoint.bake import Baked, bake
    from tpe_core.comparison.divergence import ModelComparison, compare_models
    from tpe_core.continued_training.experiment import train_on
    from tpe_core.continued_training.folder import read_experiment
    from tpe_core.continued_training.options import TrainOnOptions
    from tpe_core.continued_training.results import ContinuedTraining
    from tpe_core.corpus.sources import text_source
    from tpe_core.detection.detection import Detection, detect
    from tpe_core.detection.hidden import HiddenSample
    from tpe_core.dynamics.measure.frequency import Frequencies, count_text, read_counts
    from tpe_core.dynamics.measure.head_fit import HeadFit, fit_head
    from tpe_core.dynamics.plan import DynamicsOptions, plan_dynamics
    from tpe_core.dynamics.probe import EncodingProbe
    from tpe_core.dynamics.probe_log import follow, read_log
    from tpe_core.dynamics.trajectory import Point, Trajectory
    from tpe_core.edit_history import EditHistory
    from tpe_core.edits.basis import EditStatistics
    from tpe_core.edits.directions import steering_direction
    from tpe_core.edits.edit import ResolvedEdit
    from tpe_core.edits.edited_head import EditedHead, edited_logits
    from tpe_core.edits.intervention import Intervention, Steering
    from tpe_core.encoding.components import Components, principal_components
    from tpe_core.encoding.design import Design
    from tpe_core.encoding.encoding import Encoding, fit_encoding
    from tpe_core.encoding_comparison import EncodingComparison, compare_encodings
    from tpe_core.errors import TpeError
    from tpe_core.generation.decoding import Decoding
    from tpe_core.generation.paired import PairedGeneration, PairRequest
    from tpe_core.generation.paired_generation import pair_texts
    from tpe_core.hooks import Applied, apply
    from tpe_core.manifest.manifest import read_edit
    from tpe_core.models.head import HeadReport, OutputHead
    from tpe_core.models.loading import load_model
    from tpe_core.models.model import LanguageModel
    from tpe_core.options import RunOptions
    from tpe_core.progress import Progress, run
    from tpe_core.session import LiveSession, open_session
    from tpe_core.sparsity.grid import train_grid
    from tpe_core.sparsity.results import SparsityGrid, shipped_grid
    from tpe_core.steering.named_sets import token_set
    from tpe_core.store import Store
    from tpe_core.tables import Table, write_table
    from tpe_core.token_sets.token_set import TokenSet
    from tpe_core.vocabulary.coverage import DraftVocabulary, draft_vocabulary
    from tpe_core.vocabulary.files import write_vocabulary

_HOMES = {
    "analysis": ("Analysis", "analyze"),
    "atlas.token_atlas": ("TokenAtlas", "token_atlas"),
    "checkpoint.bake": ("Baked", "bake"),
    "comparison.divergence": ("ModelComparison", "compare_models"),
    "continued_training.experiment": ("train_on",),
    "continued_training.folder": ("read_experiment",),
    "continued_training.options": ("TrainOnOptions",),
    "continued_training.results": ("ContinuedTraining",),
    "encoding.components": ("Components", "principal_components"),
    "generation.decoding": ("Decoding",),
    "encoding.design": ("Design",),
    "detection.detection": ("Detection", "detect"),
    "detection.hidden": ("HiddenSample",),
    "dynamics.plan": ("DynamicsOptions", "plan_dynamics"),
    "edits.basis": ("EditStatistics",),
    "edits.edit": ("ResolvedEdit",),
    "edits.edited_head": ("EditedHead", "edited_logits"),
    "encoding.encoding": ("Encoding", "fit_encoding"),
    "encoding_comparison": ("EncodingComparison", "compare_encodings"),
    "errors": ("TpeError",),
    "dynamics.measure.frequency": ("Frequencies", "count_text", "read_counts"),
    "models.head": ("HeadReport", "OutputHead"),
    "dynamics.measure.head_fit": ("HeadFit", "fit_head"),
    "hooks": ("Applied", "apply"),
    "edit_history": ("EditHistory",),
    "edits.intervention": ("Intervention", "Steering"),
    "session": ("LiveSession", "open_session"),
    "models.loading": ("load_model",),
    "manifest.manifest": ("read_edit",),
    "models.model": ("LanguageModel",),
    "options": ("RunOptions",),
    "generation.paired": ("PairedGeneration", "PairRequest"),
    "generation.paired_generation": ("pair_texts",),
    "dynamics.probe_log": ("follow", "read_log"),
    "progress": ("Progress", "run"),
    "edits.directions": ("steering_direction",),
    "sparsity.grid": ("train_grid",),
    "sparsity.results": ("SparsityGrid", "shipped_grid"),
    "steering.named_sets": ("token_set",),
    "store": ("Store",),
    "tables": ("Table", "write_table"),
    "token_sets.token_set": ("TokenSet",),
    "corpus.sources": ("text_source",),
    "dynamics.probe": ("EncodingProbe",),
    "dynamics.trajectory": ("Point", "Trajectory"),
    "vocabulary.coverage": ("DraftVocabulary", "draft_vocabulary"),
    "vocabulary.files": ("write_vocabulary",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Analysis",
    "Applied",
    "Baked",
    "Components",
    "ContinuedTraining",
    "Decoding",
    "Design",
    "Detection",
    "DraftVocabulary",
    "DynamicsOptions",
    "EditHistory",
    "EditStatistics",
    "EditedHead",
    "Encoding",
    "EncodingComparison",
    "EncodingProbe",
    "Frequencies",
    "HeadFit",
    "HeadReport",
    "HiddenSample",
    "Intervention",
    "LanguageModel",
    "LiveSession",
    "ModelComparison",
    "OutputHead",
    "PairRequest",
    "PairedGeneration",
    "Point",
    "Progress",
    "ResolvedEdit",
    "RunOptions",
    "SparsityGrid",
    "Steering",
    "Store",
    "Table",
    "TokenAtlas",
    "TokenSet",
    "TpeError",
    "TrainOnOptions",
    "Trajectory",
    "analyze",
    "apply",
    "bake",
    "compare_encodings",
    "compare_models",
    "count_text",
    "detect",
    "draft_vocabulary",
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
    "read_experiment",
    "read_log",
    "run",
    "shipped_grid",
    "steering_direction",
    "text_source",
    "token_atlas",
    "token_set",
    "train_grid",
    "train_on",
    "write_table",
    "write_vocabulary",
]


_RENAMED = {"EditBasis": "EditStatistics", "Inspector": "EditHistory", "Pair": "PairedGeneration"}
"""Names of earlier versions, by what they are called now."""


def __getattr__(name: str) -> Any:
    """Resolve a public name in its module on first use; an earlier name with a `DeprecationWarning`."""
    if name in _RENAMED:
        warnings.warn(f"tpe_core.{name} is now tpe_core.{_RENAMED[name]}.", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
