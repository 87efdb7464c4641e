"""One cache of detections for all of these tests, and every other folder of its own for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.e2e.terminal import Terminal
from tests.helpers.forked import Forked
from tpe_core.models.loading import bundled_path
from tpe_tui.shell.tour_seen import TourSeen

POSITIONS = "4096"
WIDTH: int = json.loads((bundled_path() / "config.json").read_text())["n_embd"]
TIMEOUT = 300.0
ROOT = Path(__file__).parents[2]
ENGINE = "import sys; from pathlib import Path; from tests.e2e.engine_process import main; "
ENGINE += "main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))"


KEPT = ("HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")

Run = subprocess.CompletedProcess[str]


def environment(home: Path, cache: Path) -> dict[str, str]:
    """A small environment with folders of its own, a UTF-8 locale, no network, and this interpreter's `tpe` first.

    Whoever has it has seen the tour.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    folders = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "STATE", "DATA")}
    TourSeen(home / "state" / "tpe").remember()
    return {
        **kept,
        **folders,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "TPE_CACHE_DIR": str(cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # steady beside other work: two threads on a busy machine take many times as long
    }


def execute(command: Sequence[str], env: Mapping[str, str], folder: Path) -> Run:
    """Run a command without a terminal to its end."""
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, env=env, cwd=folder, check=False, timeout=TIMEOUT, **streams)


def engine(task: str, folder: Path, env: Mapping[str, str], positions: str) -> Any:
    """What a task of `engine_process` prints in a process of its own."""
    process = Forked(ENGINE, task, str(folder), positions, folder=folder / f"engine-{task}", env=env)
    out, err = process.communicate(TIMEOUT)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that is the same for all test processes of one run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def once(shared: Path, name: str, make: Callable[[], Any]) -> Any:
    """What `make` returns, made by the first of all test processes that asks and read from a file by the others."""
    path = shared / f"{name}.json"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def cache(shared: Path) -> Path:
    """Detections, shared so that only the first test that needs one pays for it."""
    return shared / "cache"


@pytest.fixture
def env(tmp_path: Path, cache: Path) -> dict[str, str]:
    """The environment of a user who has never run tpe."""
    return environment(tmp_path, cache)


@pytest.fixture
def tpe(env: dict[str, str], tmp_path: Path) -> Callable[..., Run]:
    """Runs `tpe` without a terminal."""
    return lambda *arguments: execute(["tpe", *arguments], env, tmp_path)


@pytest.fixture
def terminal(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals and closes them."""
    opened: list[Terminal] = []

    def make(columns: int = 80, rows: int = 24) -> Terminal:
        folder = tmp_path / f"terminal{len(opened)}"
        folder.mkdir()
        opened.append(Terminal(folder, env, columns, rows))
        return opened[-1]

    yield make
    for entry in opened:
        entry.close()


@pytest.fixture(scope="session")
def analysis(shared: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tpe analyze demo --json` says of the bundled model: one document, nothing else on stdout."""

    def analyze() -> Any:
        home = tmp_path_factory.mktemp("analysis")
        done = execute(["tpe", "analyze", "demo", "--positions", POSITIONS, "--json"], environment(home, cache), home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    document: dict[str, Any] = once(shared, "analysis", analyze)
    return document


@pytest.fixture(scope="session")
def masks(
    shared: Path, cache: Path, analysis: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Two manifests exported by one engine process, by replacement: path, pruned dimensions, distributions."""

    def export() -> Any:
        home = tmp_path_factory.mktemp("masks")
        return engine("export", home, environment(home, cache), POSITIONS)

    saved: dict[str, Any] = once(shared, "masks", export)
    return saved
