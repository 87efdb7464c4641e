"""Nothing is replaced unasked, and nothing is ever replaced but its like: one rule for everything that is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.manifests import arrays_of, make
from tests.helpers.tiny_models import save_tiny, text
from tests.helpers.trajectories import RUN
from tpe_core.checkpoint.folder import check_target, publish, staged_folder
from tpe_core.demo.recipe import SMALL
from tpe_core.demo.train import claim
from tpe_core.dynamics.trajectory_file import write_trajectories
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ExistsError, TpeError
from tpe_core.generation.paired import save_pair
from tpe_core.manifest.manifest import write_manifest
from tpe_core.outputs import shown_path
from tpe_tui.cli.main import main

PAIR: dict[str, Any] = {"schema": 1, "model": "m", "prompt": "a", "prompt_ids": [1], "decoding": {}}


def write_mask(path: Path, replace: bool) -> Path:
    return write_manifest(path, make(Intervention((1,))), {}, replace=replace)


def write_pair(path: Path, replace: bool) -> Path:
    return save_pair(path, PAIR, ["a line"], replace=replace)[0]


def write_data(path: Path, replace: bool) -> Path:
    return write_trajectories(path, [RUN], replace=replace)


Writer = Callable[[Path, bool], Path]
WRITERS = [(write_mask, "mask.json"), (write_pair, "pair.json"), (write_data, "data.json"), (write_data, "data.csv")]


@pytest.mark.parametrize(("write", "name"), WRITERS, ids=[name for _, name in WRITERS])
def test_a_file_of_the_same_kind_is_replaced_only_where_that_is_said(tmp_path: Path, write: Writer, name: str) -> None:
    path = write(tmp_path / name, False)
    before = path.stat().st_ino
    with pytest.raises(ExistsError, match="exists") as caught:
        write(path, False)
    assert caught.value.path == path
    assert path.stat().st_ino == before
    assert write(path, True).stat().st_ino != before, "asked for: replaced"


STRANGE = {
    "text": "The detecting text, which took weeks to collect.\n",
    "json": '{"schema": 1, "mine": true}\n',
    "array": "[1, 2]\n",
    "table": "a,b\n1,2\n",
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize(("write", "name"), WRITERS, ids=[name for _, name in WRITERS])
def test_a_file_of_another_kind_is_never_replaced(tmp_path: Path, write: Writer, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(TpeError, match="left as it is; choose another name"):
        write(path, True)
    assert path.read_text() == content
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("write", [write_mask, write_pair, write_data])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, write: Writer) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "null.json").symlink_to("/dev/null")
    for name, said in (("folder.json", "is a folder"), ("null.json", "no regular file")):
        with pytest.raises(TpeError, match=said):
            write(tmp_path / name, True)
    assert (tmp_path / "null.json").is_symlink()


def test_kinds_are_told_from_one_another(tmp_path: Path) -> None:
    for make_one, _ in WRITERS[:3]:
        for write, _ in WRITERS[:3]:
            path = make_one(tmp_path / "file.json", False)
            if write is not make_one:
                with pytest.raises(TpeError, match="left as it is"):
                    write(path, True)
            for file in tmp_path.iterdir():
                file.unlink()


def test_the_text_beside_a_pair_is_replaced_only_while_it_is_that_pairs(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(STRANGE["text"])
    with pytest.raises(TpeError, match=r"corpus\.txt exists and is not a text of generate's"):
        save_pair(tmp_path / "corpus.txt", PAIR, ["a"])
    assert (tmp_path / "corpus.txt").read_text() == STRANGE["text"]
    assert not (tmp_path / "corpus.json").exists()
    _, said = save_pair(tmp_path / "pair", PAIR, ["a"])
    said.write_text("a note of mine\n")
    with pytest.raises(TpeError, match="left as it is"):
        save_pair(tmp_path / "pair", PAIR, ["b"])
    assert said.read_text() == "a note of mine\n"


def test_arrays_of_another_intervention_are_not_replaced(tmp_path: Path) -> None:
    write_manifest(tmp_path / "mask.json", make(), arrays_of(make()))
    (tmp_path / "mask.json").rename(tmp_path / "kept.json")  # whose arrays are still called mask.safetensors
    before = (tmp_path / "mask.safetensors").read_bytes()
    with pytest.raises(TpeError, match="belongs to no intervention of this name"):
        write_manifest(tmp_path / "mask.json", make(), arrays_of(make()))
    write_mask(tmp_path / "mask.json", False)
    assert (tmp_path / "mask.safetensors").read_bytes() == before


def test_a_baked_folder_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_folder(check_target(out, replace=False), 1) as folder:
        (folder / "a").write_text("b")
        publish(folder, out, {})
    with pytest.raises(ExistsError):
        check_target(out, replace=False)
    assert check_target(out, replace=True) == out


def test_a_training_run_goes_into_no_folder_that_holds_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(TpeError, match=r"is not empty \(thesis\.tex\)"):
        claim(tmp_path, SMALL)
    claim(tmp_path / "run", SMALL)
    claim(tmp_path / "run", SMALL)  # its own: resumed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model"), "gpt2"))


COMMANDS: dict[str, tuple[list[str], str]] = {
    "prune": (["--order", "slope", "--fractions", "0.25", "--save"], "mask.json"),
    "steer": (["--token", "#270", "--save"], "mask.json"),
    "generate": (["--prompt", "the", "--length", "2", "--save"], "pair.json"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_output_option_refuses_before_the_model_is_loaded(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, name = COMMANDS[command]
    (tmp_path / "mine.txt").write_text(text(1))
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / name).write_text(json.dumps({**PAIR, "kind": "tpe.intervention"}))
    places = [("mine.json", "left as it is"), (name, "add --force"), ("no/such.json", "make it first")]
    for place, said in places:
        for force in ([], ["--force"]) if place != name else ([],):
            arguments = [command, str(tmp_path / "no-such-model"), *words, str(tmp_path / place), *force]
            assert main(arguments) == 1
            err = capsys.readouterr().err
            assert said in err
            assert "no-such-model" not in err, "it was looked for"
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_the_command_line_replaces_with_force_and_says_the_whole_path(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = ["generate", model, *COMMANDS["generate"][0], "pair"]
    assert main(words) == 0
    assert "wrote ~/pair.json and pair.txt." in capsys.readouterr().err
    assert main(words) == 1
    assert "~/pair.json exists: choose another name, or add --force to replace it." in capsys.readouterr().err
    assert main([*words, "--force"]) == 0


def test_paths_are_shown_whole_or_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "home" / "a" / "b.json") == "~/a/b.json"
    assert shown_path(Path("b.json")) == str(tmp_path / "b.json")
