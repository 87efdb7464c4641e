"""Tiny transformers tokenizers, built in a moment, and what people do to tokenizers: special ends, added tokens."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["add_tokens", "byte_level", "metaspace", "move_last_token", "put_ends"]

SENTENCES = ["the cat and the dog sat on the mat", "then the other cat ran\n\nto the barn and back"]

BYTE_LEVEL_ENDS = {"eos_token": "<|end|>"}
METASPACE_ENDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@cache
def byte_level() -> Any:
    """A GPT-2-like tokenizer with an end token and no beginning token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **BYTE_LEVEL_ENDS)


@cache
def metaspace() -> Any:
    """A Llama-like tokenizer that begins every text with ``<s>``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdehmnorst", "th", "the", "▁the"]
    model = models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[("t", "h"), ("th", "e"), ("▁", "the")],
        unk_token=METASPACE_ENDS["unk_token"],
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **METASPACE_ENDS)


def put_ends(folder: Path, single: str, names: tuple[str, ...] = ("<|end|>",)) -> Path:
    """Give the tokenizer of a model's folder special tokens around every text, like ``<|end|> $A <|end|>``."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    tokenizer.save_pretrained(folder)
    return folder


def add_tokens(folder: Path, *names: str) -> Path:
    """Add special tokens to the tokenizer of a model's folder and leave the model as it is."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(names)})
    tokenizer.save_pretrained(folder)
    return folder


def move_last_token(folder: Path, by: int) -> tuple[str, int]:
    """Give the token with the highest id of a BPE tokenizer one that is higher by `by`; its spelling and its id."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    spelling = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary[spelling] += by
    path.write_text(json.dumps(document))
    return spelling, vocabulary[spelling]
