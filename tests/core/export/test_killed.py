"""Exports that are killed on their way: nothing under their names, and the next run clears what they left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.export.conftest import steered
from tests.helpers.convertible import save_convertible
from tests.helpers.forked import Forked
from tests.helpers.gguf_models import save_gguf
from tpe_core.export import gguf_file
from tpe_core.export.formats import export
from tpe_core.export.plan import Request
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run

STOPPED = """
import sys, time
from pathlib import Path
from tests.core.export.conftest import steered
from tpe_core.export.formats import export
from tpe_core.export.plan import Request
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
model = load_model(RunOptions(model=sys.argv[1]))
request = Request(model=model, edit=steered(32, (20, 200)), out=Path(sys.argv[2]))
seen = 0
for progress in export(request, sys.argv[3]):
    seen += progress.label == sys.argv[4]
    if seen == int(sys.argv[5]):
        print("stopped", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize(
    ("to", "step"),
    [
        ("gguf", "write the file 5"),
        ("gguf", "publish the file 1"),
        ("gguf of a folder", "write the file 5"),
        ("peft", "compare the adapter 1"),
    ],
)
def test_kill_9_leaves_nothing_under_its_name_and_the_next_run_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, step: str
) -> None:
    name, (label, _, count) = "out", step.rpartition(" ")
    made = save_gguf(tmp_path / "model")
    to, _, folder = to.partition(" of a ")
    model = made.folder if folder else made.file
    place = tmp_path / "place"
    place.mkdir()
    process = Forked(STOPPED, str(model), str(place / name), to, label, count, folder=tmp_path / "process")
    while "stopped" not in process.stdout.read_text():
        assert process.returncode is None, process.stderr.read_text()
        time.sleep(0.01)
    process.kill()
    assert not (place / name).exists()
    (left,) = place.iterdir()
    assert left.name.startswith(f".{name}.")
    monkeypatch.setattr(gguf_file, "is_installed", lambda: False)
    loaded = load_model(RunOptions(model=str(model)))
    run(export(Request(model=loaded, edit=steered(32, (20, 200)), out=place / name), to))
    assert [path.name for path in place.iterdir()] == [name]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """A model of a GGUF file, or of a folder that can be converted to one."""
    made: dict[str, LanguageModel] = {}

    def make(source: str) -> LanguageModel:
        if source not in made:
            place = tmp_path_factory.mktemp(source)
            path = save_gguf(place).file if source == "file" else save_convertible(place, "llama", num_hidden_layers=1)
            made[source] = load_model(RunOptions(model=str(path)))
        return made[source]

    return make


def content(path: Path) -> dict[str, bytes]:
    """Every file of a folder, or one file, by name."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


@pytest.mark.parametrize(
    ("to", "source"),
    [("hf", "folder"), ("peft", "folder"), ("logit-bias", "folder"), ("gguf", "file"), ("gguf", "folder")],
)
def test_kill_9_before_any_step_leaves_nothing_or_the_earlier_artefact(
    sources: Callable[[str], LanguageModel], to: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "is_installed", lambda: False)
    model, place = sources(source), tmp_path / "place"
    place.mkdir()
    out = place / "out"
    methods = ("bias",) if to == "logit-bias" else ("least-squares",)
    request = Request(model=model, edit=steered(model.head.hidden_size, (20, 200), methods), out=out)
    steps = 0
    for _ in export(request, to):  # a process that is killed leaves what is on the disk
        assert not out.exists()
        steps += 1
    first = content(out)
    again = replace(request, edit=steered(model.head.hidden_size, (20, 200, 45), methods))
    for _ in export(again, to):
        assert content(out) == first
    assert content(out) != first
    assert steps >= 2
    assert [path.name for path in place.iterdir()] == ["out"]
