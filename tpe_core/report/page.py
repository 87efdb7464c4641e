"""The page of a report: one HTML file with everything in it, which asks for nothing and runs nothing.

Every figure is there four times, light and dark, wide and for a phone; the reader's own settings choose one. On paper
it is the light, wide one. All texts that come from a model or a file are escaped.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from tpe_core.report.folder import FIGURES
from tpe_core.report.page_style import STYLE
from tpe_core.report.parts import Part, counterparts
from tpe_core.report.recipes import Measured
from tpe_core.tables import Table, Value

__all__ = ["PageFigure", "PagePart", "page"]

SUFFIXES = (".png", ".svg", ".csv")
MEDIA = (
    "screen and (max-width: 40rem) and (prefers-color-scheme: dark)",
    "screen and (max-width: 40rem)",
    "screen and (prefers-color-scheme: dark)",
)
PATH = re.compile(r'\sd="([^"]*)"')
NUMBER = re.compile(r"-?\d+\.\d+")
SHORT = 30  # characters of a word of a command that no line ends in
DIGITS = 4  # significant, of a number that people read


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A figure in its looks, as SVG: light and dark, then light and dark for a phone."""

    name: str
    about: str  # what it shows
    note: str  # what tells it from another figure that shows the same
    pictures: tuple[str, ...]
    rows: int  # of its table

    def to_dict(self) -> dict[str, Any]:
        """The figure in report.json: its files, from the report's folder."""
        return {"name": self.name, "files": [f"{FIGURES}/{self.name}{suffix}" for suffix in SUFFIXES]}


@dataclass(frozen=True, kw_only=True)
class PagePart:
    """A part with what it came to, or the reason why it could not be made."""

    part: Part
    command: str
    measured: Measured | None = None
    sentence: str = ""
    figures: tuple[PageFigure, ...] = field(default_factory=tuple)
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The part in report.json."""
        return {
            "name": self.part.name,
            "title": self.part.title,
            "counterpart": self.part.counterpart,
            "caption": self.part.caption,
            "command": self.command,
            "sentence": self.sentence or None,
            "reason": self.reason or None,
            "facts": {} if self.measured is None else dict(self.measured.facts),
            "figures": [figure.to_dict() for figure in self.figures],
        }


def page(record: Mapping[str, Any], parts: Sequence[PagePart]) -> str:
    """The HTML of a report."""
    name = record["name"]
    sections = "\n".join(_section(each) for each in parts)
    contents = "".join(
        f'<li><a href="#{each.part.name}">{_text(each.part.title)}</a>{" (not made)" if each.reason else ""}</li>'
        for each in parts
    )
    created = _text(record["created"])
    warnings = "".join(f"<li>{_text(each)}</li>" for each in record["warnings"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(name)}: how its output embedding encodes token probability</title>
<link rel="icon" href="data:,">
<style>
{STYLE}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the figures</a>
<header>
<p class="kind">Report</p>
<h1>{_text(name)}</h1>
<p>How the output embedding of this model encodes the probability of tokens, after Cho, Sakai, Tanaka, Kato and Inoue,
<cite>Understanding Token Probability Encoding in Output Embeddings</cite> (COLING 2025, arXiv 2406.01468).</p>
{_facts(record)}
{f'<h2>Warnings</h2><ul class="warnings">{warnings}</ul>' if warnings else ""}
</header>
<nav aria-label="Contents"><h2>Contents</h2><ol>{contents}<li><a href="#counterparts">The paper's figures and their
counterparts</a></li></ol></nav>
<main id="main">
{sections}
<section id="counterparts" aria-labelledby="counterparts-title">
<h2 id="counterparts-title">The paper’s figures and their counterparts</h2>
{_counterparts(parts)}
</section>
</main>
<footer>
<p>Made by tpe {_text(record["version"])} at <time datetime="{created}">{created}</time> with
{_code(map(shlex.quote, record["command"]))}. The tables behind the figures are in <code>{FIGURES}/</code> beside this
page, as CSV, and what the page says is in <code>report.json</code>.</p>
</footer>
</body>
</html>
"""


def _text(value: object) -> str:
    """A text that HTML shows as it is; half of a surrogate pair becomes an escape."""
    return escape(str(value).encode("utf-8", "backslashreplace").decode(), quote=True)


def _code(words: Iterable[str]) -> str:
    """A command whose lines end between its words, but for long ones."""
    return (
        "<code>"
        + " ".join(f'<span class="word">{_text(word)}</span>' if len(word) <= SHORT else _text(word) for word in words)
        + "</code>"
    )


