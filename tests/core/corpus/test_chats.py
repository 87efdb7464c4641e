"""Chat records: a model's own chat template writes them, and a model without one refuses them in one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers.tokenizers import byte_level
from tpe_core.corpus.corpus import corpus_key, read_corpus, text_source, token_stream
from tpe_core.errors import CorpusError
from tpe_core.progress import run

CHAT = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on the mat"}]
SHARED = [{"from": "human", "value": "the cat"}, {"from": "gpt", "value": "sat on the mat"}]
TEMPLATE = "{% for each in messages %}<{{ each.role }}>{{ each.content }}\n{% endfor %}"
WRITTEN = "<user>the cat\n<assistant>sat on the mat\n"


def talking(template: str | None = TEMPLATE) -> Any:
    tokenizer = copy.deepcopy(byte_level())
    tokenizer.chat_template = template
    return tokenizer


def ids(path: Path, tokenizer: Any) -> list[int]:
    return [int(each) for array in token_stream(text_source([path]), tokenizer) for each in array]


@pytest.mark.parametrize(
    "record", [CHAT, SHARED, {"id": "x", "messages": CHAT}, {"id": "x", "conversations": SHARED}], ids=str
)
def test_a_chat_is_the_text_that_the_template_makes_of_it(tmp_path: Path, record: Any) -> None:
    path, plain = tmp_path / "chat.jsonl", tmp_path / "plain.jsonl"
    path.write_text(f"{json.dumps(record)}\n{json.dumps(record)}\n")
    plain.write_text(f"{json.dumps(WRITTEN)}\n{json.dumps(WRITTEN)}\n")
    assert ids(path, talking()) == ids(plain, talking())


def test_a_table_of_chats_is_read_too(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x"], "messages": [CHAT]}), tmp_path / "chat.parquet")
    (tmp_path / "plain.txt").write_text(WRITTEN)
    assert ids(tmp_path / "chat.parquet", talking()) == ids(tmp_path / "plain.txt", talking())


def test_a_model_without_a_template_and_one_that_refuses_are_one_sentence_each(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": CHAT}))
    with pytest.raises(CorpusError, match=r"the field messages in line 1 of .*chat.jsonl is a chat, and the model's "):
        ids(path, talking(None))
    with pytest.raises(CorpusError, match=r"line 1 of .*, which the model's chat template refuses: no such role\.$"):
        ids(path, talking("{{ raise_exception('no such role') }}"))
    with pytest.raises(CorpusError, match="no model's chat template is there"):
        list(text_source([path]).documents())


def test_the_template_is_part_of_what_a_corpus_is_called_by(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps({"messages": CHAT}) for _ in range(50)))
    source, keys = text_source([path]), set()
    for tokenizer in (talking(), talking(TEMPLATE.replace("<", "["))):
        corpus = run(
            read_corpus(source, tokenizer, block_length=8, positions=64, part="all", tokenizer_fingerprint="t")
        )
        keys.add(corpus.fingerprint)
        assert corpus.fingerprint == corpus_key(source.for_tokenizer(tokenizer), "t", 8, 64, "all")
        assert corpus.read is not None
        assert corpus.read.fingerprint == source.fingerprint()
    assert len(keys) == 2
