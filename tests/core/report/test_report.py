"""The report as a folder: what is written, how a run goes on, what is refused, what strangers' texts do to the page."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.dom import minidom

import pytest

from tpe_core.errors import ExistsError, TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, run
from tpe_core.report.folder import check_folder
from tpe_core.report.page import PageFigure, PagePart, page
from tpe_core.report.parts import PARTS
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.report.report import Report, ReportRequest, chosen_parts, report
from tpe_core.store import write_file
from tpe_core.tables import Table
from tpe_tui.cli.main import main

HOSTILE = '</td><script>alert("1")</script>&amp;\ud800$_{x}$'
EARLY, LATE = datetime(2026, 1, 2, tzinfo=UTC), datetime(2027, 3, 4, 5, 6, tzinfo=UTC)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(options: RunOptions, out: Path, *only: str, now: datetime = EARLY, **more: Any) -> Report:
    return run(report(ReportRequest(out=out, only=only, **more), options, now=now))


def test_two_runs_differ_in_their_time_stamps_alone(options: RunOptions, tmp_path: Path) -> None:
    first = made(options, tmp_path / "a", "r2-by-k", "dynamics")
    made(options, tmp_path / "b", "r2-by-k", "dynamics", now=LATE)
    one, other = files(tmp_path / "a"), files(tmp_path / "b")
    assert set(one) == {"index.html", "report.json", *(f"figures/r2_by_k.{end}" for end in ("png", "svg", "csv"))}
    assert one != other
    stamps = (b"2026-01-02T00:00:00+00:00", b"2027-03-04T05:06:00+00:00")
    assert {name: data.replace(stamps[0], stamps[1]) for name, data in one.items()} == other
    assert first.made == ("r2-by-k",)
    assert [title for title, _ in first.missing] == [PARTS["dynamics"].title]
    content = one["index.html"].decode()
    assert "Not made:" in content
    assert "no checkpoints are given" in content
    record = json.loads(one["report.json"])
    assert record["complete"] is True
    assert [(part["name"], part["reason"] is None) for part in record["parts"]] == [
        ("r2-by-k", True), ("dynamics", False),
    ]  # fmt: skip


def failing(recipe: Recipe) -> Recipe:
    def measure(material: object) -> Steps[Measured]:
        yield Progress("tables", 0)
        raise TpeError(f"{recipe.name} is impossible <here>.")

    return replace(recipe, measure=measure)


def test_every_part_that_cannot_be_made_is_named_with_its_reason(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES._entries, name, failing(recipe))
    result = made(options, tmp_path / "out")
    assert not result.made
    content = (tmp_path / "out" / "index.html").read_text()
    for name, part in PARTS.items():
        assert (part.title, f"{name} is impossible <here>.") in result.missing
        assert f"{name} is impossible &lt;here&gt;." in content


def test_a_run_that_was_killed_goes_on(options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ReportRequest(out=tmp_path / "out", only=("pruning",))
    steps = report(request, options, now=EARLY)
    for event in steps:
        if event.label == "draw":
            break
    steps.close()
    assert json.loads((request.out / "report.json").read_text())["complete"] is False
    assert not (request.out / "index.html").exists()

    def measured_again(*_: object, **__: object) -> Any:
        raise AssertionError("it was measured before")

    monkeypatch.setattr("tpe_core.report.pruning_parts.prune", measured_again)
    result = run(report(request, options, now=EARLY))
    assert result.made == ("pruning",)
    monkeypatch.undo()
    whole = made(replace(options, cache=False), tmp_path / "whole", "pruning")
    ours, theirs = files(request.out), files(tmp_path / "whole")
    assert ours["figures/pruning_curves.csv"] == theirs["figures/pruning_curves.csv"]
    assert ours["index.html"].replace(b" --no-cache", b"") == theirs["index.html"]
    assert whole.made == ("pruning",)


def test_an_earlier_report_is_replaced_only_where_that_is_said_and_anything_else_never(
    options: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made(options, out, "r2-by-k")
    (out / "figures" / "notes.txt").write_text("mine")
    with pytest.raises(ExistsError):
        made(options, out, "mean-hidden")
    made(options, out, "mean-hidden", replace=True)
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "notes.txt", "slopes_mean_hidden.csv", "slopes_mean_hidden.png", "slopes_mean_hidden.svg",
    ]  # fmt: skip
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "report.json").write_text('{"mine": 1}')
    for replaced in (False, True):
        with pytest.raises(TpeError, match="holds no report: it is left as it is"):
            check_folder(strange, replace=replaced)
    (tmp_path / "file").write_text("")
    with pytest.raises(TpeError, match="is no folder"):
        check_folder(tmp_path / "file", replace=True)
    with pytest.raises(TpeError, match="is no folder"):
        check_folder(tmp_path / "file" / "below", replace=True)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full(path: Path, parts: Any) -> None:
        if path.suffix == ".svg":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(path, parts)

    monkeypatch.setattr("tpe_core.report.folder.write_file", full)
    with pytest.raises(TpeError, match=r"r2_by_k\.svg cannot be written \(No space left on device\)"):
        made(options, tmp_path / "out", "r2-by-k")
    assert not (tmp_path / "out" / "index.html").exists()
    monkeypatch.undo()
    assert made(options, tmp_path / "out", "r2-by-k").made == ("r2-by-k",)


class Tags(HTMLParser):
    """What a browser would make of a page: its tags with their attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "source", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">\n <path d="M 1.23456 2 \nL 3 -0.001 \n"/></svg>'


