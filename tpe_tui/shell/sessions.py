"""The inspector's sessions on disk: one JSON file for each, locked by the process that writes it.

A session is a model with its options, the view of it, and the edit with everything that can be undone and redone.
Nothing here knows a widget. A file that cannot be read is told in a sentence and never stops a start.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from tpe_core.edits.intervention import Intervention, Method, Steering
from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.notebook import Note
from tpe_core.options import RunOptions
from tpe_core.outputs import shown_path
from tpe_core.pruning.results import PruningResult
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.shell.view_memory import SavedView, default_state_dir, saved_view

__all__ = [
    "BrokenSessionError",
    "HeadFacts",
    "NewerSessionError",
    "SavedEdit",
    "SavedSession",
    "SessionError",
    "SessionLock",
    "SessionStore",
    "check_name",
    "default_name",
    "iso_moment",
    "model_of",
    "same_model",
]

KIND, SCHEMA = "tpe.session", 1
SWEEP_KIND = "tpe.session-sweep"
DETECTED_BY = ("text", "text_field", "positions", "sample", "seed")  # the options that a sweep's orders depend on
MAX_BYTES = 64 * 2**20
"""More than any session needs: a larger file is not one."""

MAX_DIMS = 500_000
"""Dimensions that the steps of a saved history toggle, all together: what more there is of the oldest is left out."""

MAX_STEPS = 10_000
MAX_NOTES_BYTES = 16 * 2**20
NOTE_FIELDS = {each.name for each in fields(Note)}
LOCK_SECONDS = 0.02  # between two tries
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_CHARACTERS = 48  # of a name that is made from a model's
KEPT_OPTIONS = (
    "model", "revision", "adapter", "task", "gguf_file", "vocabulary", "dtype", "device_map", "quantize", "text",
    "text_field", "positions", "sample", "seed",
)  # fmt: skip
"""Of `RunOptions`: what is opened and read. Code of a model's own is allowed anew every time."""


class SessionError(TpeError):
    """A session that cannot be opened, in a sentence."""


class BrokenSessionError(SessionError):
    """A session's file that holds no session."""


class NewerSessionError(SessionError):
    """A session's file that a newer version wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFacts:
    """The head that an edit was made on."""

    sha256: str
    hidden_size: int
    vocab_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedEdit:
    """A history of edits: see `tpe_core.edit_history.EditHistory`; `steps` are its `all_steps`."""

    steps: tuple[Intervention, ...] = (Intervention(),)
    at: int = 0
    saved: Intervention | None = None
    named: tuple[tuple[str, Intervention], ...] = ()
    is_held_back: bool = False
    changed: float = 0.0  # when it was changed last, seconds since 1970

    @property
    def last(self) -> Intervention:
        """The edit that was in force, or that was held back."""
        return self.steps[self.at]

    @property
    def is_exported(self) -> bool:
        """Whether there is nothing in the last edit that no file holds."""
        return self.last.is_empty or self.last == self.saved


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSession:
    """What a session's file holds; `head` is None where its model was never open."""

    name: str
    options: RunOptions
    view: SavedView = field(default_factory=SavedView)
    edit: SavedEdit = field(default_factory=SavedEdit)
    head: HeadFacts | None = None
    written: float = 0.0  # seconds since 1970


# names


def check_name(name: str) -> str:
    """The name itself. Raises `SessionError` where no session can be called so."""
    if not NAME.fullmatch(name):
        raise SessionError(
            f"no session can be called {name[:80]!r}: a name has up to 64 letters, digits, dots, dashes and "
            "underscores, and begins with a letter or digit."
        )
    return name


def default_name(options: RunOptions) -> str:
    """The name of a model's session where none was given: the last part of the model's name, with what it is of it."""
    parts = [options.model.rstrip("/").rsplit("/", 1)[-1], options.gguf_file or "", options.revision or ""]
    parts += [(options.adapter or "").rstrip("/").rsplit("/", 1)[-1]]
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(part for part in parts if part))
    return text.strip(".-_")[:NAME_CHARACTERS].rstrip(".-_") or "model"


