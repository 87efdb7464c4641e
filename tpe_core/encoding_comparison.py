"""Models side by side: how each encodes token probability in its output embedding, figure by figure.

The paper asks why the encoding is sparser in some models than in others (Cho et al. 2025, section 7). What is compared
is what `tpe analyze --json` says of each model, so that an analysis that was kept as a file stands beside a model that
is opened now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.options import RunOptions
from tpe_core.outputs import beginning, check_output, shown_path
from tpe_core.progress import Progress, Steps
from tpe_core.shown import Shown, figure_text
from tpe_core.tables import Table

__all__ = [
    "FIGURES",
    "FORMATS",
    "ComparedModel",
    "EncodingComparison",
    "Figure",
    "analysed",
    "check_comparison_file",
    "compare_encodings",
    "write_comparison",
]

KIND = "tpe.comparison"
FORMATS = (".csv", ".json", ".md")
MAX_BYTES = 256 * 2**20
COMPONENTS = 10

Value = float | int | bool | str | None
Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the comparison: its key in files, its title, how it is read from the document of `tpe analyze`.

    `kind` says how it is shown: ``count``, ``share``, ``number`` or ``fact``.
    """

    key: str
    title: str
    kind: str
    read: Callable[[Document], Value]


def _at(*path: str) -> Callable[[Document], Value]:
    """What reads a value of a document by its place; None where it is not there."""

    def read(document: Document) -> Value:
        value: Any = document
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, float | int | bool | str) else None

    return read


def _dimensions_90(document: Document) -> Value:
    """The fewest dimensions of the curve R2(k) that hold 90 % of R2: an upper bound, as the curve has few points."""
    r2, by_k = document["encoding"]["r2"], document["sparsity"]["r2_by_k"]
    enough = [int(k) for k, value in by_k.items() if value is not None and r2 is not None and value >= 0.9 * r2]
    return min(enough, default=None)


def _best_component(document: Document) -> Value:
    found = [abs(value) for value in document["components"]["correlations"] if value is not None]
    return max(found, default=None)


def _components_r2(document: Document) -> Value:
    """R2 of the first principal components together: their scores are uncorrelated, so their squares add up."""
    values = document["components"]["correlations"][:COMPONENTS]
    return None if any(value is None for value in values) else math.fsum(value * value for value in values)


def _participation_share(document: Document) -> Value:
    ratio = document["sparsity"]["participation_ratio"]
    return None if ratio is None else ratio / document["hidden_size"]


def _outliers(document: Document) -> Value:
    return len(document["outlier_dimensions"]["dims"])


