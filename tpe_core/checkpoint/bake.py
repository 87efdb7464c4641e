"""An edit baked into a plain Hugging Face folder, whose unpatched `from_pretrained` gives the edited distribution.

The form is the most faithful that the architecture has (`checkpoint_plan`); a folder gets its name only after it was
loaded back and gave the edited logits. The model in memory is never edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tpe_core.checkpoint.card import model_card
from tpe_core.checkpoint.comparison import RuntimeComparison, answers, compare, predicted, prompts_for
from tpe_core.checkpoint.folder import check_target, publish, staged_folder
from tpe_core.checkpoint.plan import ADVICE, BakePlan, choose, without_constants
from tpe_core.checkpoint.verify import POSITIONS, Loss, Verified, loss_of, verify
from tpe_core.checkpoint.weights import EditedCopy, edited_copy, mark_untied
from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.detection.detection import Detection
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import ModelError, TpeError
from tpe_core.manifest.manifest import Manifest, check_model, read_edit, read_manifest, write_manifest
from tpe_core.manifest.self_test import prompt_logits
from tpe_core.models.loading import load_steps
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps

__all__ = ["MANIFEST", "Baked", "bake", "closest_copy"]

MANIFEST = "intervention.json"
"""The manifest's name in a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Baked:
    """A finished checkpoint: where it is, the form of the edit in it, what was verified and what is lost.

    Example:
        >>> baked = tpe.run(tpe.bake(model, live.resolved(tpe.Intervention((3, 14))), Path("baked")))
        >>> (baked.path / "config.json").is_file(), baked.loss is None
        (True, True)
    """

    path: Path
    model: str
    revision: str | None
    plan: BakePlan
    untied: bool
    dtype: str
    size: int  # bytes
    verified: Verified
    loss: Loss | None  # None where nothing but rounding is lost
    comparison: RuntimeComparison  # in transformers

    @property
    def form(self) -> str:
        """A sentence that says how the edit is stored."""
        return self.plan.sentence(self.untied)

    def record(self) -> dict[str, Any]:
        """The record of the edit that is saved inside the checkpoint."""
        form = {
            "constants": self.plan.carrier,
            "exact": self.plan.is_exact,
            "head_edited": self.plan.moves_head,
            "untied": self.untied,
            "text": self.form,
        }
        return {
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "representation": form,
            "verified": self.verified.to_dict(),
            "loss": None if self.loss is None else self.loss.to_dict(),
            "comparison": self.comparison.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe bake`."""
        return {"schema": 1, **self.record(), "path": str(self.path), "bytes": self.size}


def bake(
    model: LanguageModel,
    edit: ResolvedEdit,
    out: Path,
    *,
    allow_lossy: bool = False,
    manifest: Path | None = None,
    detection: Detection | None = None,
) -> Steps[Baked]:
    """Write the folder `out`: the model with the edit in its weights, its tokenizer, a card and the manifest: a job.

    It appears finished or not at all; one that an earlier run wrote is replaced. `manifest` is the file that the edit
    was read from: it must fit the model, is copied, and its self-test must hold. An edit whose constants the
    architecture cannot hold exactly needs `allow_lossy`, and the `detection` that measures what is lost.

    Raises `TpeError` in one sentence where the folder, the head or the edit is none that can be baked, where the
    disk is full, and where the checkpoint as loaded back is not the edited model. Then nothing is written.

    Args:
        model: The loaded model.
        edit: The edit with its numbers (`LiveSession.resolved`, `read_edit`).
        out: The folder to write.
        allow_lossy: Whether to write an edit that the architecture can only hold approximately.
        manifest: The file that the edit was read from.
        detection: What measures the loss of an approximation.

    Returns:
        A job; `run` drives it to a `Baked`.

    Example:
        >>> tpe.run(tpe.bake(model, live.resolved(tpe.Intervention((3, 14))), Path("edited"))).path.name
        'edited'
    """
    yield Progress("plan the checkpoint", 0)
    target = check_target(out)
    document = None if manifest is None else _manifest_for(model, edit, manifest)
    edited, loss = yield from closest_copy(model, edit, choose(model, edit, detection), detection, allow_lossy)
    plan = edited.plan
    with staged_folder(target, _bytes_of(edited.hf)) as folder:
        yield Progress("write the checkpoint", 0)
        _save(model, edited, folder)
        if manifest is not None:
            write_manifest(folder / MANIFEST, *read_manifest(manifest))
        loaded = yield from _reload(model, folder)
        yield Progress("compare the checkpoint", 0)
        verified = verify(model, edited, loaded, document)
        comparison = _compared(model, edit, loaded, document)
        baked = Baked(
            path=target,
            model=model.name,
            revision=model.revision,
            plan=plan,
            untied=edited.untied,
            dtype=loaded.report.dtype,
            size=0,
            verified=verified,
            loss=loss,
            comparison=comparison,
        )
        (folder / "README.md").write_text(model_card(model, edit, baked.record(), document), encoding="utf-8")
        size = publish(folder, target, baked.record())
    return replace(baked, size=size)


def _compared(
    model: LanguageModel, edit: ResolvedEdit, loaded: LanguageModel, manifest: Manifest | None
) -> RuntimeComparison:
    """What the checkpoint gives after the self-test's prompts, and the original asked once more, as predicted."""
    import transformers

    prompts = prompts_for(model, manifest)
    found = (answers(prompt_logits(loaded), prompts), answers(prompt_logits(model), prompts))
    return compare(model, f"transformers {transformers.__version__}", prompts, predicted(model, edit, prompts), found)


def closest_copy(
    model: LanguageModel, edit: ResolvedEdit, plan: BakePlan, detection: Detection | None, allow_lossy: bool
) -> Steps[tuple[EditedCopy, Loss | None]]:
    """The model with the edit in its weights in the form of `plan`, and what is lost where that is not exact: a job.

    The constants are left out where that costs less than the closest form. Raises `TpeError` for a form that is not
    exact where there is no `detection` to measure it by, and unless `allow_lossy` permits it.
    """
    if plan.is_exact:
        return edited_copy(model, edit, plan), None
    if detection is None:
        raise TpeError(
            f"{_cannot_hold(model)}: give bake the detection, by which the closest form and its loss are measured; "
            f"or {ADVICE}"
        )
    edited = edited_copy(model, edit, plan)
    loss = yield from _measured_loss(model, edited, detection)
    left_out = loss.kl_dropped < loss.kl_guess
    if left_out:
        edited = edited_copy(model, edit, without_constants(edit))
    if not allow_lossy:
        closest = "leaving them out" if left_out else "the closest form"
        other = f"the direction closest to a constant {loss.kl_guess:.3g}"
        other = other if left_out else f"leaving them out {loss.kl_dropped:.3g}"
        raise TpeError(
            f"{_cannot_hold(model)}; {closest} is {loss.kl:.3g} nats (KL) from the edited distribution on the "
            f"detecting text, {other}: pass --allow-lossy to write that, or {ADVICE}"
        )
    return edited, loss


def _manifest_for(model: LanguageModel, edit: ResolvedEdit, path: Path) -> Manifest:
    """The manifest of an edit. Raises `ManifestError` where it is broken, another head's, or another edit's."""
    document, recorded = read_edit(path)
    check_model(document, model)
    if replace(recorded.intervention, origin="") != replace(edit.intervention, origin=""):
        raise TpeError(f"the edit is not the one of {path}: read it with read_edit, or leave the manifest out.")
    return document


def _cannot_hold(model: LanguageModel) -> str:
    return (
        f"{model.report.architecture} has neither a head bias nor a final norm with an offset, so it cannot hold this "
        "edit's constants exactly"
    )


def _measured_loss(model: LanguageModel, edited: EditedCopy, detection: Detection) -> Steps[Loss]:
    loss = Loss(kl=0.0, kl_dropped=0.0, kl_guess=0.0, unexplained=edited.plan.unexplained, positions=0)
    for loss in loss_of(model, edited, detection.sample.hidden):
        yield Progress("measure what is lost", loss.positions, min(len(detection.sample), POSITIONS))
    return loss


def _tensors(hf: Any) -> Iterator[torch.Tensor]:
    yield from {id(tensor): tensor for tensor in hf.state_dict(keep_vars=True).values()}.values()


def _bytes_of(hf: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(hf))


def _save(model: LanguageModel, edited: EditedCopy, folder: Path) -> None:
    """Write configuration, weights and tokenizer."""
    import transformers

    hf = edited.hf
    generation = getattr(hf, "generation_config", None)
    if generation is not None:  # published ones often hold what transformers refuses to write
        hf.generation_config = transformers.GenerationConfig()
    hf.save_pretrained(folder)
    if generation is not None and hf.can_generate():
        (folder / "generation_config.json").write_text(generation.to_json_string(use_diff=True), encoding="utf-8")
    if edited.untied:
        path = folder / "config.json"
        document = mark_untied(json.loads(path.read_text(encoding="utf-8")), hf.config)
        path.write_text(json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    model.tokenizer.save_pretrained(folder)


def _reload(model: LanguageModel, folder: Path) -> Steps[LanguageModel]:
    """The checkpoint as transformers loads it, on the model's device."""
    options = RunOptions(
        model=str(folder),
        device=str(model.device),
        dtype=model.report.dtype,
        task=model.task,
        vocabulary=model.tokenizer.vocabulary if isinstance(model.tokenizer, IdTokenizer) else None,
        offline=True,
        trust_remote_code=type(model.hf).__module__.startswith("transformers_modules"),
    )
    try:
        loaded: LanguageModel = yield from load_steps(options, reads_text=False)
    except ModelError as error:
        reason = str(error).replace(str(folder), "the new folder")
        raise TpeError(f"the checkpoint cannot be loaded back to be verified, so none was written: {reason}") from error
    return loaded
