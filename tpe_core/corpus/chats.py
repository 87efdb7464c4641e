"""Chats as text: a model's own chat template writes them, and nothing else ever does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tpe_core.corpus.records import Messages
from tpe_core.errors import CorpusError, reason_of

__all__ = ["ChatTemplate"]


@dataclass(frozen=True, slots=True, eq=False)
class ChatTemplate:
    """The chat template of a tokenizer, which may have none."""

    tokenizer: Any

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the template."""
        return hashlib.sha256(json.dumps(self._template, default=str, allow_nan=False).encode()).hexdigest()

    @property
    def _template(self) -> Any:
        return getattr(self.tokenizer, "chat_template", None)

    def render(self, messages: Messages) -> str:
        """The chat as this model reads it. Raises `CorpusError`, the end of a sentence that begins with the record."""
        if not self._template:
            raise CorpusError(
                "and the model's tokenizer has no chat template: name a field of plain text with --text-field, "
                "or use the model's instruction-tuned twin."
            )
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template is a program: it raises what it likes
            raise CorpusError(f"which the model's chat template refuses: {reason_of(error)}.") from error
        return text
