"""A lab notebook: every edit whose answer was seen, with what it did after which prompt, as Markdown or JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, nulled
from tpe_core.outputs import beginning, check_output

__all__ = ["Note", "Notebook", "check_notebook_file", "notebook_document", "notebook_markdown", "write_notebook"]

KIND = "tpe.notebook"
TITLE = "# tpe notebook"
MOST = 10_000  # notes that are kept
COLUMNS = ("time", "change", "pruned", "steered", "KL", "JS", "most probable", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One edit after one prompt. Divergences are KL(base || edited) and Jensen-Shannon, in nats."""

    time: float  # seconds since 1970
    model: str
    prompt: str
    edit: Intervention
    change: str  # what led to it from the note before, in words
    kl: float
    js: float
    top_base: str  # the most probable token, unedited
    top_now: str  # under the edit

    def to_dict(self) -> dict[str, Any]:
        """The note as JSON values."""
        plain = {name: getattr(self, name) for name in ("time", "model", "prompt", "change", "kl", "js")}
        return nulled({**plain, "top_base": self.top_base, "top_now": self.top_now, "edit": asdict(self.edit)})  # type: ignore[no-any-return]


class Notebook:
    """The notes of a run, in the order in which they were made.

    Example:
        >>> notebook = Notebook()
        >>> notebook.notes
        ()
    """

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self.count = 0  # of the notes that were ever made

    @property
    def notes(self) -> tuple[Note, ...]:
        """Every note, the earliest first."""
        return tuple(self._notes)

    def last_edit(self, model: str) -> Intervention:
        """The edit of the last note of a model; nothing edited where there is none."""
        return next((note.edit for note in reversed(self._notes) if note.model == model), Intervention())

    def record(self, note: Note) -> bool:
        """Add a note; False where the last one is about the same edit of the same model after the same prompt."""
        if self._notes:
            last = self._notes[-1]
            if (last.model, last.prompt, last.edit) == (note.model, note.prompt, note.edit):
                return False
        self._notes.append(note)
        self.count += 1
        del self._notes[: max(0, len(self._notes) - MOST)]
        return True

    def since(self, count: int) -> tuple[Note, ...]:
        """The notes that were made after the first `count`, as far as they are still here."""
        new = self.count - count
        return tuple(self._notes[-new:]) if new > 0 else ()

    def to_dict(self) -> dict[str, Any]:
        """The notebook as a JSON document."""
        return notebook_document([note.to_dict() for note in self._notes])

    def markdown(self) -> str:
        """The notebook as a table for each model, in Markdown."""
        return notebook_markdown([note.to_dict() for note in self._notes])


def notebook_document(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON document of notes, each as `Note.to_dict` gives it."""
    return {"kind": KIND, "schema": 1, "notes": list(notes)}


def notebook_markdown(notes: Sequence[Mapping[str, Any]]) -> str:
    """Notes, each as `Note.to_dict` gives it, as a table for each model, in Markdown."""
    parts = [TITLE, ""]
    for model in dict.fromkeys(note["model"] for note in notes):
        parts += [f"## {_cell(model)}", "", _row(COLUMNS), _row(["---"] * len(COLUMNS))]
        parts += [_row(_cells(note)) for note in notes if note["model"] == model]
        parts.append("")
    return "\n".join(parts)


def _cells(note: Mapping[str, Any]) -> Sequence[str]:
    edit, base, now = note["edit"], note["top_base"], note["top_now"]
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["time"])),
        note["change"],
        f"{len(edit['pruned'])} ({edit['replacement']})" if edit["pruned"] else "",
        str(len(edit["steering"]) or ""),
        *("" if note[name] is None else f"{note[name]:.4g}" for name in ("kl", "js")),
        now if base == now else f"{base} → {now}",
        note["prompt"],
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table, whatever is in it."""
    for plain, written in (("\\", "\\\\"), ("|", "\\|"), ("`", "\\`"), ("<", "&lt;"), ("\r", ""), ("\n", " ⏎ ")):
        text = text.replace(plain, written)
    return text


def check_notebook_file(path: Path, *, replace: bool) -> None:
    """Refuse a place that no notebook should be written to: see `tpe_core.outputs.check_output`."""
    if path.suffix not in (".md", ".json"):
        raise TpeError(f"{path.name} says neither Markdown nor JSON: end the name in .md or .json.")
    check_output(path, "a notebook", _is_notebook, replace=replace)


def _is_notebook(path: Path) -> bool:
    text = beginning(path)
    return text.startswith(TITLE) or (text.startswith("{") and f'"{KIND}"' in text)


def write_notebook(notebook: Notebook, path: Path, *, replace: bool) -> Path:
    """Write a notebook, as Markdown or JSON by the name's end; the path. Raises `TpeError` where it cannot be."""
    from tpe_core.store import write_file

    check_notebook_file(path, replace=replace)
    text = json_text(notebook.to_dict(), 1) if path.suffix == ".json" else notebook.markdown()
    try:
        write_file(path, [f"{text}\n".encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise TpeError(f"{path} cannot be written ({error.strerror or error}): choose another place.") from None
    return path
