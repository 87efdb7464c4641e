"""What a draft vocabulary holds of a model's next tokens, on three texts, in every order and at every size.

A draft model for speculative decoding whose head has k of the target's V rows proposes those tokens alone. At a
position the target accepts a proposal with probability ``sum_w min(p_x(w), q_x(w))``, at most the probability that
p_x gives to the kept tokens: that share, averaged over positions, is the coverage. It is additive over tokens, so one
mean probability per token and text gives the coverage of every order at every size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.corpus.domains import DOMAINS
from tpe_core.errors import TpeError
from tpe_core.pauses import pause
from tpe_core.printable import special_ids
from tpe_core.progress import Progress, Steps
from tpe_core.vocabulary.orders import ORDERS, TokenEvidence, ordered

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis
    from tpe_core.detection.hidden import HiddenSample
    from tpe_core.detection.samples import Samples
    from tpe_core.models.head import OutputHead

__all__ = ["JUDGED", "DraftVocabulary", "TokenShares", "check_coverage", "draft_vocabulary", "ladder", "token_shares"]

JUDGED = "heldout"
"""The text on which orders are chosen and `coverage` is asked: like the detecting text, and unseen by it."""

CHUNK = 64  # positions whose probabilities are made at a time
FIRST = 1024  # the smallest size of the ladder, less where V is small
DOUBLINGS = 5  # at least so many sizes below V, where V allows

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenShares:
    """Of one text: the mean probability of every row, and the share of positions after which it really came."""

    probability: Floats  # [V_all]
    came: Floats  # [V_all]
    positions: int
    text: str  # what was read, for people


@dataclass(frozen=True, kw_only=True)
class DraftVocabulary:
    """The rows that a draft head keeps, and what they hold on three texts in each order.

    Rows without a token (padding) are never kept, special tokens always are, in front of every order.

    Example:
        >>> from tpe_core.detection.samples import read_samples
        >>> steps = read_samples(model, analysis.detection.sample, analysis.source, size=64)
        >>> draft = tpe.run(tpe.draft_vocabulary(analysis, tpe.run(steps), keep=512))
        >>> len(draft.token_ids), draft.order in draft.orders
        (512, True)
        >>> draft.coverage(512)["heldout"] <= draft.coverage(1024)["heldout"]
        True
    """

    model: str
    revision: str | None
    vocab_rows: int  # V
    total_rows: int  # V_all: with padding rows, the width of the target's logits
    special: Ids  # ascending
    orders: Mapping[str, Ids]  # [V] token ids by order, the one kept first in front
    shares: Mapping[str, TokenShares]  # by domain
    order: str  # the one in force
    size: int  # k, the rows kept
    chosen: bool  # whether `order` is the better on held-out text, not one that was asked for
    warnings: tuple[str, ...] = ()

    @cached_property
    def token_ids(self) -> Ids:
        """[k] the target's ids of the rows kept, ascending: row i of the draft head is token ``token_ids[i]``."""
        result: Ids = np.sort(self.orders[self.order][: self.size])
        return result

    @property
    def draft_to_target(self) -> Ids:
        """[k] ``d2t`` of EAGLE-style draft heads: the target's id of draft token i is ``i + d2t[i]``."""
        return self.token_ids - np.arange(self.size)

    @property
    def target_to_draft(self) -> NDArray[np.bool_]:
        """[V_all] ``t2d`` of EAGLE-style draft heads: whether each row of the target is kept."""
        kept = np.zeros(self.total_rows, dtype=np.bool_)
        kept[self.token_ids] = True
        return kept

    def coverage(self, size: int, order: str | None = None) -> dict[str, float]:
        """Share of the next token's probability that the first `size` rows of an order hold, by domain."""
        return {name: _held(each.probability, self._first(size, order)) for name, each in self.shares.items()}

    def came(self, size: int, order: str | None = None) -> dict[str, float]:
        """Share of positions after which one of the first `size` tokens of an order really came, by domain."""
        return {name: _held(each.came, self._first(size, order)) for name, each in self.shares.items()}

    def best(self, size: int, domain: str = JUDGED) -> str:
        """The order whose first `size` rows hold most of the probability on a text; the first named where two do."""
        return max(self.orders, key=lambda order: self.coverage(size, order)[domain])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of tables: the ladder with the size in force."""
        return tuple(sorted({*ladder(self.vocab_rows, len(self.special)), self.size}))

    def _first(self, size: int, order: str | None) -> Ids:
        return self.orders[order or self.order][:size]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe vocabulary`; the ids are in the files."""
        return {
            "schema": 1,
            "model": self.model,
            "revision": self.revision,
            "vocab_rows": self.vocab_rows,
            "padding_rows": self.total_rows - self.vocab_rows,
            "special_rows": len(self.special),
            "rows": self.size,
            "order": self.order,
            "chosen": self.chosen,
            "probability": self.coverage(self.size),
            "came": self.came(self.size),
            "best": {name: self.best(self.size, name) for name in self.shares},
            "texts": {name: {"label": each.text, "positions": each.positions} for name, each in self.shares.items()},
            "ladder": [
                {
                    "rows": size,
                    "best": {name: self.best(size, name) for name in self.shares},
                    "orders": {
                        order: {"probability": self.coverage(size, order), "came": self.came(size, order)}
                        for order in self.orders
                    },
                }
                for size in self.sizes
            ],
            "warnings": list(self.warnings),
        }


def check_coverage(coverage: float) -> None:
    """Refuse what is no share to reach. Raises `TpeError`."""
    if not 0 < coverage < 1:
        raise TpeError(f"the coverage is a share between 0 and 1, such as 0.95, not {coverage:g}.")


