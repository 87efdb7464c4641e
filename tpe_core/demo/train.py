"""Trains the bundled model (`tpe demo train`): tokenizer, tokens, a GPT-2, and the record of its own training.

Everything lands in one working folder and is resumable: finished parts are found again, and training
goes on from its last checkpoint with the same data order (a function of seed and step alone).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its customary name
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tpe_core.demo import corpus
from tpe_core.demo.card import model_card
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.record import checkpoint_record, halfway
from tpe_core.errors import TpeError
from tpe_core.progress import Progress, Steps
from tpe_core.store import stage

__all__ = ["END_OF_TEXT", "train"]

END_OF_TEXT = "<|endoftext|>"
END_ID = 0  # the only special token, so the first
SAVE_EVERY = 250  # steps
REPORT_EVERY = 10  # steps
PROBE_BLOCKS = 32  # held-out blocks for the loss at every recorded step (about a second)
FINAL_BLOCKS = 1024  # held-out blocks for the loss that the model card states


def train(
    folder: Path, recipe: Recipe | None = None, text: Iterator[str] | None = None, threads: int | None = None
) -> Steps[dict[str, Any]]:
    """Train into `folder` and return the training record (also written there as ``training.json``).

    Leaves ``model/`` (float16 weights, tokenizer, config, model card) and ``checkpoints/step*/`` at log-spaced steps.
    `text` replaces the docstrings, for tests. Raises `TpeError` where the folder holds another recipe's run.
    """
    recipe = recipe or Recipe()
    if threads:
        torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, recipe)
    tokenizer = yield from _tokenizer(folder, recipe, text)
    tokens, held_out = yield from _tokens(folder, tokenizer, text)
    model = yield from _fit(folder, recipe, tokens, held_out)
    return (yield from _finish(folder, recipe, model, tokenizer, tokens, held_out))


def _claim(folder: Path, recipe: Recipe) -> None:
    path = folder / "recipe.json"
    if path.exists():
        if json.loads(path.read_text()) != recipe.to_dict():
            raise TpeError(f"{folder} holds a run of another recipe: choose another folder, or remove this one.")
    else:
        _write(path, json.dumps(recipe.to_dict(), indent=1).encode())


def _write(path: Path, data: bytes) -> None:
    stage(path, [data]).replace(path)


def _documents(folder: Path, part: str, text: Iterator[str] | None) -> Iterator[str]:
    path = folder / f"{part}.jsonl"
    if not path.exists():
        if text is None:
            source = corpus.training() if part == "train" else corpus.held_out()
        else:
            documents = list(text)
            cut = max(1, len(documents) // 10)
            for name, some in (("held_out", documents[:cut]), ("train", documents[cut:])):
                _write(folder / f"{name}.jsonl", "\n".join(map(json.dumps, some)).encode())
            source = None
        if source is not None:
            _write(path, "\n".join(map(json.dumps, source)).encode())
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _tokenizer(folder: Path, recipe: Recipe, text: Iterator[str] | None) -> Steps[Tokenizer]:
    path = folder / "tokenizer.json"
    yield Progress("read docstrings", 0)
    documents = _documents(folder, "train", text)
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=recipe.vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        yield Progress("train tokenizer", 0)
        tokenizer.train_from_iterator(documents, trainer)
        _write(path, tokenizer.to_str().encode())
    return Tokenizer.from_file(str(path))


def _tokens(folder: Path, tokenizer: Tokenizer, text: Iterator[str] | None) -> Steps[tuple[Any, Any]]:
    arrays = []
    for part in ("train", "held_out"):
        path = folder / f"{part}.npy"
        if not path.exists():
            ids: list[int] = []
            documents = _documents(folder, part, text)
            while batch := list(itertools.islice(documents, 1000)):
                for encoding in tokenizer.encode_batch(batch):
                    ids += [END_ID, *encoding.ids]
                yield Progress(f"tokenise {part}", len(ids))
            temporary = path.with_name(path.name + ".tmp")
            with temporary.open("wb") as file:
                np.save(file, np.array(ids, dtype=np.uint16))
            temporary.replace(path)
        arrays.append(np.load(path, mmap_mode="r"))
    return arrays[0], arrays[1]


def _new_model(recipe: Recipe) -> GPT2LMHeadModel:
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=recipe.vocab_size,
        n_positions=recipe.context,
        n_embd=recipe.hidden_size,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=True,
    )
    return GPT2LMHeadModel(config)


def _optimizers(recipe: Recipe, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest.

    Muon orthogonalises each matrix update. On this model and text it was ahead of AdamW (learning rate 0.002 for
    everything) from the start: training loss 5.01 against 5.63 nats at step 150 of a 250-step try of each.
    GPT-2 stores its matrices as Conv1D weights, which are 2-D like any other.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    embeddings = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." not in name]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        torch.optim.Muon(
            matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay, momentum=0.95, adjust_lr_fn="original"
        ),
        torch.optim.AdamW(
            [
                {"params": embeddings, "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.other_lr,
            betas=(0.9, 0.95),
        ),
    ]


def _fit(folder: Path, recipe: Recipe, tokens: Any, held_out: Any) -> Steps[GPT2LMHeadModel]:
    model = _new_model(recipe)
    optimizers = _optimizers(recipe, model)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    state_path = folder / "state.pt"
    step, seconds = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, seconds = state["step"], state["seconds"]
    model.train()
    record_steps = set(recipe.checkpoint_steps())
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())
    started = time.monotonic() - seconds
    _keep_freed_memory()
    while True:
        if step in record_steps:
            _checkpoint(folder, step, model, _loss(model, recipe, held_out, PROBE_BLOCKS))
        if step == recipe.steps:
            break
        rate = recipe.learning_rate(step)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate
        starts = np.random.default_rng([recipe.seed, step]).integers(0, len(tokens) - recipe.context, recipe.batch_size)
        batch = torch.from_numpy(np.stack([tokens[i : i + recipe.context] for i in starts]).astype(np.int64))
        with autocast:
            logits = model(batch).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % SAVE_EVERY == 0 or step == recipe.steps:
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "seconds": time.monotonic() - started,
            }
            temporary = state_path.with_suffix(".tmp")
            torch.save(state, temporary)
            temporary.replace(state_path)
        if step % REPORT_EVERY == 0 or step == recipe.steps:
            value = loss.item()
            if not math.isfinite(value):
                raise TpeError(f"the training loss became {value} at step {step}: lower the learning rates.")
            yield Progress("train", step, recipe.steps, f"loss {value:.3f}")
    return model


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory: a step takes and frees 130 MB of logits, and page faults cost a third of it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(-4, 0)  # M_MMAP_MAX: no separate mappings for large blocks
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _loss(model: GPT2LMHeadModel, recipe: Recipe, held_out: Any, blocks: int) -> float:
    """Mean next-token loss in nats on the first held-out `blocks`, in float32."""
    model.eval()
    blocks = max(1, min(blocks, len(held_out) // recipe.context))
    losses = []
    for first in range(0, blocks, 8):
        last = min(first + 8, blocks)
        ids = np.asarray(held_out[first * recipe.context : last * recipe.context], dtype=np.int64)
        batch = torch.from_numpy(ids.reshape(last - first, recipe.context))
        with torch.no_grad():
            logits = model(batch).logits.float()
        losses += [float(F.cross_entropy(z[:-1], y[1:])) for z, y in zip(logits, batch, strict=True)]
    model.train()
    return sum(losses) / len(losses)


def _checkpoint(folder: Path, step: int, model: GPT2LMHeadModel, loss: float) -> None:
    path = folder / "checkpoints" / f"step{step}"
    path.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(path)
    _write(path / "loss.json", json.dumps({"step": step, "held_out_loss": loss}).encode())


def _finish(  # noqa: PLR0917 - the run as it stands
    folder: Path, recipe: Recipe, model: GPT2LMHeadModel, tokenizer: Tokenizer, tokens: Any, held_out: Any
) -> Steps[dict[str, Any]]:
    """Write the shipped form (float16, whose loss is the one reported), the record, and the model card."""
    yield Progress("evaluate", 0)
    target = folder / "model"
    model.eval().half().save_pretrained(target)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=recipe.context
    ).save_pretrained(target)
    loss = _loss(model.float(), recipe, held_out, FINAL_BLOCKS)
    yield Progress("record", 0)
    checkpoints = checkpoint_record(folder / "checkpoints", np.bincount(tokens, minlength=recipe.vocab_size))
    record = {
        "schema": 1,
        "recipe": recipe.to_dict(),
        "training_tokens": len(tokens),
        "held_out_tokens": len(held_out),
        "held_out_loss": loss,
        "held_out_positions": min(FINAL_BLOCKS, len(held_out) // recipe.context) * (recipe.context - 1),
        "seconds": torch.load(folder / "state.pt", weights_only=True)["seconds"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "halfway_step": halfway(checkpoints),
        "checkpoints": checkpoints,
    }
    for path in (folder / "training.json", target / "training.json"):
        _write(path, json.dumps(record, indent=1).encode())
    _write(target / "README.md", model_card(record).encode())
    return record
