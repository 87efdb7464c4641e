"""From text to ids: special ends told apart, and ids that a model has no row for; every entrance alike."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import CONTEXT, VOCAB, save_tiny, text
from tests.helpers.tokenizers import add_tokens, byte_level, metaspace, move_last_token, put_ends
from tpe_core.corpus.token_ids import open_ended, special_ends, text_ids, vocabulary_rows
from tpe_core.detection.samples import read_samples
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError, TpeError
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.generation import generate, text_prompts
from tpe_core.manifest.self_test import prompt_logits, prompts_of
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.printable import token_texts
from tpe_core.progress import run
from tpe_core.session import LiveSession, open_session
from tpe_core.steering.token_search import TokenIndex
from tpe_tui.cli.main import main

ENDS = {"eos": "$A <|end|>", "bos-eos": "<|end|> $A <|end|>", "bos": "<|end|> $A", "none": "$A"}
ADDED = "<|im_start|>"


def plain(model: LanguageModel, prompt: str) -> list[int]:
    ids: list[int] = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[LanguageModel, LanguageModel]]:
    """A model whose tokenizer puts special tokens around a text, and the same model whose tokenizer puts none."""
    bare = load_model(RunOptions(model=str(save_tiny(tmp_path_factory.mktemp("bare"), "llama"))))
    made: dict[str, LanguageModel] = {}

    def make(kind: str) -> tuple[LanguageModel, LanguageModel]:
        if kind not in made:
            folder = put_ends(save_tiny(tmp_path_factory.mktemp(kind), "llama"), ENDS[kind])
            made[kind] = load_model(RunOptions(model=str(folder)))
        return made[kind], bare

    return make


@pytest.mark.parametrize("kind", ENDS)
def test_a_causal_model_goes_on_from_the_text_and_not_from_an_end_token(ended, kind: str) -> None:
    model, bare = ended(kind)
    opening = [0] if kind.startswith("bos") else []
    wanted = [*opening, *plain(bare, "the list of")]
    inputs, at, used, dropped = model.sampling.prompt("the list of", CONTEXT)
    assert inputs["input_ids"][0].tolist() == wanted
    assert (at, used, dropped) == (len(wanted) - 1, len(wanted), 0)
    assert text_prompts(model, ["the list of"]) == (tuple(wanted),)
    hidden = bare.hidden(torch.tensor([wanted]))[0, -1]
    torch.testing.assert_close(model.last_hidden("the list of")[0], hidden.float())
    prompt = prompts_of(model)[0]
    own = bare.logits(torch.tensor([[*opening, *plain(bare, prompt)]]))[0, -1].double().numpy()
    assert prompt_logits(model)(prompt) == pytest.approx(own, abs=1e-5)
    said = run(generate(model, Intervention(), None, text_prompts(model, ["the list"]), Decoding(length=4)))
    same = run(generate(bare, Intervention(), None, [[*opening, *plain(bare, "the list")]], Decoding(length=4)))
    assert said.tokens == same.tokens


@pytest.mark.parametrize("kind", ENDS)
def test_a_prompt_too_long_keeps_the_special_token_that_begins_it(ended, kind: str) -> None:
    model, bare = ended(kind)
    ids, _, used, dropped = model.sampling.prompt("list " * 200, 16)
    opening = [0] if kind.startswith("bos") else []
    whole = plain(bare, "list " * 200)
    assert ids["input_ids"][0].tolist() == [*opening, *whole[len(whole) - 16 + len(opening) :]]
    assert (used, dropped) == (16, len(whole) - 16 + len(opening))


@pytest.mark.parametrize("kind", ENDS)
def test_an_empty_prompt_is_the_start_of_a_text(ended, kind: str) -> None:
    assert ended(kind)[0].sampling.prompt("", CONTEXT)[0]["input_ids"].tolist() == [[0]]


@pytest.mark.parametrize("kind", ENDS)
def test_a_detection_reads_text_without_end_tokens_in_its_blocks(ended, kind: str, tmp_path: Path) -> None:
    from tpe_core.corpus.corpus import text_source
    from tpe_core.detection.reading import corpus_spec

    (tmp_path / "text.txt").write_text(text(1, 2000))
    corpus = run(corpus_spec(text_source([tmp_path / "text.txt"]), ended(kind)[0], 500).corpus())
    first = 1 if kind.startswith("bos") else 0
    assert corpus.add_bos == bool(first)
    assert (corpus.blocks[:, :first] == 0).all()
    assert (corpus.blocks[:, first:] != 0).all()


def test_a_name_of_few_tokens_is_told_without_the_special_ends(ended) -> None:
    model, _ = ended("bos-eos")
    index = TokenIndex(token_texts(model.tokenizer, model.head.vocab_rows), model.tokenizer)
    with pytest.raises(TpeError, match="2 tokens here"):
        index.resolve("list number")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
@pytest.mark.parametrize("kind", ENDS)
def test_evaluation_asks_about_the_continuation_alone(ended, kind: str) -> None:
    from lm_eval.models.huggingface import HFLM

    model, bare = ended(kind)
    lm = HFLM(pretrained=model.hf, tokenizer=open_ended(model.tokenizer), backend="causal", batch_size=1)
    context, continuation = lm._encode_pair("the list of", " keys")
    assert context == [*special_ends(model.tokenizer)[0], *plain(bare, "the list of")]
    assert continuation == plain(bare, " keys")
    batched, _ = lm.tok_batch_encode(["the list of"])
    assert batched[0].tolist() == context


def test_masked_and_encoder_decoder_models_keep_both_ends() -> None:
    from tests.helpers.tasks import task_tokenizer
    from tpe_core.models.sampling import sampling_for

    bert = task_tokenizer("bert")
    ids = sampling_for("masked", bert, None).prompt("the value", 64)[0]["input_ids"][0].tolist()
    before, after = special_ends(bert)
    assert before
    assert after
    assert (ids[0], ids[-1]) == (before[0], after[-1])
    t5 = task_tokenizer("t5")
    source = sampling_for("seq2seq", t5, 0).prompt("the value", 64)[0]["input_ids"][0].tolist()
    assert source == [*text_ids(t5, "the value"), *special_ends(t5)[1]]


def test_special_ends_are_seen_where_a_letter_has_no_token_of_its_own() -> None:
    class Numbers:
        bos_token_id, eos_token_id = 1, 2

        def __call__(self, texts: list[str], add_special_tokens: bool = True, **_: Any) -> Any:
            plain = [[int(char) + 3 for char in each if char.isdigit()] for each in texts]
            return {"input_ids": [[1, *ids, 2] for ids in plain] if add_special_tokens else plain}

        def get_vocab(self) -> dict[str, int]:
            return {str(digit): digit + 3 for digit in range(10)}

    assert special_ends(Numbers()) == ((1,), (2,))
    assert special_ends(metaspace()) == ((1,), ())
    assert special_ends(byte_level()) == ((), ())


# ids beyond the rows


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer has one more token than the model has rows."""
    return add_tokens(save_tiny(tmp_path_factory.mktemp("grown"), "llama"), ADDED)