def _held(shares: Floats, ids: Ids) -> float:
    return float(shares[ids].sum())


def ladder(vocab_rows: int, special: int = 0) -> tuple[int, ...]:
    """Sizes at which coverage is shown: powers of two from 1,024 on (from V / 32 where that is less) below V."""
    size = 1
    while size * 2 <= min(FIRST, max(1, vocab_rows >> DOUBLINGS)):
        size *= 2
    sizes = []
    while size < vocab_rows:
        sizes.append(size)
        size *= 2
    return tuple(each for each in sizes if each >= special)


def token_shares(head: OutputHead, sample: HiddenSample, text: str, label: str = "") -> Steps[TokenShares]:
    """Mean probability of every row over a sample, and how often each came next: a job, a V-wide pass."""
    total = torch.zeros(head.total_rows, dtype=torch.float64)
    for first in range(0, len(sample), CHUNK):
        yield Progress(f"read the {label or 'sampled'} text", first, len(sample))
        with torch.inference_mode():
            logits = head.logits(torch.from_numpy(sample.hidden[first : first + CHUNK]))
            pause()
            total += torch.softmax(logits, 1).sum(0).double().cpu()
    count = len(sample)
    came = np.bincount(sample.next_ids, minlength=head.total_rows) / count
    return TokenShares(probability=total.numpy() / count, came=came, positions=count, text=text)


def draft_vocabulary(
    analysis: Analysis,
    samples: Samples,
    *,
    keep: int | None = None,
    coverage: float | None = None,
    order: str | None = None,
    seed: int = 0,
) -> Steps[DraftVocabulary]:
    """Choose the rows that a draft head for speculative decoding keeps, and measure what they hold: a job.

    Give one of `keep` and `coverage`. Raises `TpeError` for a size that cannot be, a share that all rows in use do not
    reach (padding rows have probability, too), and an unknown order.

    Args:
        analysis: The analysed model; its detection orders the tokens and is the local text.
        samples: Its held-out and out-of-domain text, of `tpe_core.detection.samples.read_samples`.
        keep: How many rows to keep, special tokens among them.
        coverage: Instead, the least share of the next token's probability on held-out text: as few rows as hold it.
        order: A name of `tpe_core.vocabulary.orders.ORDERS`; None: the one that serves best on held-out text.
        seed: Of the random order of ties.

    Returns:
        A job; `run` drives it to its `DraftVocabulary`.

    Example:
        >>> from tpe_core.detection.samples import read_samples
        >>> steps = read_samples(model, analysis.detection.sample, analysis.source, size=64)
        >>> draft = tpe.run(tpe.draft_vocabulary(analysis, tpe.run(steps), coverage=0.9))
        >>> bool(draft.coverage(draft.size)["heldout"] >= 0.9)
        True
    """
    head, detection = analysis.model.head, analysis.detection
    special = np.array(special_ids(analysis.model.tokenizer, head.vocab_rows), dtype=np.int64)
    if order is not None:
        ORDERS.choose(order)
    if (keep is None) == (coverage is None):
        raise TpeError("give the number of rows to keep, or the coverage to reach: one of the two.")
    if coverage is not None:
        check_coverage(coverage)
    if keep is not None and not max(1, len(special)) <= keep <= head.vocab_rows:
        raise TpeError(
            f"{keep:,} rows cannot be kept: choose from {max(1, len(special)):,} (the special tokens, which are always "
            f"kept) to {head.vocab_rows:,} (all rows in use)."
        )
    shares = {
        "local": TokenShares(
            probability=np.exp(detection.log_alpha),
            came=detection.counts / detection.positions,
            positions=detection.positions,
            text=analysis.text,
        )
    }
    texts = {"heldout": samples.heldout_text, "ood": samples.ood_text}
    for name, sample in samples.items():
        if name not in shares:
            shares[name] = yield from token_shares(head, sample, texts[name], DOMAINS[name].adjective)
    evidence = TokenEvidence(
        log_alpha=detection.log_alpha[: head.vocab_rows],
        counts=detection.counts[: head.vocab_rows],
        positions=detection.positions,
        seed=seed,
    )
    orders = {name: ordered(name, evidence, special) for name in ORDERS}
    candidates = [order] if order is not None else list(orders)
    judged = shares[JUDGED].probability
    needed = dict.fromkeys(candidates, keep or 0)
    if coverage is not None:
        needed = {name: _least(judged[orders[name]], coverage, len(special)) for name in candidates}
    size = min(needed.values())
    best = max(candidates, key=lambda name: (-needed[name], _held(judged, orders[name][:size])))
    return DraftVocabulary(
        model=analysis.model.name,
        revision=analysis.model.revision,
        vocab_rows=head.vocab_rows,
        total_rows=head.total_rows,
        special=special,
        orders=orders,
        shares=shares,
        order=best,
        size=size,
        chosen=order is None,
        warnings=samples.warnings,
    )


def _least(shares: Floats, coverage: float, special: int) -> int:
    """The fewest rows of [V] shares, in their order, that sum to `coverage`; never fewer than the special ones."""
    sums = np.cumsum(shares)
    if sums[-1] < coverage:
        raise TpeError(
            f"all {len(shares):,} rows in use hold {sums[-1]:.6f} of the held-out probability, not {coverage:g}: "
            "the rest is that of padding rows; ask for less."
        )
    return max(1, special, int(np.searchsorted(sums, coverage)) + 1)
