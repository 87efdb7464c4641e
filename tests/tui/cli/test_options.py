"""Shared options: every command gets them as one table says, through typer's own parsing, and only those it takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from tests.helpers.commands import commands
from tpe_core.options import RunOptions
from tpe_tui.cli.options import LOADING, OUTPUT, READING, SHARED, TABLE, run_options, takes
from tpe_tui.command_line import common_options


def called(arguments: list[str]) -> dict[str, Any]:
    """What a command that takes some of the options is called with, and the options it makes of its context."""
    seen: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @takes({"seed", "text", "no_cache", "device_map", "debug"})
    def some(context: typer.Context, name: str = "x", size: Annotated[int, typer.Option()] = 3, *, seed: int) -> None:
        seen.update(name=name, size=size, seed=seed, options=run_options(context))

    result = CliRunner().invoke(app, arguments)
    return seen if result.exit_code == 0 else {"failed": result.exit_code, "output": result.output}


def test_a_command_is_called_with_its_own_and_what_it_names() -> None:
    assert called([]) == {"name": "x", "size": 3, "seed": 0, "options": RunOptions()}


def test_the_rest_is_in_its_context(tmp_path: Path) -> None:
    texts = (str(tmp_path / "a"), str(tmp_path / "b"))
    for text in texts:  # a text that is not there is refused
        Path(text).write_text("text")
    words = [
        "--seed",
        "7",
        "--text",
        texts[0],
        "--text",
        texts[1],
        "--no-cache",
        "--device-map",
        "auto",
        "--debug",
        "--size",
        "4",
    ]
    options = RunOptions(seed=7, text=texts, cache=False, device_map="auto")
    assert called(words) == {"name": "x", "size": 4, "seed": 7, "options": options}


def test_the_field_of_a_text_is_an_option_that_the_printed_command_repeats(tmp_path: Path) -> None:
    text = tmp_path / "a.jsonl"
    text.write_text('{"body": "words"}')
    seen: list[RunOptions] = []
    app = typer.Typer()

    @app.command()
    @takes(READING)
    def some(context: typer.Context) -> None:
        seen.append(run_options(context))

    words = ["--text", str(text), "--text-field", "body"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert seen == [RunOptions(text=(str(text),), text_field="body")]
    assert common_options(seen[0]) == ["demo", *words]
    refused = CliRunner().invoke(app, ["--text-field", "body"])
    assert str(refused.exception).startswith("the built-in text has no records")


@pytest.mark.parametrize("words", [["--revision", "main"], ["--json"], ["--threads", "2"]])
def test_what_is_not_taken_is_no_option(words: list[str]) -> None:
    assert called(words)["failed"] == 2


def test_a_name_that_is_not_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="sed"):
        takes({"sed"})


@pytest.mark.parametrize(("name", "command"), commands())
def test_what_commands_name_is_what_they_take(name: str, command: Any) -> None:
    taken = inspect.signature(command).parameters
    declared = inspect.signature(inspect.unwrap(command), eval_str=True).parameters.values()
    for each in (each for each in declared if each.kind is inspect.Parameter.KEYWORD_ONLY):
        assert each.default is inspect.Parameter.empty, f"{name}: {each.name} has its default in the table"
        assert each.annotation == SHARED[each.name][0] == taken[each.name].annotation, f"{name}: {each.name}"


def test_the_groups_are_the_table() -> None:
    assert SHARED.keys() == LOADING | READING | OUTPUT | TABLE
    assert sum(map(len, (LOADING, READING, OUTPUT, TABLE))) == len(SHARED)


def test_every_option_of_a_run_can_be_given() -> None:
    names = {"no_cache" if name == "cache" else name for name in RunOptions.__dataclass_fields__}
    assert names - {"model", "sample", "refresh"} == SHARED.keys() - OUTPUT - TABLE
