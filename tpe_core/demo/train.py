"""Trains the bundled model (`tpe demo train`): tokenizer, tokens, a GPT-2, and the record of its own training.

Everything lands in one working folder and is resumable: finished parts are found again, and training
goes on from its last checkpoint with the same data order (a function of seed and step alone).
"""

from __future__ import annotations

import contextlib
import io
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name
from transformers import PreTrainedTokenizerFast

from tpe_core.allocator import keep_freed_memory
from tpe_core.demo.card import model_card
from tpe_core.demo.network import new_model, optimizers_of
from tpe_core.demo.prepare import END_OF_TEXT, prepare, write
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.record import checkpoint_record, halfway
from tpe_core.dynamics.measure.frequency import COUNTS, Frequencies
from tpe_core.dynamics.probe import EncodingProbe
from tpe_core.dynamics.probe_log import open_log
from tpe_core.errors import TpeError, reason_of
from tpe_core.json_text import json_text, nulled
from tpe_core.progress import Progress, Steps

__all__ = ["FINAL_BLOCKS", "LOG", "Course", "claim", "claim_folder", "fit_recipe", "held_out_loss", "train"]

LOG = "dynamics.jsonl"  # the probe's log, in a run's folder
SAVE_EVERY = 250  # steps
REPORT_EVERY = 10  # steps
PROBE_BLOCKS = 32  # held-out blocks for the loss at every recorded step (about a second)
FINAL_BLOCKS = 1024  # held-out blocks for the loss that the model card states


def train(
    folder: Path, recipe: Recipe | None = None, text: Iterator[str] | None = None, threads: int | None = None
) -> Steps[dict[str, Any]]:
    """Train into `folder` and return the training record (also written there as ``training.json``).

    Leaves ``model/`` (float16 weights, tokenizer, config, model card), ``checkpoints/step*/`` at log-spaced steps,
    ``counts.npy`` of the training text, and ``dynamics.jsonl``, the probe's log, which can be followed meanwhile.
    `text` replaces the docstrings, for tests. Raises `TpeError` where the folder holds another recipe's run.
    """
    recipe = recipe or Recipe()
    if threads:
        torch.set_num_threads(threads)
    claim(folder, recipe)
    tokenizer, tokens, held_out = yield from prepare(folder, recipe, text)
    model = yield from fit_recipe(folder, recipe, tokens, held_out)
    return (yield from _finish(folder, recipe, model, tokenizer, tokens, held_out))


def claim(folder: Path, recipe: Recipe) -> None:
    """Make the folder, which is this recipe's then. Raises `TpeError` where it is another's or cannot be made."""
    claim_folder(folder, "recipe.json", recipe.to_dict())


