"""The inspector's sessions as lines and as a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tpe_core.outputs import shown_path
from tpe_tui.cells import clock_or_date, escape_controls, fit
from tpe_tui.cli.paragraphs import report_width, wrapped
from tpe_tui.edit_words import edit_sizes
from tpe_tui.shell.sessions import SavedSession, SessionError, SessionStore, iso_moment, model_of

__all__ = ["Listed", "listed", "listing", "listing_document"]

NAME, SAVED, EDIT, STATE = 16, 10, 20, 12  # cells
FEW = 8  # cells of a model's name


@dataclass(frozen=True, slots=True)
class Listed:
    """One session; `problem` says why it cannot be read, `is_open` whether a process has it open."""

    name: str
    session: SavedSession | None
    is_open: bool
    problem: str


def listed(store: SessionStore) -> list[Listed]:
    """Every session, the one that was saved last first."""
    found: list[Listed] = []
    for name in store.names():
        session, problem = None, ""
        try:
            session = store.read(name)
        except SessionError as error:
            problem = str(error)
        if session is not None or problem:
            found.append(Listed(name, session, store.is_open(name), problem))
    return sorted(found, key=lambda each: -each.session.written if each.session is not None else 0.0)


def listing(store: SessionStore, found: Sequence[Listed]) -> list[str]:
    """A line for each session."""
    width = report_width()
    if not found:
        return [f"No session is kept in {shown_path(store.folder)}."]
    head = f"{fit('name', NAME)} {fit('saved', SAVED)} {fit('edit', EDIT)} {fit('', STATE)} model"
    return [
        head,
        *(_row(each, each.session, width) for each in found if each.session is not None),
        *(line for each in found if each.problem for line in wrapped(each.problem, width)),
        "",
        *wrapped(
            f"In {shown_path(store.folder)}. tpe --session NAME opens one, tpe sessions delete NAME removes it.", width
        ),
    ]


def _row(each: Listed, session: SavedSession, width: int) -> str:
    edit = session.edit
    state = "open" if each.is_open else "" if edit.last.is_empty else "exported" if edit.is_exported else "not exported"
    left = (
        f"{fit(each.name, NAME)} {fit(clock_or_date(session.written), SAVED)} "
        f"{fit(edit_sizes(edit.last) or '—', EDIT)} {fit(state, STATE)} "
    )
    return left + _model(session, max(FEW, width - len(left)))


def _model(session: SavedSession, width: int) -> str:
    """The model's name with what it is of it; of a long one the end."""
    model, *more = (part for part in model_of(session.options) if part)
    text = escape_controls(" ".join([model, *more]))
    return text if len(text) <= width else f"…{text[1 - width :]}"


def listing_document(store: SessionStore, found: Sequence[Listed]) -> dict[str, Any]:
    """The sessions as JSON values."""
    return {"folder": str(store.folder), "sessions": [_document(each) for each in found]}


def _document(each: Listed) -> dict[str, Any]:
    session = each.session
    if session is None:
        return {"name": each.name, "open": each.is_open, "problem": each.problem}
    name, revision, adapter, gguf_file = model_of(session.options)
    edit = session.edit
    return {
        "name": each.name,
        "open": each.is_open,
        "problem": None,
        "model": name,
        "revision": revision,
        "adapter": adapter,
        "gguf_file": gguf_file,
        "prompt": session.view.prompt,
        "written": iso_moment(session.written),
        "edit": {
            "pruned": len(edit.last.pruned),
            "steered": len(edit.last.steering),
            "exported": edit.is_exported,
            "steps": len(edit.steps),
            "changed": iso_moment(edit.changed),
        },
    }
