"""What a sweep must give, from whole softmaxes in float64."""

from __future__ import annotations

import numpy as np

from tests.helpers.tiny_models import WIDTH
from tpe_core.detection.detection import Detection
from tpe_core.edits.reconstruction import covariance
from tpe_core.models.head import OutputHead
from tpe_core.pruning.results import Cost


def float64_logits(head: OutputHead, hidden: np.ndarray) -> np.ndarray:
    z = hidden @ head.columns.double().numpy()
    if head.bias is not None:
        z = z + head.bias.double().numpy()
    cap = head.post.cap
    return z if cap is None else cap * np.tanh(z / cap)


def cost_of(base: np.ndarray, other: np.ndarray, targets: np.ndarray) -> Cost:
    """From final logits [n, V], by the definitions."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p, log_q = (z - np.logaddexp.reduce(z, 1, keepdims=True) for z in (base, other))
        p, q = np.exp(log_p), np.exp(log_q)
        m = (p + q) / 2

        def kl(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.where(a > 0, a * (np.log(a) - np.log(b)), 0.0).sum(1)

        return Cost(
            kl=kl(p, q).mean(),
            js=(kl(p, m) + kl(q, m)).mean() / 2,
            top1=(base.argmax(1) == other.argmax(1)).mean(),
            nll=-log_q[np.arange(len(targets)), targets].mean(),
            entropy=-np.where(q > 0, q * log_q, 0.0).sum(1).mean(),
        )


def replaced(hidden: np.ndarray, gone: np.ndarray, how: str, detection: Detection) -> np.ndarray:
    """h with the dims in `gone` replaced, straight from the definitions."""
    out, mean = hidden.copy(), detection.mean_hidden
    if how == "zero":
        out[:, gone] = 0
    elif how == "mean":
        out[:, gone] = mean[gone]
    elif len(gone):
        kept = np.setdiff1d(np.arange(WIDTH), gone)
        c = covariance(detection)
        fold = np.linalg.solve(c[np.ix_(kept, kept)], c[np.ix_(kept, gone)])
        out[:, gone] = mean[gone] + (hidden[:, kept] - mean[kept]) @ fold
    return out
