"""The figures of one analysis: the log-linear law, principal components, slopes (Cho et al. 2025, section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.scales import log_axis, numbers, plain_axis, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__: list[str] = []

NAMED = 8  # tokens or dimensions that a figure names
BINS = 40


def _fitted(*columns: Floats) -> NDArray[np.bool_]:
    """Rows in which every column has a number."""
    known = np.ones(len(columns[0]), dtype=bool)
    for column in columns:
        known &= np.isfinite(column)
    return known


def _farthest(values: Floats) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(-np.abs(values), kind="stable")[:NAMED]
    return order


def _r2(actual: Floats, predicted: Floats) -> float:
    total = float(np.sum((actual - actual.mean()) ** 2))
    return 1 - float(np.sum((actual - predicted) ** 2)) / total if total > 0 else float("nan")


@drawing("predicted_actual", "fit", "the law's prediction of -log alpha against its value, token by token",
         columns=("token",), numbers=("minus_log_alpha", "predicted"))  # fmt: skip
def predicted_actual(table: Table, canvas: Canvas) -> None:
    """Predicted against actual -log alpha, with the identity and the worst fitted tokens named."""
    actual, predicted = numbers(table, "minus_log_alpha"), numbers(table, "predicted")
    known = _fitted(actual, predicted)
    actual, predicted = actual[known], predicted[known]
    tokens = np.array(words(table, "token"), dtype=object)[known]
    (axes,) = canvas.panels(height=4.6)
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    canvas.scatter(axes, actual, predicted, color=canvas.style.colour(0))
    axes.plot(ends, ends, color=canvas.style.ink, linewidth=1.2, linestyle="--")
    axes.set_xlabel("actual −log α (nats)")
    axes.set_ylabel("predicted −log α (nats)")
    plain_axis(axes, "x", 8)
    plain_axis(axes, "y", 8)
    worst = _farthest(actual - predicted)
    canvas.name_points(axes, actual[worst], predicted[worst], tokens[worst].tolist())
    r2 = _r2(actual, predicted)
    canvas.heading(
        "Token probability predicted from the output embedding",
        f"R² {r2:.3f}",
        f"{len(actual):,} tokens",
        "dashed: predicted = actual",
    )


@drawing("residuals_by_rank", "fit", "what the law leaves unexplained, from frequent to rare tokens",
         columns=("token",), numbers=("rank", "residual"))  # fmt: skip
def residuals_by_rank(table: Table, canvas: Canvas) -> None:
    """Residuals by rank of alpha, their median and quartiles along it, and the worst fitted tokens named."""
    rank, residual = numbers(table, "rank"), numbers(table, "residual")
    known = _fitted(rank, residual)
    rank, residual = rank[known], residual[known]
    tokens = np.array(words(table, "token"), dtype=object)[known]
    (axes,) = canvas.panels(height=3.9)
    axes.axhline(0, color=canvas.style.reference, linewidth=1.2, zorder=1)
    canvas.scatter(axes, rank, residual, color=canvas.style.colour(0))
    middle, low, median, high = _running(rank, residual)
    axes.fill_between(middle, low, high, color=canvas.style.colour(1), alpha=0.22, linewidth=0)
    axes.plot(middle, median, color=canvas.style.colour(1), linewidth=2)
    log_axis(axes, "x", rank)
    plain_axis(axes, "y")
    axes.set_xlabel("rank of α (1 = most probable token)")
    axes.set_ylabel("actual − predicted −log α (nats)")
    worst = _farthest(residual)
    canvas.name_points(axes, rank[worst], residual[worst], tokens[worst].tolist())
    canvas.heading(
        "Where the law errs, from frequent to rare tokens",
        f"root mean square {float(np.sqrt(np.mean(residual**2))):.2f} nats",
        "line and band: median and quartiles",
        "above 0: rarer than predicted",
    )


def _running(rank: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """(Middle rank, lower quartile, median, upper quartile) in bins of equal width on a logarithmic axis."""
    edges = np.geomspace(rank.min(), rank.max() * 1.0001, BINS + 1)
    bins = np.digitize(rank, edges) - 1
    rows = [(np.exp(np.log(rank[bins == at]).mean()), *np.percentile(values[bins == at], [25, 50, 75]))
            for at in range(BINS) if int((bins == at).sum()) >= 5]  # fmt: skip
    middle, low, median, high = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return middle, low, median, high


@drawing("pca", "pca", "tokens on the first two principal components, coloured by rank of alpha",
         columns=("token",), numbers=("percentile", "pc1", "pc2"))  # fmt: skip
def pca(table: Table, canvas: Canvas) -> None:
    """The paper's figure 1: scores on the first two components of W, coloured by the rank percentile of alpha."""
    first, second, percentile = (numbers(table, name) for name in ("pc1", "pc2", "percentile"))
    known = _fitted(first, second, percentile)
    first, second, percentile = first[known], second[known], 100 * percentile[known]
    tokens = np.array(words(table, "token"), dtype=object)[known]
    (axes,) = canvas.panels(height=4.4)
    order = np.argsort(-percentile, kind="stable")  # frequent tokens are few: they are drawn last
    opacity = float(np.clip(90 / max(len(first), 1) ** 0.5, 0.4, 0.9))
    points = canvas.scatter(
        axes, first[order], second[order], c=percentile[order], cmap=canvas.colormap, vmin=0, vmax=100,
        alpha=opacity,
    )  # fmt: skip
    bar = canvas.figure.colorbar(
        points, ax=axes, aspect=30, pad=0.02, location="bottom" if canvas.is_narrow else "right"
    )
    bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    bar.set_label("rank percentile of α (0 = most probable)")
    for which in ("x", "y"):
        plain_axis(axes, which)
    axes.set_xlabel("score on PC 1")
    axes.set_ylabel("score on PC 2")
    top = np.argsort(percentile, kind="stable")[:NAMED]
    canvas.name_points(axes, first[top], second[top], tokens[top].tolist())
    canvas.heading(
        "Tokens on the first two principal components of W",
        f"{len(first):,} tokens",
        f"r with the percentile: PC 1 {_correlation(first, percentile):+.2f}".replace("-", "−"),
        f"PC 2 {_correlation(second, percentile):+.2f}".replace("-", "−"),
    )


