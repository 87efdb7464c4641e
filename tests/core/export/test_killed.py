"""Exports that are killed on their way: nothing under their names, and the next run clears what they left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.helpers.forked import Forked
from tests.helpers.gguf_models import save_gguf
from tpe_core.export import gguf_file

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
    [("gguf", "write the file 5"), ("gguf", "publish the file 1"), ("peft", "compare the adapter 1")],
)
def test_kill_9_leaves_nothing_under_its_name_and_the_next_run_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, step: str
) -> None:
    name, (label, _, count) = "out", step.rpartition(" ")
    model = save_gguf(tmp_path / "model").file
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
    from tests.core.export.conftest import steered
    from tpe_core.export.formats import export
    from tpe_core.export.plan import Request
    from tpe_core.models.loading import load_model
    from tpe_core.options import RunOptions
    from tpe_core.progress import run

    loaded = load_model(RunOptions(model=str(model)))
    run(export(Request(model=loaded, edit=steered(32, (20, 200)), out=place / name), to))
    assert [path.name for path in place.iterdir()] == [name]
