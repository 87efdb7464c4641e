"""A Hugging Face tokenizer as the metadata of a GGUF file: tokens, types, merges or scores, special ids.

llama.cpp knows two kinds here: byte-level BPE, whose rule for cutting a text into words it must know by name, and the
BPE of SentencePiece over characters with a fallback to bytes. Which rule a tokenizer has is told by what it makes of
one text, not by its configuration, of which there are many spellings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpe_core.json_text import parse_json

__all__ = ["CUTS", "GgufVocabulary", "gguf_vocabulary"]

PROBE = "we'll GO'LL (now) 12345\n\n x!\n  y\tz"
"""What tells the rules apart: contractions, brackets before words, digits, line ends after signs, white space."""

CUTS: dict[str, str] = {
    "gpt-2": "we|'ll| GO|'|LL| (|now|)| 12345|\n\n| x|!|\n | y|\t|z",
    "smollm": "we|'ll| GO|'|LL| (|now|)| |1|2|3|4|5|\n\n| x|!|\n | y|\t|z",
    "qwen2": "we|'ll| GO|'LL| (|now|)| |1|2|3|4|5|\n\n| x|!\n| | y|\tz",
    "llama-bpe": "we|'ll| GO|'LL| (|now|)| |123|45|\n\n| x|!\n| | y|\tz",
    "dbrx": "we|'ll| GO|'LL| (|now|)| |123|45|\n\n| x|!\n| | y|\tz",  # but every word is merged, as llama-bpe's are not
}
"""The words of `PROBE` by llama.cpp's name of the rule, between bars."""

SPACE = "▁"  # how SentencePiece writes one
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # gguf.TokenType


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufVocabulary:
    """What the metadata under ``tokenizer.ggml`` say, one entry for each row of the head."""

    model: str  # llama.cpp's name of the kind: gpt2, llama
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    special: Mapping[str, int]  # ids by role: bos, eos, unk, pad
    adds_bos: bool
    adds_eos: bool
    adds_space: bool = False
    chat_template: str = ""

    def write(self, writer: Any) -> None:
        """Add the metadata to a `gguf.GGUFWriter`."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        if self.scores:
            writer.add_token_scores(list(self.scores))
            writer.add_add_space_prefix(self.adds_space)
        else:
            writer.add_token_merges(list(self.merges))
        for role, token_id in self.special.items():
            getattr(writer, f"add_{role}_token_id")(token_id)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(self.adds_eos)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def gguf_vocabulary(tokenizer: Any, rows: int) -> GgufVocabulary | str:
    """The vocabulary of `rows` entries, those without a token filled up; or a clause that says why there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return f"{type(tokenizer).__name__} has no tokenizer.json, of which tpe makes the vocabulary of a GGUF file"
    document = parse_json(backend.to_str())
    model = document["model"]
    if model.get("type") != "BPE":
        return f"its tokenizer is of the kind {model.get('type')}, and tpe writes BPE"
    kind, pre, adds_space = "llama", "default", False
    if model.get("byte_fallback"):
        adds_space = _begins_with_space(backend)
        if why := _not_characters(backend, adds_space):
            return why
    else:
        rule = _rule(backend, bool(model.get("ignore_merges")))
        if rule is None:
            rules = ", ".join(CUTS)
            return f"its tokenizer cuts a text into words by a rule that is none of those tpe names ({rules})"
        kind, pre = "gpt2", rule
    tokens, types = _tokens(document, rows)
    merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    ids = tokenizer("a")["input_ids"]
    roles = {role: getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "unk", "pad")}
    template = getattr(tokenizer, "chat_template", None)
    return GgufVocabulary(
        model=kind,
        pre=pre,
        tokens=tokens,
        types=types,
        merges=merges if kind == "gpt2" else (),
        scores=_scores(tokens, merges) if kind == "llama" else (),
        special={role: token_id for role, token_id in roles.items() if token_id is not None and token_id < rows},
        adds_bos=roles["bos"] is not None and ids[0] == roles["bos"],
        adds_eos=roles["eos"] is not None and len(ids) > 1 and ids[-1] == roles["eos"],
        adds_space=adds_space,
        chat_template=template if isinstance(template, str) else "",
    )


def _rule(backend: Any, ignores_merges: bool) -> str | None:
    """llama.cpp's name of the rule by which a byte-level tokenizer cuts a text into words; None where it has none."""
    if backend.pre_tokenizer is None:
        return None
    words = backend.pre_tokenizer.pre_tokenize_str(PROBE)
    if words[0][0] != "we":  # a space is put before the text
        return None
    cut = "|".join(PROBE[first:last] for _, (first, last) in words)
    for name, expected in CUTS.items():
        if cut == expected and ignores_merges == (name == "llama-bpe"):
            return name
    return None


def _begins_with_space(backend: Any) -> bool:
    return bool(backend.encode("ab", add_special_tokens=False).tokens[0].startswith(SPACE))


def _not_characters(backend: Any, adds_space: bool) -> str:
    """Why a tokenizer with a fallback to bytes is not SentencePiece's; empty where it is."""
    text = "a  b\nc"
    joined = "".join(backend.encode(text, add_special_tokens=False).tokens)
    for byte in range(256):
        joined = joined.replace(f"<0x{byte:02X}>", chr(byte))
    if joined != (SPACE if adds_space else "") + text.replace(" ", SPACE):
        return "its tokenizer changes a text before it cuts it, which that of llama.cpp does not"
    return ""


def _tokens(document: Mapping[str, Any], rows: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(texts, types) by id; a row without a token is an unused one."""
    model = document["model"]
    tokens = [f"[PAD{row}]" for row in range(rows)]
    types = [UNUSED] * rows
    fallback, unknown = model.get("byte_fallback"), model.get("unk_token")
    for token, token_id in model["vocab"].items():
        if token_id < rows:
            is_byte = fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
            tokens[token_id], types[token_id] = token, BYTE if is_byte else NORMAL
    for added in document["added_tokens"]:
        if added["id"] < rows:
            kind = CONTROL if added["special"] else USER_DEFINED
            tokens[added["id"]] = added["content"]
            types[added["id"]] = UNKNOWN if fallback and added["content"] == unknown else kind
    return tuple(tokens), tuple(types)


def _scores(tokens: Sequence[str], merges: Sequence[str]) -> tuple[float, ...]:
    """What SentencePiece's algorithm goes by: minus the rank of the first merge that makes a token."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", "", 1), rank)
    last = len(merges)
    return tuple(-float(ranks.get(token, last)) for token in tokens)
