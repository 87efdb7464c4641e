"""Files of one hub commit into the hub's local cache: in parallel, resumable, and stopped within a second.

The hub's client throws a partial file away when it is interrupted. Here it stays in the cache, named after its
content, and the next download goes on where it stopped; the finished file is then linked by the client itself.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tpe_core.errors import ModelError
from tpe_core.progress import Progress, Steps, size_text

__all__ = ["RemoteFile", "Transfer", "Watched", "in_background"]

WORKERS = 4  # files at a time
CHUNK = 1 << 18  # bytes between two looks at the stop flag
RETRIES = 5  # broken connections in a row, without a byte between them
TICK = 0.1  # seconds between two progress events
STOP_SECONDS = 1.0
LARGEST = 50_000_000_000  # bytes: the hub serves larger files through its own client only


class _StoppedError(Exception):
    """Carries a cancellation out of a worker."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit and its size in bytes."""

    name: str
    size: int


class Transfer:
    """The download of some files, worked by background threads and read by whoever shows its progress."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._shown = 0
        self._total = 0
        self._current = ""

    def progress(self) -> Progress:
        """Bytes done so far of the bytes to fetch; it never goes back."""
        with self._lock:
            if not self._total:
                return Progress("look up the model", 0)
            self._shown = max(self._shown, min(self._total, sum(self._done.values())))
            amount = f"{size_text(self._shown)} of {size_text(self._total)}"
            return Progress("download", self._shown, self._total, note=self._current, amount=amount)

    def fetch(self, repo: str, commit: str, files: list[RemoteFile]) -> None:
        """Bring `files` into the cache. Raises what the hub's client raises; ends early once `stop` is set."""
        from huggingface_hub import constants

        storage = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
        blobs = storage / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        self._check_space(repo, blobs, sum(file.size for file in files))
        with self._lock:
            self._total = sum(file.size for file in files)

        def work(file: RemoteFile) -> None:
            try:
                self._file(repo, commit, file, blobs)
            except BaseException:
                self.stop.set()
                raise

        with ThreadPoolExecutor(WORKERS, thread_name_prefix="tpe-download") as pool:
            jobs = [pool.submit(work, file) for file in sorted(files, key=lambda file: file.size)]
        errors = [error for job in jobs if (error := job.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, _StoppedError)):
            if not isinstance(error, _StoppedError):
                raise error

    @staticmethod
    def _check_space(repo: str, blobs: Path, wanted: int) -> None:
        partial = sum(path.stat().st_size for path in blobs.glob("*.tpe.incomplete"))
        free = shutil.disk_usage(blobs).free
        if wanted - partial > free:
            raise ModelError(
                f"{repo} needs {size_text(wanted)} of disk and {blobs.parent.parent} has {size_text(free)} free: "
                "make room, or set HF_HUB_CACHE to a folder on another disk."
            )

    def _file(self, repo: str, commit: str, file: RemoteFile, blobs: Path) -> None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        if self.stop.is_set():
            raise _StoppedError
        url = hf_hub_url(repo, file.name, revision=commit)
        facts = get_hf_file_metadata(url)
        if facts.etag and facts.size and facts.size <= LARGEST:
            with self._locked(blobs, facts.etag):
                if not (blobs / facts.etag).exists():
                    self._content(url, file.name, facts.size, blobs / f"{facts.etag}.tpe.incomplete")
                    os.replace(blobs / f"{facts.etag}.tpe.incomplete", blobs / facts.etag)
        hf_hub_download(repo, file.name, revision=commit)
        self._tell(file.name, file.size)

    @contextmanager
    def _locked(self, blobs: Path, etag: str) -> Iterator[None]:
        """Hold the hub's own lock of a file, waiting for another process until `stop`."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        folder = blobs.parent.parent / ".locks" / blobs.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            if self.stop.is_set():
                raise _StoppedError
            lock = WeakFileLock(folder / f"{etag}.lock", timeout=0.5)
            try:
                lock.__enter__()
            except TimeoutError:
                continue
            break
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _content(self, url: str, name: str, size: int, partial: Path) -> None:
        """Complete `partial` to `size` bytes, going on where it stands, over as many connections as it takes."""
        failures = 0
        with partial.open("ab") as out:
            if out.tell() > size:
                out.truncate(0)
            while out.tell() < size:
                before = out.tell()
                try:
                    self._stream(url, name, size, out)
                except (OSError, _StoppedError):  # the hub's refusals are OSErrors, a full disk is one too
                    raise
                except Exception:  # whatever the HTTP client calls a broken connection
                    failures = failures + 1 if out.tell() == before else 0
                    if failures > RETRIES or self.stop.wait(1.0):
                        raise
        if partial.stat().st_size != size:
            partial.unlink()
            raise ModelError(f"{name} arrived with another size than the {size:,} bytes that the hub named: try again.")

    def _stream(self, url: str, name: str, size: int, out: Any) -> None:
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        start = out.tell()
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            if start and response.status_code != 206:  # the whole file comes again
                out.truncate(0)
                out.seek(0)
            self._tell(name, out.tell())
            for chunk in response.iter_bytes(CHUNK):
                if self.stop.is_set():
                    raise _StoppedError
                out.write(chunk)
                self._tell(name, out.tell())
                if out.tell() > size:
                    return

    def _tell(self, name: str, done: int) -> None:
        with self._lock:
            self._current = name
            self._done[name] = done


class Watched(Protocol):
    """What runs in the background and can be asked how far it is, and to stop."""

    stop: threading.Event

    def progress(self) -> Progress:
        """Progress so far."""


def in_background(transfer: Watched, work: Callable[[], object]) -> Steps[None]:
    """Run `work` on a thread of its own: a job that yields `transfer.progress()` ten times a second.

    Closing the job sets `transfer.stop` and waits at most a second; what is still blocked in a dead connection
    ends by itself. Raises what `work` raises.
    """
    failed: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=body, name="tpe-hub", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(TICK)
            yield transfer.progress()
    finally:
        transfer.stop.set()
        thread.join(STOP_SECONDS)
    if failed:
        raise failed[0]
