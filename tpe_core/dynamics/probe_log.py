"""The log of a training probe: one JSON document a line, written while a model trains, read and watched by others.

A line is appended at once and never changed, so a crash costs at most a torn last line, which is ignored. Who trains
holds a lock on the file: that is how a reader knows a run that died from one that thinks. Nothing here imports torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from tpe_core.dynamics.trajectory import Point, Trajectory
from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, nulled, parse_json
from tpe_core.progress import Progress, Steps

fcntl: Any
try:
    import fcntl
except ImportError:  # no such locks on this system: a run that died is not told from a slow one
    fcntl = None

__all__ = ["SCHEMA", "LogWriter", "ProbeLog", "follow", "open_log", "read_log"]

SCHEMA = 1
POLL_SECONDS = 0.5
CLAIM_SECONDS = 1.0  # a reader that asks holds the lock for an instant
FIGURES = ("r2", "r2_adjusted", "r2_heldout_vocab", "gini", "participation_ratio", "loss")
GROUPED = ("change", "travel")

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ProbeLog:
    """What a log says so far. Where a run went on from an earlier step, what it had logged beyond that is superseded.

    `ended` is None while no end was written, else the reason: ``finished``, or a sentence.
    """

    path: Path
    start: Record
    points: tuple[Point, ...] = ()
    warnings: tuple[str, ...] = ()
    total: int | None = None  # steps the run means to take
    ended: str | None = None
    last_step: int = 0  # the last that the run is known to have reached
    probe_seconds: float = 0.0  # spent in the probe, over all processes of the run
    training_seconds: float = 0.0  # of the whole run, the probe's included

    @property
    def share(self) -> float | None:
        """The probe's share of the training time; None before any was measured."""
        return self.probe_seconds / self.training_seconds if self.training_seconds > 0 else None

    def trajectory(self, warnings: tuple[str, ...] = (), *, final: bool = True) -> Trajectory:
        """The points, with more `warnings`; convergence needs the end's weights and is not in it.

        While it is not `final`, top dimensions are not compared either: the last ones are not known yet.
        """
        last = set(next((point.top_dims for point in reversed(self.points) if final and point.top_dims), ()))
        points = (
            replace(point, top_overlap=len(last & set(point.top_dims)) / len(point.top_dims))
            if last and point.top_dims
            else point
            for point in self.points
        )
        return Trajectory(
            source=str(self.path),
            frequencies=str(self.start["frequencies"]),
            tokens=int(self.start["tokens"]),
            unseen=int(self.start["unseen"]),
            points=tuple(points),
            warnings=(*self.warnings, *warnings),
        )


@dataclass(kw_only=True)
class _Reader:
    """Folds a log's records, in the order in which they were written."""

    start: Record | None = None
    points: dict[int, Point] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    total: int | None = None
    ended: str | None = None
    last_step: int = 0
    probe_seconds: float = 0.0
    training_seconds: float = 0.0

    def take(self, record: Record) -> None:
        """Raises KeyError, TypeError or ValueError where the record is not one of the log's."""
        kind = record["kind"]
        if kind == "start":
            _ = int(record["tokens"]), int(record["unseen"]), record["frequencies"], record["fingerprint"]
            self.start, self.warnings = record, []
        if kind in ("start", "resume"):
            step, total = int(record["step"]), record["total"]
            self.total, self.ended = None if total is None else int(total), None
            self.points = {at: point for at, point in self.points.items() if at < step}
        elif kind == "point":
            point = _point(record)
            self.points[point.step] = point
        elif kind == "loss":
            if (step := int(record["step"])) in self.points:
                self.points[step] = replace(self.points[step], loss=float(record["loss"]))
        elif kind == "warning":
            self.warnings.append(str(record["text"]))
        elif kind == "end":
            self.ended = str(record["reason"])
        if "step" in record:
            self.last_step = int(record["step"])
        self.probe_seconds = float(record.get("probe_seconds", self.probe_seconds))
        self.training_seconds = float(record.get("training_seconds", self.training_seconds))


def open_log(path: Path) -> ProbeLog:
    """Read a log. Raises `TpeError` where there is none; a torn last line and lines that are broken are left out."""
    content = _content(path)
    if content is None:
        raise TpeError(f"there is no probe log at {path}: check the path, or start the training first.")
    return _log_in(content, path)


