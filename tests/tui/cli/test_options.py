"""Shared options: every command gets them as one table says, through typer's own parsing, and only those it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperOption
from typer.testing import CliRunner

from tests.helpers.commands import commands
from tpe_core.options import RunOptions
from tpe_tui.cli.command_group import CommandGroup
from tpe_tui.cli.conversion import LeanCommand, _Conversion
from tpe_tui.cli.main import COMMANDS, command_line
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


@pytest.mark.parametrize("name", [*COMMANDS, "demo", "a-model"])
def test_a_command_line_makes_the_commands_that_it_can_mean_and_they_are_as_among_all(name: str) -> None:
    words = [*name.split(), "--help"]
    alone, among = (CliRunner().invoke(command_line(given), words) for given in (words, None))
    assert alone.exit_code == among.exit_code == 0
    assert alone.output == among.output


def test_options_that_were_not_given_are_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[str] = []

    def noted(parameter: Any) -> Any:
        converted.append(parameter.name)
        return make(parameter)

    make = TyperOption.get_runtime_param
    monkeypatch.setattr(TyperOption, "get_runtime_param", noted)
    seen: dict[str, Any] = {}
    app = typer.Typer(cls=CommandGroup)

    @app.callback()
    def everything() -> None: ...

    @app.command("inspect", cls=LeanCommand)
    def opened(
        *,
        model: Annotated[str, typer.Argument()] = "demo",
        size: Annotated[int, typer.Option(min=1)] = 3,
        share: Annotated[float | None, typer.Option()] = None,
        names: Annotated[list[str] | None, typer.Option()] = None,
        where: Annotated[Path, typer.Option()] = Path("here"),
        word: Annotated[str, typer.Option()] = "a",
        flag: Annotated[bool, typer.Option()] = True,
    ) -> None:
        seen.update(locals())

    def result(*words: str) -> int:
        converted.clear()
        return CliRunner().invoke(app, ["inspect", *words]).exit_code

    assert result() == 0
    assert (converted, seen["size"], seen["share"], seen["where"], seen["word"]) == ([], 3, None, Path("here"), "a")
    assert not seen["names"]
    assert result("other", "--size", "5", "--word", "b", "--names", "c", "--no-flag") == 0
    assert (converted, seen["size"], seen["names"]) == ([], 5, ["c"]), "text and plain numbers need no converter"
    assert (seen["model"], seen["word"], seen["flag"]) == ("other", "b", False)
    assert result("--where", "there", "--share", "0.25") == 0
    assert (converted, seen["share"], seen["where"]) == (["where"], 0.25, Path("there"))
    assert (result("--size", "0"), converted) == (2, ["size"])
    assert (result("--share", "much"), converted) == (2, ["share"])


TEXTS = (
    "",
    "7",
    "0",
    "-3",
    "+4",
    "007",
    "1_0",
    " 5",
    "0.25",
    "-1.5",
    ".5",
    "1e-3",
    "nan",
    "inf",
    "\u0663",
    "9" * 20,
    "true",
    "a",
)


def test_what_is_plain_is_read_as_typer_reads_it() -> None:
    program = typer.main.get_command(command_line())
    context = typer.Context(program)
    params = [param for _, command in walked(program, context) for param in command.get_params(context)]
    lean = [param for param in params if isinstance(param.get_runtime_param, _Conversion)]
    assert len(lean) > 300
    plain: set[type] = set()
    for param in lean:
        several = param.multiple or param.nargs == -1
        for text in TEXTS:
            value = (text, text) if several else text
            here, typers = (
                outcome(convert, value, param, context)
                for convert in (param.get_runtime_param, param.get_runtime_param.make())
            )
            assert here == typers, f"{param.name} {text!r}"
            plain.add(here[0])
    assert {str, int, float, list} <= plain


def outcome(conversion: Any, value: Any, param: Any, context: Any) -> tuple[type, str]:
    """The type of what a text becomes and what it is, or how it is refused."""
    try:
        found = conversion.coerce(value, param=param, ctx=context)
    except Exception as error:
        return type(error), str(error)
    return type(found), repr(found)


def walked(command: Any, context: Any) -> Iterator[tuple[str, Any]]:
    """Every command below one, with its name."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from walked(inner, context) if hasattr(inner, "commands") else [(name, inner)]
