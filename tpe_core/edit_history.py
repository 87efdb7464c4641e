"""The state a front end shows: prompt, intervention with undo and redo, and what the engine last answered.

No torch, no I/O, no UI. The engine side (`tpe_core.session`) fills the frozen snapshots below; a front end
reads them and changes the intervention here, so that nothing typed is lost while the engine is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from tpe_core.edits.intervention import Intervention, Method, Steering
from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.shares import count_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
else:
    np = Deferred("numpy")

__all__ = [
    "DimensionDetail",
    "EditHistory",
    "EncodingTable",
    "ModelInfo",
    "NextTokens",
    "PruningForecast",
    "TokenDetail",
]

SORT_KEYS = ("slope", "slope_std", "t", "r", "dim")
MAX_UNDO = 1000


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

    def rank_percentile(self) -> Floats:
        """[V] in [0, 1]: 0 for the most probable token."""
        ranks = np.empty(len(self.surprisal))
        ranks[np.argsort(self.surprisal, kind="stable")] = np.arange(len(self.surprisal))
        return ranks / max(1, len(ranks) - 1)

    def key(self, name: str) -> Floats:
        """[d] the values a sort key orders by, larger first: magnitudes, but for ``dim``."""
        if name == "dim":
            return -np.arange(len(self.slope), dtype=float)
        if name not in SORT_KEYS:
            raise TpeError(f"unknown sort key {name!r}: choose one of {', '.join(SORT_KEYS)}.")
        values: Floats = np.abs(getattr(self, name))
        return values

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningForecast:
    """What an edit should cost over the detecting text: its mask by KL's second-order expansion, steering beside it."""

    pruned: tuple[int, ...]
    replacement: str
    steering: tuple[Steering, ...]
    kl: float  # nats, of both; trustworthy while it is small
    toggled: Floats | None  # [d] nats with each dimension toggled as well; None under least-squares


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


@dataclass(kw_only=True)
class EditHistory:
    """A prompt and an intervention with undo. Every change of the edit goes through `apply`, back to `start`.

    Args:
        prompt: What is typed.
        hidden_size: Dimensions of the head, d.
        vocab_rows: Rows of the head in use.
        method: The steering method of `steer`.
        start: The intervention to begin with; nothing is edited where None.
        saved: The intervention that a file holds.

    Example:
        >>> history = tpe.EditHistory(prompt="Return the", hidden_size=64, vocab_rows=1000)
        >>> history.toggle([3, 14])
        True
        >>> history.intervention.pruned, history.undo(), history.intervention.pruned
        ((3, 14), True, ())
    """

    prompt: str = ""
    hidden_size: int = 0
    vocab_rows: int = 0
    method: Method = "least-squares"
    start: InitVar[Intervention | None] = None
    saved: Intervention | None = None  # what was written to a file last, or read from one
    _history: list[Intervention] = field(init=False)
    _at: int = field(default=0, init=False)

    def __post_init__(self, start: Intervention | None) -> None:
        self._history = [start or Intervention()]

    @property
    def intervention(self) -> Intervention:
        """The edit in force."""
        return self._history[self._at]

    @property
    def is_unsaved(self) -> bool:
        """Whether there is an edit in force that no file holds."""
        return not self.intervention.is_empty and self.intervention != self.saved

    @property
    def undo_depth(self) -> tuple[int, int]:
        """How many steps can be undone and redone."""
        return self._at, len(self._history) - 1 - self._at

    def apply(self, intervention: Intervention) -> bool:
        """Make `intervention` the one in force; False (and no undo step) where it changes nothing.

        Raises `TpeError` where it names a dimension or token that the head does not have.
        """
        if self.hidden_size:
            intervention.check_fits(self.hidden_size, self.vocab_rows)
        if intervention == self.intervention:
            return False
        del self._history[self._at + 1 :]
        self._history.append(intervention)
        del self._history[: max(0, len(self._history) - MAX_UNDO)]
        self._at = len(self._history) - 1
        return True

    def undo(self) -> bool:
        """Go one step back; False at the beginning."""
        moved = self._at > 0
        self._at -= moved
        return moved

    def redo(self) -> bool:
        """Go one step forward; False at the end."""
        moved = self._at + 1 < len(self._history)
        self._at += moved
        return moved

    def toggle(self, dims: Sequence[int]) -> bool:
        """Prune the kept ones of `dims`, restore the pruned ones."""
        return self.apply(self.intervention.toggle(dims))

    def prune_bottom(self, share: float, table: EncodingTable, key: str = "slope") -> bool:
        """Prune exactly the `share` of dimensions with the smallest |key| (the paper's order for ``slope``)."""
        if not 0 <= share <= 1:
            raise TpeError(f"a share must lie between 0 and 1, not {share:g}.")
        count = count_of(share, self.hidden_size)
        dims = table.order(key, descending=False)[:count]
        return self.apply(self.intervention.only(int(dim) for dim in dims))

    def invert(self) -> bool:
        """Prune exactly what is kept now."""
        return self.apply(self.intervention.invert(self.hidden_size))

    def clear(self) -> bool:
        """Undo every edit at once, as one undoable step."""
        return self.apply(self.intervention.clear())

    def set_replacement(self, replacement: str) -> bool:
        """Choose what stands in for pruned dimensions."""
        return self.apply(self.intervention.with_replacement(replacement))

    def steer(self, token_id: int, ratio: float) -> bool:
        """Steer a token with the chosen method; a ratio of 1 stops steering it."""
        return self.apply(self.intervention.steer(token_id, ratio, self.method))
