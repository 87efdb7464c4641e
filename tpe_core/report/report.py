"""`tpe report`: every part measured, drawn and written, those that cannot be made named with their reason.

A part that takes long is kept in the cache as soon as it is measured, so that a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from tpe_core.analysis import Analysis, analyze
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_core.plots.drawing import DRAWINGS
from tpe_core.plots.figures import PHONE, WIDTH, check_matplotlib, draw, png, svg
from tpe_core.progress import Progress, Steps
from tpe_core.report import dynamics_parts, encoding_parts, experiment_parts, pruning_parts, steering_parts
from tpe_core.report.folder import (
    FIGURES,
    KIND,
    PAGE,
    FolderError,
    begin,
    check_folder,
    remove_others,
    write_into,
    write_record,
)  # fmt: skip
from tpe_core.report.material import Material, command_words
from tpe_core.report.page import PageFigure, PagePart, page
from tpe_core.report.parts import PARTS, Part
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.report.settings import PROMPTS
from tpe_core.store import Store

__all__ = ["FAMILIES", "Report", "ReportRequest", "chosen_parts", "report"]

VERSION = 1
"""Of what is kept of a part: raised where the same measurement would be written down otherwise."""

FAMILIES = (encoding_parts, steering_parts, pruning_parts, dynamics_parts, experiment_parts)
"""The modules that register the recipes."""

VARIANTS = (("light", WIDTH), ("dark", WIDTH), ("light", PHONE), ("dark", PHONE))


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is asked to hold, and where it goes."""

    out: Path
    only: tuple[str, ...] = ()  # names of parts; none: all of them
    without: tuple[str, ...] = ()
    ood: tuple[str, ...] = ()  # files or folders of out-of-domain text
    dynamics: tuple[str, ...] = ()  # see `Material.dynamics`
    experiments: tuple[str, ...] = ()  # see `Material.experiments`
    prompts: int = PROMPTS  # that text is sampled after
    replace: bool = False  # a report that is there

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in the order of the page. Raises `TpeError` for a name that there is not, or where none is left."""
        return chosen_parts(self.only, self.without)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written: the page, the parts that were made, and those that could not be, with why."""

    page: Path
    made: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    record: dict[str, Any]  # as in report.json


def chosen_parts(only: Iterable[str], without: Iterable[str]) -> tuple[Part, ...]:
    """The parts that are asked for, in the order of `PARTS`. Raises as `ReportRequest.parts`."""
    wanted = {PARTS.choose(name).name for name in only} or set(PARTS)
    left = wanted - {PARTS.choose(name).name for name in without}
    if not left:
        raise TpeError("nothing is left to report: leave out fewer parts.")
    return tuple(part for part in PARTS.values() if part.name in left)


def report(
    request: ReportRequest,
    options: RunOptions,
    store: Store | None = None,
    stdin: BinaryIO | None = None,
    now: datetime | None = None,
) -> Steps[Report]:
    """Measure a model and write its report: a job.

    Args:
        request: Which parts, and where they go.
        options: Of the analysis, as for `analyze`.
        store: Where results are kept; None: the user's cache, unless `options.cache` is off.
        stdin: What ``-`` in `options.text` reads.
        now: The time that the report says it was made; None: the clock's.

    Returns:
        A job; `run` drives it to its `Report`. Raises `TpeError` where matplotlib is missing, the model or the text
        cannot be read, or the folder cannot be written to. A part that cannot be measured ends nothing.
    """
    parts = request.parts
    check_matplotlib()
    check_folder(request.out, replace=request.replace)
    warnings: list[str] = []
    if store is None and options.cache:
        store = Store(on_problem=warnings.append)
    analysis = yield from analyze(options, store, stdin)
    begin(request.out, analysis.model.name)
    material = Material(
        analysis=analysis, options=options, store=store, ood=request.ood, dynamics=request.dynamics,
        experiments=request.experiments, prompts=request.prompts,
    )  # fmt: skip
    done: list[PagePart] = []
    for at, part in enumerate(parts):
        yield Progress("parts", at, len(parts), note=part.title)
        recipe = RECIPES[part.name]
        command = recipe.command(material)
        try:
            measured = yield from _measured(recipe, material, command)
            made = yield from _drawn(part, measured, analysis, request.out)
            done.append(
                PagePart(
                    part=part, command=command, measured=measured, sentence=recipe.sentence(measured), figures=made
                )
            )
        except FolderError:
            raise
        except TpeError as error:
            done.append(PagePart(part=part, command=command, reason=str(error)))
    record = _record(done, material, request, now or datetime.now(UTC))
    content = page(record, done)
    write_into(request.out, PAGE, content)
    files = [name for part in record["parts"] for figure in part["figures"] for name in figure["files"]]
    remove_others(request.out, files)
    write_record(request.out, record)
    return Report(
        page=request.out / PAGE,
        made=tuple(each.part.name for each in done if not each.reason),
        missing=tuple((each.part.title, each.reason) for each in done if each.reason),
        warnings=(*analysis.warnings, *warnings),
        record=record,
    )


