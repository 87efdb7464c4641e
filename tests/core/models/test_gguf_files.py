"""GGUF files: the figures of the folder they were made of, one hash, one sentence for what cannot be loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.real_models import MODELS
from tests.helpers.gguf_models import TEMPLATE, GgufModel, save_gguf
from tests.helpers.hub import COMMIT, FakeHub, fake_hub
from tests.helpers.tiny_models import text
from tpe_core.analysis import Analysis, analyze
from tpe_core.checkpoint.bake import bake
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError
from tpe_core.models import gguf_reading
from tpe_core.models.gguf_header import read_header
from tpe_core.models.hub import cached_ids, cached_models
from tpe_core.models.loading import load_model, load_steps
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, attended, run
from tpe_core.session import open_session
from tpe_tui.cli.main import main

REPO = "someone/tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> GgufModel:
    """An F16 file and the folder of the same numbers; not to be changed."""
    return save_gguf(tmp_path_factory.mktemp("gguf"))


@pytest.fixture
def copied(tiny: GgufModel, tmp_path: Path) -> Path:
    """A copy of the file, to be spoiled."""
    return Path(shutil.copy(tiny.file, tmp_path / "model.gguf"))


def analyzed(model: Path, corpus: Path, **options: Any) -> Analysis:
    corpus.write_text(text(1, 1500))
    return run(analyze(RunOptions(str(model), text=(str(corpus),), positions=600, sample=200, cache=False, **options)))


def says(match: str, model: Path | str, **options: Any) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(RunOptions(str(model), **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "tied"), [("F16", False), ("F32", True), ("Q8_0", True)])
def test_alpha_is_that_of_the_folder_of_the_same_weights(kind: str, tied: bool, tmp_path: Path) -> None:
    made = save_gguf(tmp_path, kind, tied=tied)
    file, folder = (analyzed(at, tmp_path / "text.txt") for at in made)
    assert file.model.head.tied is tied
    np.testing.assert_allclose(np.exp(file.detection.log_alpha), np.exp(folder.detection.log_alpha), rtol=1e-6, atol=0)
    assert file.tokens == folder.tokens
    assert file.corpus_fingerprint is not None


def test_the_card_names_the_quantisation_the_memory_and_the_hash(tmp_path: Path) -> None:
    made = save_gguf(tmp_path, "Q8_0")
    model = load_model(RunOptions(str(made.file)))
    parameters = sum(parameter.numel() for parameter in model.hf.parameters())
    card = model.card()["gguf"]
    assert card["name"] == "model.gguf"
    assert (card["architecture"], card["quantization"]) == ("llama", "Q8_0")
    assert sum(card["types"].values()) == parameters
    assert card["dequantized_bytes"] == 4 * parameters == model.card()["memory"]["body_bytes"]
    assert card["size"] == made.file.stat().st_size
    assert card["sha256"] == hashlib.sha256(made.file.read_bytes()).hexdigest()


def test_the_weights_are_plain_floats_after_loading(tiny: GgufModel) -> None:
    hf = load_model(RunOptions(str(tiny.file))).hf
    assert getattr(hf.config, "quantization_config", None) is None
    assert {parameter.dtype for parameter in hf.parameters()} == {hf.dtype}


def test_the_fingerprint_changes_with_any_byte_of_the_file(tiny: GgufModel, copied: Path) -> None:
    before = load_model(RunOptions(str(tiny.file))).fingerprint
    with copied.open("ab") as stream:
        stream.write(b"\0")  # behind the last tensor: nothing that is loaded changes
    assert load_model(RunOptions(str(copied))).fingerprint != before


def test_a_file_is_hashed_once_and_again_when_it_changed(copied: Path) -> None:
    def hashed(**options: Any) -> bool:
        return "hash the file" in [event.label for event in load_steps(RunOptions(str(copied), **options))]

    assert hashed()
    assert not hashed()
    assert hashed(cache=False)
    with copied.open("ab") as stream:
        stream.write(b"\0")
    assert hashed()


def test_a_file_is_known_by_its_first_bytes_whatever_it_is_called(copied: Path) -> None:
    blob = copied.rename(copied.with_name(f"sha256-{hashlib.sha256(copied.read_bytes()).hexdigest()}"))
    assert load_model(RunOptions(str(blob))).card()["gguf"]["name"] == blob.name


def test_a_folder_with_one_file_opens_it(copied: Path) -> None:
    assert load_model(RunOptions(str(copied.parent))).gguf is not None


def test_of_several_files_one_is_chosen(copied: Path) -> None:
    shutil.copy(copied, copied.with_name("other.gguf"))
    says(r"2 GGUF files: choose one with --gguf-file \(model.gguf, other.gguf\)\.$", copied.parent)
    says(
        r"no file 'third.gguf' \(--gguf-file\): it has model.gguf, other.gguf\.$", copied.parent, gguf_file="third.gguf"
    )
    chosen = load_model(RunOptions(str(copied.parent), gguf_file="other.gguf")).gguf
    assert chosen is not None
    assert chosen.name == "other.gguf"


def test_a_folder_with_weights_of_its_own_is_opened_as_such(tiny: GgufModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "both"))
    shutil.copy(tiny.file, folder)
    assert load_model(RunOptions(str(folder))).gguf is None
    assert load_model(RunOptions(str(folder), gguf_file="model.gguf")).gguf is not None


def _wrong_magic(path: Path) -> None:
    path.write_bytes(b"GGML" + path.read_bytes()[4:])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut_tensors(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def _cut_first_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def _newer(path: Path) -> None:
    path.write_bytes(b"GGUF" + struct.pack("<I", 9) + path.read_bytes()[8:])


def _big_endian(path: Path) -> None:
    path.write_bytes(b"GGUF" + struct.pack(">I", 3) + path.read_bytes()[8:])


def _nonsense(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:16] + struct.pack("<Q", 2**60) + path.read_bytes()[24:])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_wrong_magic, r"it begins with b'GGML' and not with b'GGUF'"),
        (_empty, r"it is empty"),
        (_cut_tensors, r"is cut: it lacks \d+ B \(.+\.weight is not whole\): copy or fetch it again\.$"),
        (_cut_header, r"it ends after 700 bytes, within its header"),
        (_cut_first_bytes, r"it ends after 10 bytes, within its header"),
        (_newer, r"it is of version 9; versions 2 and 3 in little-endian order are read"),
        (_big_endian, r"big-endian order"),
        (_nonsense, r"its header is broken: it counts 1,152,921,504,606,846,976"),
    ],
)
def test_a_broken_file_is_one_sentence(spoil: Callable[[Path], None], sentence: str, copied: Path) -> None:
    spoil(copied)
    says(sentence, copied)


def test_other_files_and_missing_ones_are_one_sentence(copied: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("hello")
    says(r"note.txt is a file and no GGUF file: name a GGUF file, the model's folder, or a hub id", note)
    says(r"there is no file .+absent.gguf\.$", tmp_path / "absent.gguf")
    says(r"is a file and has no revision 'v1': name a hub id\.$", copied, revision="v1")
    says(r"leave out --gguf-file other.gguf", copied, gguf_file="other.gguf")


def test_a_file_is_not_quantised_again(tiny: GgufModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.models.placement._quantizer", lambda bits, dtype: None)  # bitsandbytes is there
    says(r"--quantize 8bit cannot be used on .+model.gguf, a GGUF file", tiny.file, quantize="8bit")


def test_what_transformers_cannot_load_is_refused_by_name(tmp_path: Path) -> None:
    says(r"of the architecture 'rwkv7', which transformers .+: name the model's Hugging Face folder", save_gguf(
        tmp_path / "a", arch="rwkv7"
    ).file)  # fmt: skip
    says(r"one of 3 parts of a model", save_gguf(tmp_path / "b", split__count=3).file)
    says(r"holds no tokenizer", save_gguf(tmp_path / "c", tokenizer=False).file)


def test_a_missing_package_is_named_with_its_command(tiny: GgufModel, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "gguf" else find(name, *rest))
    says(r"the package gguf, which reads those, is not installed: `pip install 'tpe-tui\[gguf\]'`\.$", tiny.file)


def test_the_header_is_read_without_the_lists(tiny: GgufModel) -> None:
    from gguf import GGUFReader

    header, theirs = read_header(tiny.file), GGUFReader(tiny.file)
    assert [(t.name, list(reversed(t.shape)), t.type_id) for t in header.tensors] == [
        (t.name, [int(size) for size in t.shape], int(t.tensor_type)) for t in theirs.tensors
    ]
    assert header.data_start == theirs.data_offset
    assert header.metadata["tokenizer.ggml.tokens"] == len(theirs.fields["tokenizer.ggml.tokens"].data)
    assert header.metadata["llama.context_length"] == theirs.fields["llama.context_length"].contents()
    assert header.missing_bytes() == (0, "")


@pytest.fixture
def hub(tiny: GgufModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    served = tmp_path / "served"
    served.mkdir()
    shutil.copy(tiny.file, served / "tiny-f16.gguf")
    (served / "README.md").write_text("a card")
    with fake_hub(served, tmp_path / "hub-cache", monkeypatch) as started:
        yield started


def test_a_repository_with_one_file_is_fetched_and_opened_again_offline(hub: FakeHub) -> None:
    model = load_model(RunOptions(REPO))
    assert model.gguf is not None
    assert model.gguf.name == "tiny-f16.gguf"
    assert {name for name, _ in hub.contents()} == {"tiny-f16.gguf"}
    hub.requests.clear()
    assert load_model(RunOptions(REPO, offline=True)).gguf == model.gguf
    assert hub.requests == []
    assert cached_ids() == [REPO] == [each.id for each in cached_models()]


def test_of_a_repository_with_several_files_one_is_chosen_and_fetched(hub: FakeHub, tiny: GgufModel) -> None:
    shutil.copy(tiny.file, hub.folder / "tiny-other.gguf")
    says(r"someone/tiny holds 2 GGUF files: choose one with --gguf-file \(tiny-f16.gguf, tiny-other.gguf\)\.$", REPO)
    assert hub.contents() == []
    assert load_model(RunOptions(REPO, gguf_file="tiny-other.gguf")).gguf is not None
    assert {name for name, _ in hub.contents()} == {"tiny-other.gguf"}
    snapshot = Path(constants.HF_HUB_CACHE) / "models--someone--tiny" / "snapshots" / COMMIT
    assert [path.name for path in snapshot.iterdir()] == ["tiny-other.gguf"]
    says(r"no file 'tiny-f16.gguf' \(--gguf-file\)", REPO, gguf_file="tiny-f16.gguf", offline=True)


def test_a_saved_edit_names_the_file(tiny: GgufModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(text(1, 1500))
    options = RunOptions(str(tiny.file), text=(str(tmp_path / "text.txt"),), positions=600, sample=200, cache=False)
    live = run(open_session(options))
    live.export(tmp_path / "edit.json", Intervention((3, 7)), live.default_prompt)
    digest = hashlib.sha256(tiny.file.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "edit.json").read_text())["made_on"]["file_sha256"] == digest
    assert main(["show", str(tmp_path / "edit.json")]) == 0
    assert f"file {digest[:12]}" in capsys.readouterr().out


def test_an_edit_of_a_gguf_model_is_baked_into_a_plain_folder(tiny: GgufModel, tmp_path: Path) -> None:
    model = load_model(RunOptions(str(tiny.file)))
    pruned = (3, 7)
    edit = ResolvedEdit(
        intervention=Intervention(pruned, "zero"), hidden_size=model.head.hidden_size, constant=np.zeros(len(pruned))
    )
    baked = run(bake(model, edit, tmp_path / "baked"))
    plain, wanted = (AutoModelForCausalLM.from_pretrained(at, dtype=torch.float32) for at in (baked.path, tiny.folder))
    wanted.lm_head.weight.data[:, pruned] = 0
    ids = [
        AutoTokenizer.from_pretrained(at)("the list returns a value")["input_ids"] for at in (baked.path, tiny.folder)
    ]
    assert ids[0] == ids[1]
    with torch.inference_mode():
        logits = [hf(torch.tensor(ids[:1])).logits.numpy() for hf in (plain, wanted)]
    np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-5)
    assert "quantization_config" not in json.loads((baked.path / "config.json").read_text())


@pytest.mark.real
def test_alpha_of_a_pretrained_model_is_that_of_its_export(real_models: Path, tmp_path: Path) -> None:
    name = MODELS["smollm2"].file
    exported = AutoModelForCausalLM.from_pretrained(real_models, gguf_file=name, dtype=torch.float32)
    del exported.config.quantization_config
    exported.is_quantized, exported.hf_quantizer = False, None
    exported.save_pretrained(tmp_path / "folder")
    AutoTokenizer.from_pretrained(real_models, gguf_file=name).save_pretrained(tmp_path / "folder")
    del exported
    (tmp_path / "text.txt").write_text(text(1, 4000))
    alphas = []
    for model in (real_models / name, tmp_path / "folder"):
        options = RunOptions(str(model), text=(str(tmp_path / "text.txt"),), positions=512, sample=64, cache=False)
        alphas.append(np.exp(run(analyze(options)).detection.log_alpha))
    np.testing.assert_allclose(alphas[0], alphas[1], rtol=1e-6, atol=0)


def test_the_template_of_a_gguf_file_wraps_the_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = save_gguf(tmp_path, template=TEMPLATE)
    words = ["generate", str(made.file), "--length", "1", "--temperature", "0", "--json"]
    prompts = []
    for more in (["--prompt", "a list", "--chat"], ["--prompt", "a list"]):
        assert main([*words, *more]) == 0
        prompts.append(json.loads(capsys.readouterr().out)["prompt"])
    assert prompts == ["[user] a list\n[assistant] ", "a list"]
    bare = save_gguf(tmp_path / "bare")
    assert main(["generate", str(bare.file), "--prompt", "a", "--chat"]) == 1
    assert "has no chat template" in capsys.readouterr().err


def test_the_file_is_read_once_with_pauses_and_its_reader_is_gguf_s_own_again(
    tiny: GgufModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    made: list[str] = []
    own = gguf.GGUFReader

    class Counted(own):
        def __init__(self, path: str, *arguments: Any) -> None:
            made.append(str(path))
            super().__init__(path, *arguments)

    monkeypatch.setattr(gguf, "GGUFReader", Counted)
    monkeypatch.setattr(gguf_reading, "PARTS", 16)
    pauses: list[Progress | None] = []
    with attended(pauses.append):
        model = run(load_steps(RunOptions(str(tiny.file))))
    assert made == [str(tiny.file)]
    assert gguf.GGUFReader is Counted
    assert len([each for each in pauses if each is None]) > 20
    assert model.tokenizer is not None
    run(load_steps(RunOptions(str(tiny.file))))
    assert made == 2 * [str(tiny.file)], "another start reads the file as it is then"


def test_a_reader_that_fails_or_is_left_leaves_gguf_s_own_behind(tiny: GgufModel) -> None:
    import gguf

    class StoppedError(Exception):
        pass

    def stop(_: Progress | None) -> None:
        raise StoppedError

    before = gguf.GGUFReader
    with pytest.raises((StoppedError, ModelError)), attended(stop):
        run(load_steps(RunOptions(str(tiny.file))))
    assert gguf.GGUFReader is before
