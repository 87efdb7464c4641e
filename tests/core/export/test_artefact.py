"""`tpe show` on everything that holds an edit, and what it says of everything that does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.gguf_models import save_gguf
from tests.helpers.tiny_models import text
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ManifestError
from tpe_core.export import gguf_file
from tpe_core.export.artefact import read_artefact
from tpe_core.export.formats import export
from tpe_core.export.plan import Request
from tpe_core.manifest import in_gguf
from tpe_core.manifest.manifest import read_edit, read_manifest
from tpe_core.models.loading import load_model
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


@pytest.mark.parametrize("name", ["peft", "out.gguf"])
def test_an_artefact_is_tested_on_its_model(place: Path, show: Print, name: str) -> None:
    code, said, err = show(place / name, "--on", place / "model" / "model.gguf")
    assert code == 0, err
    assert {"peft": "a LoRA of rank 1 on lm_head", "out.gguf": "with all numbers of the edit"}[name] in " ".join(
        said.split()
    )


def test_the_edit_is_made_again_from_the_gguf_file_alone(place: Path, tmp_path: Path) -> None:
    lone = Path(shutil.copy(place / "out.gguf", tmp_path / "lone.gguf"))
    (document, wanted), (again, edit) = read_edit(place / "edit.json"), read_edit(lone)
    assert again == document
    assert edit.intervention == wanted.intervention
    assert edit.rows.keys() == wanted.rows.keys() == {270}
    assert np.array_equal(edit.rows[270], wanted.rows[270])
    model = load_model(RunOptions(model=str(place / "model" / "model.gguf")))
    request = Request(model=model, edit=edit, out=tmp_path / "again.gguf", manifest=lone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_file, "is_installed", lambda: False)
        exported = run(export(request, "gguf"))
    assert exported.path.read_bytes() == lone.read_bytes()
    assert exported.to_dict()["manifest"] == "whole"


def test_arrays_that_are_too_large_for_metadata_are_left_out_and_it_is_said(
    place: Path, tmp_path: Path, show: Print, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_gguf, "MOST_ARRAYS", 100)
    monkeypatch.setattr(gguf_file, "is_installed", lambda: False)
    source, saved, out = place / "model" / "model.gguf", place / "edit.json", tmp_path / "out.gguf"
    code = main(["bake", str(saved), str(source), "--to", "gguf", "--out", str(out)])
    assert code == 0
    code, said, err = show(out)
    assert code == 0, err
    assert "without the edit's arrays" in said
    code, said, err = show(out, "--on", source)
    assert (code, said) == (1, "")
    assert "holds no arrays of its edit" in err
    with pytest.raises(ManifestError, match=r"holds no arrays of its edit, which take more than .* name the saved"):
        read_edit(out)


def test_what_holds_no_edit_is_one_sentence(place: Path, tmp_path: Path) -> None:
    for path, reason in (
        (place / "model" / "folder", r"holds no intervention\.json: name a folder that tpe bake made, or bake with"),
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