def _log_in(content: bytes, path: Path) -> ProbeLog:
    log = _parse(path, content)
    if log is None:
        raise TpeError(f"{path} does not begin like a probe log: give the file that a training probe writes.")
    return log


def read_log(path: Path) -> Trajectory:
    """Read the log of an `EncodingProbe`; a run that is not finished has a warning that says so. Raises `TpeError`.

    Example:
        >>> tpe.read_log(Path("probe.jsonl")).points  # doctest: +SKIP
    """
    log = open_log(path)
    return log.trajectory(_state(log, _is_written(path)))


def follow(path: Path, poll: float = POLL_SECONDS) -> Steps[Trajectory]:
    """Watch a log grow: a job that yields the trajectory so far (`Progress.partial`) at least every `poll` seconds.

    It waits where the file is not there yet, and returns when the run has ended or died, which is then the
    trajectory's last warning unless the run finished. Raises `TpeError` where the file cannot become a log.

    Args:
        path: The log of an `EncodingProbe`.
        poll: Seconds between two looks at it.

    Returns:
        A job; `run` drives it to the `Trajectory` of the whole run.

    Example:
        >>> trajectory = tpe.run(tpe.follow(Path("probe.jsonl")), print)  # doctest: +SKIP
    """
    if not path.parent.is_dir():
        raise TpeError(f"there is no folder {path.parent} to follow a run in: check the path.")
    known: object = None
    log: ProbeLog | None = None
    while True:
        written = _is_written(path)  # before reading: what was written before a death is then in what is read
        now = _signature(path)
        if now != known:
            known, log = now, _growing(path)
        if log is None:
            yield Progress("follow", 0, note=_waiting(path))
        else:
            over = log.ended is not None or written is False
            state = _state(log, written) if over else ()
            trajectory = log.trajectory(state, final=over)
            last = log.points[-1] if log.points else None
            fit = "" if last is None or last.r2_adjusted is None else f", adjusted R2 {last.r2_adjusted:.3f}"
            note = state[-1] if state else f"step {log.last_step:,}{fit}"
            yield Progress("follow", log.last_step, log.total, note=note, partial=trajectory)
            if over:
                return trajectory
        time.sleep(poll)


def _waiting(path: Path) -> str:
    """What is waited for; where nothing is there, the logs beside it, as a name is mistyped easily."""
    if _signature(path) is not None:
        return f"waiting for {path}"
    others = sorted(each.name for each in path.parent.glob(f"*{path.suffix}"))
    beside = f"; in that folder: {', '.join(others[:3])}{', …' if len(others) > 3 else ''}" if others else ""
    return f"waiting for {path}, which is not there{beside}"


def _growing(path: Path) -> ProbeLog | None:
    """A log that may not be there yet, or not have a whole first line."""
    content = _content(path)
    return _log_in(content, path) if content is not None and b"\n" in content else None


