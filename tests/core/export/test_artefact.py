"""`tpe show` on everything that holds an edit, and what it says of everything that does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.gguf_models import save_gguf
from tests.helpers.tiny_models import text
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ManifestError
from tpe_core.export import gguf_file
from tpe_core.export.artefact import read_artefact
from tpe_core.export.formats import export
from tpe_core.export.plan import Request
from tpe_core.manifest.manifest import read_manifest
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session
from tpe_tui.cli.main import main

Print = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with edit.json, and with what became of it: hf/, peft/ and out.gguf, beside the model.gguf of origin."""
    place = tmp_path_factory.mktemp("artefacts")
    file, words = save_gguf(place / "model", "F16", tied=True).file, place / "text.txt"
    words.write_text(text(1))
    options = RunOptions(model=str(file), text=(str(words),), positions=1500, sample=256, cache=False)
    session = run(open_session(options))
    saved = session.export(place / "edit.json", Intervention().steer(270, 2.0), "the")
    edit = session.resolved(session.load(saved))
    request = Request(model=session.analysis.model, edit=edit, out=place, manifest=saved)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_file, "is_installed", lambda: False)
        for to, name in (("hf", "hf"), ("peft", "peft"), ("gguf", "out.gguf")):
            run(export(replace(request, out=place / name), to))
    return place


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Print:
    def call(*words: object) -> tuple[int, str, str]:
        code = main(["show", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize(("name", "kind"), [("edit.json", ""), ("hf", "hf"), ("peft", "peft"), ("out.gguf", "gguf")])
def test_every_artefact_shows_the_edit_that_is_in_it(place: Path, show: Print, name: str, kind: str) -> None:
    saved, _ = read_manifest(place / "edit.json")
    artefact = read_artefact(place / name)
    assert artefact.manifest.steering == saved.steering
    assert artefact.manifest.self_test == saved.self_test
    assert artefact.kind == kind
    code, said, err = show(place / name)
    assert code == 0, err
    assert "270" in said
    assert ("stored as" in said) == bool(kind)
    assert f"{kind}:" in said
    code, said, _ = show(place / name, "--json")
    document = json.loads(said)
    assert document["steering"] == json.loads((place / "edit.json").read_text())["steering"]
    assert document.get("artefact", {"format": ""})["format"] == kind


def test_a_folder_is_tested_on_its_model_and_a_gguf_file_cannot_be(place: Path, show: Print) -> None:
    code, said, err = show(place / "peft", "--on", place / "model" / "model.gguf")
    assert code == 0, err
    assert "a LoRA of rank 1 on lm_head" in said
    code, said, err = show(place / "out.gguf", "--on", place / "model" / "model.gguf")
    assert (code, said) == (1, "")
    assert "holds no arrays of its edit" in err


def test_what_holds_no_edit_is_one_sentence(place: Path, tmp_path: Path) -> None:
    for path, reason in (
        (place / "model" / "folder", r"holds no intervention\.json: name a folder that tpe bake made\."),
        (place / "model" / "model.gguf", r"holds no edit: tpe bake writes one under tpe\.manifest"),
        (tmp_path / "absent", "does not exist"),
    ):
        with pytest.raises(ManifestError, match=reason):
            read_artefact(path)
    (tmp_path / "cut.gguf").write_bytes(b"GGUF1")
    with pytest.raises(ManifestError, match=r"cannot be read as a GGUF file \(it ends after 5 bytes"):
        read_artefact(tmp_path / "cut.gguf")


def test_showing_needs_no_torch(place: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tpe_core.export.artefact import read_artefact; "
        f"read_artefact(Path({str(place / 'out.gguf')!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