def _measured(recipe: Recipe, material: Material, command: str) -> Steps[Measured]:
    """What a part measures, kept or anew; both are the same, since what is not finite is None in either."""
    store, key = material.store, ""
    if recipe.is_kept and store is not None:
        facts = f"report {VERSION} {version('tpe-tui')} {recipe.name} {command} {(yield from material.fingerprint())}"
        key = hashlib.sha256(facts.encode("utf-8", "backslashreplace")).hexdigest()
        entry = None if material.options.refresh else store.load(key)
        if entry is not None:
            try:
                return Measured.from_record(entry[1])
            except (ValueError, KeyError, TypeError, AttributeError):
                store.remove(key)
    measured = yield from recipe.measure(material)
    if not recipe.is_kept:
        return measured
    record = measured.to_record()
    if store is not None:
        store.save(key, {}, record, kind="part of a report", of=material.analysis.model.name)
    return Measured.from_record(record)


def _drawn(part: Part, measured: Measured, analysis: Analysis, folder: Path) -> Steps[tuple[PageFigure, ...]]:
    """Draw a part's figures, each for the page in every look and as files; one without data is left out."""
    made: list[PageFigure] = []
    subject = _subject(analysis)
    for figure in part.figures:
        table = measured.tables.get(figure.table)
        if table is None:
            continue
        looks: list[str] = []
        picture = b""
        for style, width in VARIANTS:
            yield Progress("draw", len(looks), len(VARIANTS), note=figure.name)
            drawn = draw(
                figure.drawing, table, style, width=width, subject=", ".join(filter(None, (subject, figure.note)))
            )
            looks.append(svg(drawn).decode())
            picture = picture or png(drawn)
        yield Progress("write", 0, 3, note=figure.name)
        contents: dict[str, bytes | str] = {".png": picture, ".svg": looks[0], ".csv": table.csv()}
        for suffix, content in contents.items():
            write_into(folder, f"{FIGURES}/{figure.name}{suffix}", content)
        made.append(
            PageFigure(
                name=figure.name,
                about=DRAWINGS[figure.drawing].about,
                note=figure.note,
                pictures=tuple(looks),
                rows=len(table),
            )
        )
    return tuple(made)


def _subject(analysis: Analysis) -> str:
    """The model's name without the folders above it."""
    name = analysis.model.name
    return name.rstrip("/").rsplit("/", 1)[-1] if Path(name).is_absolute() else name


def _record(parts: Sequence[PagePart], material: Material, request: ReportRequest, now: datetime) -> dict[str, Any]:
    """The document report.json: everything but the tables, which the CSV files hold."""
    analysis, options = material.analysis, material.options
    words = ["tpe", "report", *command_words(options), "--out", "DIR"]
    for option, values in (("--only", request.only), ("--without", request.without), ("--ood", request.ood),
                           ("--dynamics", request.dynamics), ("--experiments", request.experiments)):  # fmt: skip
        words += [word for value in values for word in (option, value)]
    words += ["--prompts", str(request.prompts)] if request.prompts != PROMPTS else []
    encoding, head = analysis.encoding, analysis.model.head
    return {
        "kind": KIND,
        "schema": 1,
        "complete": True,
        "created": now.astimezone(UTC).isoformat(timespec="seconds"),
        "version": version("tpe-tui"),
        "command": words,
        "model": analysis.model.name,
        "name": _subject(analysis),
        "revision": analysis.model.revision,
        "vocab_rows": head.vocab_rows,
        "hidden_size": head.hidden_size,
        "tied": head.tied,
        "bias": head.bias is not None,
        "dtype": analysis.model.report.dtype,
        "text": analysis.text,
        "positions": analysis.detection.positions,
        "loss": analysis.detection.loss,
        "r2_adjusted": encoding.r2_adjusted if math.isfinite(encoding.r2_adjusted) else None,
        "options": {
            "seed": options.seed, "positions": options.positions, "prompts": request.prompts,
            "text": list(options.text), "ood": list(request.ood), "dynamics": list(request.dynamics),
            "experiments": list(request.experiments),
            "parts": [each.part.name for each in parts],
        },
        "warnings": list(analysis.warnings),
        "parts": [each.to_dict() for each in parts],
    }  # fmt: skip
