"""GGUF files with an edited head: byte for byte the source but for it, and llama.cpp's own probabilities."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from benchmarks.real_models import MODELS
from tests.core.export.conftest import interruptions, steered
from tests.helpers.checkpoints import random_edit, with_edited_weights
from tests.helpers.gguf_models import TEMPLATE, save_gguf
from tests.helpers.tiny_models import random_corpus, text
from tpe_core.checkpoint.comparison import RuntimeComparison
from tpe_core.detection.detection import detect
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import edit_logits
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import ExistsError, TpeError
from tpe_core.export import gguf_file
from tpe_core.export.formats import FORMATS, export, planned
from tpe_core.export.llama_cpp import ask_llama_cpp, is_installed
from tpe_core.export.plan import Exported, Request
from tpe_core.hooks import apply
from tpe_core.manifest.in_gguf import MANIFEST_KEY
from tpe_core.models.gguf_header import KEPT, read_header
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session

needs_llama = pytest.mark.skipif(not is_installed(), reason="xllamacpp is not installed")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LanguageModel]:
    """The model of a tiny GGUF file by its facts, made once."""
    made: dict[Any, LanguageModel] = {}

    def make(arch: str = "llama", kind: str = "F16", tied: bool = True) -> LanguageModel:
        if (arch, kind, tied) not in made:
            place = tmp_path_factory.mktemp(arch)
            file = save_gguf(place, kind, tied=tied, arch=arch, template=TEMPLATE).file
            made[arch, kind, tied] = load_model(RunOptions(model=str(file)))
        return made[arch, kind, tied]

    return make


@pytest.fixture
def no_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where llama.cpp is not installed."""
    monkeypatch.setattr(gguf_file, "is_installed", lambda: False)


def written(model: LanguageModel, edit: ResolvedEdit, out: Path, **settings: Any) -> Exported:
    exported = run(export(Request(model=model, edit=edit, out=out, settings=settings), "gguf"))
    assert isinstance(exported, Exported)
    return exported


def contents(path: Path) -> tuple[dict[str, tuple[Any, Any]], dict[str, tuple[int, bytes]]]:
    """Metadata with their types, and tensors with theirs, as the package gguf reads them."""
    reader = gguf.GGUFReader(path)
    fields = {name: (field.types, field.contents()) for name, field in reader.fields.items() if name[:4] != "GGUF"}
    return fields, {tensor.name: (int(tensor.tensor_type), tensor.data.tobytes()) for tensor in reader.tensors}


