"""Values that have the right type and no meaning are refused or put right where they are read, before a load."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import typer.main

from tests.helpers.commands import commands
from tpe_core.dynamics.measure.frequency import read_counts
from tpe_core.dynamics.probe_log import open_log
from tpe_core.errors import CorpusError, TpeError
from tpe_core.json_text import parse_json
from tpe_core.models.loading import _context
from tpe_core.models.placement import _device_map
from tpe_tui.cli import main as cli

NEEDED = {"steer": ["--token", "the"], "bake": ["--out", "out"], "eval": ["--tasks", "a"]}
FILES = {"bake", "eval", "transfer"}


def numeric_options() -> list[tuple[str, str]]:
    """(command, option) of everything on the command line that takes one number."""
    found = []
    for name, command in commands():
        for each in inspect.signature(command, eval_str=True).parameters.values():
            types = {
                each.annotation,
                *get_args(each.annotation),
                *get_args(next(iter(get_args(each.annotation)), None)),
            }
            if types & {int, float} and bool not in types:
                found.append((name, f"--{each.name.replace('_', '-')}"))
    return found


TRAINS = ("demo train", "sparsity")  # which open no model and need none


@pytest.fixture(scope="module")
def _commands_built_once() -> Iterator[None]:
    """`main` builds commands anew whenever it is called, which takes longer than to refuse a value."""
    everything = cli.command_line()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cli, "command_line", lambda _words: everything)
        patched.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.mark.usefixtures("_commands_built_once")
@pytest.mark.parametrize(("command", "option"), numeric_options())
def test_every_numeric_option_refuses_what_cannot_be_before_the_load(
    command: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.split()
    words += [str(tmp_path / "mask.json")] if command in FILES else []
    words += [str(tmp_path / "no-such-model")] if command not in TRAINS else ["--out", str(tmp_path / "run")]
    for value in ("-1", "-1e999", "nan", "inf", "1e999", str(10**30), "x"):
        if command in TRAINS and option == "--budget" and value == str(10**30):
            continue  # a number like any other, and the training would begin
        code = cli.main([*words, *NEEDED.get(command, []), f"{option}={value}"])
        err = capsys.readouterr().err
        if option in ("--temperature", "--budget", "--budget-perplexity") and value == str(10**30):
            continue  # a number like any other
        assert code in (1, 2), (value, err)
        assert "no-such-model" not in err.replace("│", ""), (value, err)
        assert "mask.json" not in err, (value, err)
        assert "unexpected" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("target", ["-1", "0", "1", "2", "nan", "inf"])
def test_a_target_is_a_probability(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["steer", "./no-such-model", "--token", "the", f"--target={target}"]) == 2
    assert "a probability between 0 and 1" in " ".join(capsys.readouterr().err.replace("│", " ").split())


DEEP = "[" * 100_000
WRONG = [DEEP, "NaN", "Infinity", "-Infinity", "1e999", '{"a": [1e400]}', "{", "\x00", '"\\ud8']


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_json_of_strangers_is_a_value_error_whatever_is_wrong_with_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text.encode())


def test_every_json_reader_of_the_package_goes_through_it() -> None:
    ours = """json_text.py manifest/io.py checkpoint/folder.py checkpoint/bake.py checkpoint/weights.py demo/prepare.py
        demo/record.py demo/docstrings.py demo/parsing.py models/footprint.py
        manifest/manifest.py store.py"""  # by hash, or caught with the rest
    root = Path(__file__).parents[2]
    readers = {
        path.relative_to(root / room).as_posix()
        for room in ("tpe_core", "tpe_tui")
        for path in (root / room).rglob("*.py")
        if "json.load" in path.read_text()
    }
    assert readers <= set(ours.split())


START: dict[str, Any] = {
    "kind": "start", "schema": 1, "step": 0, "total": 9, "tokens": 8, "unseen": 0, "frequencies": "f",
    "fingerprint": "x",
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "point", "step": Infinity, "name": "a"}',
        '{"kind": "point", "step": 1e999, "name": "a"}',
        f'{{"kind": "loss", "step": 1, "loss": {10**400}}}',
        '{"kind": "resume", "step": 1, "total": Infinity}',
        f'{{"kind": "point", "step": {DEEP}',
        '{"kind": "point", "step": 1, "name": "a", "change": 3}',
        "[]",
    ],
    ids=["infinity", "too large", "too long", "total", "deep", "no groups", "list"],
)
def test_a_line_of_a_log_that_means_nothing_is_left_out_and_said(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.jsonl"
    good = json.dumps({"kind": "point", "step": 1, "name": "step1"})
    path.write_text("\n".join([json.dumps(START), good, line, good]) + "\n")
    log = open_log(path)
    assert [point.step for point in log.points] == [1]
    assert log.warnings == ("line 3 of run.jsonl is broken and left out.",)


@pytest.mark.parametrize("first", [DEEP, '{"kind": "start", "schema": 1, "step": Infinity}'], ids=["deep", "infinity"])
def test_a_log_that_begins_with_nonsense_is_refused_in_a_sentence(tmp_path: Path, first: str) -> None:
    (tmp_path / "run.jsonl").write_text(first + "\n")
    with pytest.raises(TpeError, match="does not begin like a probe log"):
        open_log(tmp_path / "run.jsonl")


@pytest.mark.parametrize("text", [DEEP, "[Infinity, 1]", "[1e999]"], ids=["deep", "infinity", "too large"])
def test_counts_and_device_maps_that_mean_nothing_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "counts.json").write_text(text)
    with pytest.raises(CorpusError, match=r"cannot be read|the count inf"):
        read_counts(tmp_path / "counts.json")
    with pytest.raises(TpeError, match="cannot be used"):
        _device_map(text)


class _Config:
    def __init__(self, positions: Any) -> None:
        self.max_position_embeddings = positions

    def get_text_config(self, decoder: bool) -> _Config:
        assert decoder
        return self


@pytest.mark.parametrize(
    ("positions", "longest", "context"),
    [(128, "64", 64), (128, -1, 128), (128, "no", 128), (128, 1e30, 128), (128, float("inf"), 128), (-1, 32, 32),
     (8192, 9000, 8192), (128, None, 128), (128, 0, 128),
     (128, float("nan"), 128), (None, "1000000000000000019884624838656", 2048)],
)  # fmt: skip
def test_a_context_is_read_by_its_meaning(positions: Any, longest: Any, context: int) -> None:
    assert _context(torch.nn.Module(), _Config(positions), SimpleNamespace(model_max_length=longest)) == context
