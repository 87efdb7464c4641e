"""`tpe bake` from a saved intervention to a folder that transformers alone loads, and everything it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.forked import Forked
from tests.helpers.tiny_models import save_tiny, text
from tpe_core.checkpoint.bake import bake
from tpe_core.checkpoint.folder import RECORD
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.manifest.manifest import read_edit, read_manifest
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession, open_session
from tpe_tui.cli.main import main

POSITIONS = 1500


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text(1))
    return str(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, words: str) -> Callable[[str], tuple[Path, Path]]:
    """(model folder, file of an intervention made on it with ``mean`` and two steered tokens) by kind, made once."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            folder = save_tiny(tmp_path_factory.mktemp(kind), kind)
            options = RunOptions(model=str(folder), text=(words,), positions=POSITIONS, sample=256, cache=False)
            session = run(open_session(options))
            edit = Intervention((1, 4, 9), "mean").steer(270, 2.0).steer(280, 0.5, "top-k")
            made[kind] = folder, session.export(folder.parent / f"{kind}.json", edit, "the")
        return made[kind]

    return make


@pytest.fixture
def tpe(words: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        given = ["--text", words, "--positions", str(POSITIONS), "--no-cache"]
        code = main(["bake", *(str(argument) for argument in arguments), *given])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def sentence(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("tpe: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def test_the_command_says_what_it_wrote_and_as_json(
    saved: Callable[[str], tuple[Path, Path]], tpe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (folder, file), out = saved("gpt2"), tmp_path / "out"
    code, said, err = tpe(file, folder, "--out", out)
    assert code == 0, err
    lines = said.splitlines()
    assert lines[0].startswith(f"{out}: ")
    assert "gain 0 and the mean as offset in the final norm" in lines[1]
    assert "untied" in lines[1]
    assert "nothing but rounding" in lines[2]
    assert "the manifest's self-test holds" in lines[3]
    code, said, err = tpe(file, folder, "--out", out, "--json", "--force")  # ours: replaced
    assert code == 0, err
    document = json.loads(said)
    assert document["schema"] == 1
    assert document["path"] == str(out)
    assert document["bytes"] == sum(path.stat().st_size for path in out.iterdir() if path.name != RECORD)
    form = document["representation"]
    assert (form["constants"], form["exact"], form["untied"], form["head_edited"]) == ("norm", True, True, True)
    assert document["verified"]["self_test"]
    assert document["verified"]["model_error"] <= document["verified"]["model_tolerance"]
    assert document["loss"] is None
    record = json.loads((out / RECORD).read_text())
    assert record["representation"] == form
    names = {"README.md", "config.json", "generation_config.json", "intervention.json", "intervention.safetensors"}
    names |= {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(record["files"]) == names


def test_the_card_and_the_manifest_go_with_it(
    saved: Callable[[str], tuple[Path, Path]], tpe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (folder, file), out = saved("gpt2"), tmp_path / "out"
    assert tpe(file, folder, "--out", out)[0] == 0
    assert read_manifest(out / "intervention.json")[0].pruned == read_manifest(file)[0].pruned
    edits = [read_edit(path)[1] for path in (out / "intervention.json", file)]
    assert np.array_equal(edits[0].rows[270], edits[1].rows[270])
    card = (out / "README.md").read_text()
    (fenced,) = re.findall(r"^(`{3,})json\n(.*?)\n\1$", card, re.MULTILINE | re.DOTALL)
    assert json.loads(fenced[1]) == json.loads((out / "intervention.json").read_text()) | {
        "arrays": json.loads(file.read_text())["arrays"]
    }
    assert "3 of 16 dimensions pruned, replaced by mean: 1, 4, 9" in card
    assert "(#270) steered to 2 times its mean probability, by least-squares" in card
    assert "base_model" not in card  # the model's name is a folder


def test_an_adapter_and_logit_biases_are_written_on_request(
    saved: Callable[[str], tuple[Path, Path]], tpe: Callable[..., tuple[int, str, str]], words: str, tmp_path: Path
) -> None:
    folder, pruned = saved("gpt2")
    code, said, err = tpe(pruned, folder, "--to", "peft", "--out", tmp_path / "adapter")
    assert (code, said) == (1, "")
    assert "peft cannot hold this edit: pruning 3 dimensions" in sentence(err)
    assert "--to hf" in sentence(err)
    options = RunOptions(model=str(folder), text=(words,), positions=POSITIONS, sample=256, cache=False)
    steered = run(open_session(options)).export(tmp_path / "steered.json", Intervention().steer(270, 2.0), "the")
    code, said, err = tpe(steered, folder, "--to", "peft", "--out", tmp_path / "adapter")
    assert code == 0, err
    lines = said.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'adapter'}: the edit of {folder} as peft (")
    assert lines[1] == "form      a LoRA of rank 1 on lm_head"
    assert lines[3].startswith("verified  loaded with peft ")
    assert lines[3].endswith("the manifest's self-test holds")
    assert lines[4].startswith("compared  in peft ")
    code, said, err = tpe(steered, folder, "--to", "logit-bias", "--out", tmp_path / "bias.json", "--json")
    assert code == 0, err
    document = json.loads(said)
    assert (document["format"], document["verdict"]["holds"]) == ("logit-bias", "at a cost")
    assert json.loads((tmp_path / "bias.json").read_text()) == {"logit_bias": document["logit_bias"]}
    assert document["logit_bias"]["270"] == pytest.approx(np.log(2), abs=0.2)
    assert document["cost"]["kl"] < document["cost"]["kl_unedited"]
    code, said, err = tpe(steered, folder, "--to", "logit-bias", "--out", tmp_path / "bias.json")
    assert (code, said) == (1, "")
    assert "add --force" in sentence(err)


def test_only_a_hub_id_is_a_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    model = load_model(RunOptions(model="mine"))  # a folder whose name could be a hub id
    edit = ResolvedEdit(intervention=Intervention((1,)), hidden_size=model.head.hidden_size, constant=np.zeros(1))
    run(bake(model, edit, tmp_path / "one"))
    assert "base_model" not in (tmp_path / "one" / "README.md").read_text()
    run(bake(replace(model, name="some/model"), edit, tmp_path / "two"))
    assert "\nbase_model: some/model\n---" in (tmp_path / "two" / "README.md").read_text()


def test_an_edit_that_is_not_the_files_is_refused(saved: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    folder, file = saved("gpt2")
    model, (_, edit) = load_model(RunOptions(model=str(folder))), read_edit(file)
    other = ResolvedEdit(intervention=Intervention((1, 4), "mean"), hidden_size=16, constant=edit.constant[:2])
    with pytest.raises(TpeError, match="the edit is not the one of"):
        run(bake(model, other, tmp_path / "out", manifest=file))
    named = replace(edit, intervention=replace(edit.intervention, origin="a loaded file"))
    assert run(bake(model, named, tmp_path / "out", manifest=file)).verified.self_test


def test_what_cannot_be_held_needs_permission(
    saved: Callable[[str], tuple[Path, Path]], tpe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (folder, file), out = saved("llama"), tmp_path / "out"
    code, said, err = tpe(file, folder, "--out", out)
    assert (code, said) == (1, "")
    refusal = sentence(err)
    kl = re.search(r"the closest form is (\S+) nats \(KL\)", refusal)
    assert kl is not None
    assert "--allow-lossy" in refusal
    assert "tpe_core.apply" in refusal
    assert not out.exists()
    code, said, err = tpe(file, folder, "--out", out, "--allow-lossy")
    assert code == 0, err
    assert f"lost      KL {kl[1]} nats" in said
    assert "self-test holds" not in said
    assert read_edit(out / "intervention.json")


def test_bad_input_is_one_sentence_and_writes_nothing(
    saved: Callable[[str], tuple[Path, Path]], tpe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (folder, file), (other, _) = saved("gpt2"), saved("llama")
    wide = save_tiny(tmp_path / "other-weights", "gpt2", lambda model: model.lm_head.weight.mul_(1.01))
    broken = tmp_path / "broken.json"
    broken.write_text(file.read_text()[:200])
    altered = tmp_path / "altered.json"
    document = json.loads(file.read_text())
    document["self_test"]["prompts"][1]["top"][0]["logit"] += 0.01
    altered.write_text(json.dumps(document))
    (tmp_path / file.with_suffix(".safetensors").name).write_bytes(file.with_suffix(".safetensors").read_bytes())
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    for arguments, reason in (
        ((file, folder, "--out", foreign), "was not written by tpe bake"),
        ((file, folder, "--out", file), "exists and is no folder"),
        ((tmp_path / "absent.json", folder, "--out", tmp_path / "out"), "does not exist"),
        ((broken, folder, "--out", tmp_path / "out"), "is not JSON"),
        ((file, wide, "--out", tmp_path / "out"), "was made for another head"),
        ((file, other, "--out", tmp_path / "out"), "was made for another head"),
        ((file, tmp_path / "nowhere", "--out", tmp_path / "out"), "there is no folder"),
        ((altered, folder, "--out", tmp_path / "out"), "the manifest's self-test is not reproduced"),
    ):
        code, said, err = tpe(*arguments)
        assert (code, said) == (1, ""), arguments
        assert reason in sentence(err)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in foreign.iterdir()] == ["config.json"]
    assert main(["bake", str(file), str(folder)]) == 2  # no --out


def test_another_heads_file_is_refused_before_anything_is_measured(
    saved: Callable[[str], tuple[Path, Path]],
    tpe: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, file = saved("llama")  # which has nothing to carry a constant, so that its loss is measured
    other = save_tiny(tmp_path / "other-weights", "llama", lambda model: model.lm_head.weight.mul_(1.01))
    monkeypatch.setattr("tpe_core.analysis.analyze", lambda *_, **__: pytest.fail("a text was read"))
    code, said, err = tpe(file, other, "--out", tmp_path / "out")
    assert (code, said) == (1, "")
    assert "was made for another head" in sentence(err)


def test_kill_9_of_the_command_leaves_the_finished_folder_or_none(
    saved: Callable[[str], tuple[Path, Path]], tpe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (folder, file), out = saved("gpt2"), tmp_path / "here" / "out"
    command = "import sys; from tpe_tui.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = Forked(command, "bake", str(file), str(folder), "--out", str(out), folder=tmp_path / "process")
    weights: list[Path] = []
    while not weights and process.returncode is None:
        weights = list(tmp_path.glob("here/.out.*/model.safetensors")) + list(tmp_path.glob("here/out/*.safetensors"))
        time.sleep(0.002)
    process.kill()
    assert weights
    if out.exists():
        assert (out / RECORD).is_file()
    else:
        assert len(list(out.parent.iterdir())) == 1  # what the killed run left
    code, _, err = tpe(file, folder, "--out", out)
    assert code == 0, err
    assert [path.name for path in out.parent.iterdir()] == ["out"]


TRANSFORMERS_ALONE = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
worst = {}
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    test = json.load(open(f"{folder}/intervention.json"))["self_test"]
    worst[folder] = 0.0
    for prompt in test["prompts"]:
        ids = tokenizer(prompt["prompt"], return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
        order = logits.topk(len(prompt["top"])).indices.tolist()
        assert order == [entry["token_id"] for entry in prompt["top"]], (folder, order)
        for entry in prompt["top"] + prompt["steered"]:
            worst[folder] = max(worst[folder], abs(float(logits[entry["token_id"]]) - entry["logit"]))
assert not any(name.split(".")[0].startswith("tpe") for name in sys.modules)
print(json.dumps(worst))
"""


@pytest.mark.slow
def test_transformers_alone_reproduces_the_self_tests_of_the_bundled_model(
    tpe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    options = RunOptions(positions=2048, sample=128, cache=False, threads=1)
    session: LiveSession = run(open_session(options))
    weakest = np.argsort(np.abs(session.analysis.encoding.slope))[:80].tolist()
    tokens = [session.find_token("list"), session.find_token(" string")]
    replacements: tuple[str, ...] = ("zero", "mean", "least-squares")
    carriers: dict[str, Any] = {}
    for replacement in replacements:
        edit = Intervention(tuple(weakest), replacement).steer(tokens[0], 3.0).steer(tokens[1], 0.25, "top-k")
        file = session.export(tmp_path / f"{replacement}.json", edit, "Returns the")
        manifest, _ = read_manifest(file)
        assert manifest.self_test is not None
        assert len(manifest.self_test.prompts) == 3
        code, said, err = tpe(file, "demo", "--out", tmp_path / replacement, "--json")
        assert code == 0, err
        carriers[replacement] = json.loads(said)["representation"]["constants"]
    assert carriers == {"zero": "none", "mean": "norm", "least-squares": "freed-column"}
    folders = [str(tmp_path / replacement) for replacement in replacements]
    done = subprocess.run(
        [sys.executable, "-c", TRANSFORMERS_ALONE, *folders], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert max(json.loads(done.stdout).values()) < 1e-4