@pytest.mark.usefixtures("no_llama")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head_type", ["f16", "f32", "q8_0"])
@pytest.mark.parametrize("edit", ["steer", "prune"])
def test_the_copy_is_the_source_with_the_edited_head(
    opened: Callable[..., LanguageModel], tied: bool, head_type: str, edit: str, tmp_path: Path
) -> None:
    model, out = opened(tied=tied), tmp_path / "out.gguf"
    width = model.head.hidden_size
    made = steered(width, (20, 200)) if edit == "steer" else random_edit(width)
    exported = written(model, made, out, head_type=head_type)
    assert exported.size == out.stat().st_size
    assert exported.facts["untied"] == tied
    assert model.gguf is not None
    (old_fields, old), (fields, new) = contents(model.gguf.path), contents(out)
    assert set(fields) - set(old_fields) == {"tpe.version"}
    assert {name: fields[name] for name in old_fields} == old_fields
    kind, data = new.pop("output.weight")
    old.pop("output.weight", None)
    assert new == old
    assert kind == int(gguf.GGMLQuantizationType[head_type.upper()])
    stored = np.frombuffer(data, {"f16": np.float16, "f32": np.float32, "q8_0": np.uint8}[head_type])
    if head_type == "q8_0":
        stored = gguf.quants.dequantize(stored.reshape(-1, width // 32 * 34), gguf.GGMLQuantizationType.Q8_0)
    wanted = with_edited_weights(model, made).get_output_embeddings().weight.detach().float().numpy()
    largest = np.abs(wanted).max(1, keepdims=True)
    tolerance = {"f16": 1e-3, "f32": 1e-3, "q8_0": 1 / 127}[head_type]  # the model's own weights are float16
    assert (np.abs(stored.reshape(wanted.shape).astype(np.float32) - wanted) <= tolerance * largest).all()


@needs_llama
@pytest.mark.parametrize(
    ("arch", "kind", "tied"), [("llama", "F16", True), ("llama", "Q8_0", False), ("qwen2", "F16", True)]
)
def test_llama_cpp_gives_the_predicted_probabilities_as_well_as_it_does_without_the_edit(
    opened: Callable[..., LanguageModel], arch: str, kind: str, tied: bool, tmp_path: Path
) -> None:
    model = opened(arch, kind, tied)
    edit = steered(model.head.hidden_size, range(8, 108))
    comparison = written(model, edit, tmp_path / "out.gguf").comparison
    assert comparison is not None
    assert len(comparison.edited) == 3
    assert comparison.ratio is not None
    assert comparison.ratio <= 1.5
    assert comparison.edited_difference < 0.05
    plain = {pair.token_id: pair.predicted for pair in comparison.unedited[0].tokens}
    moved = sum(abs(pair.found - plain.get(pair.token_id, 0.0)) for pair in comparison.edited[0].tokens)
    assert moved > 10 * comparison.edited_difference


@needs_llama
def test_pruning_runs_in_llama_cpp_too(opened: Callable[..., LanguageModel], tmp_path: Path) -> None:
    model = opened()
    comparison = written(model, random_edit(model.head.hidden_size), tmp_path / "out.gguf").comparison
    assert comparison is not None
    assert comparison.edited_difference < 0.05


@needs_llama
def test_a_head_that_llama_cpp_would_not_see_is_refused(
    opened: Callable[..., LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened()
    other = steered(model.head.hidden_size, (50, 60, 70, 80), ("min-norm",))
    copy = gguf_file.encoded
    wrong = torch.randn_like(model.site.head.weight)  # type: ignore[union-attr]
    monkeypatch.setattr(gguf_file, "encoded", lambda weight, kind: copy(wrong, kind))
    with pytest.raises(TpeError, match=r"llama\.cpp does not give the edited distribution, so none was written"):
        written(model, other, tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


@needs_llama
def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(TpeError, match=r"^llama\.cpp cannot run the file \(.+\)\.$"):
        run(ask_llama_cpp(tmp_path / "broken.gguf", [[1]], plain_id=1))


@needs_llama
def test_llama_cpps_server_gives_logit_biases_as_the_constants_mean_them(opened: Callable[..., LanguageModel]) -> None:
    model, biases = opened(), {20: 2.0, 200: -1.0, 45: 0.5}
    assert model.gguf is not None
    prompts = [[5, 6, 7], [50, 60, 70, 80]]
    _, answers = run(ask_llama_cpp(model.gguf.path, prompts, plain_id=45, biases=biases))
    for prompt, answer in zip(prompts, answers, strict=True):
        z = model.logits(torch.tensor([prompt]))[0, -1].double()
        for token_id, bias in biases.items():
            z[token_id] += bias
        p = z.softmax(-1)
        top = p.argsort(descending=True)[:20].tolist()
        assert [answer[i] for i in top] == pytest.approx(p[top].tolist(), abs=2e-3)


@needs_llama
def test_a_file_of_biases_is_asked_of_llama_cpps_server(opened: Callable[..., LanguageModel], tmp_path: Path) -> None:
    model = opened()
    edit = steered(model.head.hidden_size, range(8, 108), ("bias",))
    exported = run(export(Request(model=model, edit=edit, out=tmp_path / "bias.json"), "logit-bias"))
    assert isinstance(exported, Exported)
    assert exported.comparison is not None
    assert exported.comparison.runtime.startswith("the server of llama.cpp")
    assert exported.comparison.edited_difference < 0.01
    with apply(model, edit):  # which these constants are exactly
        inputs, at, *_ = model.sampling.prompt(exported.comparison.edited[0].prompt, model.context)
        p = model.logits(inputs)[0, at].double().softmax(-1)
    for pair in exported.comparison.edited[0].tokens:
        assert pair.predicted == pytest.approx(float(p[pair.token_id]), abs=1e-5)


@pytest.mark.usefixtures("no_llama")
def test_the_planner_says_what_a_gguf_file_holds(opened: Callable[..., LanguageModel]) -> None:
    model = opened()
    width, rng = model.head.hidden_size, np.random.default_rng(0)
    fold = rng.normal(size=(2, width - 2)) / 5
    pruned = {
        name: ResolvedEdit(
            intervention=Intervention((1, 4), name),
            hidden_size=width,
            constant=np.zeros(2) if name == "zero" else np.ones(2),
            fold=fold if name == "least-squares" else None,
        )
        for name in ("zero", "mean", "least-squares")
    }
    edits = [*pruned.values(), steered(width, (9, 20)), steered(width, (9, 20), ("bias",)), random_edit(width)]
    held = [planned(model, edit, "gguf").holding for edit in edits]
    assert held == ["exactly", "at a cost", "at a cost", "exactly", "at a cost", "exactly"]


@needs_llama
@pytest.mark.real
@pytest.mark.parametrize("head_type", ["f16", "q8_0"])
def test_a_pretrained_model_runs_in_llama_cpp_with_two_steered_tokens_and_a_pruned_dimension(
    real_models: Path, tmp_path: Path, head_type: str
) -> None:
    options = RunOptions(str(real_models / MODELS["smollm2"].file), positions=2048, sample=512, cache=False)
    session = run(open_session(options))
    model = session.analysis.model
    for edit in (Intervention().steer(7042, 0.1).steer(4528, 20.0), Intervention((17,)).steer(7042, 0.1)):
        resolved = session.resolved(edit)
        comparison = written(model, resolved, tmp_path / "out.gguf", head_type=head_type).comparison
        assert comparison is not None
        assert comparison.ratio is not None
        if head_type == "f16":
            assert comparison.ratio <= 1.5
            continue
        # A head of eight bits is edited and rounded anew: 1.57 was measured on the first of these edits.
        rounding = rounding_of_head(model, resolved, tmp_path / "out.gguf", comparison)
        assert rounding < 0.03
        assert comparison.edited_difference <= 1.5 * comparison.unedited_difference + rounding


def rounding_of_head(model: LanguageModel, edit: ResolvedEdit, file: Path, comparison: RuntimeComparison) -> float:
    """What the stored head's rounding alone changes, in the engine's own arithmetic: as a comparison's difference."""
    (stored,) = (tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == "output.weight")
    head = torch.from_numpy(gguf.quants.dequantize(stored.data, stored.tensor_type).astype(np.float32))
    sums = []
    for prompt in comparison.edited:
        h = model.last_hidden(prompt.prompt)[0].float()
        p, q = (z.double().softmax(-1) for z in (edit_logits(model.head, edit, h[None])[0], head @ h))
        sums.append(sum(abs(float(p[pair.token_id] - q[pair.token_id])) for pair in prompt.tokens))
    return float(np.mean(sums))


def test_constants_are_held_along_a_direction_or_refused(opened: Callable[..., LanguageModel], tmp_path: Path) -> None:
    model = opened()
    edit = steered(model.head.hidden_size, (20,), ("bias",))
    verdict = planned(model, edit, "gguf")
    assert verdict.holding == "at a cost"
    assert "--allow-lossy" in verdict.how
    detection = run(detect(model, random_corpus(8, 32)))
    request = Request(model=model, edit=edit, out=tmp_path / "out.gguf", detection=detection)
    with pytest.raises(TpeError, match="pass --allow-lossy"):
        run(export(request, "gguf"))
    exported = run(export(replace(request, allow_lossy=True), "gguf"))
    assert isinstance(exported, Exported)
    assert "nats from the edited distribution" in exported.lost
    assert exported.facts["loss"]["kl"] >= 0


def test_what_no_gguf_file_can_be_made_of_is_refused_by_name(
    opened: Callable[..., LanguageModel], tiny: Callable[[str], LanguageModel]
) -> None:
    model = opened()
    edit = steered(model.head.hidden_size, (20,))
    assert model.gguf is not None
    gemma = replace(model, gguf=replace(model.gguf, architecture="gemma2"))
    assert planned(gemma, edit, "gguf").sentence == (
        "gguf cannot hold this edit: llama.cpp never reads output.weight of the architecture gemma2: its head is "
        "token_embd.weight always; --to hf or --to peft or --to logit-bias can."
    )
    folder = tiny("llama-tied")
    verdict = planned(folder, steered(folder.head.hidden_size, (20,)), "gguf")
    assert (verdict.holding, verdict.instead) == ("not", ("hf", "peft", "logit-bias"))
    assert "its tokenizer is of the kind WordLevel, and tpe writes BPE" in verdict.sentence


@pytest.mark.usefixtures("no_llama")
def test_a_pruned_head_is_offered_a_gguf_file_by_the_other_formats(opened: Callable[..., LanguageModel]) -> None:
    model = opened()
    assert planned(model, random_edit(model.head.hidden_size), "peft").instead == ("hf", "gguf")


@pytest.mark.usefixtures("no_llama")
def test_only_a_gguf_file_of_tpes_is_replaced_and_never_the_models_own(
    opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    model, edit, out = opened(), steered(32, (20,)), tmp_path / "out.gguf"
    assert model.gguf is not None
    other = Path(shutil.copy(model.gguf.path, tmp_path / "other.gguf"))
    with pytest.raises(TpeError, match="is not a GGUF file that tpe wrote"):
        written(model, edit, other)
    written(model, edit, out)
    with pytest.raises(ExistsError):
        FORMATS["gguf"].check(out, False)
    again = load_model(RunOptions(model=str(out)))
    with pytest.raises(TpeError, match="is the model's own file"):
        written(again, edit, out)
    twice = written(again, edit, tmp_path / "twice.gguf")  # the added metadata are replaced, not doubled
    assert not twice.facts["untied"]


@pytest.mark.usefixtures("no_llama")
def test_head_types_that_there_are_not_or_that_do_not_fit_are_refused(
    opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    model = opened()
    with pytest.raises(TpeError, match="unknown head type 'q2_k': choose one of f16, f32, q8_0"):
        written(model, steered(32, (20,)), tmp_path / "out.gguf", head_type="q2_k")
    with pytest.raises(TpeError, match="Q8_0 stores blocks of 32 values, and rows of the head have 20"):
        gguf_file.encoded(torch.zeros(4, 20), "q8_0")
    with pytest.raises(TpeError, match="float16 cannot: choose --head-type f32"):
        gguf_file.encoded(torch.full((4, 20), 1e6), "f16")


@pytest.mark.usefixtures("no_llama")
def test_an_export_that_is_interrupted_at_any_step_leaves_nothing(
    opened: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    out = tmp_path / "place" / "out.gguf"
    out.parent.mkdir()
    steps = interruptions(Request(model=opened(), edit=steered(32, (20, 200)), out=out), "gguf")
    assert steps > 10  # every tensor is one
    assert out.exists()


def test_the_file_holds_the_manifest_and_ollama_gets_a_modelfile(tmp_path: Path) -> None:
    file, words = save_gguf(tmp_path / "model", "F16", tied=True).file, tmp_path / "text.txt"
    words.write_text(text(1))
    options = RunOptions(model=str(file), text=(str(words),), positions=1500, sample=256, cache=False)
    session = run(open_session(options))
    steering = tuple(Steering(token_id, 2.0) for token_id in range(270, 300))
    saved = session.export(tmp_path / "edit.json", Intervention(steering=steering), "the")
    request = Request(
        model=session.analysis.model,
        edit=session.resolved(session.load(saved)),
        out=tmp_path / "out.gguf",
        manifest=saved,
        settings={"modelfile": True},
    )
    exported = run(export(request, "gguf"))
    header = read_header(tmp_path / "out.gguf", whole={MANIFEST_KEY})
    assert json.loads(header.metadata[MANIFEST_KEY]) == json.loads(saved.read_text())
    assert len(header.metadata[MANIFEST_KEY]) > KEPT  # of a text, where it is not asked for whole
    assert "FROM ./out.gguf\n" in (tmp_path / "out.Modelfile").read_text()
    assert isinstance(exported, Exported)
    assert exported.facts["modelfile"] == str(tmp_path / "out.Modelfile")