@pytest.fixture
def hostile(options: RunOptions, tmp_path: Path) -> str:
    """A page in which every text is hostile."""
    record = made(options, tmp_path / "out", "dynamics").record
    record = {**record, "name": HOSTILE, "model": HOSTILE, "text": HOSTILE, "warnings": [HOSTILE],
              "command": ["tpe", HOSTILE]}  # fmt: skip
    part = replace(PARTS["fit"], title="Fit", caption=HOSTILE)
    figure = PageFigure(name="fit", about=HOSTILE, note="", pictures=(SVG,) * 4, rows=1)
    summary = Table({"token": [HOSTILE, "b"], "value": [1.5, None], HOSTILE: [True, False]})
    parts = [
        PagePart(part=part, command=HOSTILE, measured=Measured(tables={}, summary=summary), sentence=HOSTILE,
                 figures=(figure,)),
        PagePart(part=PARTS["pca"], command="tpe", reason=HOSTILE),
    ]  # fmt: skip
    return page(record, parts)


def test_texts_of_a_model_are_texts_on_the_page(hostile: str) -> None:
    tags = Tags(hostile)
    assert not tags.of("script")
    assert not tags.open
    assert hostile.encode("utf-8")
    assert r"\ud800" in hostile


def test_the_page_asks_for_nothing_and_is_read_aloud(hostile: str) -> None:
    tags = Tags(hostile)
    for _, attributes in tags.tags:
        for name in ("src", "srcset"):
            if (address := attributes.get(name)) is not None:
                assert address.startswith("data:image/svg+xml,")
                assert not re.search(r"\s", address), "a space ends an address in srcset"
        if (href := attributes.get("href")) is not None:
            assert href == "data:," or href.startswith(("#", "figures/"))
    assert "@import" not in hostile
    assert "url(" not in hostile.partition("</style>")[0]
    assert all(image["alt"] for image in tags.of("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in tags.of("th"))
    assert [attributes["lang"] for attributes in tags.of("html")] == ["en"]
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    anchors = {href[1:] for each in tags.of("a") if (href := each["href"]) is not None and href.startswith("#")}
    assert anchors <= set(ids)
    levels = [int(tag[1]) for tag, _ in tags.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}


def test_pictures_on_the_page_are_svg_that_a_parser_reads(hostile: str) -> None:
    (image,) = Tags(hostile).of("img")
    address = image["src"]
    assert address is not None
    root = minidom.parseString(unquote(address.partition(",")[2]))  # noqa: S318  # our own
    (path,) = root.getElementsByTagName("path")
    assert path.getAttribute("d") == "M1.23,2L3,-0"


def test_parts_are_chosen_by_name() -> None:
    assert [part.name for part in chosen_parts((), ("fit", "pca"))] == [
        name for name in PARTS if name not in ("fit", "pca")
    ]
    assert [part.name for part in chosen_parts(("pca", "fit"), ())] == ["fit", "pca"]
    with pytest.raises(TpeError, match="unknown part of a report 'fits': choose one of fit, residuals"):
        chosen_parts(("fits",), ())
    with pytest.raises(TpeError, match="nothing is left"):
        chosen_parts(("fit",), ("fit",))


def test_the_command_says_what_was_made_and_what_was_not(
    options: RunOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", options.model, "--text", options.text[0], "--positions", "2000", "--only", "r2-by-k,dynamics"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 parts are in" in captured.out
    assert "not made: no checkpoints" in captured.err
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "add --force" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "out"), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert main(words) == 2
    assert "--out" in capsys.readouterr().err


def test_without_matplotlib_one_sentence_names_the_extra(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(TpeError, match=r"tpe-tui\[plots\]"):
        made(options, tmp_path / "out", "fit")
    assert not (tmp_path / "out").exists()
