"""The session of the model that is open: which one it is, what of it comes back, and that it is saved.

`begin` chooses and locks it, `keep` has its state written, `close` lets others have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import METHODS, Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.kept_numbers import are_kept
from tpe_core.notebook import Notebook
from tpe_core.options import RunOptions
from tpe_core.pruning.results import PruningResult
from tpe_tui.cells import clock_or_date
from tpe_tui.edit_words import edit_sizes
from tpe_tui.shell.session_writer import SessionWriter
from tpe_tui.shell.sessions import (
    BrokenSessionError,
    HeadFacts,
    NewerSessionError,
    SavedEdit,
    SavedSession,
    SessionError,
    SessionLock,
    SessionStore,
    default_name,
    same_model,
)
from tpe_tui.shell.view_memory import SavedView, ViewMemory

__all__ = ["Begun", "SessionMemory"]

MOST = 100  # sessions of one name: NAME, NAME-2 and so on
MOST_CHARACTERS = 60  # of a name that gets a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a session begins with: `is_whole` where all of it is restored, its edit and its layout as well.

    `offer` is the edit that undo brings back and that no file holds, `edited` when the edit was changed last. `said`
    are sentences to show once, `kept_as` is the name of the session that now has an edit which does not fit.
    """

    history: EditHistory
    view: SavedView
    is_whole: bool = False
    offer: Intervention | None = None
    edited: float = 0.0
    said: tuple[str, ...] = ()
    kept_as: str = ""


