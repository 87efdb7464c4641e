"""Steered tokens as constants for the field ``logit_bias`` of OpenAI-style servers: ``{"logit_bias": {"id": value}}``.

A constant added to a token's logit is exactly the method ``bias`` where nothing caps the logits. The edit of a row adds
``row . h``, which differs from context to context: here the constants are those that are closest to it on the detecting
text, under which every steered token has the mean probability that the edit gives it, and the divergence that remains
is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.checkpoint.comparison import RuntimeComparison, answers, compare, prompts_for
from tpe_core.checkpoint.plan import check_edit
from tpe_core.clamping import at_least
from tpe_core.detection.detection import Detection
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.errors import TpeError
from tpe_core.export.llama_answers import answers_of_file
from tpe_core.export.llama_cpp import is_installed
from tpe_core.export.plan import Exported, Request, Verdict
from tpe_core.export.server import answers_of_server, find_server
from tpe_core.json_text import json_text, parse_json
from tpe_core.manifest.manifest import read_manifest
from tpe_core.manifest.self_test import prompt_logits
from tpe_core.models.model import LanguageModel
from tpe_core.outputs import check_output
from tpe_core.progress import Progress, Steps
from tpe_core.store import write_file

__all__ = ["LIMIT", "BiasCost", "check_bias_file", "export_logit_bias", "judge_logit_bias"]

FORMAT = "logit-bias"
LIMIT = 100.0
"""Servers clip a bias to this size, or refuse a larger one."""

POSITIONS = 1024  # of the detecting text that the constants are fitted to
VALUES = 2**24  # positions times steered tokens that are kept
CHUNK = 64  # positions whose logits are made at a time
ROUNDS = 500  # of the fit, at most
NEAR = 1e-7  # nats: the constants move no more

Floats = NDArray[np.float64]


def judge_logit_bias(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
    """Whether constants on the logits hold an edit. Raises `TpeError` where the edit is of another head."""
    check_edit(model, edit)
    if edit.removed:
        why = f"pruning {len(edit.removed)} dimensions changes the logit of every token, in every context otherwise"
        return Verdict(format=FORMAT, holding="not", how=why)
    count = len(edit.intervention.steering)
    form = f"a constant on the logit of {count:,} token{'' if count == 1 else 's'}"
    clipped = sum(abs(value) > LIMIT for value in edit.biases.values())
    if edit.rows:
        how = f"{form}, where the edit of a row adds what depends on the context: the KL that remains is measured"
    elif model.head.post.cap is not None:
        how = f"{form} after the soft cap, where the edit adds it before: the KL that remains is measured"
    elif clipped:
        how = f"{form}, of which servers clip {clipped} to {LIMIT:g}: the KL that remains is measured"
    else:
        return Verdict(format=FORMAT, holding="exactly", how=form)
    return Verdict(format=FORMAT, holding="at a cost", how=how)


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasCost:
    """KL(edited || biased) in nats over positions of the detecting text, averaged."""

    kl: float  # of the constants that are written
    kl_unclipped: float  # had none been clipped
    kl_log_ratio: float  # with log(ratio) as every constant
    kl_unedited: float  # without any: how far the edit itself moves
    positions: int

    def to_dict(self) -> dict[str, float | int]:
        """As in the JSON of `tpe bake`."""
        return {
            "kl": self.kl,
            "kl_unclipped": self.kl_unclipped,
            "kl_log_ratio": self.kl_log_ratio,
            "kl_unedited": self.kl_unedited,
            "positions": self.positions,
        }


def check_bias_file(out: Path, replace: bool) -> None:
    """Refuse a place where no file of biases should be written. Raises `TpeError`, or `ExistsError`."""
    check_output(out, "a file of logit biases", _is_ours, replace=replace)


def _is_ours(path: Path) -> bool:
    try:
        document = parse_json(path.read_bytes())
    except ValueError:
        return False
    return isinstance(document, dict) and set(document) == {"logit_bias"}


def export_logit_bias(request: Request, verdict: Verdict) -> Steps[Exported]:
    """Fit the constants, measure what they cost, write the file: a job.

    Raises `TpeError` where a cost has to be measured and there is no detection, and where the file cannot be written.
    """
    model, edit = request.model, request.edit
    check_bias_file(request.out, replace=True)
    ids = tuple(entry.token_id for entry in edit.intervention.steering)
    log_ratios = np.array([math.log(entry.ratio) for entry in edit.intervention.steering])
    cost, values = None, log_ratios
    if verdict.holding == "at a cost":
        if request.detection is None:
            raise TpeError("what a constant bias costs is measured on text: give the export a detection.")
        seen = yield from _seen(model, edit, ids, request.detection)
        yield Progress("fit the biases", 0)
        fitted = seen.fitted(log_ratios) if edit.rows or model.head.post.cap is not None else log_ratios
        values = np.clip(fitted, -LIMIT, LIMIT)
        cost = BiasCost(
            kl=seen.kl(values),
            kl_unclipped=seen.kl(fitted),
            kl_log_ratio=seen.kl(log_ratios),
            kl_unedited=seen.kl(np.zeros_like(log_ratios)),
            positions=len(seen.rest),
        )
        clipped = int((values != fitted).sum())
    else:
        clipped = 0
    biases = {i: round(float(value), 6) for i, value in zip(ids, values, strict=True)}
    document = {"logit_bias": {str(i): value for i, value in biases.items()}}
    data = (json_text(document) + "\n").encode()
    comparison, checked = None, "no runtime: the file is a part of a request to a server"
    server = request.settings.get("server")
    if server is not None:
        comparison, checked = yield from _compared_with_server(request, str(server), biases)
    elif model.gguf is not None and is_installed():
        comparison = yield from _served(request, biases)
        checked = f"asked of {comparison.runtime}, the predicted probabilities being those of the constants"
    yield Progress("write the biases", 0)
    try:
        write_file(request.out, [data])
    except OSError as error:
        raise TpeError(
            f"the logit biases cannot be written to {request.out} ({error.strerror or error}): choose another place."
        ) from error
    return Exported(
        format=FORMAT,
        path=request.out,
        size=len(data),
        model=model.name,
        revision=model.revision,
        verdict=verdict,
        lost="nothing" if cost is None else _lost(cost, clipped),
        checked=checked,
        facts={**document, "clipped": clipped, "cost": None if cost is None else cost.to_dict()},
        comparison=comparison,
    )


def _predictions(
    request: Request, biases: dict[int, float]
) -> tuple[tuple[str, ...], tuple[list[Floats], list[Floats]]]:
    """(the prompts, the engine's probabilities after each with the biases and without them)."""
    model = request.model
    document = None if request.manifest is None else read_manifest(request.manifest)[0]
    prompts = prompts_for(model, document)
    ask = prompt_logits(model)

    def biased(prompt: str) -> Floats:
        z = ask(prompt)
        z[list(biases)] += list(biases.values())
        return z

    return prompts, (answers(biased, prompts), answers(ask, prompts))


def _compared_with_server(request: Request, url: str, biases: dict[int, float]) -> Steps[tuple[RuntimeComparison, str]]:
    """(what a server gives with the biases and without them, what was checked)."""
    model = request.model
    yield Progress("ask the server", 0)
    server = find_server(url)
    prompts, wanted = _predictions(request, biases)
    first = yield from answers_of_server(model, server, prompts, biases)
    second = yield from answers_of_server(model, server, prompts, {})
    comparison = compare(model, server.name, prompts, wanted, (first, second), by_runtime=True)
    checked = f"asked of {server.name}, the predicted probabilities being those of the constants"
    if all(
        np.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True) for one, other in zip(first, second, strict=True)
    ):
        checked = (
            f"asked of {server.name}, which gave the same with and without the biases: it ignores them, or reports "
            "probabilities before them (vLLM does, unless it runs with --logprobs-mode processed_logprobs)"
        )
    return comparison, checked


