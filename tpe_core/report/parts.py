"""The table of a report's parts: what each shows, which figure of the paper it is the counterpart of, what it needs.

Plain values without torch, for the command line's help; `tpe_core.report.recipes` says how each is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpe_core.registry import Registry
from tpe_core.report.settings import DISTINCT, FEW_SHOT_RATIO, RATIOS, REPEATED, TOKENS
from tpe_core.tables import Table

__all__ = ["PARTS", "Part", "PartFigure", "counterparts"]


@dataclass(frozen=True)
class PartFigure:
    """A figure of a part: the name of its files, the drawing (`tpe_core.plots.drawing.DRAWINGS`), the table drawn."""

    name: str
    drawing: str
    table: str
    note: str = ""  # what tells it from another figure of the part that shows the same


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a report, as people see it."""

    name: str  # on the command line, in addresses on the page
    title: str
    counterpart: str  # the paper's figure that this is the counterpart of, by what it shows
    needs: str  # what there must be for it
    caption: str  # what is drawn, for who has not read the paper
    figures: tuple[PartFigure, ...]


DETECTING, JUDGED = "text to detect on", "text to detect on, held-out and out-of-domain text"

PARTS: Registry[Part] = Registry(
    "part of a report",
    Part(
        name="fit",
        title="Predicted against actual −log α",
        counterpart="predicted against actual −log mean probability of the regression",
        needs=DETECTING,
        caption=(
            "Each point is a token: what a line in its row of the output embedding predicts for −log of its mean "
            "probability α, "
            "against what was measured. On the dashed line both are equal."
        ),
        figures=(PartFigure("predicted_actual", "predicted_actual", "fit"),),
    ),
    Part(
        name="residuals",
        title="What the law misses",
        counterpart="error analysis of the regression by token frequency",
        needs=DETECTING,
        caption=(
            "Residuals (actual minus predicted −log α, in nats) from the most frequent token to the rarest. The "
            "table names the "
            "worst fitted tokens; those never trained, special tokens and single bytes are often among them."
        ),
        figures=(PartFigure("residuals_by_rank", "residuals_by_rank", "fit"),),
    ),
    Part(
        name="pca",
        title="Tokens on the first two components",
        counterpart="PCA projection of the output embeddings, coloured by frequency (figure 1)",
        needs=DETECTING,
        caption=(
            "The output embedding's rows on their first two principal components; the colour is the percentile of a "
            "token's "
            "rank by mean probability."
        ),
        figures=(PartFigure("pca", "pca", "pca"),),
    ),
    Part(
        name="components",
        title="Correlation of the components",
        counterpart="correlation of principal components with −log probability",
        needs=DETECTING,
        caption=(
            "The absolute correlation of every principal component's scores with −log α, and the R² of the first "
            "ones together."
        ),
        figures=(PartFigure("components", "components", "components"),),
    ),
    Part(
        name="slopes",
        title="Spectrum of the slopes",
        counterpart="distribution of the slopes: the encoding is sparse",
        needs=DETECTING,
        caption=(
            "The absolute slopes of the regression by rank, beside a spectrum that is uniform, and what share of "
            "|slope|·sd the "
            "largest ones hold."
        ),
        figures=(PartFigure("slope_spectrum", "slope_spectrum", "slopes"),),
    ),
    Part(
        name="r2-by-k",
        title="How few dimensions are enough",
        counterpart="a few dimensions carry the encoding",
        needs=DETECTING,
        caption=("The R² of a regression on only the k dimensions with the largest |slope|·sd."),
        figures=(PartFigure("r2_by_k", "r2_by_k", "r2_by_k"),),
    ),
    Part(
        name="mean-hidden",
        title="Slopes against the mean hidden state",
        counterpart="none: it shows why the law holds",
        needs=DETECTING,
        caption=(
            "Every dimension's slope against −E[h], the mean of the head's input. If −log of the mean were the mean "
            "of −log, both "
            "would be equal."
        ),
        figures=(PartFigure("slopes_mean_hidden", "slopes_mean_hidden", "slopes"),),
    ),
    Part(
        name="steering",
        title="Steering: asked and achieved, and what it costs",
        counterpart="steered probability ratios, and their side effects on the output distribution",
        needs=JUDGED,
        caption=(
            f"{TOKENS} tokens of middle frequency are asked to be {', '.join(f'{ratio:g}' for ratio in RATIOS)} "
            f"times as "
            "probable, one at a time, by an edit of their rows: along the slopes (min-norm, as in the paper) and "
            "along the "
            "direction that shifts logits most evenly (least squares). Shown are the ratios achieved on the detecting "
            "text, on held-out text and on another kind of text, and the Jensen-Shannon divergence of the distribution."
        ),
        figures=(
            PartFigure("steering_ratios", "steering_ratios", "steering_min_norm", "along the slopes"),
            PartFigure("steering_ratios_least_squares", "steering_ratios", "steering_least_squares", "least squares"),
            PartFigure("steering_js", "steering_js", "steering_min_norm", "along the slopes"),
        ),
    ),
    Part(
        name="few-shot",
        title="Steering with slopes from little text",
        counterpart="steering with few-shot detecting text",
        needs="text to detect on, held-out text",
        caption=(
            f"The same tokens asked to be {FEW_SHOT_RATIO:g} times as probable, with directions from only the first n "
            "positions of the detecting text: what is achieved and the KL divergence on the detecting text and on "
            "held-out text, averaged over tokens."
        ),
        figures=(
            PartFigure("few_shot", "few_shot", "few_shot_min_norm", "along the slopes"),
            PartFigure("few_shot_least_squares", "few_shot", "few_shot_least_squares", "least squares"),
        ),
    ),
    Part(
        name="pruning",
        title="What removing dimensions costs",
        counterpart="pruning dimensions by their slopes, beside random ones",
        needs=JUDGED,
        caption=(
            "KL divergence of the pruned from the unpruned distribution on held-out text, by the share of dimensions "
            "removed: in the paper's order (slope), at random (mean of two draws) and by Fisher information, with "
            "zeros "
            "in their place and rebuilt from the kept ones by least squares."
        ),
        figures=(PartFigure("pruning_curves", "pruning_curves", "pruning"),),
    ),
    Part(
        name="generation",
        title="What pruned heads write",
        counterpart="sequence generation of the pruned model (MAUVE)",
        needs="a causal model, held-out text for prompts",
        caption=(
            "Text sampled after beginnings of held-out text with the same random numbers: MAUVE against another "
            "sample of "
            f"the unpruned model, the share of different {DISTINCT}-grams of all, the share of {REPEATED}-grams that "
            f"repeat "
            "an earlier one, and the perplexity of held-out text. At 0 % MAUVE is that of two samples of the "
            "unpruned model."
        ),
        figures=(PartFigure("generation", "generation", "generation"),),
    ),
    Part(
        name="dynamics",
        title="Training: when the encoding appears",
        counterpart="encoding of frequency against convergence of parameters in training, by model and by layer",
        needs="checkpoints, measured by tpe dynamics",
        caption=(
            "R² of −log token frequency on the output embedding at every checkpoint, and the share of their way that "
            "all "
            "parameters have come, on logarithmic and linear steps; below, how far each layer or group of parameters "
            "still "
            "is from its last weights."
        ),
        figures=(
            PartFigure("dynamics", "dynamics", "dynamics"),
            PartFigure("dynamics_layers", "dynamics_layers", "dynamics_layers"),
        ),
    ),
    Part(
        name="train-on",
        title="Training on from an edit",
        counterpart="none: whether a pruned model stays sound in further training is left open",
        needs="a folder of tpe train-on",
        caption=(
            "The model with an edit and the unedited one, trained on alike: how much more loss on held-out text the "
            "edited one has, and how far its predictions are, with the edit kept in force, baked in and then free, and "
            "a random mask of its size in its place."
        ),
        figures=(
            PartFigure("continued_gap", "continued_gap", "continued_training"),
            PartFigure("continued_kl", "continued_kl", "continued_training"),
        ),
    ),
    Part(
        name="sparsity",
        title="What makes the encoding sparse",
        counterpart="none: why some models encode more sparsely is left open",
        needs="a folder of tpe sparsity",
        caption=(
            "Small models that differ in a few choices, two levels each: what the high level of each choice changes, "
            "with the interval of a least-squares fit over combinations."
        ),
        figures=(PartFigure("sparsity_effects", "sparsity_effects", "sparsity_effects"),),
    ),
    Part(
        name="curriculum",
        title="Whether early frequency learning matters",
        counterpart="none: what early frequency learning does is left open",
        needs="a folder of tpe demo train",
        caption=(
            "The encoding and the loss by step, of runs whose frequencies change half-way or whose head begins with "
            "the unigram law, and of their controls."
        ),
        figures=(PartFigure("curriculum", "curriculum", "curriculum"),),
    ),
)
"""The parts in the order of the page."""


def counterparts() -> Table:
    """The paper's figures and their counterparts: the same table on the page and in the documentation."""
    parts = list(PARTS.values())
    return Table({
        "figure of the paper": [part.counterpart for part in parts],
        "part": [part.title for part in parts],
        "name": [part.name for part in parts],
        "needs": [part.needs for part in parts],
    })  # fmt: skip
