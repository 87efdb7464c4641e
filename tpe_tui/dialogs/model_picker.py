"""Which model next: the last opened, the bundled one, those near by and in the hub's cache, or whatever is typed.

One line to type in and one list. It only answers with what to open. What is read from disk is read on the engine
thread and arrives when it does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.cells import cell_len
from textual import on
from textual.binding import Binding, BindingType

from tpe_core.options import DEMO
from tpe_core.outputs import shown_path
from tpe_core.progress import size_text
from tpe_tui.cells import escape_controls, fit
from tpe_tui.dialogs.pick import MatchList, Picking
from tpe_tui.widgets.line_widget import Line
from tpe_tui.widgets.text_line import TextLine

if TYPE_CHECKING:
    from tpe_core.models.hub import CachedModel
    from tpe_core.models.nearby import LocalModel

__all__ = ["Choice", "PickerScreen", "Recent", "parse_choice"]

HUB_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+@[^\s@]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
PATH = re.compile(r"[~./]|.*[/\\]$")
"""What begins, or ends, as a path does; a hub id has a slash, too."""

SIZE_CELLS, FROM_CELLS, DATE_CELLS = 9, 9, 12


class Choice(NamedTuple):
    """A model to open: for one of the hub its revision, the adapter on it, the one of several GGUF files."""

    model: str
    revision: str | None = None
    adapter: str | None = None
    gguf_file: str | None = None


class Recent(NamedTuple):
    """A model that was opened, and when (seconds since 1970)."""

    choice: Choice
    used: float


def parse_choice(text: str) -> Choice:
    """A typed line: a folder, a hub id, or a hub id with its revision behind an @."""
    text = text.strip()
    if HUB_ID.fullmatch(text):
        model, _, revision = text.partition("@")
        return Choice(model, revision)
    return Choice(text)


class _Row(NamedTuple):
    """A line of the list: what it opens, or the path that it completes to, how it is called, and its facts."""

    choice: Choice | None
    name: str
    size: str = ""
    source: str = ""
    used: str = ""


class ModelList(MatchList):
    """The rows that contain what is typed, and first what is typed itself."""

    def __init__(self, recent: Sequence[Recent] = ()) -> None:
        """What was opened last and the bundled model; the others come with `show` and `show_near`."""
        super().__init__()
        self._recent = tuple(recent)
        self._gone: frozenset[Choice] = frozenset()
        self._near: tuple[LocalModel, ...] = ()
        self._cached: tuple[CachedModel, ...] = ()
        self._paths: tuple[tuple[str, bool], ...] = ()  # that the typed one may be completed to
        self._text = ""
        self.waiting = True
        self._known = self._listed()
        self._rows = list(self._known)

    def show(self, models: Sequence[CachedModel]) -> None:
        """The cache was read."""
        self.waiting = False
        self._cached = tuple(models)
        self._update()

    def show_near(self, near: Sequence[LocalModel], gone: frozenset[Choice]) -> None:
        """The models near by, and those of the recent ones that are there no more."""
        self._near, self._gone = tuple(near), gone
        self._update()

    def show_paths(self, text: str, paths: Sequence[tuple[str, bool]]) -> None:
        """The paths that begin with `text`, and whether each is a model; nothing where another text stands there."""
        if text == self._text.strip():
            self._paths = tuple(paths)
            self._search(keep=self.cursor > 0)

    def _update(self) -> None:
        self._known = self._listed()
        self._search(keep=self.cursor > 0)

    def _listed(self) -> list[_Row]:
        """Every known model, each once, where it is found first."""
        sizes = {Choice(model.id): size_text(model.size) for model in self._cached}
        sizes.update({Choice(os.path.abspath(model.path)): size_text(model.size) for model in self._near})
        rows = [
            _Row(choice, _name(choice), sizes.get(Choice(choice.model), ""), _source(choice), _date(used))
            for choice, used in self._recent
            if choice not in self._gone
        ]
        if Choice(DEMO) not in {row.choice for row in rows}:
            rows.append(_Row(Choice(DEMO), DEMO, "", "bundled"))
        there = {row.choice for row in rows}
        rows += [
            _Row(Choice(model.path), model.path, size_text(model.size), "near by")
            for model in self._near
            if Choice(os.path.abspath(model.path)) not in there
        ]
        for model in self._cached:
            for revision in model.revisions or ("main",):
                choice = Choice(model.id, None if revision == "main" else revision)
                if choice not in there:
                    rows.append(_Row(choice, _name(choice), size_text(model.size), "hub", _date(model.last_used)))
        return rows

    def find(self, text: str) -> None:
        """Keep what contains `text`; the cursor goes to what is called so, else to the text itself."""
        self._text, self._paths = text, ()
        self._search(keep=False)

    def _search(self, *, keep: bool) -> None:
        """List what the text may mean; the cursor stays on its row where `keep` and it is there still."""
        before = self._rows[self.cursor] if keep and self.cursor < len(self._rows) else None
        wanted = self._text.strip()
        matching = [row for row in self._known if wanted.lower() in row.name.lower()]
        exact = any(row.name == wanted for row in matching)
        typed = [] if not wanted or exact else [_Row(parse_choice(wanted), wanted, "", "typed")]
        listed = {row.name for row in matching}
        paths = [
            _Row(Choice(path) if is_model else None, path, "", "model" if is_model else "folder")
            for path, is_model in self._paths
            if path not in listed and path != wanted
        ]
        self._rows = [*typed, *paths, *matching]
        self.top = 0
        self.cursor = next((index for index, row in enumerate(self._rows) if row.name == wanted), 0)
        if before is not None:
            self.cursor = next((at for at, row in enumerate(self._rows) if row.name == before.name), self.cursor)
        self.go(self.cursor, quiet=True)
        self.repaint()

    @property
    def choice(self) -> Choice | None:
        """What the cursor is on; None for a folder that holds no model."""
        return self._rows[self.cursor].choice if self._rows else None

    @property
    def path(self) -> str:
        """The path that the row under the cursor stands for; empty where it is none."""
        name = self._rows[self.cursor].name if self._rows else ""
        return name if name in {path for path, _ in self._paths} else ""

    def completed(self, text: str) -> str:
        """`text` as far as all paths that begin so agree, or the path under the cursor where one was chosen."""
        text = text.strip()
        if self.cursor and self.path:
            return self.path
        paths = [path for path, _ in self._paths]
        common = os.path.commonprefix(paths) if paths else ""  # noqa: RUF071  # letter by letter is meant
        return common if len(common) > len(text) else text

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def header(self, width: int) -> Line:
        """The columns' names, and whether more will come."""
        name = "model, reading the cache…" if self.waiting else "model"
        return [(_line(fit(name, _room(width)), "size", "from", "last used"), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """A model."""
        row = self._rows[index]
        name = escape_controls(row.name)
        shown = _fit_path(name, _room(width)) if _is_path(name) else fit(name, _room(width))
        return [(_line(shown, row.size, row.source, row.used), "row")], "cursor" if index == self.cursor else "row"


def _room(width: int) -> int:
    """Cells of a name."""
    return max(1, width - SIZE_CELLS - FROM_CELLS - DATE_CELLS - 1)


def _line(name: str, size: str, source: str, used: str) -> str:
    ends = f"{fit(size, SIZE_CELLS, right=True)}  {fit(source, FROM_CELLS - 2)}{fit(used, DATE_CELLS, right=True)}"
    return f" {name}{ends}"


def _fit_path(text: str, width: int) -> str:
    """Exactly `width` cells of a path: padded, or without its beginning, as its end tells it from others."""
    while cell_len(text) > width:
        text = f"…{text[2:] if text.startswith('…') else text[1:]}"
    return fit(text, width)


def _is_path(text: str) -> bool:
    return PATH.match(text) is not None


def _name(choice: Choice) -> str:
    """How a model is called in the list."""
    parts = [shown_path(Path(choice.model)) if os.path.isabs(choice.model) else choice.model]
    if choice.revision is not None:
        parts.append(f"@{choice.revision[:8] if COMMIT.fullmatch(choice.revision) else choice.revision}")
    if choice.gguf_file is not None:
        parts.append(f" {choice.gguf_file}")
    if choice.adapter is not None:
        parts.append(f" + {shown_path(Path(choice.adapter)) if os.path.isabs(choice.adapter) else choice.adapter}")
    return "".join(parts)


def _source(choice: Choice) -> str:
    """Where a recent model is from."""
    return "bundled" if choice == Choice(DEMO) else "local" if os.path.isabs(choice.model) else "hub"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d") if seconds else ""


class PickerScreen(Picking[Choice]):
    """Answers with a `Choice`, or None where nothing was chosen. `show` hands it the cached models.

    `complete` is asked for the paths that begin with a text; `show_paths` hands them over.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", "complete a path", show=False, priority=True)]
    HEADING = "Open a model"
    PLACEHOLDER = "a hub id, id@revision, a folder, or a GGUF file"
    HINT = "tab completes a path, ↑ ↓ move, enter opens, esc closes"

    def __init__(self, recent: Sequence[Recent] = (), complete: Callable[[str], object] = lambda text: None) -> None:
        self.models = ModelList(recent)
        self._complete = complete
        super().__init__(self.models)

    @on(TextLine.Changed)
    def _ask_paths(self, event: TextLine.Changed) -> None:
        """Each letter of a path: ask what it may become."""
        text = event.value.strip()
        if _is_path(text):
            self._complete(text)

    def chosen(self, text: str) -> Choice | None:
        """The row under the cursor; a folder that holds no model is gone into instead."""
        choice = self.models.choice
        if choice is None and self.models.path:
            self._put(self.models.path)
        return choice

    def action_complete(self) -> None:
        """Tab."""
        text = self.query_one(TextLine).value
        completed = self.models.completed(text)
        if completed != text:
            self._put(completed)

    def _put(self, text: str) -> None:
        line = self.query_one(TextLine)
        line.value = text
        line.cursor_position = len(text)

    def show(self, models: Sequence[CachedModel]) -> None:
        """List the cached models."""
        self.models.show(models)

    def problem(self, sentence: str) -> None:
        """Say why the cache could not be read; what is typed can still be opened."""
        self.show(())
        self.say_problem(sentence)
