"""The README and the pages of docs/ show the truth: their Python runs, their commands are ones, their names exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks.__main__ import parsed as parsed_benchmarks
from tpe_core.__main__ import _parser
from tpe_core.edits.intervention import METHODS
from tpe_tui.cli.main import command_line
from tpe_tui.keymap import ACTIONS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("tpe", "make", "pip", "pytest", "python", "torchrun")  # each has its check below


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str = r"\w*") -> list[str]:
    """The contents of fenced blocks."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What stands between backquotes outside of fenced blocks, on one line each."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(page: Path) -> Iterator[list[str]]:
    """Every command line of a page as words: indented lines, and spans that begin with a program."""
    text = read(page)
    lines = [
        *re.findall(r"^ {4}(\S.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    ]
    for line in [*lines, *spans(text)]:
        if line.split()[0] not in PROGRAMS:
            continue
        for part in line.split(" && "):
            yield shlex.split(part.split(" > ")[0], comments=True)  # what a shell is told is no argument


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.slow
def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(read(README), "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert float(capsys.readouterr().out.split()[0]) > 0.8
    assert len(json.loads((tmp_path / "mask.json").read_text())["pruned"]) == 77
    assert json.loads((tmp_path / "edited" / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.slow
def test_the_python_example_of_interventions_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(read(ROOT / "docs" / "interventions.md"), "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "interventions.md", "exec"), {})  # noqa: S102 - our own text
    assert capsys.readouterr().out.split("\n")[0] == "(3, 14, 15) 1"


def test_python_of_every_page_parses_and_imports_what_exists() -> None:
    for page in PAGES:
        for code in blocks(read(page), "python"):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    module = importlib.import_module(node.module)
                    assert not [name.name for name in node.names if not hasattr(module, name.name)], page.name
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tpe":
                    assert hasattr(importlib.import_module("tpe_core"), node.attr), f"{page.name}: tpe.{node.attr}"


def test_the_keys_named_are_the_key_tables() -> None:
    (table,) = re.findall(r"\| move \|.*?\n\n", read(ROOT / "docs" / "keys.md"), re.DOTALL)
    known = {key for action in ACTIONS for key in action.keys.split(",")}
    known |= {{"slash": "/", "question_mark": "?"}.get(key, key) for key in known}
    for cell in re.findall(r"`([^`]+)`", table):
        for key in re.sub(r"(\d)-(\d)", r"\1 \2", cell).split():
            assert key in known, key


def test_functions_named_with_their_module_exist() -> None:
    named = {
        name for page in PAGES for span in spans(read(page)) for name in re.findall(r"\btpe_(?:core|tui)[\w.]*\w", span)
    }
    assert len(named) > 50
    for name in named:
        assert resolved(name), name


def resolved(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("package", ["tpe_core", "tpe_tui"])
def test_the_rooms_are_those_on_disk(package: str) -> None:
    page = read(ROOT / "docs" / "architecture.md")
    tables = re.findall(r"^\| room \|.*?\n\n.*?\n\n", page, re.DOTALL | re.MULTILINE)
    named = {name.removeprefix("tpe_tui.") for table in tables for name in re.findall(r"`([\w.]+)`", table)}
    assert named >= {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 60
    assert {words[0] for _, words in COMMANDS} == set(PROGRAMS)


def check_tpe(words: list[str]) -> None:
    """Parsed by the program itself, whose command is not run; a command that is only named has to be there."""
    group: Any = typer.main.get_command(command_line())
    if words in (["--install-completion"], ["--show-completion"]):  # these act while they are parsed
        assert words[0] in {name for parameter in group.params for name in parameter.opts}
        return
    if words in (["--help"], ["--version"]) or (len(words) == 1 and words[0] in group.commands):
        return
    named = words[1:] == ["--help"]
    context = group.make_context("tpe", words[:1] if named else words)
    while hasattr(context.command, "commands"):
        name, command, rest = context.command.resolve_command(context, context._protected_args + context.args)
        if named:
            return
        context = command.make_context(name, rest, parent=context)
    if context.info_name == "prune":
        from tpe_core.pruning.paths import planned

        given = {
            name: ",".join(context.params[name] or [default])
            for name, default in (("order", "slope"), ("replace", "zero"))
        }
        planned(given["order"].split(","), given["replace"].split(","))
    if context.info_name == "steer":
        assert set(",".join(context.params["method"] or []).split(",")) <= {*METHODS, ""}


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE)
    assert [word for word in words if "=" not in word and word not in targets] == []


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    assert words[0] == "install"
    for word in words[1:]:
        extra = re.fullmatch(r"tpe-tui\[(\w+)\]", word)
        assert extra[1] in extras if extra else word == "-c" or (ROOT / word).exists()


def check_pytest(words: list[str]) -> None:
    markers = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    assert (ROOT / words[0]).exists()
    assert words[1:] in ([], ["-m", "slow"], ["-m", "slow", "-s"])
    assert any(marker.startswith("slow:") for marker in markers)


def check_python(words: list[str]) -> None:
    assert words[0] == "-m"
    assert importlib.util.find_spec(words[1]) is not None
    if words[1] == "benchmarks":
        parsed_benchmarks(words[2:])


def check_torchrun(words: list[str]) -> None:
    at = words.index("-m")
    assert words[at + 1] == "tpe_core"
    _parser().parse_args(words[at + 2 :])


CHECKS = {
    "tpe": check_tpe,
    "make": check_make,
    "pip": check_pip,
    "pytest": check_pytest,
    "python": check_python,
    "torchrun": check_torchrun,
}


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: value.name if isinstance(value, Path) else " ".join(value)
)
def test_every_command_is_one(page: Path, words: list[str]) -> None:
    CHECKS[words[0]](words[1:])


def test_nothing_is_left_to_fill_in() -> None:
    assert not [page.name for page in PAGES if "@@" in read(page)]


def test_the_readme_stays_short_and_names_every_page() -> None:
    assert README.stat().st_size < 7_000
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", read(README)))
    assert linked == {page.name for page in PAGES} - {"README.md"}
