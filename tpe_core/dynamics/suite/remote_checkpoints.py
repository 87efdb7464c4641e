"""A hub model's revisions as checkpoints: which there are, what their files hash to, and parts of those files.

Hashes are asked for before anything is fetched. Of a weight file only the bytes that are wanted come over the line.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tpe_core.dynamics.suite.weight_files import Files, LocalFiles, UnusableError, is_weight
from tpe_core.errors import ModelError
from tpe_core.json_text import json_text
from tpe_core.models.download import RemoteFile, Transfer, in_background
from tpe_core.models.hub import explain
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, size_text
from tpe_core.store import Store

__all__ = ["HubFiles", "cached_revisions", "look_up", "revisions"]

WORKERS = 4  # questions at a time
RETRIES = 5  # broken connections in a row, without a byte between them
BUSY = (429, 500, 502, 503, 504)  # answers that ask to come back later


class HubFiles(Files):
    """The files of one commit; what the local cache has whole is read from there."""

    def __init__(self, repo: str, commit: str, files: Mapping[str, tuple[int, str]], offline: bool = False) -> None:
        """`files` are sizes and content hashes by name, as the hub tells them; `offline` asks it for nothing."""
        self.location = (repo, commit)
        self.repo, self.commit, self._offline = repo, commit, offline
        self.sizes = {name: size for name, (size, _) in files.items()}
        self._hashes = {name: value for name, (_, value) in files.items()}

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the hub's hashes of the weight files: equal for two commits whose weight files are."""
        entries = {name: value for name, value in self._hashes.items() if is_weight(name) and self._counts(name)}
        return hashlib.sha256(json.dumps(entries, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def _counts(self, name: str) -> bool:
        """Whether loading would read a weight file: pickles beside safetensors are not."""
        return ".bin" in name if ".bin" in self.weights else ".bin" not in name

    @property
    def weight_hashes(self) -> dict[str, str]:
        """Hashes of the weight files as the hub gives them, indices left out."""
        return {
            name: value
            for name, value in self._hashes.items()
            if is_weight(name) and self._counts(name) and not name.endswith(".index.json")
        }

    def digest(self, name: str) -> str:
        """The hash of a file as the hub gives it."""
        return self._hashes[name]

    def cached(self, name: str) -> Path | None:
        """The path of a file in the local cache; None where it is not there."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repo, name, revision=self.commit)
        return Path(path) if isinstance(path, str) else None

    def part(self, name: str, start: int, stop: int) -> Steps[bytearray]:
        """Fetch bytes of a file from the hub by range, or read them from the local cache: a job."""
        if (path := self.cached(name)) is not None:
            return (yield from LocalFiles(path.parent).part(name, start, stop))
        self._ask([name])
        request = _Part(self.repo, self.commit, name, start, stop)
        try:
            yield from in_background(request, request.work)
        except Exception as error:
            raise explain(error, RunOptions(model=self.repo, revision=self.commit)) from error
        return request.data

    def _ask(self, names: Sequence[str]) -> None:
        """Refuse to ask the hub where that is not wanted."""
        if self._offline:
            raise UnusableError(f"{names[0]} is not in the local cache and --offline was given")

    def document(self, name: str) -> Steps[dict[str, Any]]:
        """Fetch a JSON file whole and parse it: a job."""
        yield from self.fetch([name])
        return (yield from super().document(name))

    def fetch(self, names: Sequence[str]) -> Steps[LocalFiles]:
        """Bring whole files into the local cache: a job that returns what is there then."""
        transfer = Transfer()
        wanted = [RemoteFile(name, self.sizes[name]) for name in names if self.cached(name) is None]
        if wanted:
            self._ask([file.name for file in wanted])
            try:
                yield from in_background(transfer, lambda: transfer.fetch(self.repo, self.commit, wanted))
            except Exception as error:
                raise explain(error, RunOptions(model=self.repo, revision=self.commit)) from error
        path = self.cached(names[0])
        if path is None:
            raise UnusableError(f"{names[0]} is not in the local cache although it was fetched")
        return LocalFiles(path.parent)


class _Part:
    """Some bytes of one file, over as many connections as it takes."""

    def __init__(self, repo: str, commit: str, name: str, start: int, stop: int) -> None:
        self.stop = threading.Event()
        self.data = bytearray(stop - start)
        self._done = 0
        self._where = (repo, commit, name, start)

    def progress(self) -> Progress:
        amount = f"{size_text(self._done)} of {size_text(len(self.data))}"
        return Progress("download", self._done, len(self.data), note=self._where[2], amount=amount)

    def work(self) -> None:
        failures = 0
        while self._done < len(self.data) and not self.stop.is_set():
            before = self._done
            try:
                self._stream()
            except ModelError:
                raise
            except Exception as error:  # whatever the HTTP client calls a broken connection
                status = getattr(getattr(error, "response", None), "status_code", None)
                failures = failures + 1 if self._done == before else 0
                refused = status is not None and status not in BUSY
                if refused or failures > RETRIES or self.stop.wait(2.0**failures / 2):
                    raise

    def _stream(self) -> None:
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        repo, commit, name, first = self._where
        start, last = first + self._done, first + len(self.data) - 1
        headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={start}-{last}"}
        url, timeout = hf_hub_url(repo, name, revision=commit), constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:
                raise ModelError(
                    f"the hub does not send parts of {name} of {repo}: pass --weights to fetch whole checkpoints."
                )
            for chunk in response.iter_bytes():
                if self.stop.is_set():
                    return
                end = self._done + len(chunk)
                if end > len(self.data):
                    raise ModelError(f"the hub sent more of {name} of {repo} than was asked for: try again.")
                self.data[self._done : end] = chunk
                self._done = end


class _Questions:
    """Questions to the hub, some at a time."""

    def __init__(self, total: int) -> None:
        self.stop = threading.Event()
        self.total, self.done, self.last = total, 0, ""

    def progress(self) -> Progress:
        return Progress("look up revisions", self.done, self.total, note=self.last)


def revisions(repo: str, store: Store | None, offline: bool) -> Steps[dict[str, str]]:
    """The commits of a hub model's branches and tags by name: a job.

    They are asked anew each time; offline, they are those of the last time in `store`, or none. Raises `ModelError`
    where the hub or the model cannot be had.
    """
    from huggingface_hub import HfApi

    key = _key("revisions", repo)
    if offline:
        entry = None if store is None else store.load(key)
        return {} if entry is None else dict(entry[1])
    commits: dict[str, str] = {}

    def ask() -> None:
        refs = HfApi().list_repo_refs(repo)
        commits.update({ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)})

    try:
        yield from in_background(_Questions(0), ask)
    except Exception as error:
        raise explain(error, RunOptions(model=repo)) from error
    if store is not None:
        store.save(key, {}, commits, kind="revisions", of=repo)
    return commits


def look_up(repo: str, commits: Sequence[str], store: Store | None, offline: bool) -> Steps[dict[str, HubFiles]]:
    """The files of some commits, with sizes and hashes: a job of one question for each that `store` does not answer.

    Offline, what `store` does not know has no files.
    """
    from huggingface_hub import HfApi, constants

    known: dict[str, dict[str, Any]] = {}
    for commit in commits:
        if store is not None and (entry := store.load(_key("commit", repo, commit))) is not None:
            known[commit] = entry[1]
    questions = _Questions(len(commits))

    def ask(commit: str) -> None:
        if questions.stop.is_set():
            return
        info = HfApi().model_info(repo, revision=commit, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        known[commit] = {
            entry.rfilename: (int(entry.size or 0), str(entry.lfs.sha256 if entry.lfs is not None else entry.blob_id))
            for entry in info.siblings or ()
        }
        questions.done, questions.last = len(known), commit[:8]

    def work() -> None:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="tpe-look-up") as pool:
            for job in [pool.submit(ask, commit) for commit in commits if commit not in known]:
                job.result()

    if not offline and len(known) < len(commits):
        try:
            yield from in_background(questions, work)
        except Exception as error:
            raise explain(error, RunOptions(model=repo)) from error
        if store is not None:
            for commit in commits:
                store.save(
                    _key("commit", repo, commit), {}, known[commit], kind="list of files", of=f"{repo}@{commit[:8]}"
                )
    return {commit: HubFiles(repo, commit, known.get(commit, {}), offline) for commit in commits}


def _key(*facts: str) -> str:
    return hashlib.sha256(json_text(["hub 1", *facts]).encode()).hexdigest()


def cached_revisions(repo: str) -> dict[str, LocalFiles]:
    """The revisions of a hub model that the local cache holds, by branch or tag: what there is without a network."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = [entry for entry in scan_cache_dir().repos if entry.repo_id == repo and entry.repo_type == "model"]
    except CacheNotFound:
        repos = []
    commits = {
        ref: LocalFiles(Path(revision.snapshot_path))
        for entry in repos
        for revision in entry.revisions
        for ref in revision.refs
    }
    if not commits:
        raise ModelError(f"no revision of {repo} is in the local cache and --offline was given: connect once.")
    return commits