FIGURES: tuple[Figure, ...] = (
    Figure(key="vocab_rows", title="tokens V", kind="count", read=_at("vocab_rows")),
    Figure(key="hidden_size", title="dimensions d", kind="count", read=_at("hidden_size")),
    Figure(key="tied", title="tied embeddings", kind="fact", read=_at("head", "tied")),
    Figure(key="head_bias", title="head has a bias", kind="fact", read=_at("head", "bias")),
    Figure(key="dtype", title="dtype", kind="fact", read=_at("head", "dtype")),
    Figure(key="positions", title="positions", kind="count", read=_at("positions")),
    Figure(key="loss", title="loss, nats", kind="number", read=_at("loss")),
    Figure(key="r2", title="R2", kind="number", read=_at("encoding", "r2")),
    Figure(key="r2_adjusted", title="adjusted R2", kind="number", read=_at("encoding", "r2_adjusted")),
    Figure(key="r2_heldout_vocab", title="held-out R2", kind="number", read=_at("encoding", "r2_heldout_vocab")),
    Figure(key="r2_permuted", title="permuted R2", kind="number", read=_at("encoding", "r2_permuted")),
    Figure(key="r2_1", title="R2 of 1 dim", kind="number", read=_at("sparsity", "r2_by_k", "1")),
    Figure(key="r2_8", title="R2 of 8 dims", kind="number", read=_at("sparsity", "r2_by_k", "8")),
    Figure(key="r2_64", title="R2 of 64 dims", kind="number", read=_at("sparsity", "r2_by_k", "64")),
    Figure(key="dimensions_90", title="90 % of R2 takes", kind="count", read=_dimensions_90),
    Figure(key="gini", title="Gini of |slope|", kind="number", read=_at("sparsity", "gini")),
    Figure(
        key="participation_ratio", title="participation ratio", kind="number",
        read=_at("sparsity", "participation_ratio"),
    ),
    Figure(key="participation_share", title="  of d", kind="share", read=_participation_share),
    Figure(key="best_component", title="largest PC |r|", kind="number", read=_best_component),
    Figure(key="components_r2", title=f"R2 of {COMPONENTS} PCs", kind="number", read=_components_r2),
    Figure(key="static_bias_r2", title="R2 of static bias", kind="number", read=_at("static_bias", "r2_alone")),
    Figure(
        key="cosine_to_mean_hidden", title="cos(slopes, -E[h])", kind="number",
        read=_at("encoding", "cosine_to_mean_hidden"),
    ),
    Figure(key="common_drift", title="common drift", kind="number", read=_at("geometry", "common_drift")),
    Figure(
        key="condition_number", title="condition number", kind="number", read=_at("encoding", "condition_number")
    ),
    Figure(key="outliers", title="outlier dimensions", kind="count", read=_outliers),
    Figure(
        key="outlier_overlap", title="  among top slopes", kind="count", read=_at("outlier_dimensions", "overlap")
    ),
    Figure(key="outlier_p", title="  p of that", kind="number", read=_at("outlier_dimensions", "overlap_p")),
    Figure(key="slopes_of_halves", title="slopes of halves", kind="number", read=_at("stability", "cosine")),
    Figure(key="prunable_share", title="prunable share", kind="share", read=_at("prunable", "share")),
)  # fmt: skip
"""Every figure of the comparison, in the order of its table: one of `tpe analyze --json`, or made of several."""


@dataclass(frozen=True, kw_only=True)
class ComparedModel:
    """One model of a comparison: what it is called there, and the document of its analysis."""

    name: str
    document: Document

    def value(self, figure: Figure) -> Value:
        """A figure of the model; None where it has none."""
        return figure.read(self.document)

    @property
    def text(self) -> str:
        """Fingerprint and positions of what was read: figures of other texts are no comparison of models alone."""
        text = self.document.get("text") or {}
        return f"{text.get('fingerprint')}:{self.document.get('positions')}"


@dataclass(frozen=True, kw_only=True)
class EncodingComparison(Shown):
    """Models side by side, in the order in which they were named; `problems` are sentences about those left out.

    Example:
        >>> import json
        >>> _ = Path("demo.json").write_text(json.dumps(analysis.to_dict()))  # as tpe analyze --json writes it
        >>> side = tpe.run(tpe.compare_encodings([Path("demo.json")]))
        >>> side.table().column("hidden_size")
        [256]
    """

    models: tuple[ComparedModel, ...]
    problems: tuple[str, ...] = ()
    budget: float | None = None  # KL in nats of the prunable share, where it was asked for

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures that at least one model has."""
        return tuple(each for each in FIGURES if any(model.value(each) is not None for model in self.models))

    @property
    def same_text(self) -> bool:
        """Whether all were measured on one text."""
        return len({model.text for model in self.models}) <= 1

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe compare`."""
        models = [
            {"name": model.name, **{figure.key: model.value(figure) for figure in FIGURES}} for model in self.models
        ]
        return {
            "kind": KIND,
            "schema": 1,
            "same_text": self.same_text,
            "budget": self.budget,
            "models": models,
            "problems": list(self.problems),
        }

    def table(self) -> Table:
        """A row for each model, a column for each figure."""
        return Table.of(self.to_dict()["models"])

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {
            "comparison": self.table,
            "compared_r2_by_k": lambda: Table.of(_each(self.models, _best_dimensions)),
            "compared_slopes": lambda: Table.of(_each(self.models, _slope_shares)),
            "compared_components": lambda: Table.of(_each(self.models, _components_together)),
        }

    def _subject(self) -> str:
        return ", ".join(model.name for model in self.models)

    def _summary(self) -> Mapping[str, object]:
        return {
            figure.title.strip(): " | ".join(figure_text(model.value(figure)) for model in self.models)
            for figure in self.figures
        }

    def markdown(self, shown: Callable[[Figure, Value], str]) -> str:
        """A row for each figure, a column for each model; `shown` writes a value."""
        rows = [["", *(model.name for model in self.models)], ["---", *("---:" for _ in self.models)]]
        rows += [
            [figure.title.strip(), *(shown(figure, model.value(figure)) for model in self.models)]
            for figure in self.figures
        ]
        return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


