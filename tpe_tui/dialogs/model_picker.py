"""Which model next: those of the hub's local cache, or whatever is typed; one line to type in and one list.

It only answers with a name and a revision. The list is read on the engine thread and arrives when it does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from textual.widgets import Input

from tpe_core.options import DEMO
from tpe_core.progress import size_text
from tpe_tui.cells import escape_controls, fit
from tpe_tui.dialogs.pick import MatchList, Picking
from tpe_tui.widgets.line_widget import Line

if TYPE_CHECKING:
    from tpe_core.models.hub import CachedModel

__all__ = ["Choice", "PickerScreen", "parse_choice"]

HUB_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+@[^\s@]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
SIZE_CELLS, DATE_CELLS = 9, 12


class Choice(NamedTuple):
    """A model to open and, for one of the hub, its revision."""

    model: str
    revision: str | None = None


def parse_choice(text: str) -> Choice:
    """A typed line: a folder, a hub id, or a hub id with its revision behind an @."""
    text = text.strip()
    if HUB_ID.fullmatch(text):
        model, _, revision = text.partition("@")
        return Choice(model, revision)
    return Choice(text)


class _Row(NamedTuple):
    """A line of the list: what it opens, how it is called, and its facts."""

    choice: Choice
    name: str
    size: str = ""
    used: str = ""


class ModelList(MatchList):
    """The rows that contain what is typed, and first what is typed itself."""

    def __init__(self) -> None:
        """The bundled model alone; the others come with `show`."""
        super().__init__()
        self._known: list[_Row] = [_Row(Choice(DEMO), DEMO, "", "bundled")]
        self._rows = list(self._known)
        self.waiting = True

    def show(self, models: Sequence[CachedModel]) -> None:
        """The cache was read."""
        self.waiting = False
        for model in models:
            used = datetime.fromtimestamp(model.last_used, UTC).strftime("%Y-%m-%d")
            for revision in model.revisions or ("main",):
                short = revision[:8] if COMMIT.fullmatch(revision) else revision
                name = model.id if revision == "main" else f"{model.id}@{short}"
                choice = Choice(model.id, None if revision == "main" else revision)
                self._known.append(_Row(choice, name, size_text(model.size), used))

    def find(self, text: str) -> None:
        """Keep what contains `text`; the cursor goes to what is called so, else to the text itself."""
        wanted = text.strip()
        matching = [row for row in self._known if wanted.lower() in row.name.lower()]
        exact = any(row.name == wanted for row in matching)
        self._rows = matching if not wanted or exact else [_Row(parse_choice(wanted), wanted, "", "typed"), *matching]
        self.top = 0
        self.cursor = next((index for index, row in enumerate(self._rows) if row.name == wanted), 0)
        self.go(self.cursor, quiet=True)
        self.repaint()

    @property
    def choice(self) -> Choice | None:
        """What the cursor is on."""
        return self._rows[self.cursor].choice if self._rows else None

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def header(self, width: int) -> Line:
        """The columns' names, and whether more will come."""
        name = "model, reading the cache…" if self.waiting else "model"
        return [(self._line(name, "size", "last used", width), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """A model."""
        row = self._rows[index]
        text = self._line(escape_controls(row.name), row.size, row.used, width)
        return [(text, "row")], "cursor" if index == self.cursor else "row"

    @staticmethod
    def _line(name: str, size: str, used: str, width: int) -> str:
        room = max(1, width - SIZE_CELLS - DATE_CELLS - 1)
        return f" {fit(name, room)}{fit(size, SIZE_CELLS, right=True)}{fit(used, DATE_CELLS, right=True)}"


class PickerScreen(Picking[Choice]):
    """Answers with a `Choice`, or None where nothing was chosen. `show` hands it the cached models."""

    HEADING = "Open a model"
    PLACEHOLDER = "a hub id, id@revision, a folder, or a GGUF file"
    HINT = "type to search, ↑ ↓ move, enter opens, esc closes"

    def __init__(self) -> None:
        self.models = ModelList()
        super().__init__(self.models)

    def chosen(self, text: str) -> Choice | None:
        """The row under the cursor."""
        return self.models.choice

    def show(self, models: Sequence[CachedModel]) -> None:
        """List the cached models."""
        self.models.show(models)
        self.models.find(self.query_one(Input).value)

    def problem(self, sentence: str) -> None:
        """Say why the cache could not be read; what is typed can still be opened."""
        self.show(())
        self.say_problem(sentence)
