"""Tables as other programs read them: each format is read back by the library that people read it with."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpe_core.errors import ExistsError, TpeError
from tpe_core.tables import FORMATS, Table, facts, write_table

HOSTILE = ["a|b", 'say "x", then\ny', "[bold]", "\x1b[31m", "\ud800", "<|endoftext|>", "*_`", "漢字", "=1+1"]
TABLE = Table({
    "dim": np.arange(len(HOSTILE)),
    "token": HOSTILE,
    "slope": [0.1 + 0.2, math.nan, None, -1e-300, math.inf, 1.0, 2.0, 3.0, 1 / 3],
    "tied": [True, False, None, *[True] * 6],
})  # fmt: skip


def test_csv_holds_every_digit_and_no_value_is_an_empty_cell() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.csv(), newline="")))
    assert [row["token"] for row in rows] == HOSTILE
    assert float(rows[0]["slope"]) == 0.1 + 0.2
    assert [row["slope"] for row in rows[1:3]] == ["", ""]
    assert [row["tied"] for row in rows[:3]] == ["true", "false", ""]


def test_json_is_strict_and_a_row_is_an_object() -> None:
    rows = json.loads(TABLE.json(), parse_constant=pytest.fail)
    assert [row["token"] for row in rows] == HOSTILE
    assert rows[0] == {"dim": 0, "token": "a|b", "slope": 0.1 + 0.2, "tied": True}
    assert [rows[place]["slope"] for place in (1, 2, 4)] == [None, None, None]
    assert Table({}).json() == Table({"dim": []}).json() == "[]\n"


def test_markdown_has_a_cell_for_each_column_whatever_is_in_it() -> None:
    lines = TABLE.markdown().splitlines()
    assert len(lines) == 2 + len(HOSTILE)
    bars = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines]
    assert set(bars) == {len(TABLE.names) + 1}
    assert lines[1] == "| ---: | --- | ---: | --- |"
    assert "\\<\\|endoftext\\|\\>" in lines[7]


def test_parquet_is_read_back_by_pyarrow_with_its_types() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    read = parquet.read_table(io.BytesIO(TABLE.parquet()))
    assert read.column_names == list(TABLE.names)
    assert [str(kind) for kind in read.schema.types] == ["int64", "string", "double", "bool"]
    assert read["slope"].to_pylist()[0] == 0.1 + 0.2
    assert read["tied"].to_pylist() == TABLE.column("tied")
    mixed = parquet.read_table(io.BytesIO(Table({"value": [1, "two", None, True]}).parquet()))
    assert mixed["value"].to_pylist() == ["1", "two", None, "true"]


def test_a_frame_has_the_columns_and_rows() -> None:
    pytest.importorskip("pandas")
    frame = TABLE.to_frame()
    assert list(frame.columns) == list(TABLE.names)
    assert list(frame["token"]) == [text.encode("utf-8", "backslashreplace").decode() for text in HOSTILE]


@pytest.mark.parametrize(("library", "made"), [("pandas", "to_frame"), ("pyarrow", "parquet")])
def test_a_missing_library_is_one_sentence_with_its_command(
    monkeypatch: pytest.MonkeyPatch, library: str, made: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(TpeError, match="pip install"):
        getattr(TABLE, made)()


def test_records_of_a_document_become_columns_with_dots() -> None:
    table = Table.of([{"kl": 1.0, "ood": {"kl": 2.0}}, {"kl": 3.0, "dims": [1, 2], "ood": {}}])
    assert table.names == ("kl", "ood.kl", "dims")
    assert list(table.rows()) == [(1.0, 2.0, None), (3.0, None, "[1, 2]")]
    assert list(facts({"a": 1, "b": {"c": [None, math.nan]}}).rows()) == [("a", 1), ("b.c", "[null, null]")]


def test_columns_of_several_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Table({"a": [1], "b": [1, 2]})


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.text()), min_size=1))
def test_csv_and_json_give_back_what_was_put_in(rows: list[tuple[float, str]]) -> None:
    table = Table({"x": [x for x, _ in rows], "text": [text for _, text in rows]})
    read = list(csv.reader(io.StringIO(table.csv(), newline="")))[1:]
    assert [(float(x), text) for x, text in read] == rows
    assert [row["text"] for row in json.loads(table.json())] == [text for _, text in rows]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_written_by_its_ending_and_only_a_table_is_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"table{FORMATS[name].suffix}"
    assert write_table(TABLE, path) == path
    assert path.read_bytes() == FORMATS[name].encode(TABLE)
    with pytest.raises(ExistsError):
        write_table(TABLE, path)
    write_table(TABLE, path, replace=True)
    path.write_text("my notes")
    with pytest.raises(TpeError, match="is not a table"):
        write_table(TABLE, path, replace=True)
    assert path.read_text() == "my notes"


def test_an_ending_that_says_nothing_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(TpeError, match=r"table\.xlsx .*\.csv, \.json, \.md, \.parquet"):
        write_table(TABLE, tmp_path / "table.xlsx")
