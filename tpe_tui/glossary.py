"""What the columns, the words of the status line and the figures about the fit mean, for the help and the screens."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tpe_core.pruning.orders import ORDERS

__all__ = ["COLUMNS", "FIGURES", "STATUS", "Word", "sections"]


class Word(NamedTuple):
    """What something means, and what a good value is, where one can be named."""

    meaning: str
    good: str = ""

    @property
    def line(self) -> str:
        """Both, as one line."""
        return f"{self.meaning}; {self.good}." if self.good else f"{self.meaning}."


COLUMNS: Mapping[str, Word] = MappingProxyType(
    {
        "rank": Word("place in the order: of dimensions by the sort key, of tokens by alpha, 1 is the largest"),
        "dim": Word("index of a dimension of the hidden state h, a column of the output embedding W"),
        "slope": Word("A, what -log alpha changes by per unit of the dimension's weight, nats"),
        "std": Word("slope times the spread of the dimension's weights: nats that one standard deviation is worth"),
        "stderr": Word("standard error of the slope, of the regression over the vocabulary"),
        "t": Word("slope over its standard error", "beyond 4 in size it is hardly chance"),
        "r": Word("correlation of the dimension's weights with -log alpha, over all tokens"),
        "q": Word("chance of a slope this large without any effect, corrected for testing every dimension"),
        "mean h": Word("mean of the dimension of the hidden state h over the positions of the text"),
        "sd h": Word("standard deviation of the dimension of h over the positions"),
        "rms h": Word("root of the mean square of the dimension of h"),
        "sd W": Word("standard deviation of the dimension's weights over all tokens"),
        "token": Word("a token of the vocabulary, its leading space as a dot"),
        "id": Word("the token's number in the vocabulary"),
        "base": Word("probability as the next token, of the unedited head"),
        "now": Word("probability as the next token, under the edit in force"),
        "Δ pts": Word("now less base, in percentage points; a dot where it rounds to nothing"),
        "alpha": Word("mean probability of the token over the positions of the text"),
        "−log α": Word("-log alpha, nats: large for a rare token"),
        "fitted": Word("what the law A.W + B says that -log alpha is, nats"),
        "residual": Word("-log alpha less fitted, nats: above 0 the token is rarer than the law says", "0 is exact"),
        "log p": Word("log-probability right after the prompt, unedited, nats"),
        "KL": Word("KL divergence of the edited from the base distribution, nats", "0 is no change"),
        "JS": Word("Jensen-Shannon divergence of the two, nats", "0 is no change, log 2 the most"),
        "top-1": Word("share of positions at which the most probable token stays the same"),
        "perplex.": Word("perplexity of the text under the edit: the exponential of its mean loss"),
        "surprisal": Word("-log p of a token of the prompt given those before it, nats", "0 is certain"),
        "entropy": Word("mean entropy of the next token, nats"),
    }
)
"""The titles of the tables' columns."""

STATUS: Mapping[str, Word] = MappingProxyType(
    {
        "600×64": Word("tokens of the vocabulary, by dimensions of h"),
        "cpu float32": Word("where the model runs, and the type of its weights"),
        "adj R²": Word("share of the variance of -log alpha that the law explains, less what chance would"),
        "pruned": Word("dimensions taken out of h, of all; behind it what stands in for them"),
        "steered": Word("tokens whose rows of W are changed"),
        "KL": Word("KL divergence that the edit makes after this prompt, nats; dots while it is computed"),
        "text ≈0.322": Word("mean KL that the mask should cost over the detecting text, by its second-order forecast"),
        "top-1 same": Word("whether the most probable next token is the one without the edit"),
        "position 5 of 7": Word("the token of the prompt at which the distribution is shown; 5 shows them all"),
        "from 14:05": Word("the table of the last analysis, kept then, is shown until the model is there"),
        "model still loading": Word("what is kept can be browsed and edited; the edit takes effect with the model"),
        "model not loaded": Word("it could not be opened: the kept table stays, r tries again"),
        "ms": Word("time of the engine for this answer"),
        "not exported": Word("the edit is in no file; e writes it"),
        "no answer": Word("the prompt or the edit could not be evaluated, as the token pane says"),
    }
)
"""The words of the inspector's status line."""

FIGURES: Mapping[str, Word] = MappingProxyType(
    {
        "R²": Word("share of the variance of -log alpha that the law explains", "1 is exact, 0 nothing"),
        "adjusted": Word("R² less what as many random columns would explain", "close to R² is good"),
        "held-out": Word("R² on tokens that were not fitted (held-out vocabulary)", "close to R² is good"),
        "permuted": Word("R² with -log alpha shuffled among the tokens: what chance explains", "far below R² is good"),
        "F": Word("explained over unexplained variance per degree of freedom", "far above 1 is good"),
        "p": Word("chance of such an F without any linear law", "below 0.001 is good"),
        "intercept": Word(
            "B: -log alpha where every weight is 0, nats", "near log of the vocabulary size is plausible"
        ),
        "condition": Word(
            "condition number of the columns of W: how nearly some are sums of others",
            "small is good, infinite leaves some slopes undetermined",
        ),
        "cosine": Word("cosine of A and -E[h], which the theory says are parallel", "near 1 is good"),
        "corr E[-log p]": Word("correlation of -log alpha with the mean of -log p over positions", "near 1 is good"),
        "R² of k best": Word("R² of the k best dimensions alone", "close to R² at small k is a sparse encoding"),
        "90 % of R²": Word("dimensions that it takes to explain 90 % of R²", "few is a sparse encoding"),
        "Gini": Word("inequality of the slopes' shares", "0 all alike, 1 one dimension has it all"),
        "participation": Word("how many dimensions the encoding is spread over, as if equally", "few is sparse"),
        "bottom shared": Word(
            "share of the least 30 % of dimensions that two halves of the text agree on",
            "near 100 % is steady, 30 % is chance",
        ),
        "rank corr.": Word("rank correlation of |slope| between halves of the text", "near 1 is steady"),
        "halves": Word("cosine of the slopes of two halves of the text", "near 1 is steady"),
        "drift": Word("length of the mean row of W against the rows: what all share", "0 is centred"),
        "excluded": Word("rows of W not fitted: padding, and tokens that never get any probability", "few is good"),
        "untrained": Word("tokens whose rows point where untrained rows do, by cosine distance", "0 is there"),
        "worst fitted": Word("tokens of the largest residuals, with them", "small is good"),
    }
)
"""The figures of the fit screen and of `tpe analyze`."""


def sections() -> Mapping[str, Mapping[str, str]]:
    """Every word by what it belongs to, each with its line; pruning orders say themselves what they are."""
    groups = {"Columns": COLUMNS, "Status line": STATUS, "Figures about the fit": FIGURES}
    found = {title: {name: word.line for name, word in words.items()} for title, words in groups.items()}
    found["Pruning orders"] = {name: f"{order.about}." for name, order in ORDERS.items()}
    return found
