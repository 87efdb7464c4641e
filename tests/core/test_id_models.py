"""Models without a tokenizer, from their ids to what every command does with them: trained, masked and with names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from tests.helpers.id_models import Chain, train_on
from tests.helpers.suite import save_run
from tests.helpers.tiny_models import save_tiny
from tpe_core.checkpoint.bake import bake
from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.detection.samples import read_samples
from tpe_core.dynamics.measure.frequency import count_text
from tpe_core.dynamics.plan import DynamicsOptions, dynamics
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import ModelError, TpeError
from tpe_core.evaluation.harness import Harness, Tasks
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import PairRequest
from tpe_core.generation.paired_generation import pair_texts
from tpe_core.hooks import apply
from tpe_core.manifest.manifest import read_edit
from tpe_core.manifest.self_test import prompts_of
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession, open_session
from tpe_tui.cli.main import main
from tpe_tui.command_line import command_lines, generate_lines

CHAIN = Chain(64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    """A model that was trained on walks of a chain, and others of them to read; no tokenizer anywhere."""
    folder = tmp_path_factory.mktemp("trained")
    np.save(folder / "walks.npy", CHAIN.draw(400, 64, seed=2).astype(np.uint8))
    model = train_on(CHAIN, folder / "model", width=12, steps=150)
    return RunOptions(str(model), text=(str(folder / "walks.npy"),), positions=12_000, sample=500, cache=False)


@pytest.fixture(scope="module")
def session(trained: RunOptions) -> LiveSession:
    return run(open_session(trained))


EDIT = Intervention((3, 7), "least-squares", (Steering(17, 2.0), Steering(4, 0.5)))


def test_alpha_is_the_chains_frequency_and_the_rows_of_w_say_it(session: LiveSession) -> None:
    analysis = session.analysis
    error = analysis.detection.log_alpha - np.log(CHAIN.frequency)
    assert np.abs(error).mean() < 0.15
    assert np.corrcoef(analysis.detection.log_alpha, np.log(CHAIN.frequency))[0, 1] > 0.98
    assert analysis.encoding.r2 > 0.85
    assert analysis.encoding.r2 > analysis.encoding.r2_permuted + 0.5
    assert analysis.encoding.r2_heldout_vocab > 0.7
    assert session.table.tokens[:3] == ["#0", "#1", "#2"]


def test_a_prompt_of_ids_gives_the_models_own_probabilities(session: LiveSession) -> None:
    model = session.analysis.model
    logits = model.hf(input_ids=torch.tensor([[17, 4, 9]])).logits[0, -1].detach()
    shown = session.evaluate("17, #4 9", Intervention())
    assert (shown.prompt_tokens, shown.truncated) == (3, 0)
    expected = logits.softmax(-1)
    found = dict(zip(shown.ids, shown.base, strict=True))
    assert found == pytest.approx({int(each): float(expected[each]) for each in found}, rel=1e-4)
    with pytest.raises(TpeError, match="token id 64 does not exist: this model's go from #0 to #63"):
        session.evaluate("17 64", Intervention())
    assert session.prompt_hint == "token ids like 17 4 98"


def test_tokens_are_steered_by_number_and_the_edit_travels(session: LiveSession, tmp_path: Path) -> None:
    assert [session.find_token(query) for query in ("#17", "17")] == [17, 17]
    path = session.export(tmp_path / "edit.json", EDIT, session.default_prompt)
    assert replace(session.load(path), origin="") == EDIT
    document = json.loads(path.read_text())
    assert len({each["prompt"] for each in document["self_test"]["prompts"]}) == 3
    ids = [[17, 4, 9, 30]]
    edited = session.resolved(EDIT)
    hf = session.analysis.model.hf
    base = hf(input_ids=torch.tensor(ids)).logits
    with apply(hf, path):  # the bare model, of which no tokenizer is known
        hooked = hf(input_ids=torch.tensor(ids)).logits
    with apply(session.analysis.model, edited):
        again = hf(input_ids=torch.tensor(ids)).logits
    assert torch.allclose(hooked, again, atol=1e-5)
    assert float((hooked - base).detach().abs().max()) > 0.1


def test_a_baked_checkpoint_is_plain_and_has_no_tokenizer(session: LiveSession, tmp_path: Path) -> None:
    path = session.export(tmp_path / "edit.json", EDIT, session.default_prompt)
    run(bake(session.analysis.model, read_edit(path)[1], tmp_path / "baked", manifest=path))
    assert not list((tmp_path / "baked").glob("*token*"))
    ids = torch.tensor([[17, 4, 9, 30]])
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "baked")(input_ids=ids).logits
    with apply(session.analysis.model, path):
        hooked = session.analysis.model.hf(input_ids=ids).logits
    assert torch.allclose(plain.log_softmax(-1), hooked.log_softmax(-1), atol=1e-4)


def test_texts_are_written_as_ids(session: LiveSession) -> None:
    base = session.resolved(Intervention())
    pair = run(pair_texts(session.analysis.model, PairRequest("17 4", Decoding(8)), lambda: base))
    assert "".join(token.text for token in pair.base.tokens) == "".join(f" #{t.token_id}" for t in pair.base.tokens)
    assert len(pair.base.tokens) == 8


def test_out_of_domain_are_the_same_ids_in_shuffled_order_unless_others_are_given(
    session: LiveSession, tmp_path: Path
) -> None:
    analysis = session.analysis
    options: dict[str, Any] = {"size": 2000, "store": None}
    samples = run(read_samples(analysis.model, analysis.detection.sample, analysis.source, **options))
    assert samples.ood_text == "walks.npy in shuffled order"
    assert any("no ids are given for the out-of-domain figures (--ood)" in each for each in samples.warnings)

    def follows(sample: Any) -> float:
        """Loss of the tokens that followed, in nats."""
        logits = analysis.model.head.logits(torch.from_numpy(sample.hidden))
        return float(torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(sample.next_ids)))

    frequency = np.bincount(samples.ood.next_ids, minlength=64) / len(samples.ood)
    assert np.abs(frequency - CHAIN.frequency).sum() < 0.15  # as often as before, and after nothing they follow
    assert follows(samples.ood) > follows(samples.heldout) + 0.3
    np.save(tmp_path / "other.npy", CHAIN.draw(100, 64, seed=3))
    ood = (str(tmp_path / "other.npy"),)
    samples = run(read_samples(analysis.model, analysis.detection.sample, analysis.source, ood, **options))
    assert samples.ood_text == "other.npy"
    assert not any("--ood" in each for each in samples.warnings)


def test_commands_do_the_same_and_name_tokens_by_number(
    trained: RunOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = [trained.model, "--text", *trained.text, "--positions", "3000", "--no-cache"]
    mask = str(tmp_path / "mask.json")
    assert main(["steer", *read, "--token", "#17", "--token", "4", "--ratio", "2"]) == 0
    told = capsys.readouterr().out
    assert "\n#17: mean probability" in told
    assert "\n#4: mean probability" in told
    assert "out-of-domain: 4,096 positions of walks.npy in shuffled order" in told
    assert main(["prune", *read, "--fractions", "0.25", "--order", "slope", "--save", mask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"]["ood"] == "walks.npy in shuffled order"
    assert main(["generate", trained.model, "--prompt", "17 4", "--length", "4", "--intervention", mask]) == 0
    assert "prompt: 17 4\n" in capsys.readouterr().out
    assert main(["transfer", mask, *read, "--seeds", "1", "--json"]) == 0
    target = json.loads(capsys.readouterr().out)["targets"][0]
    assert target["own"]["shared"] == 3
    assert main(["show", mask, "--on", trained.model]) == 0
    assert "reproduced" in capsys.readouterr().out
    assert main(["check", trained.model, "--vocabulary", "ids"]) == 0


def refused(options: RunOptions) -> str:
    with pytest.raises(TpeError) as error:
        run(open_session(options))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_text_is_refused_before_the_weights_are_read_and_told_what_to_give(trained: RunOptions, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("17 4 98 " * 100)
    words = (str(tmp_path / "words.txt"),)
    assert "has no tokenizer" in refused(replace(trained, text=()))
    assert "is given files of token ids, with --text ids.npy" in refused(replace(trained, text=words))
    named = refused(replace(trained, text=(), vocabulary="ids"))
    assert "the built-in text is text: name a file of ids with --text ids.npy" in named
    assert f"{words[0]} is text" in refused(replace(trained, text=words, vocabulary="ids"))
    assert isinstance(load_model(replace(trained, text=()), reads_text=False).tokenizer, IdTokenizer)


def test_an_id_beyond_the_models_rows_is_told_with_its_position(trained: RunOptions, tmp_path: Path) -> None:
    np.arange(90, dtype=np.uint16).tofile(tmp_path / "train.bin")
    sentence = refused(replace(trained, text=(str(tmp_path / "train.bin"),)))
    assert "train.bin holds the id 64 at position 64 (counted from 0)" in sentence
    assert "(ids 0 to 63)" in sentence


def test_tasks_in_text_are_refused(session: LiveSession) -> None:
    with pytest.raises(TpeError, match="has no tokenizer: lm-evaluation-harness asks in text"):
        Harness(session.analysis.model, Tasks(("arc_easy",), None, "0"), limit=None, shots=None, batch=1)


def test_command_lines_name_ids_and_vocabulary(session: LiveSession) -> None:
    options = RunOptions("music", text=("ids.npy",), vocabulary="names of notes.txt")
    lines = command_lines(options, "17 #4", Intervention(), "mask.json")
    assert "tpe analyze music --vocabulary 'names of notes.txt' --text ids.npy\n" in lines
    assert "--prompt '17 #4'" in lines
    written = generate_lines(options, "17 #4", Intervention(), Decoding(8))
    assert "tpe generate music --vocabulary 'names of notes.txt' --prompt '17 #4'" in written


# names: proteins (masked) and notes (causal)

RESIDUES = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>", "<mask>"]


def proteins(folder: Path, **config: Any) -> Path:
    """A masked model of the ESM type and 33 rows, with random weights."""
    torch.manual_seed(0)
    settings = transformers.EsmConfig(
        vocab_size=33, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=66, position_embedding_type="rotary", pad_token_id=1, **config,
    )  # fmt: skip
    transformers.EsmForMaskedLM(settings).save_pretrained(folder)
    return folder


def chains_of_residues(path: Path, padded: int = 0) -> NDArray[np.int64]:
    """200 chains between ``<cls>`` and ``<eos>``, padded at their ends."""
    chains = np.random.default_rng(0).integers(4, 24, (200, 60))
    chains[:, 0], chains[:, -1] = 0, 2
    np.save(path, np.pad(chains, ((0, 0), (0, padded)), constant_values=1))
    return chains


def test_a_protein_model_is_asked_for_masked_residues_by_name(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(RESIDUES))
    chains_of_residues(tmp_path / "chains.npy")
    options = RunOptions(
        str(proteins(tmp_path / "esm")), text=(str(tmp_path / "chains.npy"),), positions=600, sample=200,
        cache=False, vocabulary=str(tmp_path / "vocab.txt"),
    )  # fmt: skip
    live = run(open_session(options))
    model = live.analysis.model
    assert (model.task, live.table.tokens[20], live.table.tokens[32]) == ("masked", "M", "<mask>")
    assert "<mask> where the token is asked for" in live.prompt_hint
    shown = live.evaluate("<cls> M K <mask> L <eos>", Intervention())
    ids = torch.tensor([[0, 20, 15, 32, 4, 2]])
    expected = model.hf(input_ids=ids).logits[0, 3].detach().softmax(-1)
    assert dict(zip(shown.ids, shown.base, strict=True))[23] == pytest.approx(float(expected[23]), rel=1e-4)
    assert live.find_token("W") == 22
    assert len(set(prompts_of(model))) == 3
    assert all("<mask>" in prompt for prompt in prompts_of(model))


def test_a_masked_model_whose_mask_nobody_names_is_refused(tmp_path: Path) -> None:
    chains_of_residues(tmp_path / "chains.npy")
    options = RunOptions(
        str(proteins(tmp_path / "esm")), text=(str(tmp_path / "chains.npy"),), positions=600, cache=False
    )
    sentence = refused(options)
    assert "nothing says which id is the masked model's mask: give a --vocabulary with an entry <mask>" in sentence


def test_padding_at_the_ends_of_chains_changes_nothing(tmp_path: Path) -> None:
    folder = proteins(tmp_path / "esm", mask_token_id=32)
    found = []
    for padded in (0, 9):
        chains_of_residues(tmp_path / f"{padded}.npy", padded)
        options = RunOptions(str(folder), text=(str(tmp_path / f"{padded}.npy"),), positions=600, cache=False)
        found.append(run(open_session(options)).analysis.detection.log_alpha)
    assert np.array_equal(*found)


def test_a_model_of_notes_is_read_by_name_and_by_number_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = transformers.MistralConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, sliding_window=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    transformers.MistralForCausalLM(settings).save_pretrained(tmp_path / "music")
    names = {f"NOTE_ON_{60 + pitch}": pitch for pitch in range(38)} | {"TIME_SHIFT 10": 38, "BAR": 39}
    (tmp_path / "names.json").write_text(json.dumps(names))
    np.random.default_rng(0).integers(0, 40, 3000).astype(np.uint16).tofile(tmp_path / "train.bin")
    plain = RunOptions(
        str(tmp_path / "music"), text=(str(tmp_path / "train.bin"),), positions=500, sample=100, cache=False
    )
    live, named = run(open_session(plain)), run(open_session(replace(plain, vocabulary=str(tmp_path / "names.json"))))
    assert (live.analysis.model.head.vocab_rows, named.analysis.model.head.vocab_rows) == (40, 40)
    assert named.table.tokens[:1] + named.table.tokens[38:] == ["NOTE_ON_60", "TIME_SHIFT 10", "BAR"]
    assert np.array_equal(live.analysis.detection.log_alpha, named.analysis.detection.log_alpha)
    by_name = named.evaluate("NOTE_ON_64, BAR #38", Intervention())
    by_number = live.evaluate("4 39 38", Intervention())
    numbers = dict(zip(by_number.ids, by_number.base, strict=True))
    assert dict(zip(by_name.ids, by_name.base, strict=True)) == {each: numbers[each] for each in range(40)}
    steered = Intervention(steering=(Steering(39, 2.0),))
    path = live.export(tmp_path / "edit.json", steered, "4 39")
    assert named.load(path).steering == live.load(path).steering  # what an id is does not depend on its name


# ids for models that have a tokenizer, and checkpoints without one


def test_a_vocabulary_takes_the_tokenizers_place(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(0, 320, 3000))
    options = RunOptions(str(folder), text=(str(tmp_path / "ids.npy"),), positions=500, sample=100, cache=False)
    own, ids = run(open_session(options)), run(open_session(replace(options, vocabulary="ids")))
    assert (own.find_token("#7"), ids.table.tokens[7]) == (7, "#7")
    assert own.table.tokens[7] != "#7"
    assert own.analysis.detection.positions == ids.analysis.detection.positions


def test_counts_of_ids_are_their_numbers(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 50, 5000)
    np.save(tmp_path / "ids.npy", ids)
    from tpe_core.corpus.sources import text_source

    counted = run(count_text(text_source([str(tmp_path / "ids.npy")]), IdTokenizer(64), 64))
    assert counted.counts.tolist() == np.bincount(ids, minlength=64).tolist()


def test_checkpoints_without_a_tokenizer_are_followed_by_ids(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", (0, 100))
    for path in folder.glob("*token*"):
        path.unlink()
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(0, 320, 5000))
    options = RunOptions(str(folder), cache=False)
    with pytest.raises(ModelError, match="or a file of token ids with --text"):
        run(dynamics(DynamicsOptions(options)))
    found = run(dynamics(DynamicsOptions(replace(options, text=(str(tmp_path / "ids.npy"),)))))
    assert [point.step for point in found.points] == [0, 100]