Records = Iterable[dict[str, Any]]


def _each(models: Sequence[ComparedModel], read: Callable[[Document], Records]) -> Records:
    """The rows of every model, under its name."""
    return ({"model": model.name, **row} for model in models for row in read(model.document))


def _best_dimensions(document: Document) -> Records:
    return ({"k": int(k), "r2": r2} for k, r2 in document["sparsity"]["r2_by_k"].items())


def _slope_shares(document: Document) -> Records:
    """Each dimension's share of the sum of |slope| sd(W), largest first; nothing where no dimensions are written."""
    sizes = [abs(entry["slope_std"]) for entry in document.get("dimensions", ()) if entry["slope_std"] is not None]
    total = math.fsum(sizes) or 1.0
    return ({"rank": rank, "share": size / total} for rank, size in enumerate(sorted(sizes, reverse=True), 1))


def _components_together(document: Document) -> Records:
    """The components' correlations with -log alpha, and R2 of the first of them together: the squares add up."""
    correlations = [value or 0.0 for value in document["components"]["correlations"]]
    squares = list(accumulate(value * value for value in correlations))
    rows = zip(correlations, squares, strict=True)
    return ({"component": at, "correlation": r, "r2_cumulative": r2} for at, (r, r2) in enumerate(rows, 1))


def compare_encodings(
    sources: Sequence[RunOptions | Path], budget: float | None = None, *, order: str = "slope"
) -> Steps[EncodingComparison]:
    """Analyse models one after the other and put them side by side: a job.

    A `Path` is a file that `tpe analyze --json` wrote. With `budget`, the largest share of dimensions along `order`
    that can go under that KL in nats on held-out text, replaced by least squares, is measured for those that are
    opened. A model that cannot be opened is left out and named in `problems`. Raises `TpeError` where none is left.

    Example:
        >>> import json
        >>> _ = Path("demo.json").write_text(json.dumps(analysis.to_dict()))  # as tpe analyze --json writes it
        >>> side = tpe.run(tpe.compare_encodings([Path("demo.json")]))
        >>> [model.name for model in side.models]
        ['demo.json']
    """
    models, problems = list[ComparedModel](), list[str]()
    for number, source in enumerate(sources, 1):
        name = source.name if isinstance(source, Path) else _name_of(source)
        try:
            document = (
                _read(source) if isinstance(source, Path) else (yield from analysed(source, budget, order, problems))
            )
        except TpeError as error:
            problems.append(f"{name} is left out: {error}")
            continue
        models.append(ComparedModel(name=_told_apart(name, models), document=document))
        partial = EncodingComparison(models=tuple(models), problems=tuple(problems), budget=budget)
        yield Progress("compare", number, len(sources), note=models[-1].name, partial=partial)
    if not models:
        raise TpeError(" ".join(problems) or "name at least one model, or a file of tpe analyze --json.")
    return EncodingComparison(models=tuple(models), problems=tuple(problems), budget=budget)


