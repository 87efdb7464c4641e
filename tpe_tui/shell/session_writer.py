"""Writes the latest state of a session on a thread of its own, so that no slow disk holds up the screen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tpe_core.notebook import Note
from tpe_core.options import RunOptions
from tpe_core.outputs import shown_path
from tpe_core.pruning.results import PruningResult
from tpe_tui.shell.sessions import HeadFacts, SavedSession, SessionStore

__all__ = ["SessionWriter"]


class SessionWriter:
    """Writes what it is given last; what it is given meanwhile replaces what waits. Any thread may call it."""

    def __init__(self, store: SessionStore) -> None:
        self.problem = ""  # why the last state could not be written, in a sentence
        self._store = store
        self._waiting: dict[str, tuple[Path, Callable[[], None]]] = {}  # by what it is
        self._notes: list[Note] = []
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def give(self, session: SavedSession) -> None:
        """Have a state written soon."""
        self._give("session", session.name, lambda: self._store.write(session))

    def give_sweep(self, name: str, options: RunOptions, head: HeadFacts, result: PruningResult) -> None:
        """Have the curves of a session's sweep written soon."""
        self._give("sweep", name, lambda: self._store.write_sweep(name, options, head, result))

    def give_notes(self, name: str, notes: Sequence[Note]) -> None:
        """Have notes added to a session's notebook soon; none of them is replaced by later ones."""
        with self._changed:
            self._notes.extend(notes)
        self._give("notes", name, lambda: self._append(name))

    def _append(self, name: str) -> None:
        with self._changed:
            notes, self._notes = self._notes, []
        try:
            self._store.append_notes(name, notes)
        except OSError:  # they are tried again with the next ones
            with self._changed:
                self._notes[:0] = notes
            raise

    def _give(self, what: str, name: str, write: Callable[[], None]) -> None:
        with self._changed:
            self._waiting[what] = self._store.path(name), write
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tpe-session", daemon=True)
                self._thread.start()
            self._changed.notify()

    def flush(self) -> None:
        """Return when everything that was given is written, or cannot be."""
        with self._writing:
            self._write()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
            self.flush()

    def _write(self) -> None:
        with self._changed:
            waiting, self._waiting = self._waiting, {}
        problem = ""
        for path, write in waiting.values():
            try:
                write()
            except OSError as error:
                problem = (
                    f"the session is not kept for the next start: {shown_path(path)} cannot be written "
                    f"({error.strerror or error}); make room there, or set XDG_STATE_HOME to another folder."
                )
        if waiting:
            self.problem = problem
