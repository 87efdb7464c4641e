"""Model and text in, analysis out: load, detect (or find in the cache), fit; the one path every front end takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.corpus.corpus import HELDOUT_SHARE, TextSource, text_source
from tpe_core.corpus.reading import TextRead
from tpe_core.detection.detection import Detection, detect, detection_key, load_detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.reading import corpus_spec
from tpe_core.encoding.components import Components, principal_components
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import Encoding, fit_encoding
from tpe_core.encoding.geometry import Geometry, geometry, row_products
from tpe_core.encoding.outliers import OutlierDimensions, outlier_dimensions
from tpe_core.encoding.stability import Stability, text_stability
from tpe_core.encoding.static_bias import FinalNorm, StaticBias, final_norm_bias, static_bias
from tpe_core.encoding.undertrained import Undertrained, Untrained, untrained_rows
from tpe_core.encoding.weighted import WeightedComponents, weighted_components
from tpe_core.json_text import nulled
from tpe_core.models.head import OutputHead
from tpe_core.models.loading import load_steps
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.printable import token_texts
from tpe_core.progress import Progress, Steps
from tpe_core.shown import Shown
from tpe_core.snapshots import EncodingTable, ModelInfo
from tpe_core.store import Store

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = ["Analysis", "analyze"]

SAMPLE_CHUNK = 64  # positions whose logits are made at a time


@dataclass(frozen=True, kw_only=True)
class Analysis(Shown):
    """Everything measured about one model on one text. What costs time is computed on first use.

    Example:
        >>> analysis.encoding.slope.shape == (model.head.hidden_size,)
        True
        >>> sorted(analysis.to_dict())[:2]
        ['components', 'components_weighted']
    """

    model: LanguageModel
    source: TextSource  # what was read
    read: TextRead  # how much of it that was
    corpus_fingerprint: str
    tokenizer_sha256: str
    detection: Detection
    keep: NDArray[np.bool_]  # [V] rows in use that were fitted: those with a finite -log alpha
    encoding: Encoding
    components: Components
    mean_row: NDArray[np.float64]  # [d] of W, over the fitted rows
    stability: Stability | None  # slopes from parts of the text; None as `no_stability` says
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was read, for people."""
        return self.source.label

    @property
    def rows_excluded(self) -> int:
        """Padding rows and rows that the model never gives any probability."""
        return self.model.head.padding_rows + int((~self.keep).sum())

    @property
    def no_stability(self) -> str:
        """Why `stability` is None, for people; empty where it is not."""
        if self.stability is not None:
            return ""
        if self.detection.groups is None:
            return "this stored detection is of an older version, without its parts: --refresh reads the text again"
        return f"{self.detection.positions:,} positions of text are too few to take apart: more --positions would do"

    @cached_property
    def surprisal(self) -> NDArray[np.float64]:
        """[V] -log alpha of the rows in use, nats; inf where a row is never predicted."""
        return -self.detection.log_alpha[: self.model.head.vocab_rows]

    @cached_property
    def predicted(self) -> NDArray[np.float64]:
        """[V] the law's -log alpha of the rows in use; NaN where a row was not fitted."""
        result = np.full(self.model.head.vocab_rows, np.nan)
        result[self.keep] = self.encoding.predicted
        return result

    @cached_property
    def tokens(self) -> Sequence[str]:
        """[V] printable texts of the rows in use."""
        return token_texts(self.model.tokenizer, self.model.head.vocab_rows)

    @cached_property
    def final_norm(self) -> FinalNorm | None:
        """The bias of the norm before the head, from one short forward; None where there is none."""
        return final_norm_bias(self.model.hf, self.model.site, self.model.example_inputs())

    @cached_property
    def static_bias(self) -> StaticBias | None:
        """What is predicted before anything is read; None where neither norm nor head has a bias."""
        return static_bias(self.model.head, self.final_norm, self.keep, self.encoding)

    @cached_property
    def outliers(self) -> OutlierDimensions:
        """Dimensions of h that stand out."""
        return outlier_dimensions(self.detection, self.encoding)

    @cached_property
    def untrained(self) -> Untrained:
        """Where rows point that training hardly touched."""
        return untrained_rows(self.model.head, self.surprisal, self.mean_row)

    @cached_property
    def undertrained(self) -> Undertrained:
        """Tokens near the untrained rows, and those that the law fits worst."""
        distance = self.untrained.distances(*self._rows)
        counts = self.detection.counts[: len(distance)]
        return Undertrained(
            untrained=self.untrained,
            distance=distance,
            residual=self.surprisal - self.predicted,
            surprisal=self.surprisal,
            counts=counts,
        )

    @cached_property
    def geometry(self) -> Geometry:
        """Common drift, rank and effective null space of W."""
        return geometry(self._rows[1][self.keep], self.mean_row, self.components, self.detection)

    @cached_property
    def components_weighted(self) -> WeightedComponents:
        """Principal components of W under alpha."""
        return weighted_components(self.model.head, self.keep, self.encoding.surprisal, self.mean_row)

    @cached_property
    def _rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(W @ [untrained direction, mean row] [V, 2], lengths of W's rows [V]): one pass for all that needs them."""
        return row_products(self.model.head, np.stack([self.untrained.direction, self.mean_row], 1))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe analyze`; numbers that do not exist are null."""
        encoding, components, head = self.encoding, self.components, self.model.head
        table = [encoding.slope, encoding.slope_std, encoding.stderr, encoding.t, encoding.p, encoding.q, encoding.r]
        names = ["slope", "slope_std", "stderr", "t", "p", "q", "r"]
        if (text := self.stability) is not None:
            table += [text.stderr, text.low, text.high]
            names += ["text_stderr", "text_low", "text_high"]
        order = np.argsort(-np.abs(encoding.slope), kind="stable")
        document = {
            "schema": 1,
            "model": self.model.name,
            "revision": self.model.revision,
            "vocab_rows": head.vocab_rows,
            "rows_excluded": self.rows_excluded,
            "hidden_size": head.hidden_size,
            "head": {
                "tied": head.tied,
                "bias": head.bias is not None,
                "dtype": self.model.report.dtype,
                "cap": None if head.post.is_linear else head.post.cap,
            },
            "positions": self.detection.positions,
            "loss": self.detection.loss,
            "text": self.read.to_dict(),
            "encoding": {
                "r2": encoding.r2,
                "r2_adjusted": encoding.r2_adjusted,
                "r2_heldout_vocab": encoding.r2_heldout_vocab,
                "r2_permuted": encoding.r2_permuted,
                "cosine_to_mean_hidden": encoding.cosine_to_mean_hidden,
                "jensen_correlation": encoding.jensen_correlation,
                "intercept": encoding.intercept,
                "condition_number": encoding.condition_number,
                "rank": encoding.rank,
                "undetermined": encoding.undetermined.tolist(),
            },
            "components": {
                "explained_variance_ratio": components.explained_variance_ratio.tolist(),
                "correlations": components.correlations.tolist(),
            },
            "components_weighted": self.components_weighted.to_dict(),
            "static_bias": None if self.static_bias is None else self.static_bias.to_dict(),
            "outlier_dimensions": self.outliers.to_dict(),
            "geometry": self.geometry.to_dict(),
            "undertrained": self.undertrained.to_dict(self.tokens),
            "sparsity": {
                "r2_by_k": {str(k): value for k, value in encoding.r2_by_k().items()},
                "gini": encoding.gini,
                "participation_ratio": encoding.participation_ratio,
            },
            "stability": None if text is None else text.to_dict(),
            "dimensions": [
                {
                    "rank": rank,
                    "dim": int(dim),
                    **{name: float(values[dim]) for name, values in zip(names, table, strict=True)},
                }
                for rank, dim in enumerate(order, 1)
            ],
        }
        cleaned: dict[str, Any] = nulled(document)
        return cleaned

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        from tpe_core import fit_tables

        return {
            "fit": lambda: fit_tables.fit_table(self.table()),
            "pca": lambda: fit_tables.pca_table(self.table()),
            "slopes": lambda: fit_tables.slopes_table(self.table()),
            "components": lambda: fit_tables.components_table(self.table()),
            "r2_by_k": lambda: fit_tables.r2_by_k_table(self.encoding.r2_by_k()),
        }

    def _subject(self) -> str:
        return self.model.name

    def _summary(self) -> Mapping[str, object]:
        fit, head = self.encoding, self.model.head
        return {
            "tokens in use": head.vocab_rows,
            "dimensions": head.hidden_size,
            "positions of text": self.detection.positions,
            "R²": fit.r2,
            "R², adjusted": fit.r2_adjusted,
            "R², held-out vocabulary": fit.r2_heldout_vocab,
            "R², permuted": fit.r2_permuted,
            "dimensions for 90 % of R²": fit.dimensions_for(0.9),
            "Gini of |slope|·sd": fit.gini,
            "cosine of slopes and −E[h]": fit.cosine_to_mean_hidden,
        }

    def table(self) -> EncodingTable:
        """The analysis as the arrays a front end shows. Rows left out of the fit keep NaN predictions and scores."""
        encoding, head, vocab = self.encoding, self.model.head, self.model.head.vocab_rows
        scores = np.full((vocab, 2), np.nan, dtype=np.float32)
        scores[self.keep] = self.components.scores
        report = self.model.report
        info = ModelInfo(
            name=self.model.name,
            revision=self.model.revision,
            vocab_rows=vocab,
            padding_rows=head.padding_rows,
            hidden_size=head.hidden_size,
            context=self.model.context,
            device=report.device,
            dtype=report.dtype,
            tied=head.tied,
        )
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
            surprisal=self.surprisal,
            predicted=self.predicted,
            pc_scores=scores,
            tokens=self.tokens,
            mean_hidden=self.detection.mean_hidden,
            sd_hidden=np.sqrt(self.detection.variance_hidden),
            rms_hidden=self.outliers.rms,
            sd_weight=encoding.scale,
            outlier=self.outliers.flags,
            stability=self.stability,
        )


def _jensen_under_a_cap(
    head: OutputHead, sample: HiddenSample, surprisal: NDArray[np.float64], keep: NDArray[np.bool_]
) -> float:
    """corr(-log alpha, E[-log p]) where log p is not linear in h: from the stored hidden states; NaN without any."""
    if not len(sample):
        return math.nan
    total = torch.zeros(head.total_rows, dtype=torch.float64, device=head.columns.device)
    with torch.inference_mode():
        for part in torch.from_numpy(sample.hidden).split(SAMPLE_CHUNK):
            total += head.logits(part).sum(0, dtype=torch.float64)
    mean = (total / len(sample)).cpu().numpy()[: len(keep)]
    return float(np.corrcoef(surprisal[keep], -mean[keep])[0, 1])


def analyze(
    options: RunOptions,
    store: Store | None = None,
    stdin: BinaryIO | None = None,
    model: LanguageModel | None = None,
) -> Steps[Analysis]:
    """Load a model, detect over its text, fit the law: a job that returns an `Analysis`.

    `store` defaults to the user's cache, unless `options.cache` is off; a `model` already loaded is used as it is.
    Raises `TpeError` subclasses in one sentence.

    Args:
        options: What to load and to read.
        store: Where detections are kept.
        stdin: What ``-`` in `options.text` reads.
        model: A model that is loaded already.

    Returns:
        A job; `run` drives it to its `Analysis`.

    Example:
        >>> analysis = tpe.run(tpe.analyze(tpe.RunOptions("demo")))  # doctest: +SKIP
        >>> analysis.encoding.r2_adjusted  # doctest: +SKIP
    """
    source = text_source(options.text, stdin, text_field=options.text_field, offline=options.offline)
    if model is None:
        model = yield from load_steps(options)
    head = model.head
    warnings: list[str] = []
    if store is None and options.cache:
        store = Store(on_problem=warnings.append)
    spec = corpus_spec(source, model, options.positions)
    stored = None
    if not options.refresh:
        stored = load_detection(store, detection_key(model, spec.key, options.sample, options.seed), head)
    if stored is not None:
        detection = stored[0]
        read = spec.read(store, detection.positions)
    else:
        corpus = yield from spec.corpus()
        spec.keep_read(store, corpus.read)
        detection = yield from detect(
            model, corpus, sample_size=options.sample, seed=options.seed, store=store, refresh=options.refresh
        )
        read = replace(corpus.read or spec.read(None, 0), positions=detection.positions)
    if detection.positions < options.positions:
        warnings.append(
            f"the text has only {detection.positions:,} of the {options.positions:,} positions asked for "
            f"(beside the {HELDOUT_SHARE:.0%} held out for evaluation): add text for steadier slopes."
        )
    surprisal = -detection.log_alpha[: head.vocab_rows]
    keep = np.isfinite(surprisal)
    design = yield from Design.made(head.columns[:, : head.vocab_rows], keep, seed=options.seed)
    yield Progress("fit", 0)
    bias = None if head.bias is None else head.bias[: head.vocab_rows].double().cpu().numpy()[keep]
    encoding = fit_encoding(design, surprisal[keep], offset=bias, mean_hidden=detection.mean_hidden, seed=options.seed)
    if not head.post.is_linear:
        encoding = replace(encoding, jensen_correlation=_jensen_under_a_cap(head, detection.sample, surprisal, keep))
    if encoding.warning is not None:
        warnings.append(encoding.warning)
    stability = None
    if detection.groups is not None:
        yield Progress("parts of the text", 0)
        stability = text_stability(design, encoding.slope, detection.groups, keep, bias)
    yield Progress("components", 0)
    components = principal_components(design, encoding.r)
    return Analysis(
        model=model,
        source=source,
        read=read,
        corpus_fingerprint=spec.key,
        tokenizer_sha256=spec.tokenizer_sha256,
        detection=detection,
        keep=keep,
        encoding=encoding,
        components=components,
        mean_row=design.mean,
        stability=stability,
        warnings=(*model.warnings, *warnings),
    )