@pytest.fixture(scope="module")
def session(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveSession:
    words = tmp_path_factory.mktemp("words") / "words.txt"
    words.write_text(text(2, 6000))
    return run(open_session(RunOptions(model=str(grown), text=(str(words),), positions=512, sample=256, cache=False)))


def entrances(session: LiveSession, tmp_path: Path) -> dict[str, Callable[[], Any]]:
    """Every way by which a token id reaches the model."""
    model = session.analysis.model
    alien = tmp_path / "alien.txt"
    alien.write_text(f"the list of {ADDED} keys " * 400)
    options = RunOptions(model=model.name, text=(str(alien),), positions=512, sample=256, cache=False)
    edit = Intervention((1,))

    def studies() -> Any:
        """What sweeps and the steering study measure on."""
        found = session.analysis
        return run(read_samples(model, found.detection.sample, found.source, (str(alien),), size=256))

    return {
        "prompt": lambda: session.evaluate(f"the {ADDED}", edit),
        "token": lambda: session.token(3, f"the {ADDED}", edit),
        "export": lambda: session.export(tmp_path / "edit.json", edit, f"the {ADDED}"),
        "hidden": lambda: model.hidden(torch.tensor([[1, VOCAB]])),
        "logits": lambda: model.logits(torch.tensor([[1, VOCAB]])),
        "generate": lambda: run(
            generate(model, Intervention(), None, text_prompts(model, [f"the {ADDED}"]), Decoding(length=2))
        ),
        "detection": lambda: run(open_session(options)),
        "studies": studies,
    }


ENTRANCES = ("prompt", "token", "export", "hidden", "logits", "generate", "detection", "studies")


@pytest.mark.parametrize("name", ENTRANCES)
def test_a_token_without_a_row_is_one_sentence_by_every_entrance(
    session: LiveSession, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ModelError) as refused:
        entrances(session, tmp_path)[name]()
    for part in (ADDED, f"(id {VOCAB})", f"has {VOCAB} (ids 0 to {VOCAB - 1})", "resize_token_embeddings"):
        assert part in str(refused.value)


def test_tokens_without_a_row_are_told_by_the_commands_and_in_python(
    session: LiveSession, grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = f"the tokenizer has 1 token beyond the {VOCAB} rows"
    assert any(sentence in warning for warning in session.warnings)
    assert main(["check", str(grown), "--json"]) == 0
    checked = capsys.readouterr()
    assert sentence in checked.err
    json.loads(checked.out)
    (tmp_path / "words.txt").write_text(text(2, 6000))
    reading = ["--text", str(tmp_path / "words.txt"), "--positions", "512", "--no-cache"]
    assert main(["analyze", str(grown), *reading]) == 0
    assert sentence in capsys.readouterr().err
    assert main([str(grown), *reading, "--prompt", f"the {ADDED}"]) == 1
    failed = capsys.readouterr().err
    assert ADDED in failed
    assert "Traceback" not in failed


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_a_task_that_holds_a_token_without_a_row_is_one_sentence(grown: Path, tmp_path: Path) -> None:
    from tpe_core.evaluation.harness import Harness, find_tasks

    (tmp_path / "items.jsonl").write_text(json.dumps({"text": f"the {ADDED} of", "label": " keys"}) + "\n")
    (tmp_path / "one.yaml").write_text(
        f"task: one\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {tmp_path / 'items.jsonl'}}}\n"
        "test_split: test\noutput_type: loglikelihood\ndoc_to_text: '{{text}}'\ndoc_to_target: label\n"
        "metric_list:\n  - metric: perplexity\n"
    )
    model = load_model(RunOptions(model=str(grown)))
    asked = Harness(model, find_tasks(["one"], tmp_path, offline=True), limit=1, shots=0, batch=1)
    questions, _ = asked.ask({})
    with pytest.raises(ModelError, match=r"id 320\) has no row"):
        asked.answer(questions)


def test_input_and_head_rows_are_checked_each_by_its_own_number(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    model = load_model(RunOptions(model=str(folder)))
    model.hf.set_output_embeddings(torch.nn.Linear(16, VOCAB - 20, bias=False))
    assert model.hidden(torch.tensor([[VOCAB - 1]])).shape == (1, 1, 16)  # it can be read
    model.hf.set_input_embeddings(torch.nn.Embedding(VOCAB - 40, 16))
    with pytest.raises(ModelError, match=f"which has {VOCAB - 40}"):
        model.hidden(torch.tensor([[VOCAB - 30]]))


def test_a_count_of_tokens_is_not_the_highest_id(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "neox")
    spelling, moved = move_last_token(folder, 4)
    model = load_model(RunOptions(model=str(folder)))
    assert len(model.tokenizer) < vocabulary_rows(model.tokenizer) == moved + 1 == VOCAB + 4
    assert model.head.vocab_rows == VOCAB + 4
    names = token_texts(model.tokenizer, model.head.vocab_rows)
    assert names[moved] == spelling.replace("Ġ", "·")
    assert names[moved - 4 : moved] == [f"⟨id {number}⟩" for number in range(moved - 4, moved)]
    assert model.warnings == ()
