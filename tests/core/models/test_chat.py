"""Prompts in a chat model's template: as transformers renders them, never twice, and out again."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import processors

from tests.helpers.gguf_models import TEMPLATE
from tests.helpers.tiny_models import tiny_tokenizer
from tpe_core.errors import ModelError
from tpe_core.models.chat import chat_prompt, plain_prompt


@pytest.fixture
def words() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_a_prompt_is_the_message_that_transformers_renders(words: Any) -> None:
    wanted = words.apply_chat_template([{"role": "user", "content": "a b"}], tokenize=False, add_generation_prompt=True)
    assert chat_prompt(words, "a b") == wanted == "[user] a b\n[assistant] "


def test_a_wrapped_prompt_is_wrapped_once_and_comes_out_again(words: Any) -> None:
    wrapped = chat_prompt(words, "two\nlines")
    assert chat_prompt(words, wrapped) == wrapped
    assert plain_prompt(words, wrapped) == "two\nlines"
    assert plain_prompt(words, "two\nlines") is None
    assert plain_prompt(words, wrapped[:-1]) is None


@pytest.mark.parametrize("puts_bos", [True, False])
def test_a_beginning_token_stands_there_once(words: Any, puts_bos: bool) -> None:
    words.chat_template = "{{ bos_token }}" + TEMPLATE
    if puts_bos:
        words.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|end|> $A", special_tokens=[("<|end|>", 0)]
        )
    wrapped = chat_prompt(words, "a")
    assert words(wrapped)["input_ids"].count(0) == 1
    assert plain_prompt(words, wrapped) == "a"


def test_a_model_without_a_template_says_so() -> None:
    with pytest.raises(ModelError, match=r"^tiny has no chat template, so its prompt stays as it is: type the form"):
        chat_prompt(tiny_tokenizer(), "a", "tiny")


def test_a_template_that_refuses_is_one_sentence(words: Any) -> None:
    words.chat_template = "{{ raise_exception('only\nsystem messages') }}"
    with pytest.raises(ModelError, match=r"template of tiny cannot be used \(.+\): type the prompt\.$") as caught:
        chat_prompt(words, "a", "tiny")
    assert "\n" not in str(caught.value)