def _correlation(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else float("nan")


@drawing("slope_spectrum", "slopes", "how unequal the dimensions' slopes are: by rank, and what share the largest hold",
         columns=("dim",), numbers=("slope", "slope_std"))  # fmt: skip
def slope_spectrum(table: Table, canvas: Canvas) -> None:
    """|slope| by rank beside a uniform spectrum, and the Lorenz curve of |slope| sd(W) with its Gini coefficient."""
    slope, standardised = np.abs(numbers(table, "slope")), np.abs(numbers(table, "slope_std"))
    dims = words(table, "dim")
    order = np.argsort(-slope, kind="stable")
    rank, sizes = np.arange(1, len(slope) + 1, dtype=np.float64), slope[order]
    spectrum, lorenz = canvas.panels(2, height=3.5)
    style = canvas.style
    positive = sizes > 0
    spectrum.plot(rank[positive], sizes[positive], color=style.colour(0))
    spectrum.axhline(float(sizes.mean()), color=style.reference, linestyle="--", linewidth=1.2)
    log_axis(spectrum, "x", rank)
    log_axis(spectrum, "y", sizes[positive])
    canvas.note(spectrum, 1.0, float(sizes.mean()), "all alike (mean)", va="bottom", ha="left", color=style.muted)
    spectrum.set_xlabel("rank of the dimension")
    spectrum.set_ylabel("|slope| (nats per unit of weight)")
    shares = np.sort(standardised)
    held = np.concatenate([[0.0], np.cumsum(shares) / (shares.sum() or 1.0)])
    part = np.linspace(0, 1, len(held))
    lorenz.plot([0, 1], [0, 1], color=style.reference, linestyle="--", linewidth=1.2)
    lorenz.plot(part, held, color=style.colour(1))
    lorenz.fill_between(part, held, part, color=style.colour(1), alpha=0.14, linewidth=0)
    n = len(shares)
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ shares / (n * shares.sum())) if shares.any() else 0.0
    canvas.note(lorenz, 0.4, 0.53, "all alike", ha="right", va="center")
    canvas.note(lorenz, 0.62, 0.44, f"Gini {gini:.2f}", ha="center", va="center", color=style.ink)
    lorenz.set_xlabel("share of dimensions, smallest first")
    lorenz.set_ylabel("share of the sum of |slope|·sd")
    for which in ("x", "y"):
        plain_axis(lorenz, which)
    half = int(np.searchsorted(np.cumsum(shares[::-1]), 0.5 * shares.sum())) + 1
    canvas.heading(
        "How unequal the slopes of the dimensions are",
        f"{n:,} dimensions",
        f"largest: dim {', '.join(dims[index] for index in order[:3].tolist())}",
        f"half of the sum in {half:,} of them",
    )


@drawing("slopes_mean_hidden", "slopes", "each dimension's slope against the mean hidden state",
         columns=("dim",), numbers=("slope", "mean_hidden"))  # fmt: skip