def analysed(options: RunOptions, budget: float | None, order: str, problems: list[str]) -> Steps[dict[str, Any]]:
    """The document of `tpe analyze` of one model, with its prunable share where there is a `budget`: a job.

    Sentences about what a cache could not give are added to `problems`. Raises `TpeError` as `analyze` does.
    """
    from tpe_core.analysis import analyze
    from tpe_core.detection.samples import read_samples
    from tpe_core.pruning.budget import NoMaskError, largest_under
    from tpe_core.store import Store

    store = Store(on_problem=problems.append) if options.cache else None
    analysis = yield from analyze(options, store)
    document = analysis.to_dict()
    if budget is not None:
        samples = yield from read_samples(
            analysis.model, analysis.detection.sample, analysis.source, (),
            size=options.sample, seed=options.seed, store=store,
        )  # fmt: skip
        try:
            found = yield from largest_under(
                analysis, samples.heldout, order, "least-squares", budget, seed=options.seed, store=store
            )
            share = found.removed / found.width
        except NoMaskError:
            share = 0.0
        document["prunable"] = {"share": share, "budget": budget, "order": order, "replace": "least-squares"}
    return document


def _read(path: Path) -> dict[str, Any]:
    """The document of an analysis. Raises `TpeError` where a file holds none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        document = parse_json(path.read_bytes())
    except OSError as error:
        raise TpeError(f"{shown_path(path)} cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise TpeError(f"{shown_path(path)} holds no analysis ({error}): write one by tpe analyze --json.") from None
    needed = ("model", "hidden_size", "encoding", "sparsity", "components", "outlier_dimensions")
    if not isinstance(document, dict) or not all(name in document for name in needed):
        raise TpeError(f"{shown_path(path)} holds no analysis: write one by tpe analyze --json.")
    try:
        for figure in FIGURES:
            figure.read(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TpeError(
            f"{shown_path(path)} holds no whole analysis ({type(error).__name__}: {error}): write one by "
            "tpe analyze --json."
        ) from None
    return document


def _name_of(options: RunOptions) -> str:
    """A model's name with what it is of it: of a hub id or a file the last part, of a local folder the last two."""
    path = Path(options.model)
    name = "/".join(path.parts[-2:]) if path.is_dir() else path.name or options.model
    parts = [name, options.revision, options.gguf_file]
    return "@".join(part for part in parts if part)


def _told_apart(name: str, models: Sequence[ComparedModel]) -> str:
    """A name that no other model of the comparison has."""
    taken, number, told = {model.name for model in models}, 2, name
    while told in taken:
        told, number = f"{name} ({number})", number + 1
    return told


def check_comparison_file(path: Path, *, replace: bool) -> None:
    """Refuse a place that no comparison should be written to: see `tpe_core.outputs.check_output`."""
    if path.suffix not in FORMATS:
        raise TpeError(f"{path.name} does not say what to write: end the name in {', '.join(FORMATS[:-1])} or .md.")
    check_output(path, "a comparison", _is_comparison, replace=replace)


def _is_comparison(path: Path) -> bool:
    text = beginning(path)
    if path.suffix == ".json":
        return f'"{KIND}"' in text
    first = text.split("\n", 1)[0]
    return first.startswith("name,vocab_rows") if path.suffix == ".csv" else first.startswith("|  | ")


def write_comparison(
    comparison: EncodingComparison, path: Path, shown: Callable[[Figure, Value], str], *, replace: bool
) -> Path:
    """Write a comparison as CSV, JSON or Markdown by the name's end. Raises `TpeError` where it cannot be."""
    from tpe_core.store import write_file

    check_comparison_file(path, replace=replace)
    if path.suffix == ".json":
        text = json_text(comparison.to_dict(), 1) + "\n"
    else:
        text = comparison.table().csv() if path.suffix == ".csv" else comparison.markdown(shown)
    try:
        write_file(path, [text.encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise TpeError(f"{path} cannot be written ({error.strerror or error}): choose another place.") from None
    return path
