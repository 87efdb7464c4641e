"""The formats that an edit can be written in: one record for each, the planner that judges them, and the export.

A new one is one entry of `FORMATS`: the help and the completion of `tpe bake`, what a refusal offers instead, and the
documentation's test are made from it. Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tpe_core.errors import TpeError
from tpe_core.export.plan import Request, Verdict
from tpe_core.progress import Progress, Steps
from tpe_core.registry import Registry

if TYPE_CHECKING:
    from tpe_core.edits.edit import ResolvedEdit
    from tpe_core.models.model import LanguageModel

__all__ = ["FORMATS", "Format", "Written", "export", "planned"]


class Written(Protocol):
    """What an export returns."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe bake`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One format.

    `check` refuses a place to write to before a model is loaded; its second argument says whether what is of the
    format's own kind there may be replaced. `judge` raises `TpeError` where the model is none that can be written.
    """

    name: str
    about: str
    check: Callable[[Path, bool], object]
    judge: Callable[[LanguageModel, ResolvedEdit], Verdict]
    write: Callable[[Request, Verdict], Steps[Written]]
    settings: tuple[str, ...] = ()  # names of what `Request.settings` may hold


def planned(model: LanguageModel, edit: ResolvedEdit, to: str) -> Verdict:
    """What the format `to` can hold of an edit of a model, before anything is written.

    Raises `TpeError` where there is no such format, or the model is none that it can be written from.
    """
    verdict = FORMATS.choose(to).judge(model, edit)
    if verdict.holding != "not":
        return verdict
    return replace(verdict, instead=tuple(name for name in FORMATS if name != to and _holds(model, edit, name)))


def _holds(model: LanguageModel, edit: ResolvedEdit, name: str) -> bool:
    try:
        return FORMATS[name].judge(model, edit).holding != "not"
    except TpeError:
        return False


def export(request: Request, to: str) -> Steps[Written]:
    """Write an edit in a format, load it in its own runtime where that is installed, and compare: a job.

    What is written appears finished or not at all. Raises `TpeError` with the verdict where the format cannot hold the
    edit, and where what came out is not the edited model; nothing is written then.
    """
    yield Progress("plan the export", 0)
    verdict = planned(request.model, request.edit, to)
    if verdict.holding == "not":
        raise TpeError(verdict.sentence)
    written: Written = yield from FORMATS[to].write(request, verdict)
    return written


def _check_folder(out: Path, may_replace: bool) -> object:
    from tpe_core.checkpoint.folder import check_target

    return check_target(out, replace=may_replace)


def _judge_folder(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    from tpe_core.checkpoint.plan import choose

    plan = choose(model, edit)
    if plan.is_exact:
        return Verdict(format="hf", holding="exactly", how=plan.sentence(plan.moves_head and model.head.tied))
    how = "the architecture has no place for its constants; the closest form's KL is measured, and needs --allow-lossy"
    return Verdict(format="hf", holding="at a cost", how=how)


def _write_folder(request: Request, _: Verdict) -> Steps[Written]:
    from tpe_core.checkpoint.bake import bake

    return bake(
        request.model,
        request.edit,
        request.out,
        allow_lossy=request.allow_lossy,
        manifest=request.manifest,
        detection=request.detection,
    )


def _judge_peft(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    from tpe_core.export.peft_adapter import judge_adapter

    return judge_adapter(model, edit)


def _write_peft(request: Request, verdict: Verdict) -> Steps[Written]:
    from tpe_core.export.peft_adapter import export_adapter

    return export_adapter(request, verdict)


def _check_biases(out: Path, may_replace: bool) -> None:
    from tpe_core.export.logit_bias import check_bias_file

    check_bias_file(out, may_replace)


def _judge_biases(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    from tpe_core.export.logit_bias import judge_logit_bias

    return judge_logit_bias(model, edit)


def _write_biases(request: Request, verdict: Verdict) -> Steps[Written]:
    from tpe_core.export.logit_bias import export_logit_bias

    return export_logit_bias(request, verdict)


def _check_gguf(out: Path, may_replace: bool) -> None:
    from tpe_core.export.gguf_file import check_gguf

    check_gguf(out, may_replace)


def _judge_gguf(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    from tpe_core.export.gguf_file import judge_gguf

    return judge_gguf(model, edit)


def _write_gguf(request: Request, verdict: Verdict) -> Steps[Written]:
    from tpe_core.export.gguf_file import export_gguf

    return export_gguf(request, verdict)


FORMATS: Registry[Format] = Registry(
    "format",
    Format(
        name="hf",
        about="a Hugging Face folder that plain from_pretrained loads",
        check=_check_folder,
        judge=_judge_folder,
        write=_write_folder,
    ),
    Format(
        name="peft",
        about="a LoRA adapter on the head, for steered tokens",
        check=_check_folder,
        judge=_judge_peft,
        write=_write_peft,
    ),
    Format(
        name="logit-bias",
        about="JSON of constant biases for OpenAI-style servers, for steered tokens",
        check=_check_biases,
        judge=_judge_biases,
        write=_write_biases,
        settings=("server",),
    ),
    Format(
        name="gguf",
        about="a GGUF file with the edited head, of one or of a folder; for llama.cpp and Ollama",
        check=_check_gguf,
        judge=_judge_gguf,
        write=_write_gguf,
        settings=("head_type", "modelfile"),
    ),
)
"""Every format by name; the first is that of `tpe bake` without ``--to``."""
