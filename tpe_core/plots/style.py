"""How every figure looks, light and dark: colours that colour-blind readers tell apart, sizes, what marks a series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpe_core.registry import Registry

__all__ = ["MARKERS", "STYLES", "Style"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Marks of series, in the order of the colours, so that no two differ by colour alone."""

SMALL, PLAIN, LARGE = 9.0, 10.0, 12.0  # points, on a figure 7 inches wide


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colours of one look. The series' colours are those of Okabe and Ito (2008), lighter where the ground is dark."""

    name: str
    ground: str  # behind everything
    ink: str  # titles and labels
    muted: str  # ticks, facts under the title
    grid: str
    reference: str  # what a series is compared with: the identity, chance, a uniform spectrum
    series: tuple[str, ...]
    colormap: str  # of a quantity in a scatter
    colours_within: tuple[float, float]  # the part of it that is readable on `ground`

    def colour(self, index: int) -> str:
        """The colour of the series with that index; they repeat where there are more series than colours."""
        return self.series[index % len(self.series)]

    def marker(self, index: int) -> str:
        """The mark of the series with that index."""
        return MARKERS[index % len(MARKERS)]

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings of matplotlib (`rcParams`) that are not its defaults."""
        return {
            "figure.facecolor": self.ground,
            "savefig.facecolor": self.ground,
            "axes.facecolor": self.ground,
            "axes.edgecolor": self.muted,
            "axes.labelcolor": self.ink,
            "axes.titlecolor": self.ink,
            "axes.titlesize": PLAIN,
            "axes.titlelocation": "left",
            "axes.titleweight": "normal",
            "axes.labelsize": PLAIN,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.formatter.useoffset": False,
            "axes.formatter.use_mathtext": False,
            "grid.color": self.grid,
            "grid.linewidth": 0.6,
            "text.color": self.ink,
            "text.parse_math": False,
            "text.usetex": False,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "xtick.minor.visible": False,
            "ytick.minor.visible": False,
            "legend.fontsize": SMALL,
            "legend.frameon": False,
            "legend.handlelength": 2.4,
            "legend.columnspacing": 1.4,
            "font.family": ["DejaVu Sans"],
            "font.size": PLAIN,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "svg.hashsalt": "tpe",
            "svg.fonttype": "path",
        }


STYLES: Registry[Style] = Registry(
    "style",
    Style(
        name="light",
        ground="#ffffff",
        ink="#1b1f24",
        muted="#57606a",
        grid="#e4e7eb",
        reference="#8c959f",
        series=("#0072b2", "#d55e00", "#009e73", "#a6478a", "#b07d00", "#3a3f47", "#3f9fd8", "#7a5230"),
        colormap="viridis",
        colours_within=(0.0, 0.9),
    ),
    Style(
        name="dark",
        ground="#14171c",
        ink="#eceff3",
        muted="#a4adb8",
        grid="#2a3038",
        reference="#7f8a97",
        series=("#56b4e9", "#ff8f4a", "#3fd0a4", "#e58cc4", "#f0c541", "#cfd6de", "#8f9bff", "#c79a6b"),
        colormap="viridis",
        colours_within=(0.2, 1.0),
    ),
)
"""The looks of a figure by name: ``light`` and ``dark``."""
