"""What the screens need from an opened model, as a protocol, so that tests can hand in a small fake.

It never imports the engine: `tpe_core.session.LiveSession` fits it by shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tpe_core.options import RunOptions
from tpe_core.progress import Steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.edits.intervention import Intervention
    from tpe_core.fit_summary import FitSummary
    from tpe_core.generation.paired import Controls, PairedGeneration, PairRequest
    from tpe_core.models.hub import CachedModel
    from tpe_core.pruning.results import PruningRequest, PruningResult
    from tpe_core.snapshots import (
        DimensionDetail,
        EncodingTable,
        LostTokens,
        NextTokens,
        PromptCost,
        PromptPositions,
        PruningForecast,
        TokenDetail,
    )
    from tpe_core.steering.results import CalibratedRatios, DoseRequest, DoseResponse, MostAffected, TextsRead
    from tpe_core.token_sets.summary import SetSummary

__all__ = ["Lister", "Opener", "Session"]


class Session(Protocol):
    """An opened model with its analysis. Every method runs on the engine thread only and may raise `TpeError`."""

    @property
    def table(self) -> EncodingTable:
        """The analysis as arrays."""

    @property
    def default_prompt(self) -> str:
        """A prompt to start with."""

    @property
    def prompt_hint(self) -> str:
        """What a prompt may hold beside text; empty where that is all."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show once."""

    @property
    def card(self) -> Mapping[str, Any]:
        """The head's report card, as `tpe check --json` prints it."""

    @property
    def identity(self) -> str:
        """A hash of the head and of what was measured of it, as `tpe_core.cached_view` has it."""

    @property
    def head_sha256(self) -> str:
        """The hash of the head's weights."""

    def keep_view(self) -> Steps[None]:
        """A job: keep what the next start shows before the model is loaded, unless it is there already."""

    def keep_answer(self, answer: NextTokens) -> None:
        """Keep the unedited side of a distribution for the next start."""

    def chat_prompt(self, prompt: str, toggle: bool = False) -> str:
        """The prompt in the model's chat template, or out of it where `toggle` and it is; a sentence without one."""

    def detect_again(self, options: RunOptions) -> Steps[Session]:
        """A job: a session on the same loaded model with a new detection."""

    def evaluate(
        self, prompt: str, intervention: Intervention, keep: int = 256, *, position: int | None = None
    ) -> NextTokens:
        """The next-token distribution before and after the edit, after the prompt or at a token of it."""

    def positions(self, prompt: str, intervention: Intervention) -> PromptPositions:
        """What the edit does at every token of the prompt."""

    def compare_prompts(self, prompts: Sequence[str], intervention: Intervention) -> tuple[PromptCost, ...]:
        """What the edit does after each of several prompts."""

    def dimension(self, dim: int, count: int = 12) -> DimensionDetail:
        """The tokens with the largest and smallest weight in one dimension."""

    def token(self, token_id: int, prompt: str, intervention: Intervention, position: int | None = None) -> TokenDetail:
        """One token's place in the fit and its probability now."""

    def fit_summary(self) -> FitSummary:
        """Every figure about the fit."""

    def base_log_p(self, prompt: str) -> NDArray[np.float64]:
        """[V] log p of every token after a prompt, unedited."""

    def write_tokens(self, path: Path, prompt: str, replace: bool) -> Path:
        """Write the table of tokens as CSV, over an earlier one where `replace` says so; the path written."""

    def sweep(self, request: PruningRequest) -> Steps[PruningResult]:
        """A job: what pruning costs in several orders; its progress carries the result so far."""

    def sweep_seconds(self, request: PruningRequest) -> float:
        """How long such a sweep should take here and now, by a step of it."""

    def refit(self, edit: Intervention) -> Steps[Intervention]:
        """A job: the same mask with all of h made anew from its kept dimensions, at the least KL."""

    def prepare_forecast(self) -> Steps[None]:
        """A job: what `forecast` needs."""

    def forecast(self, edit: Intervention) -> PruningForecast:
        """What the edit's mask should cost over the detecting text."""

    def lost_tokens(self, edit: Intervention) -> Steps[LostTokens]:
        """A job: the tokens that an edit makes unreachable; its progress carries those known by then."""

    def read_for_steering(self, edit: Intervention) -> Steps[TextsRead]:
        """A job: read the texts that steering is measured on, under the edit's pruned dimensions."""

    def steering(self, request: DoseRequest) -> DoseResponse:
        """Asked and achieved ratios on those texts, by every method."""

    def calibrated(self, request: DoseRequest) -> CalibratedRatios:
        """What to ask of the tokens so that they achieve their ratios."""

    def most_affected(self, request: DoseRequest) -> Steps[MostAffected]:
        """A job: the tokens that lose what the edit gives."""

    def generate(self, request: PairRequest, controls: Callable[[], Controls]) -> Steps[PairedGeneration]:
        """A job: a prompt continued without and with the controls' edit; its progress carries the pair so far."""

    def find_token(self, query: str) -> int:
        """The token that a text is; a sentence where it is several tokens or none."""

    def find_set(self, definition: str, marked: Sequence[int] = ()) -> SetSummary:
        """The token set that a definition names, with its probability; a sentence where it names none."""

    def write(self, path: Path, intervention: Intervention, prompt: str, replace: bool) -> Path:
        """Write the manifest, over an earlier one where `replace` says so; the path written."""

    def carried(self) -> object:
        """What edits made with loaded files need, for a later session on the same model."""

    def take_up(self, carried: object) -> None:
        """Take that from an earlier session on the same model."""

    def load(self, path: Path) -> Intervention:
        """Read and check a manifest."""


Opener = Callable[[RunOptions], Steps[Session]]
"""A job that opens a session."""

Lister = Callable[[], "Sequence[CachedModel]"]
"""The models that are there already; called on the engine thread."""