def slopes_mean_hidden(table: Table, canvas: Canvas) -> None:
    """Slopes against -E[h]: without the gap between log of mean and mean of log they would be equal."""
    slope, mean = numbers(table, "slope"), -numbers(table, "mean_hidden")
    known = _fitted(slope, mean)
    slope, mean = slope[known], mean[known]
    dims = np.array(words(table, "dim"), dtype=object)[known]
    (axes,) = canvas.panels(height=4.2)
    style = canvas.style
    axes.axhline(0, color=style.grid, linewidth=1, zorder=0)
    axes.axvline(0, color=style.grid, linewidth=1, zorder=0)
    low, high = float(mean.min()), float(mean.max())
    axes.plot([low, high], [low, high], color=style.reference, linewidth=1.2, zorder=1)
    canvas.scatter(axes, mean, slope, color=style.colour(0))
    for which in ("x", "y"):
        plain_axis(axes, which)
    axes.set_xlabel("−E[h], the mean hidden state")
    axes.set_ylabel("slope (nats per unit of weight)")
    largest = np.array(list(dict.fromkeys([*_farthest(slope)[:3], *_farthest(mean)[:3], *_farthest(slope)]))[:NAMED])
    canvas.name_points(axes, mean[largest], slope[largest], [f"dim {dims[index]}" for index in largest.tolist()])
    lengths = float(np.linalg.norm(slope) * np.linalg.norm(mean))
    cosine = float(slope @ mean) / lengths if lengths else float("nan")
    canvas.heading(
        "Slopes against the mean hidden state",
        f"cosine {cosine:.2f}".replace("-", "−"),
        f"{len(slope):,} dimensions",
        "line: slope = −E[h]",
    )


@drawing("components", "components", "how each principal component correlates with -log alpha, and what they explain",
         numbers=("component", "explained_variance", "correlation", "r2_cumulative"))  # fmt: skip
def components(table: Table, canvas: Canvas) -> None:
    """|correlation| of each component's scores with -log alpha, and R2 of the first ones together."""
    component, r = numbers(table, "component"), numbers(table, "correlation")
    together, variance = numbers(table, "r2_cumulative"), numbers(table, "explained_variance")
    (axes,) = canvas.panels(height=3.7)
    style = canvas.style
    axes.vlines(component, 0, np.abs(r), color=style.colour(0), linewidth=1.0, alpha=0.55)
    (dots,) = axes.plot(component, np.abs(r), "o", color=style.colour(0), markersize=3.4)
    (r2,) = axes.plot(component, together, color=style.colour(1), linewidth=2)
    (explained,) = axes.plot(component, np.cumsum(variance), color=style.reference, linestyle="--", linewidth=1.4)
    log_axis(axes, "x", component)
    plain_axis(axes, "y")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("principal component of W, by variance")
    axes.set_ylabel("share, or |correlation|")
    canvas.legend(
        [dots, r2, explained],
        ["|correlation| with −log α", "R² of the first components", "variance of the first components"],
    )
    top = int(np.nanargmax(np.abs(r)))
    canvas.heading(
        "Which principal components know token probability",
        f"largest correlation {r[top]:+.2f} (PC {component[top]:.0f})".replace("-", "−"),
        f"R² of all {len(r):,}: {together[-1]:.2f}",
    )


@drawing("r2_by_k", "r2_by_k", "how much of -log alpha the k best dimensions explain", numbers=("k", "r2"))
def r2_by_k(table: Table, canvas: Canvas) -> None:
    """R2 of the k dimensions with the largest |slope| sd(W), and where it reaches 90 % of all."""
    k, r2 = numbers(table, "k"), numbers(table, "r2")
    known = _fitted(k, r2)
    k, r2 = k[known], r2[known]
    (axes,) = canvas.panels(height=3.5)
    style = canvas.style
    most = float(r2[-1])
    axes.axhline(0.9 * most, color=style.reference, linestyle="--", linewidth=1.2)
    axes.plot(k, r2, color=style.colour(0), marker="o")
    log_axis(axes, "x", k, base=2)
    plain_axis(axes, "y")
    axes.set_ylim(float(np.min([0.0, *r2])), 1.02)
    axes.set_xlabel("k: dimensions with the largest |slope|·sd")
    axes.set_ylabel("R² of −log α")
    canvas.note(axes, float(k[-1]), 0.9 * most - 0.015, "90 % of the full R²", va="top", ha="right")
    enough = k[r2 >= 0.9 * most]
    canvas.heading(
        "How much of −log α the k best dimensions explain",
        f"one dimension: R² {r2[0]:.2f}" if k[0] == 1 else "",
        f"90 % within {enough[0]:,.0f} of {k[-1]:,.0f} dimensions" if len(enough) else "",
        f"all: R² {most:.2f}",
    )
