"""The engine behind an inspector: prompt and intervention in, next-token distribution out, within a keystroke.

Lives in one thread and is called from there only. The model runs once per prompt; every edit after that is
`EditedHead`'s business. What a front end keeps (prompt, edits, undo) is in `inspector`, not here.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.analysis import Analysis, analyze
from tpe_core.cached_view import (
    ENDS,
    LARGEST_AND_SMALLEST,
    CachedView,
    keep_answer,
    keep_view,
    read_view,
    view_identity,
)
from tpe_core.detection.samples import Samples, read_samples
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.edited_head import EditedHead, edited_logits
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.prompt_reader import PromptReader
from tpe_core.edits.reconstruction import Reconstruction
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.encoding.static_bias import static_bias_of
from tpe_core.errors import NumericalError, TpeError
from tpe_core.fit_summary import FitSummary, check_tokens_file, write_tokens
from tpe_core.generation.generation import starting_prompt
from tpe_core.generation.paired import Controls, PairedGeneration, PairRequest
from tpe_core.kept_numbers import keep_numbers, kept_numbers
from tpe_core.models.chat import chat_prompt, plain_prompt
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.results import Cost, PruningRequest, PruningResult
from tpe_core.pruning.sweep import measure
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
from tpe_core.steering.named_sets import summary_of, vocabulary_of
from tpe_core.steering.results import CalibratedRatios, DoseRequest, DoseResponse, MostAffected, TextsRead
from tpe_core.steering.token_search import TokenIndex
from tpe_core.store import Store
from tpe_core.token_sets.resolving import resolve_set
from tpe_core.token_sets.summary import SetSummary
from tpe_core.token_sets.token_set import TokenSet

if TYPE_CHECKING:
    from tpe_core.manifest.manifest import MeasuredText
    from tpe_core.pruning.forecast import LiveForecast
    from tpe_core.steering.study import ObservedTexts

__all__ = ["LiveSession", "open_session"]

SHOWN_OF_SET = 64  # of a steered set's tokens, the most probable on either side
TESTED_OF_SET = 5  # and those that a self-test asks for, by mean probability
VIEWED = 16  # dimensions between two pauses while a view is made


def _likeliest(token_set: TokenSet, base: Distribution, now: Distribution) -> torch.Tensor:
    """Ids of a set's most probable tokens, before an edit or after it."""
    ids = torch.from_numpy(token_set.ids).to(base.weights.device)
    share = torch.maximum(base.at(ids), now.at(ids))
    return ids[torch.topk(share, min(SHOWN_OF_SET, len(ids))).indices]


def open_session(options: RunOptions) -> Steps[LiveSession]:
    """Analyse what `options` names and return a session on it: a job.

    Args:
        options: What to load and to read.

    Returns:
        A job; `run` drives it to a `LiveSession`. Raises `TpeError` subclasses in one sentence.

    Example:
        >>> live = tpe.run(tpe.open_session(tpe.RunOptions("demo")))  # doctest: +SKIP
    """
    analysis = yield from analyze(options)
    return LiveSession(analysis, options)


