"""Model and text in, analysis out: load, detect (or find in the cache), fit; the one path every front end takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tpe_core.components import Components, principal_components
from tpe_core.corpus import HELDOUT_SHARE, adds_bos, corpus_key, read_corpus, text_source, tokenizer_fingerprint
from tpe_core.detection import Detection, detect, detection_key, load_detection
from tpe_core.encoding import Design, Encoding, fit_encoding
from tpe_core.inspector import EncodingTable, ModelInfo
from tpe_core.model import LanguageModel, load_model
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_core.store import Store
from tpe_core.text import token_texts

__all__ = ["Analysis", "analyze"]

BLOCK_LENGTH = 256  # positions; shorter where the model's context is


@dataclass(frozen=True)
class Analysis:
    """Everything measured about one model on one text."""

    model: LanguageModel
    text: str  # what was read, for people
    corpus_fingerprint: str
    tokenizer_sha256: str
    detection: Detection
    keep: NDArray[np.bool_]  # [V] rows in use that were fitted: those with a finite -log alpha
    encoding: Encoding
    components: Components
    warnings: tuple[str, ...]

    @property
    def rows_excluded(self) -> int:
        """Padding rows and rows that the model never gives any probability."""
        return self.model.head.padding_rows + int((~self.keep).sum())

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe analyze`; numbers that do not exist are null."""
        encoding, components, head = self.encoding, self.components, self.model.head
        table = [encoding.slope, encoding.slope_std, encoding.stderr, encoding.t, encoding.p, encoding.q, encoding.r]
        names = ("slope", "slope_std", "stderr", "t", "p", "q", "r")
        order = np.argsort(-np.abs(encoding.slope), kind="stable")
        document = {
            "schema": 1,
            "model": self.model.name,
            "revision": self.model.revision,
            "vocab_rows": head.vocab_rows,
            "rows_excluded": self.rows_excluded,
            "hidden_size": head.hidden_size,
            "positions": self.detection.positions,
            "encoding": {
                "r2": encoding.r2,
                "r2_adjusted": encoding.r2_adjusted,
                "r2_heldout_vocab": encoding.r2_heldout_vocab,
                "r2_permuted": encoding.r2_permuted,
                "cosine_to_mean_hidden": encoding.cosine_to_mean_hidden,
                "jensen_correlation": encoding.jensen_correlation,
                "intercept": encoding.intercept,
                "condition_number": encoding.condition_number,
            },
            "components": {
                "explained_variance_ratio": components.explained_variance_ratio.tolist(),
                "correlations": components.correlations.tolist(),
            },
            "sparsity": {
                "r2_by_k": {str(k): value for k, value in encoding.r2_by_k().items()},
                "gini": encoding.gini,
                "participation_ratio": encoding.participation_ratio,
            },
            "dimensions": [
                {
                    "rank": rank,
                    "dim": int(dim),
                    **{name: float(values[dim]) for name, values in zip(names, table, strict=True)},
                }
                for rank, dim in enumerate(order, 1)
            ],
        }
        cleaned: dict[str, Any] = _finite(document)
        return cleaned

    def table(self) -> EncodingTable:
        """The analysis as the arrays a front end shows. Rows left out of the fit keep NaN predictions and scores."""
        encoding, head, vocab = self.encoding, self.model.head, self.model.head.vocab_rows
        predicted = np.full(vocab, np.nan)
        predicted[self.keep] = encoding.predicted
        scores = np.full((vocab, 2), np.nan, dtype=np.float32)
        scores[self.keep] = self.components.scores
        report = self.model.report
        info = ModelInfo(
            self.model.name, self.model.revision, vocab, head.padding_rows, head.hidden_size, self.model.context,
            report.device, report.dtype, head.tied,
        )  # fmt: skip
        return EncodingTable(
            info=info,
            text=self.text,
            positions=self.detection.positions,
            r2=encoding.r2,
            r2_adjusted=encoding.r2_adjusted,
            r2_heldout_vocab=encoding.r2_heldout_vocab,
            r2_permuted=encoding.r2_permuted,
            intercept=encoding.intercept,
            slope=encoding.slope,
            slope_std=encoding.slope_std,
            stderr=encoding.stderr,
            t=encoding.t,
            p=encoding.p,
            q=encoding.q,
            r=encoding.r,
            explained=self.components.explained_variance_ratio,
            pc_correlation=self.components.correlations,
            surprisal=-self.detection.log_alpha[:vocab],
            predicted=predicted,
            pc_scores=scores,
            tokens=token_texts(self.model.tokenizer, vocab),
        )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def analyze(
    options: RunOptions,
    store: Store | None = None,
    stdin: BinaryIO | None = None,
    model: LanguageModel | None = None,
) -> Steps[Analysis]:
    """Load a model, detect over its text, fit the law: a job that returns an `Analysis`.

    `store` defaults to the user's cache, unless `options.cache` is off; a `model` already loaded is used as it is.
    Raises `TpeError` subclasses in one sentence.
    """
    source = text_source(options.text, stdin)
    if model is None:
        yield Progress("load model", 0)
        model = load_model(options)
    head = model.head
    said: list[str] = []
    if store is None and options.cache:
        store = Store(on_problem=said.append)
    tokens = tokenizer_fingerprint(model.tokenizer)
    block_length = min(BLOCK_LENGTH, model.context)
    key = corpus_key(
        source, tokens, block_length=block_length, positions=options.positions, add_bos=adds_bos(model.tokenizer)
    )
    found = None
    if not options.refresh:
        found = load_detection(store, detection_key(model, key, options.sample, options.seed), head)
    if found is not None:
        detection = found[0]
    else:
        corpus = yield from read_corpus(
            source,
            model.tokenizer,
            block_length=block_length,
            positions=options.positions,
            tokenizer_fingerprint=tokens,
        )
        detection = yield from detect(
            model, corpus, sample_size=options.sample, seed=options.seed, store=store, refresh=options.refresh
        )
    if detection.positions < options.positions:
        said.append(
            f"the text has only {detection.positions:,} of the {options.positions:,} positions asked for "
            f"(beside the {HELDOUT_SHARE:.0%} held out for evaluation): add text for steadier slopes."
        )
    yield Progress("fit", 0)
    surprisal = -detection.log_alpha[: head.vocab_rows]
    keep = np.isfinite(surprisal)
    design = Design(head.columns[:, : head.vocab_rows], keep, seed=options.seed)
    bias = None if head.bias is None else head.bias[: head.vocab_rows].double().cpu().numpy()[keep]
    encoding = fit_encoding(design, surprisal[keep], offset=bias, mean_hidden=detection.mean_hidden, seed=options.seed)
    yield Progress("components", 0)
    components = principal_components(design, surprisal[keep])
    return Analysis(model, source.label, key, tokens, detection, keep, encoding, components, tuple(said))
