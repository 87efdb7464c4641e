"""`--format`: the table of every command that prints one holds the figures of its `--json` document."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tpe_core.errors import TpeError
from tpe_core.tables import FORMATS
from tpe_tui.cli.main import COMMANDS, main
from tpe_tui.cli.table_output import TABLE_FORMATS, rows_of

WITHOUT_TABLE = {"report", "generate", "bake", "apply", "show", "schema", "serve", "demo train"}
"""Commands that print texts or write a page, a file's card, a schema, or nothing."""


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    main(list(arguments))
    return capsys.readouterr().out


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_command_with_a_table_takes_a_format() -> None:
    taking = {each.name for each in COMMANDS.values() if "format_" in inspect.signature(each.function).parameters}
    assert taking == set(COMMANDS) - WITHOUT_TABLE


def test_the_formats_offered_are_those_that_tables_have() -> None:
    assert set(TABLE_FORMATS) == set(FORMATS)


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (("analyze", "demo"), "dimensions"),
        (("inspect", "demo"), "dimensions"),
        (("compare", "demo"), "models"),
        (("doctor",), "findings"),
        (("prune", "--fractions", "0.1,0.3", "--order", "slope"), "curves"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else each,
)
def test_rows_are_those_of_the_document(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], rows: str
) -> None:
    document = json.loads(printed(capsys, *arguments, "--json"))[rows]
    entries = document[0]["points"] if rows == "curves" else document
    table = read(printed(capsys, *arguments, "--format", "csv"))
    assert len(table) == len(entries) > 0
    for row, entry in zip(table, entries, strict=True):
        for name, value in entry.items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value, rel=1e-6, abs=1e-12)  # of two runs
            elif isinstance(value, str):
                assert row[name] == value


def test_a_thing_is_a_table_of_facts(capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads(printed(capsys, "check", "--json"))
    rows = {row["name"]: row["value"] for row in read(printed(capsys, "check", "--format", "csv"))}
    assert rows["hidden_size"] == str(card["hidden_size"])
    assert rows["memory.body_bytes"] == str(card["memory"]["body_bytes"])
    assert rows["tied"] == "true"


def test_the_other_formats_print_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(printed(capsys, "keys", "--format", "csv"))
    assert len(rows) > 100
    objects = json.loads(printed(capsys, "keys", "--format", "json"))
    assert [row["help"] for row in rows] == [each["help"] for each in objects]
    assert len(printed(capsys, "keys", "--format", "markdown").splitlines()) == len(rows) + 2


def test_parquet_goes_to_a_pipe_as_bytes() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    done = subprocess.run(
        [sys.executable, "-m", "tpe_tui", "keys", "--format", "parquet"], capture_output=True, check=True, timeout=120
    )
    assert "move.down" in parquet.read_table(io.BytesIO(done.stdout))["id"].to_pylist()


def test_bytes_are_not_sent_to_a_terminal() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb") as _, os.fdopen(theirs, "wb") as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "tpe_tui", "keys", "--format", "parquet"],
            stdout=terminal, stderr=subprocess.PIPE, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    assert b"> table.parquet" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--format", "xml"], "csv, json, markdown"), (["--format", "csv", "--json"], "one of them")],
)
def test_what_cannot_be_is_refused_before_a_model_is_opened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setattr("tpe_core.session.open_session", pytest.fail)
    assert main(["analyze", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_an_empty_table_is_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert printed(capsys, "sessions", "--format", "csv") == ""
    assert json.loads(printed(capsys, "sessions", "--format", "json")) == []


def test_inner_rows_follow_what_their_list_says_of_itself() -> None:
    document: dict[str, Any] = {"curves": [{"order": "slope", "points": [{"kl": 1.0}, {"kl": 2.0}]}]}
    assert rows_of("curves.points", "largest")(document).records() == [
        {"order": "slope", "kl": 1.0},
        {"order": "slope", "kl": 2.0},
    ]
    with pytest.raises(TpeError, match="--json"):
        rows_of("curves.points")({"model": "demo"})
