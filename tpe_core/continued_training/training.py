"""One stretch of a run: transformers' Trainer from a saved step to the next one at which figures are taken.

A stretch always begins from what is on the disk, so a run that was killed goes on as one that was not. What the Trainer
would write of a model is replaced by the parameters that are trained, by name.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from tpe_core.continued_training.batches import Batches
from tpe_core.errors import NumericalError, TpeError, reason_of
from tpe_core.outputs import shown_path
from tpe_core.pauses import pause
from tpe_core.progress import Progress
from tpe_core.store import write_file

__all__ = ["WEIGHTS", "Stretch", "drop_checkpoints", "restore", "train_stretch", "written"]

WEIGHTS = "trained.safetensors"
CLIP = 1.0  # length of a step's gradient, at most

WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)  # torch says a full disk by a RuntimeError


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of a run: `first` and `last` are steps, and `folder` holds the checkpoints of both ends."""

    folder: Path
    first: int
    last: int
    total: int  # steps of the whole run
    batch: int
    learning_rate: float
    seed: int
    label: str  # what is trained, for people


def checkpoint(folder: Path, step: int) -> Path:
    """Where the Trainer keeps a step."""
    return folder / f"checkpoint-{step}"


def drop_checkpoints(folder: Path, *, but: int | None = None) -> None:
    """Remove all checkpoints of a run but one; what cannot be removed stays."""
    for path in folder.glob("checkpoint-*"):
        if path != (None if but is None else checkpoint(folder, but)):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Inside, a disk that refuses is a `TpeError` that says so: what was saved before stays as it is."""
    try:
        yield
    except WRITE_ERRORS as error:
        reason = getattr(error, "strerror", None) or reason_of(error, 120)
        raise TpeError(
            f"{shown_path(folder)} cannot be written ({reason}): what was saved before is kept; make room, "
            "and the same command goes on from there."
        ) from error


def restore(module: nn.Module, folder: Path) -> None:
    """Put the trained parameters of a checkpoint into a model. Raises `TpeError` where they are not its own."""
    path = folder / WEIGHTS
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TpeError(f"{shown_path(path)} cannot be read ({reason_of(error)}): remove its run's folder.") from error
    own = _trained(module)
    if {name: value.shape for name, value in saved.items()} != {name: value.shape for name, value in own.items()}:
        raise TpeError(f"{shown_path(path)} holds the weights of another model: remove its run's folder.")
    with torch.no_grad():
        for name, value in saved.items():
            own[name].copy_(value)


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Reads the blocks as they are laid out, keeps what is trained, and refuses a loss that is no number."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1).float(), inputs["labels"].flatten())
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumericalError(f"the loss became {value} at step {self.state.global_step + 1}")
        self.losses.append(value)
        return loss

    def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
        with written(Path(self.args.output_dir)):
            super()._save_checkpoint(*arguments, **named)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        own = {name: value.detach().cpu().contiguous() for name, value in _trained(self.model).items()}
        write_file(folder / WEIGHTS, [save(own)])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        restore(self.model, Path(resume_from_checkpoint))


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Pauses after every step, and ends the stretch where it is to end, with a checkpoint."""

    def __init__(self, stretch: Stretch) -> None:
        self._stretch = stretch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        pause(Progress("train", state.global_step, self._stretch.total, note=self._stretch.label))
        if state.global_step >= self._stretch.last:
            control.should_training_stop = control.should_save = True
        return control


def train_stretch(module: Any, batches: Batches, stretch: Stretch) -> float:
    """Train a model from step `stretch.first` to `stretch.last` and save it there; the mean loss of these steps.

    Cross-entropy over all positions, AdamW with a constant learning rate, no weight decay, gradients clipped to
    length 1. Raises `NumericalError` where the loss is not finite, `TpeError` where the disk refuses a checkpoint.
    """
    transformers.utils.logging.disable_progress_bar()
    on_cpu = next(module.parameters()).device.type == "cpu"
    with written(stretch.folder):
        arguments = TrainingArguments(
            output_dir=str(stretch.folder),
            max_steps=stretch.total,
            per_device_train_batch_size=stretch.batch,
            learning_rate=stretch.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=CLIP,
            seed=stretch.seed,
            use_cpu=on_cpu,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=not on_cpu,
            log_level="error",
        )
    module.train()
    with _plain_logging():
        trainer = _Trainer(model=module, args=arguments, train_dataset=batches, callbacks=[_Watch(stretch)])
        trainer.losses = []
        for callback in (transformers.PrinterCallback, transformers.ProgressCallback):
            trainer.remove_callback(callback)
        begin = str(checkpoint(stretch.folder, stretch.first)) if stretch.first else None
        try:
            trainer.train(resume_from_checkpoint=begin)
        finally:
            module.eval()
            module.zero_grad(set_to_none=True)
    return math.fsum(trainer.losses) / max(1, len(trainer.losses))


@contextmanager
def _plain_logging() -> Iterator[None]:
    """Inside, transformers says nothing but errors on stderr, and warns of nothing that the user could change."""
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        with suppress(ValueError):
            transformers.utils.logging.set_verbosity(before)
