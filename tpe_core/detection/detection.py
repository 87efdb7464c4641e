"""The streaming pass: text through the model once, into a small statistic that adds up.

`Detection` holds sums over positions and a sample of hidden states; two of them over different text add
with ``+``. Logits live for one chunk of positions at a time and are never stored.

Precision: head product and softmax in float32 (the operands narrower where that is exact, `models.head_product`), sums
in float64. A row whose mean over a chunk, or over the part of it that is of one group, falls under `RESCUE_BELOW` is
recomputed there in float64 in the log domain, so nothing underflows, is dropped, or clamped.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.corpus.corpus import STRETCHES
from tpe_core.detection.block_groups import BlockGroups, runs_of
from tpe_core.detection.hidden import (
    CPU_POSITIONS,
    CUDA_POSITIONS,
    HiddenSample,
    SampleBuilder,
    blocks_per_forward,
    hidden_batch,
)
from tpe_core.errors import NumericalError, TpeError
from tpe_core.models.footprint import available_bytes
from tpe_core.models.head import OutputHead
from tpe_core.models.head_product import HALF_POSITIONS, keeps_half
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps

if TYPE_CHECKING:
    from tpe_core.corpus.corpus import Corpus
    from tpe_core.models.model import LanguageModel
    from tpe_core.store import Store

__all__ = ["Detection", "detect", "detection_key"]

VERSION = 1  # of what is summed and how; part of every cache key
RESCUE_BELOW = 1e-20  # mean probability over a chunk; float32 has none left below 1e-38
CHUNK_BYTES = 32 * 2**20  # of float32 logits at a time; on CUDA twice as many, and as many of probabilities
SPARE = 0.5  # share of the free memory that a larger chunk may take
SAVE_SECONDS = 30.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Sums over N positions. ``a + b`` is the detection of both texts; the order does not matter beyond rounding.

    Example:
        >>> detection = analysis.detection
        >>> detection.mean_hidden.shape == (model.head.hidden_size,)  # E[h]
        True
        >>> (detection + detection).positions == 2 * detection.positions
        True
    """

    positions: int
    p_sum: Floats  # [V_all] sum of p_x(w) over chunks where the row was representable
    log_rescued: Floats  # [V_all] log of the sum over the other chunks, -inf where there was none
    counts: NDArray[np.int64]  # [V_all] how often each token really came next
    h_sum: Floats  # [d]
    hh_sum: Floats  # [d, d] sum of h hᵀ
    log_z_sum: float  # sum of log Z_x, nats
    nll_sum: float  # sum of -log p_x(next token), nats
    sample: HiddenSample
    groups: BlockGroups | None = None  # the same p_x(w), by stretch of the text; None where an older version stored it

    def __add__(self, other: Detection) -> Detection:
        if self.p_sum.shape != other.p_sum.shape or self.h_sum.shape != other.h_sum.shape:
            raise TpeError(
                "detections of different heads cannot be added: "
                f"{len(self.p_sum)}x{len(self.h_sum)} and {len(other.p_sum)}x{len(other.h_sum)}."
            )
        return Detection(
            positions=self.positions + other.positions,
            p_sum=self.p_sum + other.p_sum,
            log_rescued=np.logaddexp(self.log_rescued, other.log_rescued),
            counts=self.counts + other.counts,
            h_sum=self.h_sum + other.h_sum,
            hh_sum=self.hh_sum + other.hh_sum,
            log_z_sum=self.log_z_sum + other.log_z_sum,
            nll_sum=self.nll_sum + other.nll_sum,
            sample=self.sample + other.sample,
            groups=None if self.groups is None or other.groups is None else self.groups + other.groups,
        )

    @cached_property
    def log_alpha(self) -> Floats:
        """[V_all] log of the mean probability alpha_w = E_x[p_x(w)], nats."""
        with np.errstate(divide="ignore"):
            result: Floats = np.logaddexp(np.log(self.p_sum), self.log_rescued) - np.log(self.positions)
        return result

    @property
    def mean_hidden(self) -> Floats:
        """[d] E[h]."""
        return self.h_sum / self.positions

    @property
    def second_moment(self) -> Floats:
        """[d, d] E[h hᵀ]."""
        return self.hh_sum / self.positions

    @property
    def variance_hidden(self) -> Floats:
        """[d] population variance of each h_i."""
        result: Floats = np.maximum(np.diag(self.second_moment) - self.mean_hidden**2, 0.0)
        return result

    @property
    def mean_log_z(self) -> float:
        """E[log Z_x], nats."""
        return self.log_z_sum / self.positions

    @property
    def loss(self) -> float:
        """Mean next-token loss on the detecting text, nats."""
        return self.nll_sum / self.positions

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, for `tpe_core.store`."""
        grouped: dict[str, NDArray[Any]] = {}
        if self.groups is not None:
            grouped = {"group_positions": self.groups.positions, "group_log_sums": self.groups.log_sums}
        return {
            "p_sum": self.p_sum,
            "log_rescued": self.log_rescued,
            "counts": self.counts,
            "h_sum": self.h_sum,
            "hh_sum": self.hh_sum,
            "scalars": np.array([self.log_z_sum, self.nll_sum]),
            "sizes": np.array([self.positions, self.sample.size], dtype=np.int64),
            "sample_hidden": self.sample.hidden,
            "sample_next": self.sample.next_ids,
            "sample_priority": self.sample.priority,
            **grouped,
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Detection:
        """The inverse of `to_arrays`. Raises `KeyError` where an array is missing; groups may be."""
        positions, size = (int(value) for value in arrays["sizes"])
        sample = HiddenSample(size, arrays["sample_hidden"], arrays["sample_next"], arrays["sample_priority"])
        log_z_sum, nll_sum = (float(value) for value in arrays["scalars"])
        groups = None
        if {"group_positions", "group_log_sums"} <= arrays.keys():
            stored = BlockGroups(positions=arrays["group_positions"], log_sums=arrays["group_log_sums"])
            groups = stored if stored.log_sums.shape == (STRETCHES, len(arrays["p_sum"])) else None
        return Detection(
            positions=positions,
            p_sum=arrays["p_sum"],
            log_rescued=arrays["log_rescued"],
            counts=arrays["counts"],
            h_sum=arrays["h_sum"],
            hh_sum=arrays["hh_sum"],
            log_z_sum=log_z_sum,
            nll_sum=nll_sum,
            sample=sample,
            groups=groups,
        )


class _Accumulator:
    """The running sums of one pass, on the device where that has float64."""

    def __init__(self, head: OutputHead, sample_size: int, seed: int) -> None:
        self.head = head
        device = head.columns.device
        self.device = device if device.type in ("cpu", "cuda") else torch.device("cpu")
        rows, width = head.total_rows, head.hidden_size

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=self.device)

        self.positions = 0
        self.p_sums, self.h_sum, self.hh_sum = zeros(STRETCHES, rows), zeros(width), zeros(width, width)
        self.log_rescued: Tensor | None = None  # [K, V_all], once a row needs it
        self.group_positions = np.zeros(STRETCHES, np.int64)
        self.counts = torch.zeros(rows, dtype=torch.int64)
        masked = torch.zeros(rows, device=device) if head.bias is None else head.bias
        self.possible = masked > -torch.inf  # rows that can have any probability: the others need no rescue
        self.log_z_sum, self.nll_sum = zeros(), zeros()
        self.sample = SampleBuilder(sample_size, width, seed)
        most = CPU_POSITIONS if device.type == "cpu" else CUDA_POSITIONS
        self.chunk = max(8, min(most, CHUNK_BYTES * (1 if device.type == "cpu" else 2) // (4 * rows)))
        if keeps_half(head.columns.dtype, device):  # logits and probabilities of as many positions, where they fit
            fits = 2 * 4 * HALF_POSITIONS * rows <= SPARE * available_bytes(device)
            self.chunk = max(self.chunk, HALF_POSITIONS if fits else 0)
        self.buffer = torch.empty(self.chunk, rows, dtype=torch.float32, device=device)

    def add(
        self, hidden: Tensor, targets: NDArray[Any], hashes: NDArray[np.uint64], stretch: NDArray[np.int64]
    ) -> None:
        """Add h [B, L, d] with its next tokens [B, L]; `hashes` [B] name the blocks, `stretch` [B] their groups."""
        h = hidden.flatten(0, 1).to(self.head.columns.device)
        next_ids = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.int64)).flatten().to(h.device)
        wide = h.to(self.device).double()
        column_sum = wide.sum(0)
        groups = np.repeat(stretch, len(h) // len(stretch))
        for first in range(0, len(h), self.chunk):
            part = slice(first, first + self.chunk)
            self._add_chunk(h[part], next_ids[part], runs_of(groups[part]))
        if not math.isfinite(float(self.log_z_sum)):
            raise NumericalError(
                f"the model's logits hold NaN or infinity after {self.positions} positions, though h "
                "is finite: its head's weights are too large, check the checkpoint."
            )
        self.h_sum += column_sum
        self.hh_sum.addmm_(wide.T, wide)
        self.counts += torch.bincount(next_ids.cpu(), minlength=len(self.counts))
        self.positions += len(h)
        self.group_positions += np.bincount(groups, minlength=STRETCHES)
        self.sample.add(h, next_ids, hashes)

    def _add_chunk(self, h: Tensor, next_ids: Tensor, runs: list[tuple[int, slice]]) -> None:
        head, z = self.head, self.buffer[: len(h)]
        pause()
        head.post.apply_(head.raw(h, out=z))
        pause()
        target = z.gather(1, next_ids[:, None])[:, 0].double()
        highest = z.amax(1, keepdim=True).double()
        # One fused pass, in place where memory is slow; log Z follows from the largest entry, which never underflows.
        p = torch.softmax(z, 1, out=z if z.device.type == "cpu" else None)
        log_z = highest - p.amax(1, keepdim=True).double().log()
        sums = torch.stack([p[part].sum(0) for _, part in runs])
        lengths = torch.tensor([part.stop - part.start for _, part in runs], device=sums.device)
        low = (((sums / lengths[:, None]).amin(0) < RESCUE_BELOW) & self.possible).nonzero()[:, 0]
        column_sums = sums.to(self.device).double()
        column_sums[:, low.to(self.device)] = 0.0
        for (group, _), column_sum in zip(runs, column_sums, strict=True):
            self.p_sums[group] += column_sum
        pause()
        for rows in low.split(4096):
            pause()
            wide = h.double() @ head.columns[:, rows].double()
            if head.bias is not None:
                wide += head.bias[rows].double()
            self._add_rescued(rows.to(self.device), head.post(wide) - log_z, runs)
        self.log_z_sum += log_z.sum().to(self.device)
        self.nll_sum += (log_z[:, 0] - target).sum().to(self.device)

    def _add_rescued(self, rows: Tensor, log_p: Tensor, runs: list[tuple[int, slice]]) -> None:
        """Add log p [n, r] of some rows of a chunk."""
        if self.log_rescued is None:
            self.log_rescued = torch.full_like(self.p_sums, -torch.inf)
        for group, part in runs:
            own = self.log_rescued[group]
            own[rows] = torch.logaddexp(own[rows], torch.logsumexp(log_p[part], 0).to(self.device))

    def freeze(self) -> Detection:
        """The sums so far, copied."""

        def array(tensor: Tensor) -> Any:
            return tensor.cpu().numpy().copy()

        log_sums, log_rescued = self.p_sums.log(), torch.full_like(self.p_sums[0], -torch.inf)
        if self.log_rescued is not None:
            log_sums = torch.logaddexp(log_sums, self.log_rescued)
            log_rescued = torch.logsumexp(self.log_rescued, 0)

        return Detection(
            positions=self.positions,
            p_sum=array(self.p_sums.sum(0)),
            log_rescued=array(log_rescued),
            counts=array(self.counts),
            h_sum=array(self.h_sum),
            hh_sum=array(self.hh_sum),
            log_z_sum=float(self.log_z_sum),
            nll_sum=float(self.nll_sum),
            sample=self.sample.sample(),
            groups=BlockGroups(positions=self.group_positions.copy(), log_sums=array(log_sums)),
        )


def detection_key(model: LanguageModel, corpus_fingerprint: str, sample_size: int, seed: int) -> str:
    """The cache key of a detection: sha256 over model, text, sample and version."""
    asked = model.sampling.label
    parts = f"detection {VERSION} {model.fingerprint} {corpus_fingerprint} {sample_size} {seed} {asked}"
    return hashlib.sha256(parts.encode()).hexdigest()


def detect(
    model: LanguageModel,
    corpus: Corpus,
    *,
    sample_size: int = 4096,
    seed: int = 0,
    batch_size: int | None = None,
    store: Store | None = None,
    save_seconds: float = SAVE_SECONDS,
    refresh: bool = False,
) -> Steps[Detection]:
    """One pass over a corpus: a job that yields after every forward pass and returns a `Detection`.

    `batch_size` is in blocks per forward pass; the default keeps a forward at `CPU_POSITIONS` or `CUDA_POSITIONS`
    positions. Where one does not fit in memory, it is halved with a note in the progress. With a `store`, finished
    results are found again, and every `save_seconds` an unfinished one is saved, so that a killed pass goes on where
    it was: the result is the same to rounding of float64 sums. `refresh` starts anew all the same.
    Raises `NumericalError` on NaN or infinite hidden states or logits, `TpeError` where not even one block fits.

    Args:
        model: The model to run.
        corpus: Blocks of token ids.
        sample_size: How many positions keep their hidden state.
        seed: Chooses them.
        batch_size: Blocks per forward pass.
        store: Where results are kept.
        save_seconds: Time between two saves of an unfinished result.
        refresh: Whether to ignore what `store` holds.

    Returns:
        A job; `run` drives it to a `Detection`.

    Example:
        >>> from tpe_core.detection.reading import corpus_spec
        >>> corpus = tpe.run(corpus_spec(analysis.source, model, 500).corpus())
        >>> detection = tpe.run(tpe.detect(model, corpus, sample_size=50))
        >>> len(detection.sample)
        50
    """
    head, sampling = model.head, model.sampling
    model.check_corpus(corpus)
    key = detection_key(model, corpus.fingerprint, sample_size, seed)
    partial_key = hashlib.sha256(f"partial {key}".encode()).hexdigest()
    finished = None if refresh else load_detection(store, key, head)
    if finished is not None:
        return finished[0]
    blocks, count = len(corpus.blocks), sampling.count(corpus.block_length)
    batch = batch_size or blocks_per_forward(model, corpus.block_length)
    sums = _Accumulator(head, sample_size, seed)
    before, at = (None if refresh else load_detection(store, partial_key, head)) or (None, 0)
    if at >= blocks:
        before, at = None, 0
    note = "" if before is None else "resumed"
    saved = time.monotonic()
    while at < blocks:
        yield Progress("detect", at * count, blocks * count, note=note)
        with torch.inference_mode():
            hidden, chosen, read = hidden_batch(model, corpus, at, batch)
            part = slice(at, at + read)
            sums.add(hidden, chosen.targets, corpus.block_hash[part], corpus.stretch[part])
        if read < min(batch, blocks - at):
            batch, note = read, f"out of memory: {read} blocks at a time"
        at += read
        if store is not None and at < blocks and time.monotonic() - saved >= save_seconds:
            so_far = sums.freeze() if before is None else before + sums.freeze()
            store.save(partial_key, so_far.to_arrays(), {"next_block": at}, kind="partial detection", of=model.name)
            saved = time.monotonic()
    result = sums.freeze() if before is None else before + sums.freeze()
    yield Progress("detect", blocks * count, blocks * count, note=note)
    if store is not None:
        store.save(key, result.to_arrays(), {"next_block": blocks}, kind="detection", of=model.name)
        store.remove(partial_key)
    return result


def load_detection(store: Store | None, key: str, head: OutputHead) -> tuple[Detection, int] | None:
    """A stored detection and the block it stopped at; None where there is none of this head's shape."""
    entry = store.load(key) if store is not None else None
    if entry is None:
        return None
    arrays, meta = entry
    try:
        stored = Detection.from_arrays(arrays)
        at = int(meta["next_block"])
    except (KeyError, TypeError, ValueError):
        return None
    fits = stored.p_sum.shape == (head.total_rows,) and stored.hh_sum.shape == (head.hidden_size, head.hidden_size)
    finite = all(np.isfinite(sums).all() for sums in (stored.log_z_sum, stored.h_sum, stored.sample.hidden))
    return (stored, at) if fits and finite else None
