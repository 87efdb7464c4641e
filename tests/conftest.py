"""What tests are given: tiny models, a session, a training run, folders of their own."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tpe_core.options import RunOptions
from tpe_core.progress import run

if TYPE_CHECKING:  # the process that hands out tests runs none and needs no torch
    from tpe_core.models.model import LanguageModel
    from tpe_core.session import LiveSession

settings.register_profile("tpe", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("tpe")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The analysis that many end-to-end tests read begins first, so that no process waits for another's."""
    items.sort(key=lambda item: "test_headless" not in item.nodeid)


def pytest_collection_finish() -> None:
    """Free what is in cycles among what tests make, not among what was imported for them, and less often."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """Loads a tiny model by kind, each once a session."""
    from tests.helpers.tiny_models import save_tiny
    from tpe_core.models.loading import load_model

    loaded: dict[str, LanguageModel] = {}

    def load(kind: str) -> LanguageModel:
        if kind not in loaded:
            folder = save_tiny(tmp_path_factory.mktemp(kind), kind)
            loaded[kind] = load_model(RunOptions(model=str(folder)))
        return loaded[kind]

    return load


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of the pretrained models: ``$TPE_REAL_MODELS``, else ``real-models`` at the root of the checkout."""
    from benchmarks.real_models import FOLDER, MODELS

    folder = Path(os.environ.get("TPE_REAL_MODELS") or Path(__file__).parents[1] / FOLDER)
    for model in MODELS.values():
        if not (folder / model.file).is_file():
            pytest.fail(f"{folder / model.file} is not there: run `make real`, or set TPE_REAL_MODELS to its folder.")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, configuration or hub cache."""
    monkeypatch.setenv("TPE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("CACHE", "CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread: another number rounds otherwise, and a process under torchrun has one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> LiveSession:
    """What an inspector works on, of a tiny model and text of its own; one for each module of tests."""
    from tests.helpers.tiny_models import save_tiny, text
    from tpe_core.session import open_session

    folder = tmp_path_factory.mktemp("session")
    corpus = folder / "text.txt"
    corpus.write_text(text(1, 6000))
    options = RunOptions(
        model=str(save_tiny(folder / "model")), text=(str(corpus),), positions=2000, sample=300, cache=False
    )
    return run(open_session(options))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run's checkpoints, which nothing is wrong with; tests copy it."""
    from tests.helpers.suite import STEPS, save_run

    return save_run(tmp_path_factory.mktemp("run"), STEPS)


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, for a test to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
