"""Tiny models built from configs, one per kind of head that is accepted or refused, and text for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from tpe_core.corpus.corpus import Corpus, stretches_of

VOCAB = 320  # ids the tiny tokenizer can produce
WIDTH = 16
CONTEXT = 64
WORDS = "the a of to and value returns list number is in for str int array shape dict none true false self key".split()


def text(seed: int, words: int = 4000) -> str:
    """Random text with a Zipf-like word distribution."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    chosen = rng.choice(WORDS, size=words, p=weights / weights.sum())
    return " ".join(f"{word}{'.' if i % 13 == 12 else ''}" for i, word in enumerate(chosen))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    alphabet = [f"{a}{b}" for a in WORDS for b in WORDS]
    tokenizer.train_from_iterator([text(0), *alphabet], trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>", model_max_length=CONTEXT
    )


def tiny_config(kind: str) -> Any:
    """A config by kind: tied (gpt2, gemma), head bias (gptj), padded rows (neox), scaled (granite), capped (gemma2)."""
    llama = {
        "vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    gpt = {
        "vocab_size": VOCAB,
        "n_positions": CONTEXT,
        "n_embd": WIDTH,
        "n_layer": 2,
        "n_head": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    makers: dict[str, Callable[[], Any]] = {
        "gpt2": lambda: GPT2Config(**gpt, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        "gptj": lambda: GPTJConfig(**gpt, rotary_dim=4),
        "neox": lambda: GPTNeoXConfig(**(llama | {"vocab_size": VOCAB + 12})),
        "llama": lambda: LlamaConfig(**llama),
        "gemma": lambda: GemmaConfig(**llama, head_dim=8),
        "granite": lambda: GraniteConfig(**llama, logits_scaling=4.0),
        "gemma2": lambda: Gemma2Config(**llama, head_dim=8, final_logit_softcapping=0.05),
    }
    return makers[kind]()


def save_tiny(folder: Path, kind: str = "gpt2", edit: Callable[[Any], None] | None = None, **options: Any) -> Path:
    """Write a tiny random model and its tokenizer as a Hugging Face folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind), **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(8 if "embed" in name or "wte" in name or "lm_head" in name else 2).add_(
                0.05 * torch.randn_like(parameter)
            )
        if edit is not None:
            edit(model)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def random_corpus(blocks: int, length: int, seed: int = 0, vocab: int = VOCAB) -> Corpus:
    """Blocks of random token ids."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab, size=(blocks, length + 1))
    return Corpus(
        blocks=ids[:, :-1],
        targets=ids[:, 1:],
        block_hash=rng.integers(0, 2**64, size=blocks, dtype=np.uint64),
        stretch=stretches_of(blocks),
        label="random",
        fingerprint=f"{seed:064x}",
        part="detect",
        add_bos=False,
    )


def slice_corpus(corpus: Corpus, first: int, last: int) -> Corpus:
    """Some blocks of a corpus."""
    return Corpus(
        blocks=corpus.blocks[first:last],
        targets=corpus.targets[first:last],
        block_hash=corpus.block_hash[first:last],
        stretch=corpus.stretch[first:last],
        label=corpus.label,
        fingerprint=corpus.fingerprint[:-8] + f"{first:04x}{last:04x}",
        part=corpus.part,
        add_bos=corpus.add_bos,
    )


def tuned(hf: Any) -> None:
    """A fine-tune: every weight a little elsewhere."""
    generator = torch.Generator().manual_seed(5)
    for parameter in hf.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