class LiveSession:
    """One analysed model, one prompt at a time, any intervention.

    Args:
        analysis: What `analyze` returned.
        options: Those of the analysis; sweeps take the sample's size, the seed and the cache from them.

    Example:
        >>> answer = live.evaluate("Return the", tpe.Intervention((3, 14), "least-squares"))
        >>> answer.kl >= 0, len(answer.ids) == len(answer.base) == len(answer.now)
        (True, True)
    """

    def __init__(self, analysis: Analysis, options: RunOptions | None = None) -> None:
        """`options` are those of `analysis`; sweeps take the sample's size, the seed and the cache from them."""
        self.analysis = analysis
        self.options = options or RunOptions()
        self._samples: Samples | None = None
        self._steering: ObservedTexts | None = None
        self._swept: PruningResult | None = None
        self._tested: dict[str, torch.Tensor] = {}  # h after the prompts of self-tests
        self._forecast: LiveForecast | None = None
        self._reachable: dict[int, bool] = {}  # of the unedited head, as far as an edit made it a question
        self.table: EncodingTable = analysis.table()
        self.warnings = analysis.warnings
        self.default_prompt = starting_prompt(analysis.model)
        self._bases = {"": EditStatistics.of(analysis.encoding.slope, analysis.detection)}
        self._edited = EditedHead(analysis.model.head, self._bases[""])
        self._prompts = PromptReader(analysis.model, analysis.tokens)
        self._prompt: tuple[str, int | None] | None = None  # the prompt and the position that were evaluated last
        self._size = (0, 0)  # tokens of the prompt, tokens dropped
        self._base: Distribution | None = None

    def detect_again(self, options: RunOptions) -> Steps[LiveSession]:
        """A session on the same loaded model whose detection is made anew: a job. Loaded files stay loaded."""
        analysis = yield from analyze(replace(options, refresh=True), model=self.analysis.model)
        session = LiveSession(analysis, options)
        session._bases = {**self._bases, "": session._bases[""]}
        return session

    @property
    def prompt_hint(self) -> str:
        """What this model's prompt may hold beside text; empty where that is all."""
        return self.analysis.model.sampling.hint

    def chat_prompt(self, prompt: str, toggle: bool = False) -> str:
        """The prompt in the model's chat template; with `toggle` one that is in it comes out of it again.

        Raises `ModelError` where the model has no template (`tpe_core.models.chat`).
        """
        model = self.analysis.model
        plain = plain_prompt(model.tokenizer, prompt, model.name) if toggle else None
        return chat_prompt(model.tokenizer, prompt, model.name) if plain is None else plain

    @property
    def _store(self) -> Store | None:
        return Store() if self.options.cache else None

    def sweep(self, request: PruningRequest) -> Steps[PruningResult]:
        """What pruning costs in several orders, on held-out and out-of-domain text: the job `pruning.study.prune`."""
        from tpe_core.pruning.study import prune

        samples = yield from self._read()
        self._swept = yield from prune(
            self.analysis, samples, request, schedule="interactive", seed=self.options.seed, store=self._store
        )
        return self._swept

    def sweep_seconds(self, request: PruningRequest) -> float:
        """How long `sweep` should take here and now, measured by a step of it: see `tpe_core.pruning.study`."""
        from tpe_core.pruning.study import sweep_seconds

        return sweep_seconds(self.analysis, request, self.options.sample, read=self._samples is not None)

    def resolved(self, edit: Intervention) -> ResolvedEdit:
        """The edit with its numbers, as `tpe_core.apply` and `tpe_core.bake` take it."""
        return self.basis(edit).resolve(edit)

    def refit(self, edit: Intervention, positions: int | None = None) -> Steps[Intervention]:
        """The same mask with all of h made anew from the kept dimensions, at the least KL: a job, see `pruning.refit`.

        It is fitted on so many `positions` of the detecting text, `fitting.usual_positions` by default; steered
        tokens stay. Raises `TpeError` where nothing is pruned.
        """
        from tpe_core.pruning.refit import refit_basis

        basis = yield from refit_basis(
            self.analysis, edit.pruned, self.basis(edit), positions, seed=self.options.seed, store=self._store
        )
        rebuilt = basis.reconstruction(edit.pruned, "refit")
        origin = hashlib.sha256(rebuilt.fold.tobytes() + rebuilt.constant.tobytes()).hexdigest()
        self._take_numbers(origin, basis)
        return replace(edit, replacement="refit", origin=origin)

    def cost(self, edit: Intervention) -> Steps[dict[str, Cost]]:
        """What an edit costs on local, held-out and out-of-domain text, by these names: a job."""
        head, numbers, costs = self.analysis.model.head, EditNumbers(self.resolved(edit)), {}
        samples = yield from self._read()
        for name, sample in samples.items():
            costs[name] = yield from measure(head, lambda h: numbers.logits(head, h), sample)
        return costs

    def prepare_forecast(self) -> Steps[None]:
        """What `forecast` needs, from the detecting text's stored hidden states: a job, once."""
        from tpe_core.pruning.forecast import read_forecast

        if self._forecast is None:
            self._forecast = yield from read_forecast(self.analysis, self._store)

    def forecast(self, edit: Intervention) -> PruningForecast:
        """What an edit should cost over the detecting text, once prepared: microseconds a toggle.

        With steered tokens milliseconds. Raises as `basis` does.
        """
        if self._forecast is None:
            raise TpeError("no forecast is prepared yet: run `prepare_forecast` first.")
        return self._forecast.of(edit, self.basis(edit))

    def lost_tokens(self, edit: Intervention) -> Steps[LostTokens]:
        """The tokens that an edit makes unreachable: a job whose every step has what is known by then.

        See `tpe_core.atlas.lost_tokens`. Raises as `basis` does.
        """
        from tpe_core.atlas.head_rows import head_rows
        from tpe_core.atlas.lost_tokens import lost_tokens

        head, resolved = self.analysis.model.head, self.resolved(edit)
        if resolved.is_empty:
            return LostTokens(ids=(), checked=head.vocab_rows, vocab_rows=head.vocab_rows)
        before, after = head_rows(head), head_rows(head, resolved)
        return (yield from lost_tokens(before, after, self.table.surprisal, known=self._reachable))

    def _read(self) -> Steps[Samples]:
        """Hidden states of the three texts: a job that reads them once."""
        analysis = self.analysis
        if self._samples is None:
            self._samples = yield from read_samples(
                analysis.model, analysis.detection.sample, analysis.source,
                size=self.options.sample, seed=self.options.seed, store=self._store,
            )  # fmt: skip
        return self._samples

    def read_for_steering(self, edit: Intervention) -> Steps[TextsRead]:
        """Read the texts that `steering` measures on, under the pruned dimensions of `edit`: a job, once for each mask.

        Raises `TpeError` where the edit came from a file that this session has not loaded.
        """
        from tpe_core.steering.study import observe_texts, unsteered

        if self._steering is None or self._steering.below != unsteered(edit):
            samples = yield from self._read()
            self._steering = yield from observe_texts(self.analysis, samples, self.basis(edit), edit)
        return self._steering.read

    def steering(self, request: DoseRequest) -> DoseResponse:
        """Asked and achieved ratios, once the texts are read: milliseconds. Raises as `ObservedTexts.respond`."""
        return self._texts_read().respond(request)

    def calibrated(self, request: DoseRequest) -> CalibratedRatios:
        """What to ask so that every token achieves its ratio, once the texts are read: milliseconds."""
        return self._texts_read().calibrated(request)

    def most_affected(self, request: DoseRequest) -> Steps[MostAffected]:
        """The unsteered tokens whose mean probability an edit changes most, once the texts are read: a job."""
        return (yield from self._texts_read().most_affected(request))

    def _texts_read(self) -> ObservedTexts:
        if self._steering is None:
            raise TpeError("no text is read to measure steering on yet: open the steering study and let it read.")
        return self._steering

    def generate(self, request: PairRequest, controls: Callable[[], Controls]) -> Steps[PairedGeneration]:
        """A prompt continued by the head as it is and under the controls' edit, at their pace: a job.

        Cut to the model's context. See `pair_texts`, which reads the edit once before each token.
        """
        from tpe_core.generation.paired_generation import fitting, numbered, pair_texts

        model, edit = self.analysis.model, numbered(lambda: controls().edit, self.basis)
        return (yield from pair_texts(model, fitting(model, request), edit, lambda: controls().pace))

    def find_set(self, definition: str, marked: Sequence[int] = ()) -> SetSummary:
        """The token set that a definition names, with its probability on the detecting text.

        Raises `TpeError` where it cannot be read or names no token.
        """
        found = resolve_set(definition, vocabulary_of(self.analysis, marked=marked))
        return replace(summary_of(self.analysis, found.token_set), notes=found.notes)

    def find_token(self, query: str) -> int:
        """The token whose text or number `query` is; else a `TpeError` that says what it became, and what is near."""
        return TokenIndex(self.table.tokens, self.analysis.model.tokenizer).resolve(query)

    @property
    def card(self) -> dict[str, Any]:
        """The head's report card, as `tpe check --json` prints it."""
        return self.analysis.model.card()

    def evaluate(
        self, prompt: str, intervention: Intervention, keep: int = 256, *, position: int | None = None
    ) -> NextTokens:
        """The distribution after `prompt` under `intervention`: the `keep` most probable tokens of either side.

        Steered tokens are always among them, of a set its likeliest. Divergences run over the model's whole softmax,
        padding rows included.
        With a `position` it is the distribution at that token of the prompt, counted from 0 (see `positions`).
        Raises `TpeError` for an edit that does not exist, or an empty prompt where a text has no first token.
        """
        started = time.perf_counter()
        base, now = self._distributions(prompt, intervention, position)
        vocab = self.analysis.model.head.vocab_rows
        first, last = (side.top(min(keep, vocab), vocab) for side in (base, now))
        steered = torch.tensor([entry.token_id for entry in intervention.singles], dtype=torch.int64)
        of_sets = [_likeliest(each, base, now) for each in intervention.sets]
        ids = torch.unique(torch.cat([first, last, steered.to(first.device), *of_sets]))
        ids = ids[torch.argsort(now.weights[ids], descending=True, stable=True)]
        changed = not intervention.is_empty
        return NextTokens(
            prompt=prompt,
            prompt_tokens=self._size[0],
            truncated=self._size[1],
            intervention=intervention,
            ids=ids.cpu().numpy(),
            base=base.at(ids).cpu().numpy(),
            now=now.at(ids).cpu().numpy(),
            kl=base.kl(now) if changed else 0.0,
            js=base.js(now) if changed else 0.0,
            top1_changed=bool(now.weights[first[0]] < now.weights[last[0]]),
            entropy_base=base.entropy,
            entropy_now=now.entropy,
            milliseconds=(time.perf_counter() - started) * 1000,
            position=position,
        )

    def positions(self, prompt: str, intervention: Intervention) -> PromptPositions:
        """What an edit does at every token of a prompt: one forward of the model a prompt, one product an edit.

        The logits of a block of positions are in memory at a time; between them a request can be ended. Raises as
        `evaluate`.
        """
        return self._prompts.positions(prompt, intervention, self.basis(intervention))

    def compare_prompts(self, prompts: Sequence[str], intervention: Intervention) -> tuple[PromptCost, ...]:
        """What an edit does after each of several prompts: a forward for each new one, and products for all of them.

        A prompt that cannot be asked has a sentence in its `PromptCost`. Raises `TpeError` as `evaluate` for the edit.

        Example:
            >>> costs = live.compare_prompts(["Return the", "Raises a"], tpe.Intervention((3, 14), "mean"))
            >>> [cost.kl >= 0 for cost in costs]
            [True, True]
        """
        return self._prompts.compare(prompts, intervention, self.basis(intervention))

    def probabilities(self, prompt: str, intervention: Intervention) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """([V_all] p, [V_all] p'): the whole distribution before and after the edit."""
        base, now = self._distributions(prompt, intervention)
        p, q = (side.probabilities().double().cpu().numpy() for side in (base, now))
        return p, q

    def fit_summary(self) -> FitSummary:
        """Every figure about the fit; the first time it takes a pass over the head's rows."""
        return FitSummary.of(self.analysis)

    def base_log_p(self, prompt: str) -> NDArray[np.float64]:
        """[V] log p of every token after a prompt, unedited, nats."""
        base, _ = self._distributions(prompt, Intervention())
        log_p: NDArray[np.float64] = (base.weights.double().log() - math.log(base.total)).cpu().numpy()
        return log_p[: self.analysis.model.head.vocab_rows]

    def write_tokens(self, path: Path, prompt: str, replace: bool = True) -> Path:
        """Write every token's place in the fit, and its log p after the prompt, as CSV; the path written."""
        check_tokens_file(path, replace=replace)
        return write_tokens(path, self.table, self.base_log_p(prompt), replace=replace)

    def _distributions(
        self, prompt: str, intervention: Intervention, position: int | None = None
    ) -> tuple[Distribution, Distribution]:
        """(base, now) distributions after a prompt, or at a position of it; they hold until the next edit."""
        with torch.inference_mode():
            if self._base is None or (prompt, position) != self._prompt:
                states = self._prompts.states(prompt)
                self._edited.set_hidden(states.at(position))
                self._base = Distribution(self._edited.base_logits())
                self._prompt, self._size = (prompt, position), (states.used, states.dropped)
            basis = self.basis(intervention)
            if basis is not self._edited.basis:
                self._edited.set_basis(basis)
            now = self._base if intervention.is_empty else self._edited.distribution(intervention)
        if math.isnan(now.log_z):
            raise NumericalError(
                "the logits after this prompt hold NaN or infinity: try --dtype float32 or bfloat16, or another prompt."
            )
        return self._base, now

    def basis(self, intervention: Intervention) -> EditStatistics:
        """The means and directions that an edit uses: the detection's, or those of the file or the refit it came from.

        Raises `TpeError` where it came from a file that this session has not loaded and whose numbers no earlier one
        has kept (`tpe_core.kept_numbers`).
        """
        origin, store = intervention.origin, self._store
        if origin not in self._bases and store is not None:
            kept = kept_numbers(store, self.head_sha256, origin, self._bases[""])
            self._bases |= {} if kept is None else {origin: kept}
        if origin not in self._bases:
            raise TpeError("this edit uses means and directions of a file that is not loaded: import the file again.")
        return self._bases[origin]

    @cached_property
    def identity(self) -> str:
        """A hash of the head and of what was measured of it: see `tpe_core.cached_view`."""
        return view_identity(self.head_sha256, self.table)

    @property
    def head_sha256(self) -> str:
        """The hash of the head's weights."""
        return self.analysis.model.head.sha256

    def keep_view(self) -> Steps[None]:
        """Keep what the next start shows before the model is loaded, unless it is there already: a job."""
        kept = read_view(self.options)
        if not self.options.cache or (kept is not None and kept.identity == self.identity):
            return
        head = self.analysis.model.head
        count = min(LARGEST_AND_SMALLEST, head.vocab_rows)
        ends: dict[str, list[NDArray[Any]]] = {name: [] for name in ENDS}
        for start in range(0, head.hidden_size, VIEWED):
            yield Progress("keeping the table for the next start", start, head.hidden_size)
            columns = head.columns[start : start + VIEWED, : head.vocab_rows]
            for end, is_top in (("top", True), ("bottom", False)):
                weights, ids = columns.topk(count, dim=1, largest=is_top)
                ends[f"{end}_ids"].append(ids.cpu().numpy())
                ends[f"{end}_weights"].append(weights.float().cpu().numpy())
        view = CachedView(
            identity=self.identity,
            head_sha256=self.head_sha256,
            made=time.time(),
            table=self.table,
            card=self.card,
            default_prompt=self.default_prompt,
            ends={name: np.concatenate(parts) for name, parts in ends.items()},
        )
        keep_view(self.options, view)

    def keep_answer(self, answer: NextTokens) -> None:
        """Keep the unedited side of a distribution for the next start, beside what `keep_view` kept."""
        keep_answer(self.options, self.identity, answer)

    def dimension(self, dim: int, count: int = LARGEST_AND_SMALLEST) -> DimensionDetail:
        """The tokens with the largest and the smallest weights in one dimension, `count` of each."""
        head = self.analysis.model.head
        column = head.columns[dim, : head.vocab_rows]
        count = min(count, head.vocab_rows)
        top, bottom = column.topk(count), column.topk(count, largest=False)
        largest, smallest = (
            tuple(zip(end.indices.tolist(), end.values.tolist(), strict=True)) for end in (top, bottom)
        )
        return DimensionDetail.of(self.table, dim, largest, smallest)

    def token(self, token_id: int, prompt: str, intervention: Intervention, position: int | None = None) -> TokenDetail:
        """One token on average (alpha, residual, rank), after the prompt (base, now), and before anything is read.

        With a `position`, base and now are at that token of the prompt.
        """
        base, now = self._distributions(prompt, intervention, position)
        surprisal, analysis = self.table.surprisal, self.analysis
        row = analysis.model.head.columns[:, token_id].double().cpu().numpy()
        token_surprisal, predicted = float(surprisal[token_id]), float(self.table.predicted[token_id])
        return TokenDetail(
            token_id=token_id,
            text=self.table.tokens[token_id],
            alpha=math.exp(-token_surprisal),
            surprisal=token_surprisal,
            predicted=predicted,
            residual=token_surprisal - predicted,
            rank=1 + int((surprisal < token_surprisal).sum()),
            count=int(analysis.detection.counts[token_id]),
            base=float(base.at(token_id)),
            now=float(now.at(token_id)),
            ratio=intervention.ratio(token_id),
            static_bias=static_bias_of(analysis.model.head, analysis.final_norm, token_id),
            untrained=1 - analysis.untrained.distance(row),
            attainable=now.attainable(token_id, analysis.model.head.post.highest),
        )

    def export(
        self,
        path: Path,
        intervention: Intervention,
        prompt: str,
        made_by: str = "the inspector",
        texts: tuple[MeasuredText, ...] = (),
        *,
        replace_file: bool = True,
    ) -> Path:
        """Write an intervention's manifest with what it was made on, what it does, and a self-test; atomically.

        `made_by` says what chose the edit. What it costs on texts is in `texts`, or what this session has measured of
        exactly this edit. An earlier intervention is replaced unless `replace_file` is False, a file of another kind
        never. Raises `ManifestError` where it cannot be written, `ExistsError` where it is not to replace one.
        """
        from tpe_core.manifest import making
        from tpe_core.manifest import manifest as files
        from tpe_core.manifest.self_test import record

        files.check_destination(path, replace=replace_file)
        analysis, basis = self.analysis, self.basis(intervention)
        shown = self.evaluate(prompt, intervention)
        steered = [entry.token_id for entry in intervention.singles]
        for each in intervention.sets:
            steered += each.ids[np.argsort(analysis.surprisal[each.ids], kind="stable")[:TESTED_OF_SET]].tolist()

        def edited(prompt: str) -> NDArray[np.float64]:
            with torch.inference_mode():
                if prompt not in self._tested:
                    self._tested[prompt] = analysis.model.last_hidden(prompt)[0]
                logits = edited_logits(analysis.model.head, intervention, basis, self._tested[prompt])
            values: NDArray[np.float64] = logits.double().cpu().numpy()
            return values

        self_test = record(analysis.model, edited, analysis.tokens, steered)
        document = making.manifest_of(analysis, shown, texts or self._measured(intervention), self_test, made_by)
        return files.write_manifest(path, document, making.arrays_of(intervention, basis), replace=replace_file)

    def write(self, path: Path, intervention: Intervention, prompt: str, replace: bool) -> Path:
        """`export` for an inspector: an earlier file is replaced where `replace` says so."""
        return self.export(path, intervention, prompt, replace_file=replace)

    def carried(self) -> object:
        """What edits made with loaded files need, for a later session on the same model: see `take_up`."""
        return {origin: basis for origin, basis in self._bases.items() if origin}

    def take_up(self, carried: object) -> None:
        """Add what `carried` gave of an earlier session on the same model."""
        self._bases |= carried if isinstance(carried, dict) else {}

    def _measured(self, edit: Intervention) -> tuple[MeasuredText, ...]:
        """What the studies of this session have measured of exactly this edit."""
        from tpe_core.manifest.making import steered_on_texts, swept_on_texts

        methods, study = {entry.method for entry in edit.steering}, self._steering
        if study is None or edit.pruned or len(methods) != 1 or study.below != replace(edit, steering=(), sets=()):
            return swept_on_texts(self._swept, edit)
        request = DoseRequest(edit.steering[0].token_id, methods.pop(), edit)
        try:
            results = study.respond(request).results[request.method]
        except TpeError:  # a token that is never predicted has no ratio
            return ()
        return steered_on_texts(study.read, results)

    def load(self, path: Path) -> Intervention:
        """Read a manifest made for this head, with its own replacement values and directions (`Intervention.origin`).

        Raises `ManifestError` in one sentence where it is broken or made for another head; nothing is changed then.
        """
        from tpe_core.manifest import manifest as files
        from tpe_core.manifest.schema import EditArrays

        head = self.analysis.model.head
        document, arrays = files.read_manifest(path)
        files.check_fits(
            document,
            head_sha256=head.sha256,
            vocab_rows=head.vocab_rows,
            hidden_size=head.hidden_size,
            tokenizer_sha256=self.analysis.tokenizer_sha256,
        )
        intervention = document.intervention()
        if document.arrays is None:
            return intervention
        origin, numbers = document.arrays.sha256, EditArrays.read(arrays)
        values, fold = numbers.values, numbers.reconstruction
        if values is None or fold is None:
            basis = self._bases[""].overridden(
                numbers.directions, dims=intervention.pruned, values=values, replacement=intervention.replacement
            )
        else:
            kept = tuple(sorted(set(range(head.hidden_size)) - set(intervention.pruned)))
            rebuilt = Reconstruction(
                removed=intervention.pruned,
                kept=kept,
                fold=fold,
                constant=values,
                is_refit=REPLACEMENTS[intervention.replacement].is_fitted,
            )
            basis = self._bases[""].overridden(numbers.directions, rebuilt=rebuilt)
        self._take_numbers(origin, basis)
        return replace(intervention, origin=origin)

    def _take_numbers(self, origin: str, basis: EditStatistics) -> None:
        """Have the numbers of a refit or of a file, here and at later starts."""
        self._bases[origin] = basis
        if (store := self._store) is not None:
            keep_numbers(store, self.head_sha256, origin, basis, of=self.analysis.model.name)
