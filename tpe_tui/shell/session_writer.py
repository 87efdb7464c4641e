"""Writes the latest state of a session on a thread of its own, so that no slow disk holds up the screen."""

from __future__ import annotations

import threading

from tpe_core.outputs import shown_path
from tpe_tui.shell.sessions import SavedSession, SessionStore

__all__ = ["SessionWriter"]


class SessionWriter:
    """Writes what it is given last; what it is given meanwhile replaces what waits. Any thread may call it."""

    def __init__(self, store: SessionStore) -> None:
        self.problem = ""  # why the last state could not be written, in a sentence
        self._store = store
        self._waiting: SavedSession | None = None
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def give(self, session: SavedSession) -> None:
        """Have a state written soon."""
        with self._changed:
            self._waiting = session
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
                while self._waiting is None:
                    self._changed.wait()
            self.flush()

    def _write(self) -> None:
        with self._changed:
            session, self._waiting = self._waiting, None
        if session is None:
            return
        try:
            self._store.write(session)
        except OSError as error:
            self.problem = (
                f"the session is not kept for the next start: {shown_path(self._store.path(session.name))} cannot be "
                f"written ({error.strerror or error}); make room there, or set XDG_STATE_HOME to another folder."
            )
        else:
            self.problem = ""
