"""Prompts in files: a line each, a record each, what is refused, and what is written and read again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tpe_core.errors import CorpusError, ExistsError, TpeError
from tpe_core.prompt_files import MOST_PROMPTS, read_prompts, write_prompts

ODD = ["one line", "two\nlines, and a tab\t", "  spaces around  ", "漢字 \u200d", "a \\n that is none"]


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("first\r\n\n  second one \n漢字\n   \nlast".encode())
    assert read_prompts(file) == ["first", "  second one ", "漢字", "last"]
    packed = tmp_path / "prompts.txt.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read_prompts(packed) == read_prompts(file)


def test_records_have_a_prompt_each_whatever_lines_it_has(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"text": text, "id": at}) + "\n" for at, text in enumerate(ODD)))
    assert read_prompts(file) == ODD
    table = tmp_path / "prompts.csv"
    table.write_text('text,id\nfirst,1\n"two\nlines",2\n')
    assert read_prompts(table) == ["first", "two\nlines"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_prompts(write_prompts(tmp_path / "all.jsonl", ODD)) == ODD
    lines = ["one line", "  spaces around  ", "漢字 \u200d", "a \\n that is none"]
    assert read_prompts(write_prompts(tmp_path / "lines.txt", lines)) == lines


@pytest.mark.parametrize("odd", ["two\nlines", "a\rb", "a\u2028b", " ", ""])
def test_a_prompt_that_is_not_one_line_is_not_written_as_one(tmp_path: Path, odd: str) -> None:
    with pytest.raises(TpeError, match=r"prompt 2 is not exactly one line: write a \.jsonl file"):
        write_prompts(tmp_path / "lines.txt", ["fine", odd])
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_where_that_is_said_and_by_its_own_kind_only(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    write_prompts(file, ["a"])
    with pytest.raises(ExistsError):
        write_prompts(file, ["b"])
    write_prompts(file, ["b"], replace=True)
    assert read_prompts(file) == ["b"]
    for name, content in (("log.jsonl", '{"kind": "else"}\n'), ("program.txt", "#!/bin/sh\n"), ("bytes.txt", "a\0b")):
        other = tmp_path / name
        other.write_text(content)
        with pytest.raises(TpeError, match="is not a file of prompts"):
            write_prompts(other, ["a"], replace=True)
        assert other.read_text() == content
    with pytest.raises(TpeError, match=r"name it \.txt for a prompt a line, or \.jsonl"):
        write_prompts(tmp_path / "script.py", ["a"])


def test_what_holds_no_prompts_is_a_sentence(tmp_path: Path) -> None:
    empty, many = tmp_path / "empty.txt", tmp_path / "many.txt"
    empty.write_text(" \n\n")
    many.write_text("\n".join(f"prompt {number}" for number in range(MOST_PROMPTS + 1)))
    for path, sentence in (
        (empty, "holds no prompt"),
        (many, "holds more than 1000 prompts"),
        (tmp_path, "is a folder: name a file of prompts"),
        (tmp_path / "none.txt", r"none\.txt"),
    ):
        with pytest.raises(CorpusError, match=sentence):
            read_prompts(path)