def _served(request: Request, biases: dict[int, float]) -> Steps[RuntimeComparison]:
    """What llama.cpp's server gives with the biases and without them, by the GGUF file that the model came as."""
    model = request.model
    prompts, wanted = _predictions(request, biases)
    file = Path() if model.gguf is None else model.gguf.path
    runtime, first = yield from answers_of_file(model, file, prompts, biases)
    _, second = yield from answers_of_file(model, file, prompts)
    return compare(model, f"the server of {runtime}", prompts, wanted, (first, second))


def _lost(cost: BiasCost, clipped: int) -> str:
    clips = f", {cost.kl_unclipped:.3g} had {clipped} not been clipped to {LIMIT:g}" if clipped else ""
    return (
        f"KL {cost.kl:.3g} nats from the edited distribution, over {cost.positions:,} positions of the detecting text "
        f"(the edit itself moves {cost.kl_unedited:.3g}; with log ratios as biases {cost.kl_log_ratio:.3g}{clips})"
    )


@dataclass(frozen=True)
class _Seen:
    """Logits of the steered tokens with and without the edit [N, k], and log sum exp of all other tokens' [N]."""

    edited: Floats
    plain: Floats
    rest: Floats

    def fitted(self, start: Floats) -> Floats:
        """[k] the constants of least mean KL(edited || biased), where mean probabilities agree.

        By generalised iterative scaling: every token, and the rest as one, moves by the log of the ratio of its means;
        one of all categories is kept fixed, which is the rest.
        """
        target, _ = _means(self.edited, self.rest)
        c = start.copy()
        for _ in range(ROUNDS):
            means, others = _means(self.plain + c, self.rest)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = np.log(target) - np.log(means) - (np.log1p(-target.sum()) - np.log(others))
            step = np.where(np.isfinite(step), step, 0.0)  # of tokens that are never predicted
            c += step
            if np.abs(step).max(initial=0.0) < NEAR:
                break
        return c

    def kl(self, c: Floats) -> float:
        """Mean KL(edited || plain + c): tokens that are not steered differ by log Z alone."""
        edited, biased = self.edited, self.plain + c
        log_p, log_z = _normalised(edited, self.rest)
        _, other_log_z = _normalised(biased, self.rest)
        shift = np.where(np.isfinite(edited), edited - biased, 0.0)
        kl = (np.exp(log_p) * shift).sum(1) - log_z + other_log_z
        return at_least(0.0, float(kl.mean()))


