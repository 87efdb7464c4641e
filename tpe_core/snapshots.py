"""What the engine answers, as frozen values that a front end shows: tables, distributions, details. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.encoding.stability import Stability

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
else:
    np = Deferred("numpy")

__all__ = [
    "CONDITION_FLAGS",
    "CONDITION_NUMBERS",
    "FURTHER_KEYS",
    "SORT_KEYS",
    "DimensionDetail",
    "EncodingTable",
    "LostTokens",
    "ModelInfo",
    "NextTokens",
    "PromptCost",
    "PromptPositions",
    "PruningForecast",
    "TokenDetail",
]

SORT_KEYS = ("slope", "slope_std", "t", "r", "dim")
FURTHER_KEYS = ("stderr", "q", "p", "mean_hidden", "sd_hidden", "rms_hidden", "sd_weight")
"""Columns that a table can be ordered by as well, which are not asked for as often."""

CONDITION_NUMBERS: Mapping[str, str] = {
    "slope": "slope", "std": "slope_std", "stderr": "stderr", "t": "t", "p": "p", "q": "q", "r": "r",
    "mean_h": "mean_hidden", "sd_h": "sd_hidden", "rms_h": "rms_hidden", "sd_w": "sd_weight", "rank": "", "dim": "",
}  # fmt: skip
"""What a condition calls the numbers of a dimension, and the table's fields; ``rank`` is that by slope."""