def claim_folder(folder: Path, name: str, document: dict[str, Any]) -> None:
    """Make the folder and write what it is for, in the file `name`, or find just that there. Raises `TpeError`."""
    path, mine = folder / name, json_text(document, 1).encode()
    kind = name.removesuffix(".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if other := next(folder.iterdir(), None):
                raise TpeError(f"{folder} holds no run and is not empty ({other.name}): choose another folder.")
            write(path, mine)
        recorded = path.read_bytes()
    except OSError as error:
        raise TpeError(f"{folder} cannot hold a run ({error.strerror or error}): choose another folder.") from error
    if recorded != mine:
        raise TpeError(f"{folder} holds a run of another {kind}: choose another folder, or remove this one.")


@dataclass(frozen=True, kw_only=True)
class Course:
    """What one run does beside its recipe."""

    label: str = "train"  # of its progress
    begin: Callable[[nn.Module], None] | None = None  # changes the new model before step 0
    later: tuple[int, Any] | None = None  # from this step on, batches are drawn from these token ids
    steps: tuple[int, ...] | None = None  # when the probe logs; None: at the recipe's
    checkpoints: bool = True  # whether the model is written at those steps
    observe: Callable[[int, nn.Module, float], None] | None = None  # called there with the held-out loss


def fit_recipe(
    folder: Path, recipe: Recipe, tokens: Any, held_out: Any, course: Course | None = None
) -> Steps[nn.Module]:
    """The recipe's model trained on `tokens`: checkpoints, counts and the probe's log are left in `folder`.

    A run that was stopped goes on from its last saved state. A loss or gradient that is no finite number ends the
    run before the update, with a `TpeError` that says where; the state saved last is kept.
    """
    course = course or Course()
    counts = np.bincount(tokens, minlength=recipe.vocab_size)
    buffer = io.BytesIO()
    np.save(buffer, counts)
    write(folder / COUNTS, buffer.getvalue())
    model = new_model(recipe)
    if course.begin is not None:
        course.begin(model)
    probe = EncodingProbe(
        model,
        Frequencies.of(counts, "the training text"),
        folder / LOG,
        steps=recipe.checkpoint_steps() if course.steps is None else course.steps,
        total=recipe.steps,
        parameters=course.checkpoints,
        recall=lambda step: _weights_at(folder, step),
    )
    with probe:
        yield from _train(folder, recipe, model, (tokens, held_out), probe, course)
    return model


def _weights_at(folder: Path, step: int) -> dict[str, Tensor] | None:
    path = folder / "checkpoints" / f"step{step}" / "model.safetensors"
    return load_file(path) if path.exists() else None


def _train(  # noqa: PLR0917 - the run as it stands
    folder: Path,
    recipe: Recipe,
    model: nn.Module,
    texts: tuple[Any, Any],
    probe: EncodingProbe,
    course: Course,
) -> Steps[None]:
    first_tokens, held_out = texts
    optimizers = optimizers_of(recipe, model)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    state_path = folder / "state.pt"
    step, seconds = _resumed(state_path, model, optimizers)
    saved_step = step
    model.train()
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())
    started = time.monotonic() - seconds
    keep_freed_memory()
    while True:
        loss = None
        if probe.is_due(step):
            loss = held_out_loss(model, recipe, held_out, PROBE_BLOCKS)
            if course.checkpoints:
                _checkpoint(folder, step, model, loss)
            if course.observe is not None:
                course.observe(step, model, loss)
        probe.step(step, model, loss)
        if step == recipe.steps:
            break
        rate = recipe.learning_rate(step)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate
        tokens = first_tokens if course.later is None or step < course.later[0] else course.later[1]
        starts = np.random.default_rng([recipe.seed, step]).integers(0, len(tokens) - recipe.context, recipe.batch_size)
        batch = torch.from_numpy(np.stack([tokens[i : i + recipe.context] for i in starts]).astype(np.int64))
        with autocast:
            logits = model(batch).logits
        training_loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
        training_loss.backward()
        length = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        value = training_loss.item()
        if not (math.isfinite(value) and math.isfinite(length.item())):
            kept = f"; its state after step {saved_step} is kept in {folder}" if saved_step else ""
            raise TpeError(
                f"the training loss became {value:.4g}, its gradient's length {length.item():.4g}, at step {step} of "
                f"{recipe.steps}{kept}: lower the learning rates, in another folder."
            )
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
            buffer = io.BytesIO()
            torch.save(state, buffer)
            write(state_path, buffer.getvalue())
            saved_step = step
        if step % REPORT_EVERY == 0 or step == recipe.steps:
            yield Progress(course.label, step, recipe.steps, note=f"loss {value:.3f}")


def _resumed(path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """(Step, seconds so far) of the state that was saved last, which model and optimisers take; zeros without one."""
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return state["step"], state["seconds"]
    except Exception as error:  # whatever a damaged pickle raises
        raise TpeError(
            f"{path} is no state of this run ({reason_of(error)}): remove it, and the run begins anew."
        ) from None


def held_out_loss(model: nn.Module, recipe: Recipe, held_out: Any, blocks: int) -> float:
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


def _checkpoint(folder: Path, step: int, model: nn.Module, loss: float) -> None:
    with _whole_folder(folder / "checkpoints" / f"step{step}") as path:
        model.save_pretrained(path)
        write(path / "loss.json", json_text({"step": step, "held_out_loss": loss}).encode())


@contextlib.contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write, which takes the place of `path` once the block has ended; else nothing is left of it."""
    staged = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        yield staged
        shutil.rmtree(path, ignore_errors=True)
        staged.replace(path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _finish(  # noqa: PLR0917 - the run as it stands
    folder: Path, recipe: Recipe, model: nn.Module, tokenizer: Tokenizer, tokens: Any, held_out: Any
) -> Steps[dict[str, Any]]:
    """Write the shipped form (float16, whose loss is the one reported), the record, and the model card."""
    yield Progress("evaluate", 0)
    target = folder / "model"
    with _whole_folder(target) as staged:
        model.eval().half().save_pretrained(staged)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=recipe.context
        ).save_pretrained(staged)
    loss = held_out_loss(model.float(), recipe, held_out, FINAL_BLOCKS)
    yield Progress("record", 0)
    checkpoints = checkpoint_record(folder / "checkpoints", np.bincount(tokens, minlength=recipe.vocab_size))
    log = open_log(folder / LOG)
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
        "probe": {"seconds": log.probe_seconds, "training_seconds": log.training_seconds, "share": log.share},
        "halfway_step": halfway(checkpoints),
        "checkpoints": checkpoints,
    }
    for path in (folder / "training.json", target / "training.json"):
        write(path, json_text(nulled(record), 1).encode())
    write(target / "README.md", model_card(record).encode())
    return record
