"""A prompt in a chat model's own template, and out of it again: as one message of the user that is to be answered.

Nothing is wrapped unasked: the figures of a prompt are those of the text as it was typed.
"""

from __future__ import annotations

from typing import Any

from tpe_core.errors import ModelError, reason_of

__all__ = ["chat_prompt", "plain_prompt"]

MARK = "\ue000the prompt\ue000"  # private use: in nobody's template


def chat_prompt(tokenizer: Any, prompt: str, name: str = "the model") -> str:
    """The text that a chat model of this tokenizer is given for one message; unchanged where it is in the template.

    Args:
        tokenizer: transformers' tokenizer, whose template is used with ``add_generation_prompt``. A beginning token
            that it puts before every text by itself is left out.
        prompt: The message.
        name: What an error calls the model.

    Returns:
        The text with its special tokens spelled out. Raises `ModelError` where there is no template, or it refuses.
    """
    if plain_prompt(tokenizer, prompt, name) is not None:
        return prompt
    return _rendered(tokenizer, prompt, name)


def plain_prompt(tokenizer: Any, text: str, name: str = "the model") -> str | None:
    """The message inside a text that `chat_prompt` made; None for any other text. Raises `ModelError` as that does."""
    before, mark, after = _rendered(tokenizer, MARK, name).partition(MARK)
    if not mark or len(text) < len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
        return None
    return text[len(before) : len(text) - len(after)]


def _rendered(tokenizer: Any, message: str, name: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{name} has no chat template, so its prompt stays as it is: type the form that it was trained on yourself."
        )
    try:
        text = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
            )
        )
        begins = tokenizer("", add_special_tokens=True)["input_ids"]
    except Exception as error:  # whatever a template raises
        raise ModelError(
            f"the chat template of {name} cannot be used ({reason_of(error)}): type the prompt."
        ) from error
    first = getattr(tokenizer, "bos_token", None)
    if first and begins and begins[0] == tokenizer.bos_token_id and text.startswith(first):
        return text[len(first) :]
    return text