def _content(path: Path) -> bytes | None:
    """The bytes of a log; None where there is none. Raises `TpeError` where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TpeError(f"the probe log {path} cannot be read ({error.strerror or error}).") from error


def _signature(path: Path) -> object:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _state(log: ProbeLog, written: bool | None) -> tuple[str, ...]:
    """How a run stands that is not finished, a sentence; none for one that is."""
    if log.ended == "finished":
        return ()
    of = f" of {log.total:,}" if log.total else ""
    if log.ended is not None:
        return (f"the run ended at step {log.last_step:,}{of} before it was finished: {log.ended}.",)
    if written is False:
        return (
            f"the run died after step {log.last_step:,}{of}: nothing is written any more and no end was logged; "
            "resume it, and its log goes on.",
        )
    return (f"the run is at step {log.last_step:,}{of} or beyond and goes on.",)


def _parse(path: Path, content: bytes) -> ProbeLog | None:
    """None where the first whole line is no start of a log."""
    reader = _Reader()
    broken: list[str] = []
    for number, line in enumerate(_whole_lines(content), 1):
        try:
            record = parse_json(line)
            if reader.start is None and (record["kind"] != "start" or record["schema"] != SCHEMA):
                return None
            reader.take(record)
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
            if reader.start is None:
                return None
            broken.append(f"line {number} of {path.name} is broken and left out.")
    if reader.start is None:
        return None
    return ProbeLog(
        path=path,
        start=reader.start,
        points=tuple(reader.points[step] for step in sorted(reader.points)),
        warnings=(*reader.warnings, *broken),
        total=reader.total,
        ended=reader.ended,
        last_step=reader.last_step,
        probe_seconds=reader.probe_seconds,
        training_seconds=reader.training_seconds,
    )


def _point(record: Record) -> Point:
    """Raises TypeError or ValueError where a figure is none; null is one that was not finite."""
    groups = {
        label: {name: value for name, value in record.get(label, {}).items() if value is not None} for label in GROUPED
    }
    figures = [value for name, value in record.items() if name in FIGURES and value is not None]
    figures += [value for group in groups.values() for value in group.values()]
    if not all(isinstance(value, int | float) for value in figures):
        raise TypeError("a figure that is no number")
    return Point.from_dict({**record, **groups, "step": int(record["step"]), "name": str(record["name"])})


def _whole_lines(content: bytes) -> Iterator[bytes]:
    yield from content[: content.rfind(b"\n") + 1].splitlines()


def _is_written(path: Path) -> bool | None:
    """Whether a process holds the log open for writing; None where that cannot be known."""
    if fcntl is None:
        return None
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(stream, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


class LogWriter:
    """Appends a run's records to its log. One writer at a time: the lock ends with the process, however that ends."""

    def __init__(self, path: Path, start: Record, step: int) -> None:
        """Open the log of the run that `start` describes, now at `step`, or begin it.

        `found` is what an earlier process of the run left. Raises `TpeError` where the file is no log, is one of other
        frequencies, or is being written; `OSError` where the disk refuses.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self._stream: BinaryIO = path.open("ab", buffering=0)
        try:
            self._claim(path)
            self.found = earlier(path, start)
            os.ftruncate(self._stream.fileno(), _whole_size(path))
            kept = self.found.points if self.found is not None else ()
            fresh = not any(point.step < step for point in kept)
            self.write({"kind": "start" if fresh else "resume", "schema": SCHEMA, **start, "step": step})
        except BaseException:
            if is_new and not os.fstat(self._stream.fileno()).st_size:
                path.unlink(missing_ok=True)
            self._stream.close()
            raise

    def _claim(self, path: Path) -> None:
        if fcntl is None:
            return
        deadline = time.monotonic() + CLAIM_SECONDS
        while True:
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TpeError(
                        f"another run is writing {path}: give this run a log of its own, or end the other one."
                    ) from None
                time.sleep(0.02)
            except OSError:
                return  # a file system without locks

    def write(self, record: Record) -> None:
        """Append one record, numbers that are not finite as null. Raises OSError."""
        line = json_text(nulled(record)).encode() + b"\n"
        size = os.fstat(self._stream.fileno()).st_size
        try:
            while line:
                line = line[self._stream.write(line) :]
        except OSError:
            os.ftruncate(self._stream.fileno(), size)  # or the next record would be glued to half of this one
            raise

    def close(self) -> None:
        """Close the file, which releases the lock for the next writer."""
        if fcntl is not None and not self._stream.closed:
            with suppress(OSError):
                fcntl.flock(self._stream, fcntl.LOCK_UN)  # a forked child may hold the file open
        self._stream.close()


def earlier(path: Path, start: Record) -> ProbeLog | None:
    """What is in a log already; None where nothing is. Raises `TpeError` where `start` does not go with it."""
    content = _content(path)
    if content is None:
        return None
    if b"\n" not in content:
        if content and not content.startswith(b'{"kind": "start"'[: len(content)]):
            raise TpeError(f"{path} is no probe log and is left as it is: choose another file.")
        return None
    log = _parse(path, content)
    if log is None:
        raise TpeError(f"{path} is no probe log and is left as it is: choose another file.")
    if log.start["fingerprint"] != start["fingerprint"]:
        raise TpeError(
            f"{path} is the log of a run against other frequencies ({log.start['frequencies']}): choose another file."
        )
    return log


def _whole_size(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
