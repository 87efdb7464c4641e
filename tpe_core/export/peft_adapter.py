"""Steered tokens as a LoRA on the output head, in the folder that peft's `PeftModel.from_pretrained` loads.

Least squares, min-norm and top-k move every steered row along one direction each, so any number of tokens is of rank
three at most: ``W + B A`` with A [r, d] and B [V, r]. The head stays tied to the input embedding where it was, which
is not touched: the LoRA stands beside the head's module only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tpe_core.checkpoint.card import CITATION, base_model, code, edit_lines, manifest_block, measured_lines
from tpe_core.checkpoint.comparison import RuntimeComparison, answers, compare, predicted, prompts_for
from tpe_core.checkpoint.folder import check_target, publish, staged_folder
from tpe_core.checkpoint.plan import check_bakeable, check_edit
from tpe_core.checkpoint.verify import compared_inputs, largest_difference, rounding_of
from tpe_core.checkpoint.weights import shared_copy
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import TpeError, reason_of
from tpe_core.export.low_rank import LowRank, factorised
from tpe_core.export.plan import MANIFEST_FILE, Exported, Request, Verdict
from tpe_core.hooks import apply
from tpe_core.manifest.manifest import Manifest, read_manifest, write_manifest
from tpe_core.manifest.self_test import check, prompt_logits
from tpe_core.models.capture import forward
from tpe_core.models.model import LanguageModel
from tpe_core.printable import printable_token
from tpe_core.progress import Progress, Steps

__all__ = ["CONFIG", "WEIGHTS", "export_adapter", "judge_adapter"]

FORMAT = "peft"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TASKS = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "masked": None}
BESIDE = 2_000_000  # bytes of the card, the manifest and its arrays, about


def judge_adapter(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    """Whether a LoRA on the head of `model` holds an edit.

    Raises `HeadError` where the head is not one plain matrix in memory, `TpeError` where the edit is of another head.
    """
    check_bakeable(model)
    check_edit(model, edit)
    if edit.removed:
        why = f"pruning {len(edit.removed)} dimensions changes every row of the head, which is no change of low rank"
        return Verdict(format=FORMAT, holding="not", how=why)
    if model.adapter is not None:
        why = f"the adapter {model.adapter.name} is on {model.name} already, and a LoRA of the edit alone would lose it"
        return Verdict(format=FORMAT, holding="not", how=why)
    return Verdict(format=FORMAT, holding="exactly", how=_form(factorised(edit.rows), edit, _module(model)))


def _form(low: LowRank, edit: ResolvedEdit, module: str) -> str:
    bias = "" if not edit.biases else ", the constants in the bias of its second matrix (lora_bias)"
    return f"a LoRA of rank {max(1, low.rank)} on {module}{bias}"


def _module(model: LanguageModel) -> str:
    """The head's module by its name in the transformers model."""
    head = model.site.head
    return next(str(name) for name, module in model.hf.named_modules() if module is head)


def export_adapter(request: Request, verdict: Verdict) -> Steps[Exported]:
    """Write the adapter's folder, load it with peft where that is installed, and compare its logits: a job.

    It appears finished or not at all. Raises `TpeError` where the folder cannot be written, and where the base with
    the adapter on it is not the edited model.
    """
    model, edit = request.model, request.edit
    yield Progress("factorise the edit", 0)
    target, module, low = check_target(request.out), _module(model), factorised(edit.rows)
    document = None if request.manifest is None else read_manifest(request.manifest)
    rows, rank = model.site.head.out_features, max(1, low.rank)  # type: ignore[union-attr]
    with staged_folder(target, 4 * rank * (rows + edit.hidden_size) + BESIDE) as folder:
        yield Progress("write the adapter", 0)
        _write_config(model, folder, module, rank, bool(edit.biases))
        _write_weights(model, folder, module, low, edit)
        if document is not None:
            write_manifest(folder / MANIFEST_FILE, *document)
        manifest = None if document is None else document[0]
        yield Progress("compare the adapter", 0)
        comparison, checked = None, "not loaded: peft is not installed (pip install 'tpe-tui[adapters]')"
        if importlib.util.find_spec("peft") is not None:
            comparison, checked = _verified(request, folder, manifest)
        exported = Exported(
            format=FORMAT,
            path=target,
            size=0,
            model=model.name,
            revision=model.revision,
            verdict=verdict,
            lost="nothing but rounding",
            checked=checked,
            facts={"module": module, "rank": rank, "bias": bool(edit.biases), "tied": model.head.tied},
            comparison=comparison,
        )
        yield Progress("describe the adapter", 0)
        (folder / "README.md").write_text(_card(model, edit, exported, manifest), encoding="utf-8")
        yield Progress("publish the adapter", 0)
        size = publish(folder, target, {"format": FORMAT, **exported.record()})
    return replace(exported, size=size)


