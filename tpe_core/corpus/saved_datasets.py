"""Folders that the `datasets` library saved: which Arrow files hold the records, in which order.

It reads what such a folder says of itself and leaves the Arrow files to `tpe_core.corpus.formats`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpe_core.corpus.text_source import unreadable
from tpe_core.errors import CorpusError
from tpe_core.json_text import parse_json

__all__ = ["saved_files"]

STATE, SPLITS = "state.json", "dataset_dict.json"


def saved_files(folder: Path) -> list[Path] | None:
    """The Arrow files of a saved data set in the order of its records; None for any other folder.

    Raises `CorpusError` where it has several splits, is broken, or has its records in another order than its files.
    """
    if (folder / SPLITS).is_file():
        splits = _said(folder / SPLITS).get("splits")
        if not isinstance(splits, list) or not splits or not all(isinstance(name, str) for name in splits):
            raise _broken(folder / SPLITS)
        if len(splits) > 1:
            raise CorpusError(
                f"the folder {folder} holds the splits {', '.join(splits)}: name one, such as {folder / splits[0]}."
            )
        folder = folder / splits[0]
    if not ((folder / STATE).is_file() and (folder / "dataset_info.json").is_file()):
        return None
    state = _said(folder / STATE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise CorpusError(
            f"the data set in {folder} is a selection of its rows: flatten_indices() it and save it again."
        )
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError):
        raise _broken(folder / STATE) from None
    files = [folder / Path(name).name for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise CorpusError(f"the data set in {folder} lacks its file {missing[0]}: copy the whole folder.")
    if not files:
        raise CorpusError(f"the data set in {folder} has no records: name one that holds text.")
    return files


def _said(path: Path) -> dict[str, Any]:
    try:
        said = parse_json(path.read_bytes(), finite=False)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise _broken(path)
    return said


def _broken(path: Path) -> CorpusError:
    return CorpusError(f"{path} is not what the datasets library writes: save the data set again.")