CONDITION_FLAGS = ("pruned", "outlier")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is loaded: `vocab_rows` rows in use (padding excluded) by `hidden_size` dimensions."""

    name: str
    revision: str | None
    vocab_rows: int
    padding_rows: int
    hidden_size: int
    context: int
    device: str
    dtype: str
    tied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingTable:
    """The analysis as arrays: per dimension [d], per token [V], per component [d]. Natural logarithms throughout."""

    info: ModelInfo
    text: str  # what text was read, for people
    positions: int
    r2: float
    r2_adjusted: float
    r2_heldout_vocab: float
    r2_permuted: float
    intercept: float
    slope: Floats  # [d] A, nats per unit of weight
    slope_std: Floats  # [d] A_i * sd(W_:i), nats
    stderr: Floats  # [d]
    t: Floats  # [d]
    p: Floats  # [d]
    q: Floats  # [d] Benjamini-Hochberg
    r: Floats  # [d] Pearson correlation of the column with -log alpha
    explained: Floats  # [d] explained variance ratio of each principal component
    pc_correlation: Floats  # [d] correlation of each component's scores with -log alpha
    surprisal: Floats  # [V] -log alpha
    predicted: Floats  # [V] A.W_w + B (+ offset)
    pc_scores: NDArray[np.float32]  # [V, 2] scores on the first two components
    tokens: Sequence[str]  # [V] printable token texts
    mean_hidden: Floats  # [d] E[h_i]
    sd_hidden: Floats  # [d] standard deviation of h_i
    rms_hidden: Floats  # [d] sqrt(E[h_i^2])
    sd_weight: Floats  # [d] standard deviation of the column
    outlier: NDArray[np.bool_]  # [d] whether h_i stands out: `tpe_core.encoding.outliers`
    stability: Stability | None = None  # slopes from parts of the text; None where that is not known

    def rank_percentile(self) -> Floats:
        """[V] in [0, 1]: 0 for the most probable token."""
        ranks = np.empty(len(self.surprisal))
        ranks[np.argsort(self.surprisal, kind="stable")] = np.arange(len(self.surprisal))
        return ranks / max(1, len(ranks) - 1)

    def key(self, name: str) -> Floats:
        """[d] the values a sort key orders by, larger first: magnitudes, but for ``dim``."""
        if name == "dim":
            return -np.arange(len(self.slope), dtype=float)
        if name not in (*SORT_KEYS, *FURTHER_KEYS):
            raise TpeError(f"unknown sort key {name!r}: choose one of {', '.join((*SORT_KEYS, *FURTHER_KEYS))}.")
        values: Floats = np.abs(getattr(self, name))
        return values

    def where(self, condition: str, pruned: Sequence[int] = ()) -> NDArray[np.bool_]:
        """[d] of which dimensions a condition holds, such as ``abs(slope) > 1 and not pruned and sd_h < 3``.

        Args:
            condition: Of the names of `CONDITION_NUMBERS` and `CONDITION_FLAGS`; `tpe_core.expressions` has the syntax.
            pruned: The dimensions that count as pruned.

        Raises:
            TpeError: Where it is not understood, in one sentence.
        """
        from tpe_core.expressions import parse_condition

        rank = np.empty(len(self.slope), dtype=np.int64)
        rank[self.order()] = np.arange(1, len(rank) + 1)
        mask = np.zeros(len(rank), dtype=bool)
        mask[list(pruned)] = True
        columns: dict[str, NDArray[Any]] = {
            name: getattr(self, field) for name, field in CONDITION_NUMBERS.items() if field
        }
        columns |= {"rank": rank, "dim": np.arange(len(rank)), "pruned": mask, "outlier": self.outlier}
        return parse_condition(condition, CONDITION_NUMBERS, CONDITION_FLAGS).holds(columns)

    def order(self, name: str = "slope", descending: bool = True) -> Ints:
        """[d] dimensions in the order of a sort key, ties by index."""
        values = self.key(name)
        order: Ints = np.argsort(-values if descending else values, kind="stable")
        return order


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTokens:
    """The next-token distribution for one prompt, before and after the edit: the most probable tokens of either."""

    prompt: str
    prompt_tokens: int  # how many tokens the prompt has
    truncated: int  # leading tokens dropped to fit the model's context
    intervention: Intervention
    ids: Ints  # [k], most probable under the edit first
    base: Floats  # [k] p
    now: Floats  # [k] p'
    kl: float  # KL(base || now), nats
    js: float  # Jensen-Shannon divergence, nats
    top1_changed: bool
    entropy_base: float  # nats
    entropy_now: float
    milliseconds: float  # engine time of this answer
    position: int | None = None  # index of the prompt's token that was asked about; None where the prompt itself asks


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPositions:
    """What an edit does at every token of a prompt, special tokens included; of an encoder-decoder model the decoder's.

    A causal model and a decoder predict the token after each (`is_next`): KL and top-1 are of the distribution after
    the token, its surprisal is of the token itself given those before it. A masked model predicts the token in each
    place, having read all that is not a mask, the token itself included.
    """

    prompt: str
    intervention: Intervention
    ids: Ints  # [n] tokens
    texts: tuple[str, ...]  # n printable texts
    asked: int  # the position where the prompt asks for a token
    truncated: int  # leading tokens dropped to fit the model's context
    is_next: bool
    surprisal_base: Floats  # [n] -log p of the token, unedited, nats; NaN where nothing predicts it (the first, a mask)
    surprisal_now: Floats  # [n] the same under the edit
    kl: Floats  # [n] KL(base || now) of the distribution at each position, nats
    top1_base: Ints  # [n] the most probable token there
    top1_now: Ints  # [n]
    milliseconds: float  # engine time of this answer

    @property
    def top1_changed(self) -> NDArray[np.bool_]:
        """[n] whether the most probable token is another one under the edit."""
        changed: NDArray[np.bool_] = self.top1_base != self.top1_now
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCost:
    """What an edit does after one of several prompts, where it asks for a token."""

    prompt: str
    intervention: Intervention
    tokens: int = 0  # of the prompt
    truncated: int = 0  # leading tokens dropped to fit the model's context
    kl: float = 0.0  # KL(base || now), nats
    top1_base: int = 0  # the most probable token
    top1_now: int = 0
    problem: str = ""  # why there are no figures, in a sentence

    @property
    def top1_changed(self) -> bool:
        """Whether the most probable token is another one under the edit."""
        return self.top1_base != self.top1_now


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningForecast:
    """What an edit should cost over the detecting text: its mask by KL's second-order expansion, steering beside it."""

    pruned: tuple[int, ...]
    replacement: str
    steering: tuple[Steering, ...]
    kl: float  # nats, of both; trustworthy while it is small
    toggled: Floats | None  # [d] nats with each dimension toggled as well; None under least-squares


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTokens:
    """Tokens that no hidden state makes the top token under an edit, and some hidden state does without it.

    The tokens whose rows lie nearest the middle are looked at first, so those that can be lost are among the first.
    """

    ids: tuple[int, ...]  # the most frequent first
    checked: int  # tokens looked at
    vocab_rows: int

    @property
    def is_complete(self) -> bool:
        """Whether every token was looked at."""
        return self.checked >= self.vocab_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class DimensionDetail:
    """One dimension: the tokens with the largest and the smallest weight in it, and how large h is there."""

    dim: int
    top: tuple[tuple[int, float], ...]  # (token id, weight), largest first
    bottom: tuple[tuple[int, float], ...]  # smallest first
    mean_hidden: float  # E[h_i]
    sd_hidden: float  # standard deviation of h_i
    rms_hidden: float  # sqrt(E[h_i^2])
    outlier: bool  # whether rms or variance stands out among the dimensions
    sd_weight: float

    @classmethod
    def of(
        cls, table: EncodingTable, dim: int, top: tuple[tuple[int, float], ...], bottom: tuple[tuple[int, float], ...]
    ) -> DimensionDetail:
        """The details of a dimension of a table, with the tokens at its ends."""
        return cls(
            dim=dim,
            top=top,
            bottom=bottom,
            mean_hidden=float(table.mean_hidden[dim]),
            sd_hidden=float(table.sd_hidden[dim]),
            rms_hidden=float(table.rms_hidden[dim]),
            outlier=bool(table.outlier[dim]),
            sd_weight=float(table.sd_weight[dim]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDetail:
    """One token: its mean probability, the fit's residual, its rank, and its probability now."""

    token_id: int
    text: str
    alpha: float
    surprisal: float  # -log alpha
    predicted: float
    residual: float
    rank: int  # 1 for the most probable token on average
    count: int  # occurrences as the next token in the detecting text
    base: float  # probability after the prompt
    now: float
    ratio: float  # asked steering ratio, 1 where not steered
    static_bias: float  # W_w . beta + b_w, what is predicted before anything is read; NaN where there is none
    untrained: float  # cosine of the centred row with the mean untrained row: near 1 for under-trained tokens
    attainable: float = 1.0  # the probability after the prompt that no edit of this token can exceed: 1 without a cap
