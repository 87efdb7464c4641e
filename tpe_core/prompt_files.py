"""Prompts in a file: a text file has one a line, any other file of texts one a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tpe_core.errors import CorpusError, TpeError
from tpe_core.json_text import json_text
from tpe_core.outputs import beginning, check_output, shown_path

__all__ = ["MOST_PROMPTS", "check_prompts_file", "read_prompts", "write_prompts"]

MOST_PROMPTS = 1000
SUFFIXES = (".txt", ".jsonl")


def read_prompts(path: str | Path) -> list[str]:
    """The prompts of a file: the lines of a text file that are not empty, or the text of every record.

    Kinds of files and fields are those of `tpe_core.corpus.sources.text_source`. Raises `CorpusError` where there are
    none, or more than `MOST_PROMPTS`.
    """
    from tpe_core.corpus.files import FileSource
    from tpe_core.corpus.kinds import kind_of
    from tpe_core.corpus.sources import text_source

    file = Path(path)
    if file.is_dir():
        raise CorpusError(f"{shown_path(file)} is a folder: name a file of prompts in it.")
    source = text_source([file])
    if not isinstance(source, FileSource):
        raise CorpusError(f"{shown_path(file)} holds no text: name a file with a prompt a line, or records of text.")
    prompts: list[str] = []
    texts = (text for text, _ in source.pieces())
    for text in texts if kind_of(file).records is not None else "".join(texts).splitlines():
        if text.strip():
            prompts.append(text)
        if len(prompts) > MOST_PROMPTS:
            raise CorpusError(f"{shown_path(file)} holds more than {MOST_PROMPTS} prompts: take a part of it.")
    if not prompts:
        raise CorpusError(f"{shown_path(file)} holds no prompt: write one a line, or records with a field text.")
    return prompts


def check_prompts_file(path: Path, prompts: Sequence[str], *, replace: bool) -> None:
    """Refuse a place where prompts cannot be written, as `tpe_core.outputs.check_output` does."""
    if path.suffix.lower() not in SUFFIXES:
        raise TpeError(f"{shown_path(path)} says no kind of file: name it .txt for a prompt a line, or .jsonl.")
    is_records = path.suffix.lower() == ".jsonl"
    several = next((at for at, text in enumerate(prompts, 1) if len(text.splitlines()) != 1 or not text.strip()), None)
    if several is not None and not is_records:
        raise TpeError(f"prompt {several} is not exactly one line: write a .jsonl file, which holds any text.")
    check_output(path, "a file of prompts", _is_records if is_records else _is_text, replace=replace)


def write_prompts(path: Path, prompts: Sequence[str], *, replace: bool = False) -> Path:
    """Write prompts so that `read_prompts` reads them, whole or not at all. Raises `TpeError`, OSError; the path."""
    from tpe_core.store import write_file

    check_prompts_file(path, prompts, replace=replace)
    is_records = path.suffix.lower() == ".jsonl"
    lines = [json_text({"text": text}) if is_records else text for text in prompts]
    write_file(path, ["".join(f"{line}\n" for line in lines).encode("utf-8", "replace")])
    return path


def _is_records(path: Path) -> bool:
    return re.match(r'\s*\{\s*"text"\s*:', beginning(path)) is not None


def _is_text(path: Path) -> bool:
    """Whether a file may be one of prompts: text, and no program."""
    text = beginning(path)
    return "\0" not in text and not text.startswith("#!")
