"""Two tiny transformers tokenizers, built in a moment: byte-level BPE, and SentencePiece-like BPE with bytes."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["byte_level", "metaspace"]

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
