"""One figure while it is drawn: its panels, its heading, labels beside points, and legends that cover no data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tpe_core.lazy import Deferred
from tpe_core.plots.glyphs import drawable
from tpe_core.plots.style import LARGE, SMALL, Style

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["Canvas"]

NARROW = 5.0  # inches: below, panels stand under one another
MARGIN = 0.12  # inches around everything
LETTER = 0.073  # inches that a small letter takes, about
LINE = 1.25  # of a font's size
POINTS = 72.0  # in an inch
PLACES = (
    *((1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top")),
    *((1, 1, "left", "bottom"), (-1, 1, "right", "bottom"), (1, -1, "left", "top"), (-1, -1, "right", "top")),
)
"""Where a label can stand beside its point: direction in x and y, and how it is aligned."""
AWAY = (6.0, 13.0)  # points between a label and its point
RING = 4.0  # pixels on either side of a point that has a name
FEW = 5  # names in a narrow figure
RASTER_FROM = 1500  # points of a scatter: as vectors, an SVG of more would be megabytes


class Canvas:
    """A figure under way in one style; `finish` comes last and places what depends on all the rest."""

    def __init__(self, figure: Figure, style: Style, subject: str = "") -> None:
        """`subject` says what was measured, such as a model's name; it stands first under the title."""
        self.figure, self.style, self.subject = figure, style, subject
        self._title, self._facts = "", list[str]()
        self._labels: list[tuple[Axes, Floats, Floats, list[str]]] = []
        self._clouds: dict[Axes, Floats] = {}  # [points, 2] that labels should not cover

    @property
    def is_narrow(self) -> bool:
        """Whether the figure is as narrow as a phone."""
        return bool(self.figure.get_figwidth() < NARROW)

    def heading(self, title: str, *facts: str) -> None:
        """What the figure shows, and the numbers that a reader takes away; empty facts are left out."""
        self._title, self._facts = (
            title,
            [fact for fact in (drawable(self.subject, 60), *facts) if fact and fact != "∅"],
        )

    def panels(self, count: int = 1, height: float = 3.6, **shared: Any) -> list[Axes]:
        """`count` axes, `height` inches each: beside one another, two or three in a row, on a narrow figure one."""
        columns = 1 if self.is_narrow else count if count <= 3 else 2
        rows = -(-count // columns)
        self.figure.set_figheight(rows * (min(height, 3.1) if self.is_narrow else height))
        grid = self.figure.subplots(rows, columns, squeeze=False, **shared)
        axes: list[Axes] = list(grid.flat)
        for spare in axes[count:]:
            self.figure.delaxes(spare)
        return axes[:count]

    def scatter(self, axes: Axes, x: Floats, y: Floats, **how: Any) -> Any:
        """Points whose size and opacity follow their number, so that a cloud of many shows where it is dense."""
        size = float(np.clip(2600 / max(len(x), 1) ** 0.75, 2.5, 34))
        opacity = float(np.clip(60 / max(len(x), 1) ** 0.5, 0.22, 0.9))
        how = {"s": size, "alpha": opacity, "linewidths": 0, "rasterized": len(x) > RASTER_FROM, **how}
        self._clouds[axes] = np.column_stack([x, y])
        return axes.scatter(x, y, **how)

    @property
    def colormap(self) -> Any:
        """Colours of a quantity, all of them readable on the style's ground."""
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        first, last = self.style.colours_within
        return ListedColormap(colormaps[self.style.colormap](np.linspace(first, last, 256)))

    def note(self, axes: Axes, x: float, y: float, text: str, **how: Any) -> None:
        """A quiet label in the axes' own coordinates, for a reference line."""
        how = {"color": self.style.muted, "fontsize": SMALL, "path_effects": self.halo(), **how}
        axes.text(x, y, text, **how)

    def halo(self) -> list[Any]:
        """What keeps a label readable over points."""
        from matplotlib import patheffects

        return [patheffects.withStroke(linewidth=2.5, foreground=self.style.ground)]

    def name_points(self, axes: Axes, x: Floats, y: Floats, texts: Sequence[str]) -> None:
        """Name points directly, the most important first; a name that finds no free place is left out."""
        most = FEW if self.is_narrow else len(texts)
        self._labels.append((axes, x[:most], y[:most], [drawable(text) for text in texts[:most]]))

    def legend(self, handles: Iterable[Any], names: Sequence[str], columns: int | None = None) -> None:
        """A legend below the axes; of a name that is too long, such as a path, the end is shown."""
        longest = int((self.figure.get_figwidth() - 2 * MARGIN - 0.6) / LETTER)
        whole = [drawable(name, None) for name in names]
        shown = [name if len(name) <= longest else f"…{name[1 - longest :]}" for name in whole]
        widest = max((len(name) for name in shown), default=1) * LETTER + 0.6
        fitting = max(1, int((self.figure.get_figwidth() - 2 * MARGIN) / widest))
        self.figure.legend(
            list(handles), shown, loc="outside lower center", ncols=min(len(shown) or 1, columns or fitting, fitting)
        )

    def finish(self) -> None:
        """Place the heading above the axes, then the labels of points."""
        width, height = self.figure.get_size_inches()
        title = textwrap.wrap(self._title, max(12, int((width - 2 * MARGIN) / 0.108))) or [""]
        facts = self._fact_lines(max(12, int((width - 2 * MARGIN) / LETTER)))
        head = MARGIN + (len(title) * LARGE + len(facts) * SMALL) * LINE / POINTS + 0.06
        height += head
        self.figure.set_figheight(height)
        place = {"x": MARGIN / width, "ha": "left", "va": "top", "linespacing": LINE}
        at = height - MARGIN
        self.figure.text(y=at / height, s="\n".join(title), fontsize=LARGE, fontweight="bold", **place)
        at -= len(title) * LARGE * LINE / POINTS + 0.02
        self.figure.text(y=at / height, s="\n".join(facts), fontsize=SMALL, color=self.style.muted, **place)
        engine = self.figure.get_layout_engine()
        if engine is not None:
            engine.set(rect=(0, 0, 1, 1 - head / height), w_pad=0.08, h_pad=0.06, wspace=0.04, hspace=0.03)
        for _ in range(2):  # the first time moves ticks, for which the second makes room
            self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # from here on nothing moves, however often it is drawn
        for axes, x, y, texts in self._labels:
            self._place_names(axes, x, y, texts)

    def _fact_lines(self, longest: int) -> list[str]:
        """The facts in lines, none of them broken unless it is longer than a line."""
        lines: list[str] = []
        for fact in self._facts:
            joined = f"{lines[-1]}  ·  {fact}" if lines else fact
            if lines and len(joined) <= longest:
                lines[-1] = joined
            else:
                lines += textwrap.wrap(fact, longest)
        return lines

    def _place_names(self, axes: Axes, x: Floats, y: Floats, texts: Sequence[str]) -> None:
        """Each name where it is inside the axes, covers no other name, and covers the fewest points."""
        inside = axes.get_window_extent()
        taken: list[Bbox] = [text.get_window_extent() for text in axes.texts]
        taken += [_around(point) for point in axes.transData.transform(np.column_stack([x, y])).tolist()]
        cloud = axes.transData.transform(self._clouds.get(axes, np.empty((0, 2))))
        axes.set_autoscale_on(False)
        for at_x, at_y, text in zip(x.tolist(), y.tolist(), texts, strict=True):
            best: tuple[float, tuple[float, float], tuple[str, str], Bbox] | None = None
            for distance in AWAY:
                for right, up, ha, va in PLACES:
                    away, align = (right * distance, up * distance), (ha, va)
                    label = self._label(axes, (at_x, at_y), away, text, align)
                    box = label.get_window_extent()
                    label.remove()
                    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
                    if not within or any(box.overlaps(other) for other in taken):
                        continue
                    covered = float(_inside(box, cloud).sum()) + distance / 4
                    if best is None or covered < best[0]:
                        best = covered, away, align, box
            if best is not None:
                self._label(axes, (at_x, at_y), best[1], text, best[2])
                taken.append(best[3])
                axes.plot([at_x], [at_y], "o", markersize=5, markerfacecolor="none", markeredgecolor=self.style.ink,
                          markeredgewidth=0.9)  # fmt: skip

    def _label(
        self, axes: Axes, point: tuple[float, float], away: tuple[float, float], text: str, align: tuple[str, str]
    ) -> Annotation:
        return axes.annotate(
            text,
            point,
            xytext=away,
            textcoords="offset points",
            ha=align[0],
            va=align[1],
            fontsize=SMALL,
            color=self.style.ink,
            path_effects=self.halo(),
            parse_math=False,
        )


def _around(point: Sequence[float]) -> Bbox:
    """The room of a point's ring."""
    from matplotlib.transforms import Bbox

    return Bbox([[point[0] - RING, point[1] - RING], [point[0] + RING, point[1] + RING]])


def _inside(box: Bbox, points: Floats) -> NDArray[np.bool_]:
    """[points] whether each lies in a box."""
    x, y = points[:, 0], points[:, 1]
    covered: NDArray[np.bool_] = (box.x0 <= x) & (x <= box.x1) & (box.y0 <= y) & (y <= box.y1)
    return covered