def model_of(options: RunOptions) -> tuple[str, str | None, str | None, str | None]:
    """What two starts have in common that are of the same model: name, revision, adapter, GGUF file."""
    adapter = None if options.adapter is None else _whole_path(options.adapter)
    return _whole_path(options.model), options.revision, adapter, options.gguf_file


def same_model(one: RunOptions, other: RunOptions) -> bool:
    """Whether both open the same model."""
    return model_of(one) == model_of(other)


def _whole_path(name: str) -> str:
    """The absolute path of a file or folder that is there; anything else, such as a hub id, as it is."""
    expanded = os.path.expanduser(name)
    return os.path.abspath(expanded) if name and os.path.exists(expanded) else name


# files


class SessionLock:
    """A lock on a session that this process holds until `release`, or until it ends in whatever way."""

    def __init__(self, descriptor: int, path: Path | None = None) -> None:
        """`path` is what `release` removes."""
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let others have the session; once."""
        if self._descriptor is not None:
            with suppress(OSError):
                if self._path is not None:
                    self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


class SessionStore:
    """The sessions of a state folder (None: the user's), as ``sessions/NAME.json``."""

    def __init__(self, state_dir: Path | None = None) -> None:
        self.folder = (default_state_dir() if state_dir is None else state_dir) / "sessions"

    def path(self, name: str) -> Path:
        """The file of a session. Raises `SessionError` where no session can be called so."""
        return self.folder / f"{check_name(name)}.json"

    def names(self) -> list[str]:
        """The names of all sessions, in the order of the alphabet."""
        try:
            found = [path.name.removesuffix(".json") for path in self.folder.iterdir() if path.suffix == ".json"]
        except OSError:
            return []
        return sorted(name for name in found if NAME.fullmatch(name))

    def read(self, name: str) -> SavedSession | None:
        """A session; None where there is none. Raises `SessionError` where its file cannot be used."""
        path = self.path(name)
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SessionError(
                f"the session {name} cannot be read ({error.strerror or error}: {shown_path(path)})."
            ) from None
        try:
            if len(data) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            document = parse_json(data)
            if not isinstance(document, dict) or document.get("kind") != KIND:
                raise ValueError("it holds no session")
            schema = document.get("schema")
            if type(schema) is not int or schema < 1:
                raise ValueError("its schema is no number")
            if schema > SCHEMA:
                raise NewerSessionError(
                    f"the session {name} was written by a newer tpe (schema {schema}, this one reads {SCHEMA}): "
                    "update tpe, or give another --session."
                )
            return _session_of(name, document)
        except NewerSessionError:
            raise
        except (ValueError, TpeError) as error:
            raise BrokenSessionError(f"the session {name} could not be read ({error}: {shown_path(path)}).") from None

    def set_aside(self, name: str) -> Path | None:
        """Move a session's file out of the way, to a name that is no session's; where it is now."""
        path = self.path(name)
        aside = path.with_name(f"{path.name}.broken")
        try:
            path.replace(aside)
        except OSError:
            return None
        return aside

    def write(self, session: SavedSession) -> None:
        """Write a session atomically. Raises OSError."""
        from tpe_core.store import write_file

        path = self.path(session.name)
        document = json_text(_document_of(session), 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(path, [document.encode()])

    def write_sweep(self, name: str, options: RunOptions, head: HeadFacts, result: PruningResult) -> None:
        """Write the curves of a session's last sweep atomically, in a file beside its own. Raises OSError."""
        from tpe_core.store import write_file

        document = {
            "kind": SWEEP_KIND,
            "schema": SCHEMA,
            "head": asdict(head),
            "detected": _detected(options),
            "result": result.to_record(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self._sweep_path(name), [json_text(_plain(document)).encode()])

    def read_sweep(self, name: str, options: RunOptions, head: HeadFacts) -> tuple[PruningResult, bool] | None:
        """The curves of a session's last sweep and whether they are of another detection than that of `options`.

        None where there are none, or where they are another head's; it can be measured again.
        """
        try:
            document = parse_json(self._sweep_path(name).read_bytes())
            if document["kind"] != SWEEP_KIND or document["schema"] != SCHEMA or document["head"] != asdict(head):
                return None
            return PruningResult.from_record(document["result"]), document["detected"] != _detected(options)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _sweep_path(self, name: str) -> Path:
        return self.folder / f"{check_name(name)}.sweep"

    def append_notes(self, name: str, notes: Sequence[Note]) -> None:
        """Add notes to a session's notebook, a line of JSON each, in a file beside its own. Raises OSError.

        Of a file of more than `MAX_NOTES_BYTES` the older half is dropped.
        """
        from tpe_core.store import write_file

        path = self._notes_path(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{json_text(_plain(note.to_dict()))}\n" for note in notes)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            was_cut = before and os.pread(descriptor, 1, before - 1) != b"\n"  # as by a lost power line
            left = memoryview(f"{chr(10) if was_cut else ''}{lines}".encode())
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError:  # nothing half-written stays
                os.ftruncate(descriptor, before)
                if not before:
                    path.unlink()
                raise
        finally:
            os.close(descriptor)
        if path.stat().st_size > MAX_NOTES_BYTES:
            kept = path.read_bytes()[-MAX_NOTES_BYTES // 2 :]
            write_file(path, [kept[kept.index(b"\n") + 1 :]])

    def read_notes(self, name: str) -> list[dict[str, Any]]:
        """A session's notebook, each note as `Note.to_dict` gives it; without what is broken. Raises `SessionError`."""
        try:
            lines = self._notes_path(name).read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise SessionError(f"the notes of {name} cannot be read ({error.strerror or error}).") from None
        notes = []
        for line in lines:
            with suppress(ValueError):
                note = parse_json(line)
                if isinstance(note, dict) and note.keys() >= NOTE_FIELDS and isinstance(note["edit"], dict):
                    notes.append(note)
        return notes

    def _notes_path(self, name: str) -> Path:
        return self.folder / f"{check_name(name)}.notes"

    def rename(self, name: str, base: str) -> str | None:
        """Give a session the first free name of `base`-2, `base`-3 and so on; None where the disk refuses."""
        for number in range(2, 1000):
            other = f"{base[:NAME_CHARACTERS]}-{number}"
            if not self.path(other).exists() and (lock := self.lock(other)) is not None:
                try:
                    self.path(name).rename(self.path(other))
                    for of in (self._sweep_path, self._notes_path):
                        with suppress(FileNotFoundError):
                            of(name).rename(of(other))
                except OSError:
                    return None
                finally:
                    lock.release()
                return other
        return None

    def delete(self, name: str) -> None:
        """Remove a session. Raises `SessionError` where there is none, or where one is open in another process."""
        path = self.path(name)
        if not path.exists():
            raise SessionError(f"there is no session {name}: tpe sessions lists them.")
        lock = self.lock(name)
        if lock is None:
            raise SessionError(f"the session {name} is open in {self.holder(name)}: leave it there first.")
        try:
            for of in (self._sweep_path, self._notes_path):
                of(name).unlink(missing_ok=True)
            path.unlink()
        except OSError as error:
            raise SessionError(f"the session {name} cannot be removed ({error.strerror or error}).") from None
        finally:
            lock.release()

    def lock(self, name: str) -> SessionLock | None:
        """Lock a session for this process; None where another one, or an earlier lock of this one, has it.

        A process that ends in whatever way has its locks no longer. Where the disk has no locks, or cannot be written,
        nobody is kept out.
        """
        path, tries = self._lock_path(name), 3
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                return SessionLock(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                tries -= 1
                if not tries:
                    return None
                time.sleep(LOCK_SECONDS)  # somebody may only have looked whether it is open
                continue
            except OSError:  # a disk without locks
                return SessionLock(descriptor)
            with suppress(OSError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:  # nobody has released and removed it meanwhile
                    with suppress(OSError):
                        os.ftruncate(descriptor, 0)
                        os.write(descriptor, f"{os.getpid()}\n".encode())
                    return SessionLock(descriptor, path)
            os.close(descriptor)

    def _lock_path(self, name: str) -> Path:
        return self.folder / f"{check_name(name)}.lock"

    def is_open(self, name: str) -> bool:
        """Whether a process has a session open."""
        if not self._lock_path(name).exists():
            return False
        lock = self.lock(name)
        if lock is not None:
            lock.release()
        return lock is None

    def holder(self, name: str) -> str:
        """Which process has a session open, in words."""
        try:
            number = self._lock_path(name).read_text(encoding="ascii").strip()[:20]
        except (OSError, ValueError):
            number = ""
        return f"process {number}" if number.isdecimal() else "another process"


# the document


def _document_of(session: SavedSession) -> dict[str, Any]:
    options = {name: getattr(session.options, name) for name in KEPT_OPTIONS}
    for name in ("model", "adapter", "vocabulary"):
        options[name] = None if options[name] is None else _whole_path(options[name])
    options["text"] = [_whole_path(each) for each in session.options.text]
    model = dict(zip(("name", "revision", "adapter", "gguf_file"), model_of(session.options), strict=True))
    document = {
        "kind": KIND,
        "schema": SCHEMA,
        "written": iso_moment(session.written),
        "model": model,
        "options": options,
        "head": None if session.head is None else asdict(session.head),
        "view": asdict(session.view),
        "edit": _edit_document(session.edit),
    }
    return {name: _plain(value) for name, value in document.items()}


def _detected(options: RunOptions) -> dict[str, Any]:
    """What the orders of a sweep depend on besides the head, as JSON values."""
    values = {name: getattr(options, name) for name in DETECTED_BY}
    return {**values, "text": [_whole_path(each) for each in options.text]}


def _edit_document(edit: SavedEdit) -> dict[str, Any]:
    steps, before = list[dict[str, Any]](), Intervention()
    for step in edit.steps:
        steps.append(_step_document(step, before))
        before = step
    first, left = len(steps), MAX_DIMS
    while first and left >= len(steps[first - 1]["toggled"]):
        first -= 1
        left -= len(steps[first]["toggled"])
    first = min(first, edit.at)
    if first:
        steps[first] = _step_document(edit.steps[first], Intervention())
    saved = edit.saved
    return {
        "changed": iso_moment(edit.changed),
        "at": edit.at - first,
        "is_held_back": edit.is_held_back,
        "steps": steps[first:],
        "saved": None if saved is None else _step_document(saved, Intervention()),
        "named": [[name, _step_document(step, Intervention())] for name, step in edit.named],
    }


def _step_document(step: Intervention, before: Intervention) -> dict[str, Any]:
    """A step by what it changes: `toggled` dimensions, and what else is not as it was."""
    changed: dict[str, Any] = {"toggled": sorted(set(step.pruned) ^ set(before.pruned))}
    if step.replacement != before.replacement:
        changed["replacement"] = step.replacement
    if step.steering != before.steering or step.sets != before.sets:
        changed["steering"] = [[entry.token_id, entry.ratio, entry.method] for entry in step.singles]
    if "steering" in changed and step.sets:
        known = set(before.sets)  # their ids are those of the step before
        changed["sets"] = [
            [each.name, each.definition, None if each in known else list(each.token_ids), how.ratio, how.method]
            for each in step.sets
            for how in [step.how(each)]
        ]
    if step.origin != before.origin:
        changed["origin"] = step.origin
    return changed


def _session_of(name: str, document: Mapping[str, Any]) -> SavedSession:
    """Every field by its meaning. Raises ValueError or `TpeError`."""
    return SavedSession(
        name=name,
        options=_options_of(_object(document, "options")),
        view=saved_view(_object(document, "view")),
        edit=_edit_of(_object(document, "edit")),
        head=_head_of(_object(document, "head")) if document.get("head") is not None else None,
        written=_seconds(document.get("written")),
    )


def _options_of(entry: Mapping[str, Any]) -> RunOptions:
    text = entry.get("text", [])
    if not isinstance(text, list):
        raise ValueError("its texts are no list")
    defaults = RunOptions()
    chosen: dict[str, Any] = {"text": tuple(_text(each, "text") for each in text)}
    for name in KEPT_OPTIONS:
        value, default = entry.get(name, getattr(defaults, name)), getattr(defaults, name)
        if name == "text":
            continue
        if isinstance(default, int):
            chosen[name] = _whole(value, name)
        else:
            chosen[name] = None if value is None and default is None else _text(value, name)
    return replace(defaults, **chosen)


def _head_of(entry: Mapping[str, Any]) -> HeadFacts:
    return HeadFacts(
        sha256=_text(entry.get("sha256"), "sha256"),
        hidden_size=_whole(entry.get("hidden_size"), "hidden_size"),
        vocab_rows=_whole(entry.get("vocab_rows"), "vocab_rows"),
    )


def _edit_of(entry: Mapping[str, Any]) -> SavedEdit:
    given, steps, before = entry.get("steps"), list[Intervention](), Intervention()
    if not isinstance(given, list) or not given:
        raise ValueError("its edit has no steps")
    if len(given) > MAX_STEPS:
        raise ValueError(f"its edit has more than {MAX_STEPS} steps")
    for each in given:
        before = _step_of(each, before)
        steps.append(before)
    at = _whole(entry.get("at"), "at")
    if at >= len(steps):
        raise ValueError(f"its edit has {len(steps)} steps and none with the number {at}")
    return SavedEdit(
        steps=tuple(steps),
        at=at,
        saved=None if entry.get("saved") is None else _step_of(entry["saved"], Intervention()),
        named=_named_of(entry.get("named", [])),
        is_held_back=entry.get("is_held_back") is True,
        changed=_seconds(entry.get("changed")),
    )


def _named_of(given: object) -> tuple[tuple[str, Intervention], ...]:
    if not isinstance(given, list) or len(given) > MAX_STEPS:
        raise ValueError("its named edits are no list")
    if not all(isinstance(each, list) and len(each) == 2 for each in given):
        raise ValueError("a named edit has no name and edit")
    return tuple((_text(name, "a name"), _step_of(step, Intervention())) for name, step in given)


def _step_of(entry: object, before: Intervention) -> Intervention:
    if not isinstance(entry, dict):
        raise ValueError("a step of its edit is no object")
    toggled, steering = entry.get("toggled", []), entry.get("steering")
    if not isinstance(toggled, list) or not isinstance(steering, list | None):
        raise ValueError("a step of its edit has no lists")
    step = Intervention(
        tuple(set(before.pruned) ^ {_whole(dim, "a dimension") for dim in toggled}),
        _text(entry.get("replacement", before.replacement), "replacement"),
        before.steering if steering is None else tuple(_steering_of(each) for each in steering),
        _text(entry.get("origin", before.origin), "origin"),
        sets=before.sets if steering is None else (),
    )
    sets = entry.get("sets", [])
    if not isinstance(sets, list):
        raise ValueError("a step's token sets are no list")
    for each in sets:
        step = _with_set(step, each, before)
    return step


def _with_set(step: Intervention, entry: object, before: Intervention) -> Intervention:
    if not isinstance(entry, list) or len(entry) != 5:
        raise ValueError("a token set has no name, definition, ids, ratio and method")
    name, definition = _text(entry[0], "a set's name"), _text(entry[1], "a set's definition")
    if entry[2] is None:
        found = next((each for each in before.sets if (each.name, each.definition) == (name, definition)), None)
        if found is None:
            raise ValueError("a token set has no ids")
    else:
        if not isinstance(entry[2], list):
            raise ValueError("a token set's ids are no list")
        found = TokenSet(definition, tuple(_whole(each, "a token's id") for each in entry[2]), name)
    how = _steering_of([found.token_ids[0], *entry[3:]])
    return step.steer_set(found, how.ratio, how.method)


def _steering_of(entry: object) -> Steering:
    if not isinstance(entry, list) or len(entry) != 3:
        raise ValueError("a steered token has no id, ratio and method")
    token_id, ratio, method = entry
    if not isinstance(ratio, int | float) or isinstance(ratio, bool):
        raise ValueError("a steered token's ratio is no number")
    return Steering(_whole(token_id, "a token's id"), ratio, cast("Method", _text(method, "a method")))


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is no object")
    return value


def _whole(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{name} is no whole number from 0 to {2**31 - 1}")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def iso_moment(seconds: float) -> str:
    """A time since 1970 as a file holds it: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _seconds(value: object) -> float:
    """Seconds since 1970 of a time that a file holds; 0 where it is none."""
    try:
        return datetime.fromisoformat(_text(value, "time")).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _plain(value: Any) -> Any:
    """The document with every text as UTF-8 has it: half a surrogate pair, as of a file's odd name, is not."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
