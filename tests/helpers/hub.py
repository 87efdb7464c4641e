"""A hub on this machine: the few questions that a download asks, over real HTTP, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

__all__ = ["FakeHub", "fake_hub"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def commit_of(branch: str) -> str:
    """The commit that a branch of a `FakeHub` points at."""
    return _sha1(branch.encode())


class FakeHub:
    """Serves the files of `folder` as the repository `repo`; what went over the line stands in `requests`."""

    def __init__(self, folder: Path, repo: str = "someone/tiny") -> None:
        self.folder, self.repo = folder, repo
        self.revisions: dict[str, Path] = {}  # by branch, where there is more than one
        self.gated = False
        self.ranges = True  # whether parts of files can be asked for
        self.rate: float | None = None  # bytes a second of every answer
        self.break_after: int | None = None  # bytes after which the next large answer's connection breaks
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range
        self.sent = 0  # bytes of file contents
        self.url = ""

    def contents(self, method: str = "GET") -> list[tuple[str, str]]:
        """(file, Range) of every content that was asked for."""
        return [
            (path.rsplit("/", 1)[-1], part)
            for kind, path, part in self.requests
            if kind == method and "/resolve/" in path
        ]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.requests.append((request.command, path, request.headers.get("Range", "")))
        if path == f"/api/models/{self.repo}/refs":
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(name)} for name in self.revisions
            ]
            document = {"branches": branches, "tags": [], "converts": []}
            self._send(request, 200, {"Content-Type": "application/json"}, json.dumps(document).encode())
            return
        if path.startswith("/api/models/"):
            repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            if self._refused(request, repo, revision, gated=False):  # what a gated model is, anyone may know
                return
            files = [
                {"rfilename": file.name, "size": file.stat().st_size, "blobId": _sha1(file.read_bytes())}
                for file in sorted(self._folder(revision).iterdir())
            ]
            document = {"id": self.repo, "sha": self._commit(revision), "siblings": files}
            self._send(request, 200, {"Content-Type": "application/json"}, json.dumps(document).encode())
            return
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if self._refused(request, repo, revision, self.gated):
            return
        file, commit = self._folder(revision) / name, self._commit(revision)
        if not file.is_file():
            self._send(request, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"no such file")
            return
        self._content(request, file.read_bytes(), commit)

    def _folder(self, revision: str) -> Path:
        return next((at for name, at in self.revisions.items() if revision in (name, commit_of(name))), self.folder)

    def _commit(self, revision: str) -> str:
        return next((commit_of(name) for name in self.revisions if revision in (name, commit_of(name))), COMMIT)

    def _refused(self, request: BaseHTTPRequestHandler, repo: str, revision: str, gated: bool) -> bool:
        if repo != self.repo:
            self._send(request, 404, {"X-Error-Code": "RepoNotFound"}, b"no such repository")
        elif gated:
            self._send(request, 401, {"X-Error-Code": "GatedRepo"}, b"gated")
        elif revision not in ("main", "v1", COMMIT, "") and self._commit(revision) == COMMIT:
            self._send(request, 404, {"X-Error-Code": "RevisionNotFound"}, b"no such revision")
        else:
            return False
        return True

    def _content(self, request: BaseHTTPRequestHandler, data: bytes, commit: str) -> None:
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
        part, first, last = request.headers.get("Range"), 0, len(data) - 1
        if part and self.ranges:
            start, _, end = part.removeprefix("bytes=").partition("-")
            first, last = int(start), min(last, int(end or last))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        status = 206 if "Content-Range" in headers else 200
        self._send(request, status, headers, data[first : last + 1], counted=True)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, counted: bool = False
    ) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        step = 1 << 14
        for start in range(0, len(body), step):
            if counted and self.break_after is not None and start >= self.break_after:
                self.break_after = None
                request.close_connection = True
                return
            request.wfile.write(body[start : start + step])
            if counted:
                self.sent += len(body[start : start + step])
                if self.rate is not None:
                    time.sleep(step / self.rate)


@contextmanager
def fake_hub(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Run a `FakeHub` and point the hub's client at it, with `cache` as its cache."""
    import huggingface_hub
    from huggingface_hub import constants

    hub = FakeHub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                hub.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: False)
    huggingface_hub.close_session()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        huggingface_hub.close_session()