def _normalised(logits: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """(log probabilities [N, k], log Z [N])."""
    from scipy.special import logsumexp

    log_z: Floats = np.logaddexp(logsumexp(logits, axis=1), rest)
    return logits - log_z[:, None], log_z


def _means(logits: Floats, rest: Floats) -> tuple[Floats, float]:
    """(mean probability of each steered token [k], that of all others together)."""
    log_p, log_z = _normalised(logits, rest)
    return np.exp(log_p).mean(0), float(np.exp(rest - log_z).mean())


def _seen(model: LanguageModel, edit: ResolvedEdit, ids: tuple[int, ...], detection: Detection) -> Steps[_Seen]:
    hidden = detection.sample.hidden
    count = min(len(hidden), POSITIONS, max(CHUNK, VALUES // len(ids)))
    numbers, steered = EditNumbers(edit), list(ids)
    edited, plain, rest = [], [], []
    for first in range(0, count, CHUNK):
        yield Progress("measure what is lost", first, count)
        h = torch.from_numpy(hidden[first : min(first + CHUNK, count)])
        logits = model.head.logits(h).double()
        plain.append(logits[:, steered].cpu().numpy())
        edited.append(numbers.logits(model.head, h)[:, steered].double().cpu().numpy())
        logits[:, steered] = -math.inf
        rest.append(logits.logsumexp(-1).cpu().numpy())
    return _Seen(np.concatenate(edited), np.concatenate(plain), np.concatenate(rest))