class SessionMemory:
    """The sessions of a state folder, of which one is open at a time.

    `name` is what the session of the first model is called (None: after its model), and `now` gives seconds since 1970.
    """

    def __init__(self, state_dir: Path, name: str | None = None, now: Callable[[], float] = time.time) -> None:
        self.store = SessionStore(state_dir)
        self.begun = Begun(history=EditHistory(), view=SavedView())
        self.name = ""  # of the session that is open; empty where none is
        self._asked = name
        self._asked_of: RunOptions | None = None  # the model that the asked name is of
        self._views = ViewMemory(state_dir)
        self._now = now
        self._writer = SessionWriter(self.store)
        self._lock: SessionLock | None = None
        self._options: RunOptions | None = None  # of the model whose session is open
        self._head: HeadFacts | None = None
        self._is_preview = False
        self._noted = 0  # of the notebook's notes, those that were given to be written
        self._last_sweep: PruningResult | None = None  # as it was read, or given to be written
        self._last: SavedSession | None = None  # as it was read, or given to be written

    @property
    def problem(self) -> str:
        """Why the session could not be written, in a sentence; empty where it could."""
        return self._writer.problem

    def begin(
        self,
        options: RunOptions,
        head: HeadFacts,
        prompt: str | None = None,
        default_prompt: str = "",
        *,
        is_preview: bool = False,
    ) -> Begun:
        """Open the session of a model, after closing that of another; also in `begun`.

        Its history asks about `prompt`, else about the one before, else about `default_prompt`. A session that was
        begun before its model was loaded (`is_preview`) is begun again where another head was loaded then.
        """
        is_open = self._lock is not None and self._options is not None and same_model(self._options, options)
        if is_open and (head == self._head or not self._is_preview):
            self._head, self._is_preview = head, is_preview
            return self.begun
        self.close()
        self._options, self._head, self._is_preview, self._last_sweep = options, head, is_preview, None
        if self._asked is not None and self._asked_of is None:
            self._asked_of = options
        is_asked = self._asked is not None and self._asked_of is not None and same_model(self._asked_of, options)
        base = self._asked if is_asked and self._asked is not None else default_name(options)
        said: list[str] = []
        self._last = found = self._claim(base, options, said)
        view = found.view if found is not None else self._view_before(options, said)
        replacement = view.replacement if view.replacement in REPLACEMENTS.ready else REPLACEMENTS.ready[0]
        history = EditHistory(
            prompt=prompt or view.prompt or default_prompt,
            hidden_size=head.hidden_size,
            vocab_rows=head.vocab_rows,
            method=next((name for name in METHODS if name == view.method), METHODS[0]),
            start=Intervention(replacement=replacement),
        )
        is_whole = is_asked and self.name == base and found is not None
        kept_as = None if found is None else self._restore(found, head, history, said, is_whole=is_whole)
        is_restored = kept_as is None
        edit = found.edit if found is not None and is_restored else SavedEdit()
        self.begun = Begun(
            history=history,
            view=view,
            is_whole=is_whole,
            offer=None if is_whole or edit.is_exported else edit.last,
            edited=edit.changed if found is None or is_restored else found.written,
            said=tuple(said),
            kept_as=kept_as or "",
        )
        return self.begun

    def keep(self, options: RunOptions, head: HeadFacts, view: SavedView, history: EditHistory) -> None:
        """Have the state of the open session written soon, where it is another than before. Any thread may call it."""
        if self._lock is None or self._options is None or not same_model(self._options, options):
            return
        before, now = self._last, self._now()
        is_same = before is not None and (before.edit.steps, before.edit.at) == (history.all_steps, history.at)
        edit = SavedEdit(
            steps=history.all_steps,
            at=history.at,
            saved=history.saved,
            named=tuple(history.named.items()),
            is_held_back=history.held_back is not None,
            changed=before.edit.changed if is_same and before is not None else now,
        )
        state = SavedSession(name=self.name, options=options, view=view, edit=edit, head=head)
        if before is None or replace(before, written=0.0) != state:
            self._last = replace(state, written=now)
            self._writer.give(self._last)

    def keep_sweep(self, result: PruningResult) -> None:
        """Have the curves of a sweep that has ended written with the open session, once."""
        if self._lock is None or self._options is None or self._head is None or result is self._last_sweep:
            return
        self._last_sweep = result
        self._writer.give_sweep(self.name, self._options, self._head, result)

    def keep_notes(self, notebook: Notebook) -> None:
        """Have the notes that were made since the last call added to those of the open session."""
        if self._lock is not None and (notes := notebook.since(self._noted)):
            self._writer.give_notes(self.name, notes)
        self._noted = notebook.count

    def kept_sweep(self) -> tuple[PruningResult, bool] | None:
        """The curves of the open session's last sweep, and whether they are of another detection; None without any."""
        if self._lock is None or self._options is None or self._head is None:
            return None
        found = self.store.read_sweep(self.name, self._options, self._head)
        self._last_sweep = None if found is None else found[0]
        return found

    def flush(self) -> None:
        """Return when the state that was kept last is written, or cannot be."""
        self._writer.flush()

    def close(self) -> None:
        """Do the same, and let others have the session."""
        self.flush()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
            self.name = ""

    def take_said(self) -> tuple[str, ...]:
        """The sentences about the session that was begun, once."""
        said, self.begun = self.begun.said, replace(self.begun, said=())
        return said

    def greeting(self, history: EditHistory, undo_key: str) -> str:
        """What is said of a session that was begun with `history`: what came back, or what undo would bring back.

        Empty where neither is the case.
        """
        begun = self.begun
        if history is not begun.history or (begun.offer is not None and history.held_back is None):
            return ""
        when = clock_or_date(begun.edited)
        if begun.is_whole:
            undone, _ = history.undo_depth
            edit = edit_sizes(history.intervention) or "nothing edited"
            return f"the session {self.name} of {when}: {edit}, {undone} {'step' if undone == 1 else 'steps'} to undo"
        if begun.offer is None:
            return ""
        return f"{undo_key} brings back the unexported edit: {edit_sizes(begun.offer)} ({when})"

    def _claim(self, base: str, options: RunOptions, said: list[str]) -> SavedSession | None:
        """Lock the first session of a name that is this model's and that nobody has; what it holds."""
        busy = ""
        for number in range(1, MOST):
            name = base if number == 1 else f"{base[:MOST_CHARACTERS]}-{number}"
            lock = self.store.lock(name)
            try:
                found = self.store.read(name)
                if found is not None and not same_model(found.options, options):
                    if lock is not None:
                        lock.release()
                    continue
            except BrokenSessionError as error:
                found = None
                if lock is not None:
                    aside = self.store.set_aside(name)
                    said.append(f"{error} {'' if aside is None else f'It is now {aside.name}: '}nothing is restored.")
            except SessionError as error:
                if lock is not None:
                    lock.release()
                if isinstance(error, NewerSessionError):
                    said.append(str(error))
                    continue
                said.append(f"{error} This one is not kept.")
                return None
            if lock is None:
                busy = busy or f"the session {name} is open in {self.store.holder(name)}: this one is "
                continue
            self._lock, self.name = lock, name
            if busy:
                said.append(f"{busy}{name}.")
            return found
        said.append(f"{MOST - 1} sessions are called {base}: this one is not kept; tpe sessions delete removes some.")
        return None

    def _view_before(self, options: RunOptions, said: list[str]) -> SavedView:
        """The view that a new session of a model begins with: that of its own session, else of earlier versions.

        How its own session edits is not taken over: which method steers, what stands in for what is pruned.
        """
        with suppress(SessionError):
            found = self.store.read(default_name(options))
            if found is not None and same_model(found.options, options):
                return replace(found.view, method=SavedView().method, replacement=SavedView().replacement)
        view = self._views.recall(options.model)
        if self._views.set_aside:
            said.append(self._views.set_aside)
            self._views.set_aside = ""
        return view

    def _restore(
        self, found: SavedSession, head: HeadFacts, history: EditHistory, said: list[str], *, is_whole: bool
    ) -> str | None:
        """Take the edits of a session into `history`; None where that is done.

        Else, with a sentence in `said`, the name of the session that has what does not fit, empty where there is none.
        """
        edit = found.edit
        if all(step.is_empty for step in edit.steps) and not edit.named and not is_whole:
            return ""
        why = _other_head(found.head, head)
        try:
            if not why:
                for step in (named for _, named in edit.named):
                    step.check_fits(head.hidden_size, head.vocab_rows)
                history.restore([_usable(step, head) for step in edit.steps], edit.at, hold_back=not is_whole)
                history.saved = edit.saved
                history.named = {name: _usable(step, head) for name, step in edit.named}
                if (last := _usable(edit.last, head)) != edit.last:
                    said.append(
                        "the numbers of the refit or imported file that the session's edit had are in the cache no "
                        f"more: it has {last.replacement} as measured here; import the file for the same ones."
                    )
                return None
        except TpeError as error:
            why = str(error)
        if edit.is_exported and not edit.named:
            return ""
        kept = self.store.rename(found.name, default_name(found.options)) or ""
        said.append(
            f"the edit of {clock_or_date(edit.changed)} ({edit_sizes(edit.last)}) does not fit and is not applied: "
            f"{why.rstrip('.')}." + (f" It is kept as the session {kept}." if kept else "")
        )
        return kept


def _usable(step: Intervention, head: HeadFacts) -> Intervention:
    """A step, with what is measured here in the place of a file's or a refit's numbers that are kept no more."""
    if not step.origin or are_kept(head.sha256, step.origin):
        return step
    replacement = step.replacement if step.replacement in REPLACEMENTS.ready else "least-squares"
    return replace(step, replacement=replacement, origin="")


def _other_head(made_on: HeadFacts | None, head: HeadFacts) -> str:
    """Why an edit of one head is not for another; empty where it is the same one."""
    if made_on is None or made_on == head:
        return ""
    if made_on.hidden_size != head.hidden_size:
        return f"it is for {made_on.hidden_size} dimensions, and this head has {head.hidden_size}"
    if made_on.vocab_rows != head.vocab_rows:
        return f"it is for {made_on.vocab_rows} vocabulary rows, and this head has {head.vocab_rows}"
    return f"it was made on another head (sha256 {made_on.sha256[:12]}, this one {head.sha256[:12]})"