def _facts(record: Mapping[str, Any]) -> str:
    head = ", ".join(
        word for word, holds in (("tied to the input", record["tied"]), ("with a bias", record["bias"])) if holds
    )
    rows = {
        "model": record["model"] + (f" @ {record['revision']}" if record["revision"] else ""),
        "output embedding": f"{record['vocab_rows']:,} rows of width {record['hidden_size']:,}"
        + (f", {head}" if head else ""),
        "detecting text": f"{record['positions']:,} positions of {record['text']}",
        "loss": f"{record['loss']:.3f} nats a token",
        "adjusted R²": "—" if record["r2_adjusted"] is None else f"{record['r2_adjusted']:.3f}",
        "seed": f"{record['options']['seed']}",
    }
    body = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in rows.items()
    )
    table = f'<table class="facts"><caption>What was measured</caption><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _section(each: PagePart) -> str:
    part, name = each.part, each.part.name
    body = (
        f'<p class="missing"><strong>Not made:</strong> {_text(each.reason)}</p>'
        if each.reason
        else f'<p class="finding">{_text(each.sentence)}</p>{"".join(_figure(figure, each) for figure in each.figures)}'
    )
    summary = None if each.measured is None else each.measured.summary
    table = "" if summary is None else _table(summary, f"{part.title}: figures")
    return f"""<section id="{name}" aria-labelledby="{name}-title">
<h2 id="{name}-title">{_text(part.title)}</h2>
<p class="counterpart">In the paper: {_text(part.counterpart)}</p>
{body}
<p class="caption">{_text(part.caption)}</p>
{table}
<p class="command">The same numbers: {_code(each.command.split(" "))}</p>
</section>"""


def _figure(figure: PageFigure, each: PagePart) -> str:
    light, dark, narrow_light, narrow_dark = map(_address, figure.pictures)
    sources = "".join(
        f'<source media="{media}" srcset="{address}">'
        for media, address in zip(MEDIA, (narrow_dark, narrow_light, dark), strict=True)
    )
    note = f" ({figure.note})" if figure.note else ""
    alt = f"{each.part.title}: {figure.about}{note}. {each.sentence}"
    links = ", ".join(f'<a href="{FIGURES}/{figure.name}{suffix}">{suffix[1:].upper()}</a>' for suffix in SUFFIXES)
    rows = f"{figure.rows:,} row{'s' * (figure.rows != 1)}"
    return f"""<figure>
<picture>{sources}<img src="{light}" alt="{_text(alt)}"></picture>
<figcaption>{_text(figure.about[:1].upper() + figure.about[1:] + note)}. Files: {links} ({rows}).</figcaption>
</figure>
"""


def _address(picture: str) -> str:
    """An SVG as the address of an image, short and without a space, at which ``srcset`` would end it."""
    body = re.sub(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", picture, flags=re.DOTALL)
    body = PATH.sub(_short_path, body).replace('"', "'")
    return "data:image/svg+xml," + quote(
        re.sub(r">\s+<", "><", re.sub(r"\s+", " ", body)).strip(), safe="'=:/;,()+-._~!*@?$"
    )


def _short_path(match: re.Match[str]) -> str:
    """The points of a path to a hundredth of a point, with commas between them."""
    points = NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[1])
    return ' d="' + re.sub(",?([A-Za-z]),?", r"\1", ",".join(points.split())) + '"'


def _table(table: Table, caption: str) -> str:
    """A table with a header for every column and every row; wide ones scroll by themselves."""
    numeric = [all(_is_number(value) for value in values) for values in table.columns.values()]
    head = "".join(
        f'<th scope="col"{_side(right)}>{_text(name)}</th>' for name, right in zip(table.names, numeric, strict=True)
    )
    rows = "".join(f"<tr>{_cells(row, numeric)}</tr>" for row in table.rows())
    return (
        f'<details><summary>Figures as a table</summary><div class="wide" tabindex="0" role="region" '
        f'aria-label="{_text(caption)}"><table><caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _cells(row: Iterable[Value], numeric: Sequence[bool]) -> str:
    cells = []
    for at, (value, right) in enumerate(zip(row, numeric, strict=True)):
        tag, scope = ("th", ' scope="row"') if at == 0 else ("td", "")
        cells.append(f"<{tag}{scope}{_side(right)}>{_text(_shown(value))}</{tag}>")
    return "".join(cells)


def _is_number(value: Value) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _side(right: bool) -> str:
    return ' class="number"' if right else ""


def _shown(value: Value) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    return f"{value:,}" if isinstance(value, int) else value


def _counterparts(parts: Sequence[PagePart]) -> str:
    state = {each.part.name: "not made" if each.reason else "made" for each in parts}
    table = counterparts()
    names = [str(name) for name in table.column("name")]
    head = "".join(f'<th scope="col">{each}</th>' for each in ("Figure of the paper", "Here", "Needs", "State"))
    rows = ""
    for at, name in enumerate(names):
        title = _text(table.column("part")[at])
        here = f'<a href="#{name}">{title}</a>' if name in state else title
        cells = (here, _text(table.column("needs")[at]), state.get(name, "left out"))
        rows += f'<tr><th scope="row">{_text(table.column("figure of the paper")[at])}</th>'
        rows += "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Counterparts"><table>'
        f"<caption>By what each figure shows</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
