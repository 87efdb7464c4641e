"""The few-shot curve: how well tokens are steered when directions come from only n detecting positions.

Slopes, means and moments are measured anew on the first n positions of the local sample, which are a uniform draw
from the detecting text, and the edits they imply on text that is not among them (Cho et al. 2025, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.directions import Directions
from tpe_core.edits.intervention import Method
from tpe_core.encoding.design import Design
from tpe_core.encoding.gram import Solver
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, Steps
from tpe_core.steering.effects import Observed, effects, logit_chunks, unit
from tpe_core.steering.results import FewShotFigures, FewShotPoint, Steerable

__all__ = ["detections", "few_shot"]

Floats = NDArray[np.float64]

FEWEST = 32  # positions


def detections(head: OutputHead, sample: HiddenSample, counts: Sequence[int]) -> Steps[list[Detection]]:
    """Detections over the first n positions of a sample, for each n of ascending `counts`: a job, one V-wide pass.

    log alpha is summed in the log domain, so that no token of a short text has none.
    """
    prefixes: list[Detection] = []
    width = head.hidden_size
    total = torch.full((head.total_rows,), -torch.inf, dtype=torch.float64, device=head.columns.device)
    h_sum, hh_sum = np.zeros(width), np.zeros((width, width))
    log_z_sum = nll_sum = 0.0
    first = 0
    for count in counts:
        hidden = sample.hidden[first:count]
        with torch.inference_mode():
            for part, logits in logit_chunks(head, hidden):
                yield Progress("few-shot", first + part.start, counts[-1])
                log_z = torch.logsumexp(logits, 1, keepdim=True)
                targets = torch.from_numpy(sample.next_ids[first:count][part]).to(logits.device)
                nll_sum += float((log_z - logits.gather(1, targets[:, None])).sum(dtype=torch.float64))
                log_z_sum += float(log_z.sum(dtype=torch.float64))
                total = torch.logaddexp(total, torch.logsumexp(logits.sub_(log_z), 0).double())
        wide = hidden.astype(np.float64)
        h_sum, hh_sum, first = h_sum + wide.sum(0), hh_sum + wide.T @ wide, count
        log_alpha = total.cpu().numpy().copy()
        seen = np.bincount(sample.next_ids[:count], minlength=head.total_rows)
        part_of = HiddenSample(count, sample.hidden[:count], sample.next_ids[:count], sample.priority[:count])
        prefixes.append(
            Detection(
                positions=count,
                p_sum=np.zeros(head.total_rows),
                log_rescued=log_alpha,
                counts=seen,
                h_sum=h_sum,
                hh_sum=hh_sum,
                log_z_sum=log_z_sum,
                nll_sum=nll_sum,
                sample=part_of,
            )
        )
    return prefixes


def _slopes(analysis: Analysis, prefixes: Sequence[Detection]) -> Floats:
    """[m, d] slopes A fitted to each detection's -log alpha, over the rows that the analysis fitted."""
    head, keep = analysis.model.head, analysis.keep
    design = Design(head.columns[:, : head.vocab_rows], keep)
    bias = 0.0 if head.bias is None else head.bias[: head.vocab_rows].double().cpu().numpy()[keep]
    y = np.stack([-some.log_alpha[: head.vocab_rows][keep] + bias for some in prefixes])
    result: Floats = Solver(design.gram).solve(design.cross(y)).T
    return result


def few_shot(
    analysis: Analysis,
    judged: Mapping[str, Observed],
    steered: Sequence[Steerable],
    methods: Sequence[Method],
    ratios: Sequence[float],
    *,
    counts: Sequence[int] = (),
) -> Steps[list[FewShotPoint]]:
    """The curve over `counts` positions of the analysis's own sample (default: doubling from 32): a job.

    Tokens and sets are steered one at a time and judged on `judged`, texts by domain, which must hold all of them.
    ``bias`` has no direction to measure and is left out. The last point uses the whole detection.
    """
    detection = analysis.detection
    most = len(detection.sample)
    doubling = (FEWEST * 2**i for i in range(32))
    wanted = tuple(counts) or (*takewhile(lambda count: count < most, doubling), most)
    prefixes = yield from detections(analysis.model.head, detection.sample, wanted)
    made = [Directions(slope, prefix) for slope, prefix in zip(_slopes(analysis, prefixes), prefixes, strict=True)]
    made.append(Directions(analysis.encoding.slope, detection))
    steps = np.log(np.array(ratios))[:, None]
    points: list[FewShotPoint] = []
    for count, directions in zip((*wanted, detection.positions), made, strict=True):
        for method in methods:
            direction = directions.of(method)
            if direction is None:
                continue
            judged_on = {
                name: _judge(observed, steered, steps, unit(observed, direction)) for name, observed in judged.items()
            }
            points += [
                FewShotPoint(
                    positions=count,
                    method=method,
                    asked=ratio,
                    figures={name: of_ratios[at] for name, of_ratios in judged_on.items()},
                )
                for at, ratio in enumerate(ratios)
            ]
    return points


def _judge(
    observed: Observed, steered: Sequence[Steerable], steps: Floats, along: torch.Tensor
) -> list[FewShotFigures]:
    """What each step [ratios, 1] does on one text, over the tokens and sets that it is taken for one by one."""
    by_token = [effects(observed, (each,), steps, along) for each in steered]
    logs = np.log(np.array([[effect.achieved[0] for effect in of_ratios] for of_ratios in by_token]))
    kl = np.array([[effect.kl for effect in of_ratios] for of_ratios in by_token])  # [tokens, ratios]
    return [
        FewShotFigures(float(np.exp(column.mean())), float(column.std()), float(costs.mean()))
        for column, costs in zip(logs.T, kl.T, strict=True)
    ]