def _write_config(model: LanguageModel, folder: Path, module: str, rank: int, has_bias: bool) -> None:
    named = [name for name, _ in model.hf.named_modules() if name == module or name.endswith(f".{module}")]
    local = Path(model.name)
    base = str(local.resolve()) if local.exists() else base_model(model) or model.hf.name_or_path
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": TASKS[model.task],
        "base_model_name_or_path": base,
        "revision": model.revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": [module] if len(named) == 1 else re.escape(module),  # a list names every module that ends so
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
    config |= {"lora_bias": True} if has_bias else {}
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _write_weights(model: LanguageModel, folder: Path, module: str, low: LowRank, edit: ResolvedEdit) -> None:
    """A [r, d] and B [V, r] in float32, in units of the head module's output."""
    from safetensors.numpy import save_file

    scale, rank = model.head.post.scale, max(1, low.rank)
    rows = model.site.head.out_features  # type: ignore[union-attr]
    a, b = np.zeros((rank, edit.hidden_size), np.float32), np.zeros((rows, rank), np.float32)
    if low.rank:
        a[:] = low.directions
        b[list(low.ids)] = low.coefficients / scale
    tensors = {f"base_model.model.{module}.lora_A.weight": a, f"base_model.model.{module}.lora_B.weight": b}
    if edit.biases:
        bias = np.zeros(rows, np.float32)
        bias[list(edit.biases)] = np.array(list(edit.biases.values())) / scale
        tensors[f"base_model.model.{module}.lora_B.bias"] = bias
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@contextmanager
def _loaded(model: LanguageModel, folder: Path) -> Iterator[tuple[LanguageModel, Any]]:
    """(`model` with the adapter on it, peft's model around it), beside the original, whose tensors they share."""
    hf = shared_copy(model.hf)
    trainable = [(parameter, parameter.requires_grad) for parameter in hf.parameters()]
    try:
        yield replace(model, hf=hf), _around(hf, folder)
    finally:  # peft freezes what it is given
        for parameter, was in trainable:
            parameter.requires_grad_(was)


def _around(hf: Any, folder: Path) -> Any:
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the head is tied: it stays so, and is not merged
        try:
            return peft.PeftModel.from_pretrained(hf, str(folder)).eval()
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            raise TpeError(f"peft cannot load the adapter, so none was written: {reason_of(error)}.") from error


def _verified(request: Request, folder: Path, manifest: Manifest | None) -> tuple[RuntimeComparison, str]:
    """(what peft's model answers, a sentence of it). Raises `TpeError` with the first difference."""
    model, edit = request.model, request.edit
    prompts = prompts_for(model, manifest)
    wanted = predicted(model, edit, prompts)
    error = limit = 0.0
    eps = torch.finfo(model.hf.dtype).eps
    with _loaded(model, folder) as (adapted, around):
        embeddings = [hf.get_input_embeddings().weight for hf in (model.hf, adapted.hf)]
        layers = [name for name, part in adapted.hf.named_modules() if name.endswith("lora_A")]
        if embeddings[0] is not embeddings[1] or len(layers) != 1:
            raise _different(f"it changes more than the head ({', '.join(layers)})")
        for inputs in compared_inputs(model):
            with apply(model, edit):
                theirs = forward(model.hf, inputs).logits.float()
            ours = forward(adapted.hf, inputs).logits.float()
            rounding = rounding_of(model.head, model.hidden(inputs).float()) * (
                4 * eps + 16 * torch.finfo(torch.float32).eps
            )
            limit = max(limit, rounding + 8 * eps * float(theirs[theirs.isfinite()].abs().max()))
            error = max(error, largest_difference(theirs, ours))
        if not error <= limit:
            raise _different(f"logits differ by {error:.3g}, and rounding explains {limit:.2g}")
        if manifest is not None:
            mismatches = check(manifest, prompt_logits(adapted), dtype=model.report.dtype)
            if mismatches:
                raise _different(f"the manifest's self-test is not reproduced: {mismatches[0]}")
        edited = answers(prompt_logits(adapted), prompts)
        with around.disable_adapter():
            plain = answers(prompt_logits(adapted), prompts)
    runtime = f"peft {importlib.metadata.version('peft')}"
    comparison = compare(model, runtime, prompts, wanted, (edited, plain))
    tested = "; the manifest's self-test holds" if manifest is not None and manifest.self_test is not None else ""
    return comparison, f"loaded with {runtime}: logits within {error:.2g} of the edited model's{tested}"


def _different(what: str) -> TpeError:
    return TpeError(f"the adapter, loaded by peft, is not the edited model, so none was written: {what}.")


def _card(model: LanguageModel, edit: ResolvedEdit, exported: Exported, manifest: Manifest | None) -> str:
    front = ["---", "library_name: peft", "tags:", "- tpe", "- lora"]
    if base := base_model(model):
        front.append(f"base_model: {base}")
    tied = (
        "\n\nThe head of this model is tied to its input embedding. Loaded as it is, the adapter leaves the embedding "
        "alone. `merge_and_unload` would write the edit into both: untie the head first, or use `tpe bake --to hf`."
    )
    parts = [
        "\n".join([*front, "---"]),
        f"# An edited output head for {code(printable_token(model.name))}",
        "Made by `tpe bake --to peft`. `PeftModel.from_pretrained(base, FOLDER)` gives the edited distribution."
        + (tied if model.head.tied else ""),
        "## The edit\n\n" + "\n".join(f"- {line}" for line in edit_lines(model, edit)),
        f"## How it is stored\n\nIt is {exported.verdict.how}, alpha equal to the rank, in float32.",
        f"## Verified\n\n{exported.checked[:1].upper()}{exported.checked[1:]}.",
    ]
    if manifest is not None:
        if lines := measured_lines(manifest):
            parts.append("## Measured\n\n" + "\n".join(f"- {line}" for line in lines))
        parts.append(manifest_block(manifest))
    return "\n\n".join([*parts, CITATION]) + "\n"
