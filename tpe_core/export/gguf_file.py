"""An edit in a GGUF file, which llama.cpp, Ollama and all that is built on them run at no cost.

The edited head is written in full as ``output.weight`` beside everything that the source holds, a GGUF file or a
Hugging Face model of an architecture that can be converted; where the source has no head of its own, its head is the
token embedding, from which the file is untied. What needs a constant outside that matrix (a replacement by means, the
method ``bias``) is held only along a direction of h.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import torch

from tpe_core.checkpoint.bake import closest_copy
from tpe_core.checkpoint.comparison import RuntimeComparison, compare, predicted, prompts_for
from tpe_core.checkpoint.plan import choose_head
from tpe_core.checkpoint.verify import Loss
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import TpeError
from tpe_core.export.gguf_convert import convert_with_head, converted_bytes, not_convertible
from tpe_core.export.gguf_copy import HEAD, HEAD_TYPES, EncodedHead, copy_with_head, encoded
from tpe_core.export.llama_answers import answers_of_file
from tpe_core.export.llama_cpp import is_installed, tokens_in_llama_cpp
from tpe_core.export.plan import MADE_BY, Exported, Request, Verdict
from tpe_core.export.single_file import publish_file, staged_file
from tpe_core.manifest.in_gguf import ARRAYS_KEY, MANIFEST_KEY, metadata_entries
from tpe_core.manifest.io import format_document
from tpe_core.manifest.manifest import Manifest, arrays_bytes, read_manifest
from tpe_core.models.gguf_header import GgufProblem, is_gguf, read_header
from tpe_core.models.model import LanguageModel
from tpe_core.outputs import check_output, shown_path
from tpe_core.printable import fit, printable_token
from tpe_core.progress import Progress, Steps
from tpe_core.store import write_file

__all__ = ["check_gguf", "export_gguf", "judge_gguf"]

FORMAT = "gguf"
FOLLOWS = 3.0, 0.02
"""A file is refused where it differs from the prediction by more than so many times what the unedited file does, and
so much more."""

CONVERTED = 0.1
"""The difference of the unedited model beyond which a conversion is another model."""

TEXTS = (
    "We'll see: it's 12,345.67 (or 1/3) -- isn't IT'S?\n\n  def f(x):\n\treturn x**2  # done!!\n",
    "Größe, naïve café; “quoted” — Привет, мир! 日本語の文章です。 مرحبا नमस्ते 한국어 🙂👍🏽  \r\n end ",
)
"""What tokenizers cut apart differently: contractions, digits, white space, signs, scripts, an emoji of two parts."""

EMBEDDING = "token_embd.weight"


def judge_gguf(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    """Whether a GGUF file's head holds an edit, by its source file and architecture.

    Raises `TpeError` where the edit is of another head.
    """
    why = _cannot(model)
    if why:
        return Verdict(format=FORMAT, holding="not", how=why)
    plan = choose_head(model, edit)
    form = f"the edited head as {HEAD}"
    form += f", untied from {EMBEDDING}" if model.head.tied else ""
    if plan.is_exact:
        return Verdict(format=FORMAT, holding="exactly", how=form)
    how = f"{form}, its constants along the direction of h closest to one: the KL is measured, and needs --allow-lossy"
    return Verdict(format=FORMAT, holding="at a cost", how=how)


def _cannot(model: LanguageModel) -> str:
    """Why no GGUF file can be made of a model with any edit; empty where one can."""
    if model.task != "causal":
        return f"{model.name} is no causal language model, which is what llama.cpp is asked to run"
    if model.gguf is None:
        return not_convertible(model)
    if model.adapter is not None:
        return f"the adapter {model.adapter.name} is on {model.name}, and the rest of the file would be without it"
    architecture = model.gguf.architecture
    if not _reads_head(architecture):
        return f"llama.cpp never reads {HEAD} of the architecture {architecture}: its head is {EMBEDDING} always"
    shapes = {tensor.name: tensor.shape for tensor in read_header(model.gguf.path).tensors}
    wanted = (model.site.head.out_features, model.head.hidden_size)  # type: ignore[union-attr]
    shape = shapes.get(HEAD, shapes.get(EMBEDDING))
    if shape != wanted:
        return f"the head in {model.gguf.name} is {list(shape or ())}, and the loaded one {list(wanted)}"
    return ""


def _reads_head(architecture: str) -> bool:
    """Whether llama.cpp reads a head of its own for an architecture, as the package gguf lists its tensors."""
    from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSOR, MODEL_TENSORS

    known = next((arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture), None)
    return known is None or MODEL_TENSOR.OUTPUT in MODEL_TENSORS.get(known, ())


def check_gguf(out: Path, may_replace: bool) -> None:
    """Refuse a place where no GGUF file should be written. Raises `TpeError`, or `ExistsError`."""
    check_output(out, "a GGUF file that tpe wrote", _is_ours, replace=may_replace)


def _is_ours(path: Path) -> bool:
    try:
        return is_gguf(path) and MADE_BY in read_header(path).metadata
    except GgufProblem:
        return False


def export_gguf(request: Request, verdict: Verdict) -> Steps[Exported]:
    """Write the source with the edited head, run it in llama.cpp where that is installed, and compare: a job.

    `settings` are ``head_type`` (one of `HEAD_TYPES`) and ``modelfile`` (whether Ollama's is written beside it). The
    file appears finished or not at all. Raises `TpeError` where the place, the head or the disk refuses, and where
    llama.cpp does not give the edited distribution.
    """
    model, edit, out = request.model, request.edit, request.out
    kind = str(request.settings.get("head_type", "f16"))
    modelfile = out.with_suffix(".Modelfile") if request.settings.get("modelfile") else None
    check_gguf(out, may_replace=True)
    if model.gguf is not None and out.exists() and os.path.samefile(out, model.gguf.path):
        raise TpeError(f"{shown_path(out)} is the model's own file: choose another name.")
    if modelfile is not None:
        check_output(modelfile, "a Modelfile", _is_modelfile, replace=True)
    document = None if request.manifest is None else read_manifest(request.manifest)[0]
    plan = choose_head(model, edit, request.detection)
    edited, loss = yield from closest_copy(model, edit, plan, request.detection, request.allow_lossy)
    if edited.factor != 1:
        raise TpeError(f"untying the head of {model.name} scales what it is given, which llama.cpp would not do.")
    head, added = encoded(edited.head.weight, kind), _metadata(request.manifest, document)
    with staged_file(out, _bytes_with(model, head)) as temporary:
        untied = yield from _write(model, temporary, head, added)
        comparison, checked = None, "not loaded: xllamacpp is not installed (pip install 'tpe-tui[llamacpp]')"
        if is_installed():
            comparison = yield from _compared(request, temporary, kind, document)
            checked = f"run by {comparison.runtime}"
            _check_follows(comparison, exact=loss is None)
            if model.gguf is None:
                count = yield from _check_conversion(model, temporary, comparison)
                checked += f", whose tokenizer gives the same tokens of {count} texts"
        yield Progress("publish the file", 0)
        size = publish_file(temporary, out)
        if modelfile is not None:
            write_file(modelfile, [_modelfile(out).encode()])
    return Exported(
        format=FORMAT,
        path=out,
        size=size,
        model=model.name,
        revision=model.revision,
        verdict=verdict,
        lost=_lost(kind, loss),
        checked=checked,
        facts={
            "head_type": kind,
            "untied": untied,
            "manifest": _stored(added, document),
            "source_sha256": None if model.gguf is None else model.gguf.sha256,
            "modelfile": None if modelfile is None else str(modelfile),
            "loss": None if loss is None else loss.to_dict(),
        },
        comparison=comparison,
    )


def _lost(kind: str, loss: Loss | None) -> str:
    rounding = f"rounding to {HEAD_TYPES[kind][0]}"
    if loss is None:
        return f"nothing but {rounding}"
    return (
        f"{rounding}, and KL {loss.kl:.3g} nats from the edited distribution, over {loss.positions:,} positions of the "
        f"detecting text ({loss.kl_dropped:.3g} without the constants)"
    )


def _metadata(path: Path | None, manifest: Manifest | None) -> dict[str, str]:
    """tpe's own entries: its version, and the intervention whole where its arrays are not too large."""
    entries = {MADE_BY: importlib.metadata.version("tpe-tui")}
    if manifest is not None and path is not None:
        document = format_document(manifest.model_dump(mode="json", by_alias=True))
        entries |= metadata_entries(document, arrays_bytes(path, manifest))
    return entries


def _stored(added: dict[str, str], manifest: Manifest | None) -> str:
    """What of the intervention the file holds: "whole", "json" or "nothing"."""
    if manifest is None or MANIFEST_KEY not in added:
        return "nothing"
    return "whole" if ARRAYS_KEY in added or not manifest.needed_arrays() else "json"


def _bytes_with(model: LanguageModel, head: EncodedHead) -> int:
    """What the file takes at most."""
    if model.gguf is None:
        return converted_bytes(model, head)
    return model.gguf.path.stat().st_size + head.values.nbytes


def _write(model: LanguageModel, target: Path, head: EncodedHead, added: dict[str, str]) -> Steps[bool]:
    """Write the model with a head; whether that unties it: a job."""
    if model.gguf is None:
        return (yield from convert_with_head(model, target, head, added))
    return (yield from copy_with_head(model.gguf.path, target, head, added))


def _compared(request: Request, made: Path, kind: str, manifest: Manifest | None) -> Steps[RuntimeComparison]:
    """What llama.cpp gives after the self-test's prompts by the new file and without the edit.

    Without it by the GGUF file that the model came as; where it came as none, by the same conversion with the model's
    own head.
    """
    model = request.model
    prompts = prompts_for(model, manifest)
    wanted = predicted(model, request.edit, prompts)
    runtime, edited = yield from answers_of_file(model, made, prompts)
    if model.gguf is not None:
        _, unedited = yield from answers_of_file(model, model.gguf.path, prompts)
    else:
        own = encoded(model.site.head.weight, kind)  # type: ignore[union-attr]
        with staged_file(request.out, _bytes_with(model, own)) as plain:
            yield from _write(model, plain, own, {})
            _, unedited = yield from answers_of_file(model, plain, prompts)
    return compare(model, runtime, prompts, wanted, (edited, unedited))


def _check_follows(comparison: RuntimeComparison, exact: bool) -> None:
    """Raise `TpeError` where llama.cpp gives something else than the edit, beyond what it makes of the source."""
    times, more = FOLLOWS
    limit = times * comparison.unedited_difference + more
    if exact and comparison.edited_difference > limit:
        raise TpeError(
            f"llama.cpp does not give the edited distribution, so none was written: {comparison.sentence}; "
            f"at most {limit:.2g} is explained."
        )


def _check_conversion(model: LanguageModel, made: Path, comparison: RuntimeComparison) -> Steps[int]:
    """Raise `TpeError` where llama.cpp computes or tokenizes otherwise than the converted model; how many texts."""
    advice = "convert the unedited folder with llama.cpp's convert_hf_to_gguf.py and edit that file"
    if comparison.unedited_difference > CONVERTED:
        raise TpeError(
            f"llama.cpp computes something else of the converted model, so none was written: {comparison.sentence}; "
            f"{advice}."
        )
    texts = [*(prompt.prompt for prompt in comparison.edited), *TEXTS]
    by_llama_cpp = yield from tokens_in_llama_cpp(made, texts, threads=torch.get_num_threads())
    for text, ids in zip(texts, by_llama_cpp, strict=True):
        own = list(model.tokenizer(text)["input_ids"])
        if own != ids:
            raise TpeError(
                f"llama.cpp cuts {fit(printable_token(text), 40)!r} into {len(ids)} tokens other than the "
                f"{len(own)} of {model.name}, so none was written: {advice}."
            )
    return len(texts)


MODELFILE = "# Made by tpe bake: ollama create NAME -f THIS-FILE"


def _modelfile(out: Path) -> str:
    """Ollama reads the chat template and the tokenizer from the file itself."""
    return f"{MODELFILE}\nFROM ./{out.name}\n"


def _is_modelfile(path: Path) -> bool:
    return path.read_text(encoding="utf-8", errors="replace").startswith(MODELFILE)
