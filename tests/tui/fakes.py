"""A small session over seeded numpy arrays: a real softmax on a random head, without torch and without time."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tpe_core.cached_view import CachedView, view_identity
from tpe_core.edits.intervention import Intervention, Method, Steering
from tpe_core.edits.replacements import ROTATE
from tpe_core.encoding.stability import Stability, half_splits
from tpe_core.errors import ManifestError, ModelError, TpeError
from tpe_core.fit_summary import FitSummary, write_tokens
from tpe_core.generation.paired import Continuation, Controls, GeneratedToken, PairedGeneration, PairRequest
from tpe_core.models.hub import CachedModel
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.results import PruningCurve, PruningRequest, PruningResult
from tpe_core.snapshots import (
    DimensionDetail,
    EncodingTable,
    LostTokens,
    ModelInfo,
    NextTokens,
    PromptCost,
    PromptPositions,
    PruningForecast,
    TokenDetail,
)
from tpe_core.steering.results import (
    AffectedToken,
    CalibratedRatios,
    DoseCurve,
    DoseRequest,
    DoseResponse,
    MostAffected,
    Steerable,
    SteeringResult,
    TextsRead,
)
from tpe_core.steering.token_search import TokenIndex
from tpe_core.token_sets.summary import SetSummary, summarize_set
from tpe_core.token_sets.token_set import TokenSet

DAY = 86_400.0
CACHED = [
    CachedModel("EleutherAI/pythia-160m", 375_000_000, 20_000 * DAY, ("main", "step1000")),
    CachedModel("openai-community/gpt2", 551_000_000, 19_000 * DAY, ("0123456789abcdef0123456789abcdef01234567",)),
    CachedModel("[bold]/odd\x1bname", 12_000, 18_000 * DAY, ("main",)),
]
HOSTILE = ("[bold]", "[/foo]", "漢字のトークン", "·the", "[link=x]", "e\u0301clair", "한국어", "\\n")
WORDS = "value return list self name type index data object string file path error class key item size default".split()


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


class FakeSession:
    """Implements `tpe_tui.engine.session.Session`. `delay` seconds per evaluation, `fail` an error to raise in it."""

    default_prompt = "Return the number of"
    prompt_hint = ""
    has_chat = True

    def __init__(self, vocab: int = 600, d: int = 64, seed: int = 0, name: str = "demo") -> None:
        rng = np.random.default_rng(seed)
        self.W = rng.normal(size=(vocab, d)) * 0.12
        mean = rng.standard_t(3, size=d) * 1.4
        self.W -= np.outer(np.sort(rng.gumbel(size=vocab)), mean / (mean @ mean)) * 1.2
        self.mean = mean
        self.head_sha256 = hashlib.sha256(self.W.tobytes()).hexdigest()
        self.delay = 0.0
        self.fail: Exception | None = None
        self.fails_on = ""  # with a text here, `fail` is raised only for prompts that hold it
        self.again: Callable[[], Steps[FakeSession]] | None = None
        self.sweep_step: Callable[[], object] = lambda: None
        self.sweep_fail: Exception | None = None
        self.refit_step: Callable[[], object] = lambda: None
        self.forecast_step: Callable[[], object] = lambda: None
        self.spared = 1000  # pruned dimensions that make no token unreachable
        self.pair_step: Callable[[], object] = lambda: None
        self.export_fail: Exception | None = None
        self.pair_fail: Exception | None = None
        self.ends: frozenset[int] = frozenset()
        self.read_step: Callable[[], object] = lambda: None
        self.never: frozenset[int] = frozenset()
        self.warnings: tuple[str, ...] = ()
        self.calls: list[str] = []
        names = [
            f"·{WORDS[i % len(WORDS)]}" if i < len(WORDS) else f"·{WORDS[i % len(WORDS)]}_{i}" for i in range(vocab)
        ]
        names[20 : 20 + len(HOSTILE)] = HOSTILE
        hidden = mean + rng.normal(size=(200, d)) * 0.9
        alpha = np.mean([softmax(self.W @ h) for h in hidden], axis=0)
        surprisal = -np.log(alpha)
        X = np.column_stack([self.W, np.ones(vocab)])
        beta, *_ = np.linalg.lstsq(X, surprisal, rcond=None)
        predicted = X @ beta
        residual = surprisal - predicted
        sigma2 = residual @ residual / (vocab - d - 1)
        stderr = np.sqrt(sigma2 * np.diag(np.linalg.inv(X.T @ X)))[:d]
        slope, t = beta[:d], beta[:d] / stderr
        p = np.exp(-np.minimum(t * t / 2, 700))
        r = np.array([np.corrcoef(self.W[:, i], surprisal)[0, 1] for i in range(d)])
        u, s, _ = np.linalg.svd(self.W - self.W.mean(0), full_matrices=False)
        r2 = 1 - residual @ residual / np.sum((surprisal - surprisal.mean()) ** 2)
        info = ModelInfo(
            name=name,
            revision=None,
            vocab_rows=vocab,
            padding_rows=0,
            hidden_size=d,
            context=256,
            device="cpu",
            dtype="float32",
            tied=True,
        )
        self.alpha = alpha
        self.card = {
            "class": "GPT2LMHeadModel", "task": "causal", "head": "Linear", "vocab_rows": vocab, "padding_rows": 0,
            "masked_rows": 0, "hidden_size": d, "tied": True, "bias": False, "max_abs_error": 9.5e-7,
            "post": {"kind": "softcap", "scale": 0.5, "cap": 30.0}, "dtype": "float32", "device": "cpu",
            "supported": True, "reason": "", "memory": None,
        }  # fmt: skip
        self.table = EncodingTable(
            info=info,
            text="held-out docstrings",
            positions=32768,
            r2=float(r2),
            r2_adjusted=float(r2 - 0.01),
            r2_heldout_vocab=float(r2 - 0.02),
            r2_permuted=0.001,
            intercept=float(beta[d]),
            slope=slope,
            slope_std=slope * self.W.std(0),
            stderr=stderr,
            t=t,
            p=p,
            q=np.minimum(1, p * 2),
            r=r,
            explained=s**2 / np.sum(s**2),
            pc_correlation=np.array([np.corrcoef(u[:, i], surprisal)[0, 1] for i in range(d)]),
            surprisal=surprisal,
            predicted=predicted,
            pc_scores=(u[:, :2] * s[:2]).astype(np.float32),
            tokens=names,
            mean_hidden=mean,
            sd_hidden=np.full(d, 0.9),
            rms_hidden=np.hypot(mean, 0.9),
            sd_weight=self.W.std(0),
            outlier=np.hypot(mean, 0.9) > 4,
            stability=self._stability(slope),
        )

    @staticmethod
    def _stability(slope: np.ndarray) -> Stability:
        """Slopes from parts of a text of eight equal stretches, with a tenth of the slopes' size as noise."""
        rng = np.random.default_rng(11)
        noise = 0.1 * np.sqrt(np.mean(slope**2)) * rng.normal(size=(8, len(slope)))
        noise -= noise.mean(0)
        splits = half_splits(np.full(8, 4096))
        halves = slope + np.stack([splits @ noise, ~splits @ noise], 1) / 4
        return Stability(
            slope=slope,
            group_positions=np.full(8, 4096),
            without=slope - noise / 7,
            halves=halves,
            half_positions=np.full((len(splits), 2), 16_384),
        )

    def _hidden(self, prompt: str) -> np.ndarray:
        seed = sum(ord(char) * (i + 1) for i, char in enumerate(prompt))
        return self.mean + np.random.default_rng(seed).normal(size=len(self.mean)) * 0.9

    def sweep_seconds(self, request: PruningRequest) -> float:
        return 3.0 * request.paths

    def detect_again(self, options: RunOptions) -> Steps[FakeSession]:
        self.calls.append("detect_again")
        if self.again is None:
            yield Progress("detect", 1, 2)
            return self
        return (yield from self.again())

    @property
    def identity(self) -> str:
        return view_identity(self.head_sha256, self.table)

    def keep_view(self) -> Steps[None]:
        self.calls.append("keep_view")
        yield Progress("keeping the table", 0)

    def kept(self, prompt: str | None = None) -> CachedView:
        """What an earlier run kept of it, with the distribution after a prompt."""
        details = [self.dimension(dim) for dim in range(len(self.table.slope))]
        ends = {
            f"{end}_{what}": np.array([[pair[at] for pair in getattr(detail, end)] for detail in details])
            for end in ("top", "bottom")
            for at, what in enumerate(("ids", "weights"))
        }
        return CachedView(
            identity=self.identity,
            head_sha256=self.head_sha256,
            made=1_000_000_000.0,
            table=self.table,
            card=self.card,
            default_prompt=self.default_prompt,
            ends=ends,
            answer=None if prompt is None else self.evaluate(prompt, Intervention()),
        )

    def keep_answer(self, answer: NextTokens) -> None:
        self.calls.append(f"keep_answer {answer.prompt}")

    def chat_prompt(self, prompt: str, toggle: bool = False) -> str:
        if not self.has_chat:
            raise ModelError("demo has no chat template.")
        wrapped = prompt.startswith("<user> ")
        return (prompt.removeprefix("<user> ") if toggle else prompt) if wrapped else f"<user> {prompt}"

    def _read(self, prompt: str) -> list[tuple[int, str]]:
        """(token id, the prompt up to it) for each word."""
        words = prompt.split(" ")
        ids = [sum(map(ord, word)) * 7 % len(self.W) for word in words]
        return [(token, " ".join(words[: at + 1])) for at, token in enumerate(ids)]

    def probabilities(
        self, prompt: str, edit: Intervention, position: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        h = self._hidden(prompt if position is None else self._read(prompt)[position][1])
        base = softmax(self.W @ h)
        moved = h.copy()
        moved[list(edit.pruned)] = 0.0 if edit.replacement == "zero" else self.mean[list(edit.pruned)]
        logits = self.W @ moved
        for entry in edit.steering:
            logits[entry.token_id] += np.log(entry.ratio)
        return base, softmax(logits)

    def positions(self, prompt: str, intervention: Intervention) -> PromptPositions:
        self.calls.append("positions")
        if self.fail is not None and self.fails_on in prompt:
            raise self.fail
        read = self._read(prompt)
        ids = np.array([token for token, _ in read])
        sides = [self.probabilities(prompt, intervention, at) for at in range(len(read))]
        p, q = (np.array([pair[side] for pair in sides]) for side in (0, 1))
        before, now = (
            np.array([np.nan, *(-np.log(side[at, token]) for at, token in enumerate(ids[1:]))]) for side in (p, q)
        )
        return PromptPositions(
            prompt=prompt,
            intervention=intervention,
            ids=ids,
            texts=tuple(self.table.tokens[token] for token in ids),
            asked=len(read) - 1,
            truncated=0,
            is_next=True,
            surprisal_base=before,
            surprisal_now=now,
            kl=(p * np.log(p / q)).sum(1),
            top1_base=p.argmax(1),
            top1_now=q.argmax(1),
            milliseconds=2.5,
        )

    def compare_prompts(self, prompts: Sequence[str], intervention: Intervention) -> tuple[PromptCost, ...]:
        self.calls.append("compare_prompts")
        found = []
        for prompt in prompts:
            if self.fail is not None and self.fails_on in prompt:
                found.append(PromptCost(prompt=prompt, intervention=intervention, problem=str(self.fail)))
                continue
            base, now = self.probabilities(prompt, intervention)
            found.append(
                PromptCost(
                    prompt=prompt,
                    intervention=intervention,
                    tokens=len(prompt.split()),
                    kl=float(np.sum(base * np.log(base / now))),
                    top1_base=int(base.argmax()),
                    top1_now=int(now.argmax()),
                )
            )
        return tuple(found)

    def evaluate(
        self, prompt: str, intervention: Intervention, keep: int = 256, *, position: int | None = None
    ) -> NextTokens:
        self.calls.append("evaluate")
        if self.delay:
            time.sleep(self.delay)
        if self.fail is not None and self.fails_on in prompt:
            raise self.fail
        base, now = self.probabilities(prompt, intervention, position)
        top = np.argsort(-now, kind="stable")[:40]
        kl = float(np.sum(base * np.log(base / now)))
        entropy = [float(-np.sum(q * np.log(q))) for q in (base, now)]
        changed = bool(base.argmax() != now.argmax())
        return NextTokens(
            prompt=prompt,
            prompt_tokens=len(prompt.split()),
            truncated=0,
            intervention=intervention,
            ids=top,
            base=base[top],
            now=now[top],
            kl=kl,
            js=kl / 4,
            top1_changed=changed,
            entropy_base=entropy[0],
            entropy_now=entropy[1],
            milliseconds=1.5,
            position=position,
        )

    def fit_summary(self) -> FitSummary:
        self.calls.append("fit_summary")
        table = self.table
        residual = table.surprisal - table.predicted
        worst = np.argsort(-np.abs(residual), kind="stable")[:6]
        return FitSummary(
            r2=table.r2,
            r2_adjusted=table.r2_adjusted,
            r2_heldout_vocab=table.r2_heldout_vocab,
            r2_permuted=table.r2_permuted,
            r2_by_k={1: 0.1, 5: 0.3, 10: 0.5},
            f_statistic=123.4,
            f_p=1e-30,
            rank=len(table.slope),
            degrees_of_freedom=len(table.surprisal) - len(table.slope) - 1,
            intercept=table.intercept,
            condition_number=12.5,
            cosine_to_mean_hidden=0.875,
            jensen_correlation=0.93,
            dimensions_90=17,
            gini=0.45,
            participation_ratio=20.5,
            common_drift=0.12,
            stability=table.stability,
            rows=len(table.surprisal),
            rows_excluded=0,
            positions=table.positions,
            reference="lowest-alpha 1 %",
            nearest=tuple((table.tokens[i], 0.1 * (i + 1)) for i in range(6)),
            worst_fitted=tuple((table.tokens[i], float(residual[i])) for i in worst),
        )

    def base_log_p(self, prompt: str) -> np.ndarray:
        if self.fail is not None and self.fails_on in prompt:
            raise self.fail
        return np.log(self.probabilities(prompt, Intervention())[0])

    def write_tokens(self, path: Path, prompt: str, replace: bool) -> Path:
        if self.export_fail is not None:
            raise self.export_fail
        return write_tokens(path, self.table, self.base_log_p(prompt), replace=replace)

    def dimension(self, dim: int, count: int = 12) -> DimensionDetail:
        self.calls.append("dimension")
        order = np.argsort(self.W[:, dim])
        high = tuple((int(i), float(self.W[i, dim])) for i in order[::-1][:count])
        low = tuple((int(i), float(self.W[i, dim])) for i in order[:count])
        return DimensionDetail.of(self.table, dim, high, low)

    def token(self, token_id: int, prompt: str, intervention: Intervention, position: int | None = None) -> TokenDetail:
        self.calls.append("token")
        base, now = self.probabilities(prompt, intervention, position)
        t = self.table
        rank = int(np.sum(t.surprisal < t.surprisal[token_id])) + 1
        return TokenDetail(
            token_id=token_id,
            text=t.tokens[token_id],
            alpha=float(self.alpha[token_id]),
            surprisal=float(t.surprisal[token_id]),
            predicted=float(t.predicted[token_id]),
            residual=float(t.surprisal[token_id] - t.predicted[token_id]),
            rank=rank,
            count=7,
            base=float(base[token_id]),
            now=float(now[token_id]),
            ratio=intervention.ratio(token_id),
            static_bias=-1.25,
            untrained=0.125,
        )

    def prepare_forecast(self) -> Steps[None]:
        """Two steps; `forecast_step` is called in each."""
        self.calls.append("prepare_forecast")
        for done in range(2):
            self.forecast_step()
            yield Progress("Fisher information", done, 2)

    def forecast(self, edit: Intervention) -> PruningForecast:
        """A hundredth of a nat for every pruned dimension, a tenth for a steered token."""
        kl = 0.01 * len(edit.pruned) + 0.1 * len(edit.steering)
        toggled = np.full(len(self.mean), kl + 0.01)
        toggled[list(edit.pruned)] = kl - 0.01
        return PruningForecast(
            pruned=edit.pruned, replacement=edit.replacement, steering=edit.steering, kl=kl, toggled=toggled
        )

    def lost_tokens(self, edit: Intervention) -> Steps[LostTokens]:
        """Tokens 5, 6, 7 and so on: as many as pruned dimensions are more than `spared`, known after two steps."""
        self.calls.append("lost_tokens")
        vocab = len(self.alpha)
        ids = tuple(range(5, 5 + max(0, len(edit.pruned) - self.spared)))
        for done in range(2):
            partial = LostTokens(ids=(), checked=64 * done, vocab_rows=vocab)
            yield Progress("tokens that stay reachable", 64 * done, vocab, partial=partial)
        return LostTokens(ids=ids, checked=vocab, vocab_rows=vocab)

    def sweep(self, request: PruningRequest) -> Steps[PruningResult]:
        """Made-up curves of the right shape, all of them rough and then fine; `sweep_step` is called in every step."""
        self.calls.append("sweep")
        d, wanted = len(self.mean), {"heldout": 4096, "ood": 4096}
        removed = tuple(round(fraction * d) for fraction in request.fractions)
        share = np.array(removed) / d
        worth = {"slope": 1.0, "random": 1.6, "activation": 0.85, "fisher": 0.6, "fisher-obs": 0.7, ROTATE: 0.02}
        kept = {"zero": 1.0, "mean": 0.8, "least-squares": 0.15, ROTATE: 1.0}
        keys = [(order, way) for way in request.replacements for order in request.orders]
        keys.insert(len(request.orders), (ROTATE, ROTATE))
        texts = {"heldout": "held-out docstrings", "ood": "source code"}
        curves: dict[tuple[str, str], PruningCurve] = {}

        def so_far() -> PruningResult:
            return PruningResult(
                curves=tuple(curves.values()),
                baseline={},
                positions=wanted,
                model=self.table.info.name,
                revision=None,
                width=d,
                texts=texts,
            )

        for level in (512, 4096):
            for number, (order, way) in enumerate(keys, 1):
                self.sweep_step()
                if self.sweep_fail is not None:
                    raise self.sweep_fail
                yield Progress(
                    "sweep", level, 8192, note=f"{order}, {way}", partial=so_far(), amount=f"{number}/{len(keys)}"
                )
                figures = {}
                for domain, more in (("heldout", 1.0), ("ood", 1.3)):
                    draws = 1 + 0.08 * np.arange(-2, 3) if order == "random" else np.ones(1)
                    kl = (
                        draws[:, None]
                        * worth.get(order, 0.9)
                        * kept.get(way, 0.9)
                        * more
                        * 1.4
                        * share**1.5
                        / (1 - share) ** 0.6
                    )
                    kl *= 1 + 40 / level * np.sin(9 * share)
                    top1 = np.exp(-0.7 * np.sqrt(kl))
                    figures[domain] = np.stack([kl, kl / (4 + kl), top1, 3.4 * more + kl, 3 + kl / 3], 2)
                dims = np.argsort(self.W.std(0) if order != "slope" else np.abs(self.table.slope), kind="stable")
                named = () if order in (ROTATE, "component") else tuple(int(dim) for dim in dims)
                seen = {"heldout": level, "ood": level}
                curves[order, way] = PruningCurve(
                    order=order,
                    replace=way,
                    removed=removed,
                    width=d,
                    dims=named,
                    figures=figures,
                    positions=seen,
                )
        return so_far()

    def refit(self, edit: Intervention) -> Steps[Intervention]:
        """Two steps; `refit_step` is called in each. Every refit comes from its own origin."""
        self.calls.append("refit")
        for done in range(2):
            self.refit_step()
            yield Progress("refit", done, 2, note=f"kl {0.5 - done / 4}")
        return replace(edit, replacement="refit", origin=f"refit of {len(edit.pruned)}")

    def read_for_steering(self, edit: Intervention) -> Steps[TextsRead]:
        self.calls.append("read")
        for domain in range(3):
            self.read_step()
            yield Progress("observe", domain, 3)
        texts = {"local": "docstrings", "heldout": "held-out docstrings", "ood": "source code"}
        return TextsRead(texts, dict.fromkeys(texts, 4096))

    def steering(self, request: DoseRequest) -> DoseResponse:
        """Made-up figures of the right shape: `bias` achieves what one token with a constant probability would."""
        self.calls.append("steering")
        if self.delay:
            time.sleep(self.delay)
        if request.token_id in self.never:
            raise TpeError(f"token id {request.token_id} is never predicted by this model.")
        own = [self._own(steered) for steered in request.steered]
        power: dict[Method, float] = {"least-squares": 0.98, "min-norm": 0.7, "top-k": 0.85, "bias": 1.0}
        results: dict[Method, tuple[SteeringResult, ...]] = {}
        curves: dict[Method, DoseCurve] = {}

        def achieved(ratio: float, p: float, by: float) -> float:
            return ratio**by / (1 + p * (ratio**by - 1))

        for method, by in power.items():
            results[method] = self._results(request, method, achieved, by)
            curve = tuple(achieved(ratio, own[0], by * 0.99) for ratio in request.grid)
            curves[method] = DoseCurve(
                steered=request.steered[0],
                token=self.table.tokens[request.token_id],
                method=method,
                asked=request.grid,
                achieved={"heldout": curve},
                js={},
            )
        return DoseResponse(request, results, curves)

    def _own(self, steered: Steerable) -> float:
        return float(self.alpha[steered] if isinstance(steered, int) else self.alpha[steered.ids].sum())

    def _results(
        self, request: DoseRequest, method: Method, achieved: Callable[[float, float, float], float], by: float
    ) -> tuple[SteeringResult, ...]:
        more = {"local": 1.0, "heldout": 0.99, "ood": 0.9}
        each = [
            (steered, ratio, self._own(steered)) for steered, ratio in zip(request.steered, request.ratios, strict=True)
        ]
        cost = sum(abs(float(np.log(ratio))) * p for _, ratio, p in each)
        return tuple(
            SteeringResult(
                steered=steered,
                token=self.table.tokens[steered] if isinstance(steered, int) else steered.label,
                together=request.steered,
                method=method,
                asked=ratio,
                step=float(np.log(ratio)),
                calibrated=False,
                reached=True,
                alpha=dict.fromkeys(more, p),
                achieved={name: achieved(ratio, p, by * share) for name, share in more.items()},
                spread=dict.fromkeys(more, 0.0),
                kl=dict.fromkeys(more, cost),
                js=dict.fromkeys(more, cost / 5),
                relative_edit=None if method == "bias" else abs(float(np.log(ratio))) * by,
                attainable=(0.0, 1.0),
            )
            for steered, ratio, p in each
        )

    def calibrated(self, request: DoseRequest) -> CalibratedRatios:
        """The square of what is asked achieves it, up to a hundredfold."""
        self.calls.append("calibrated")
        plain = self._results(request, request.method, lambda ratio, *_: min(ratio, 100.0), 1.0)
        results = tuple(
            replace(each, step=2 * min(each.step, float(np.log(100))), calibrated=True, reached=each.asked <= 100)
            for each in plain
        )
        return CalibratedRatios(request, results)

    def most_affected(self, request: DoseRequest) -> Steps[MostAffected]:
        self.calls.append("most_affected")
        yield Progress("who pays", 0, 1)
        sign = 1 if request.edit.ratio(request.token_id) >= 1 else -1
        return MostAffected(request, tuple(AffectedToken(each, sign * 0.01 / (3 + each)) for each in range(8)))

    def generate(self, request: PairRequest, controls: Callable[[], Controls]) -> Steps[PairedGeneration]:
        """Both sides drawn from this head after their own texts, on shared noise; `pair_step` is called before each."""
        self.calls.append("generate")
        drawn, pair = (
            request.decoding,
            request.after or PairedGeneration(prompt=request.prompt, prompt_ids=(1, 2, 3), decoding=request.decoding),
        )
        pair = replace(pair, decoding=drawn)
        while not pair.finished:
            yield Progress("generate", pair.steps, drawn.length, partial=pair)
            self.pair_step()
            if self.pair_fail is not None:
                raise self.pair_fail
            step, edit = pair.steps, controls().edit
            noise = np.random.default_rng([drawn.seed, step]).gumbel(size=len(self.W))
            sides = []
            for side, own in ((pair.base, Intervention()), (pair.edited, edit)):
                base, now = self.probabilities(request.prompt + side.text, own)
                scores = np.log(now) / drawn.temperature + noise if drawn.temperature else now
                token_id = int(scores.argmax())
                kl = float(np.sum(base * np.log(base / now)))
                text = self.table.tokens[token_id].replace("·", " ").replace("\\n", "\n")
                said = GeneratedToken(
                    token_id=token_id, text=text, p=float(now[token_id]), p_base=float(base[token_id]), kl=kl
                )
                ended = drawn.stop and token_id in self.ends
                sides.append(side if side.ended else Continuation((*side.tokens, said), ended))
            edits = pair.edits if pair.edits and pair.edits[-1][1] == edit else (*pair.edits, (step, edit))
            pair = replace(pair, base=sides[0], edited=sides[1], edits=edits, seconds=pair.seconds + 0.05)
        yield Progress("generate", pair.steps, drawn.length, partial=pair)
        return pair

    def find_token(self, query: str) -> int:
        return TokenIndex(self.table.tokens).resolve(query)

    def find_set(self, definition: str, marked: Sequence[int] = ()) -> SetSummary:
        """``marked``, or the tokens whose number is in the definition after #."""
        ids = (
            tuple(marked) if definition == "marked" else tuple(int(each) for each in re.findall(r"#(\d+)", definition))
        )
        if not ids:
            raise TpeError(f"no token of this vocabulary is in the set {definition!r}.")
        written = " + ".join(f"#{each}" for each in sorted(ids))
        some = TokenSet(written, ids)
        with np.errstate(divide="ignore"):
            return summarize_set(some, np.log(self.alpha), np.zeros(len(self.alpha), np.int64), 4096)

    def carried(self) -> object:
        return None

    def take_up(self, carried: object) -> None:
        self.calls.append("take_up")

    def write(self, path: Path, intervention: Intervention, prompt: str, replace: bool) -> Path:
        if self.export_fail is not None:
            raise self.export_fail
        steering = [[entry.token_id, entry.ratio, entry.method] for entry in intervention.steering]
        path.write_text(
            json.dumps(
                {
                    "kind": "tpe.intervention",
                    "pruned": intervention.pruned,
                    "replacement": intervention.replacement,
                    "steering": steering,
                }
            )
        )
        return path

    def load(self, path: Path) -> Intervention:
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} is not a readable manifest: export one with e.") from error
        return Intervention(
            tuple(document["pruned"]),
            document["replacement"],
            tuple(Steering(*entry) for entry in document["steering"]),
        )


def opening(session: FakeSession, steps: int = 2, wait: Callable[[], object] | None = None):
    """An opener that yields `steps` events, calling `wait` in each, and returns `session`."""

    def opener(options: RunOptions) -> Steps[FakeSession]:
        for step in range(steps):
            if wait is not None:
                wait()
            yield Progress("detection", step, steps)
        return session

    return opener


def failing(sentence: str = "no model is called 'nope': give a hub id, a folder, or demo."):
    """An opener that fails in its second step."""

    def opener(options: RunOptions) -> Steps[FakeSession]:
        yield Progress("loading", 0, 3)
        raise ModelError(sentence)

    return opener
