"""One detection by several processes: each takes a share of the blocks, and the sums meet in the first of them.

Every process reads the same text and saves its own unfinished share, so that a run that was killed goes on where each
of them was. Only sums and the sample of hidden states travel; nothing as large as the logits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.corpus.corpus import Corpus, text_source
from tpe_core.detection.block_groups import BlockGroups
from tpe_core.detection.detection import (
    SAVE_SECONDS,
    Detection,
    detect,
    detection_key,
    load_detection,
)
from tpe_core.detection.hidden import HiddenSample, blocks_per_forward
from tpe_core.detection.reading import corpus_spec
from tpe_core.errors import CorpusError, TpeError
from tpe_core.models.head import OutputHead
from tpe_core.models.loading import load_steps
from tpe_core.models.model import LanguageModel
from tpe_core.models.processes import Processes, talking
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_core.store import Store

__all__ = ["DistributedDetection", "detect_together", "share_of"]


@dataclass(frozen=True, kw_only=True)
class DistributedDetection:
    """What several processes detected, as the first of them has it (`detection` is None in the others)."""

    model: LanguageModel
    text: str  # what was read, for people
    key: str  # of the cache entry that every front end finds
    detection: Detection | None
    found: bool  # in the cache, not computed
    cached: bool  # in the cache now
    resumed: int  # positions taken over from an earlier, unfinished run
    warnings: tuple[str, ...]


def share_of(corpus: Corpus, rank: int, size: int, batch: int = 1) -> Corpus:
    """The blocks of one of `size` processes: contiguous, whole forward passes of `batch` blocks, about as many.

    Whole passes, because another split of the same text rounds otherwise. The fingerprint names the share, so that it
    is saved and found on its own; a process alone has the corpus as it is. Where there are fewer passes than
    processes, some have no blocks.
    """
    if size == 1:
        return corpus
    blocks = len(corpus.blocks)
    passes = -(-blocks // batch)
    first, last = (min(blocks, passes * at // size * batch) for at in (rank, rank + 1))
    columns = {field.name: getattr(corpus, field.name) for field in fields(corpus)}
    share: dict[str, Any] = {
        name: value[first:last] for name, value in columns.items() if isinstance(value, np.ndarray)
    }
    name = hashlib.sha256(f"{corpus.fingerprint} blocks {first} {last}".encode()).hexdigest()
    return replace(corpus, **share, fingerprint=name)


def detect_together(
    options: RunOptions,
    processes: Processes,
    *,
    stdin: BinaryIO | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Steps[DistributedDetection]:
    """Detect as `tpe_core.analysis.analyze` does, every process its share: a job for each of them.

    The first one saves the whole under the key that `analyze` looks up and the others forget their shares then.
    Raises `TpeError` subclasses in one sentence, `OtherFailedError` where another process failed.
    """
    if processes.size > 1 and "-" in options.text:
        raise CorpusError("standard input reaches one process only: save the text to a file and pass that as --text.")
    source = text_source(options.text, stdin, text_field=options.text_field, offline=options.offline)
    model = yield from load_steps(replace(options, device=processes.device(options.device)))
    warnings: list[str] = []
    store = Store(on_problem=warnings.append) if options.cache else None
    spec = corpus_spec(source, model, options.positions)
    key = detection_key(model, spec.key, options.sample, options.seed)
    ready = load_detection(store, key, model.head) if processes.first and not options.refresh else None
    if (yield from _agree(processes, key, ready is not None)):
        return DistributedDetection(
            model=model,
            text=source.label,
            key=key,
            detection=ready[0] if ready else None,
            found=True,
            cached=True,
            resumed=0,
            warnings=tuple(warnings),
        )
    corpus = yield from spec.corpus()
    if processes.first:
        spec.keep_read(store, corpus.read)
    share = share_of(corpus, processes.rank, processes.size, blocks_per_forward(model, corpus.block_length))
    own_share, resumed = yield from _detect_share(
        model, share, options=options, processes=processes, store=store, save_seconds=save_seconds
    )
    whole: Detection | None = own_share
    cached = store is not None
    if processes.size > 1:
        yield from _all_finished(processes, own_share.positions)
        own_key = detection_key(model, share.fingerprint, options.sample, options.seed)
        with talking(), _Group(processes, model.device) as group:
            whole, resumed = group.total(own_share, resumed)
            if whole is not None and store is not None:
                blocks = {"next_block": len(corpus.blocks)}
                cached = store.save(key, whole.to_arrays(), blocks, kind="detection", of=model.name)
            cached = group.from_first(cached)
            if cached and store is not None:
                store.remove(own_key)
    return DistributedDetection(
        model=model,
        text=source.label,
        key=key,
        detection=whole,
        found=False,
        cached=cached,
        resumed=resumed,
        warnings=tuple(warnings),
    )


def _agree(processes: Processes, key: str, is_stored: bool) -> Steps[bool]:
    """Whether the first process found the detection; raises `TpeError` where another one would make another."""
    if processes.size == 1:
        return is_stored
    if processes.first:
        processes.tell("run", f"{key} {int(is_stored)}")
        return is_stored
    first_key, first_found = (yield from processes.hear("run", 0)).split()
    if first_key != key:
        raise TpeError(
            "this process has another model, text or torch than rank 0: give every process the same files, "
            "options, kind of device and versions."
        )
    return first_found == "1"


def _detect_share(
    model: LanguageModel,
    share: Corpus,
    *,
    options: RunOptions,
    processes: Processes,
    store: Store | None,
    save_seconds: float,
) -> Steps[tuple[Detection, int]]:
    """(the detection of a share, how many of its positions an earlier run had done)."""
    if not len(share.blocks):
        return _nothing(model.head, options.sample), 0
    steps = detect(
        model,
        share,
        sample_size=options.sample,
        seed=options.seed,
        store=store,
        save_seconds=save_seconds,
        refresh=options.refresh,
        batch_size=blocks_per_forward(model, share.block_length),
    )
    resumed: int | None = None
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            own: Detection = stop.value
            return own, own.positions if resumed is None else resumed
        if resumed is None:
            resumed = event.done if event.note == "resumed" else 0
        yield processes.progress(event)


def _all_finished(processes: Processes, positions: int) -> Steps[None]:
    """Wait until every process has done its share: a job."""
    processes.progress(Progress("detect", positions, positions))
    processes.tell("finished", "1")
    for rank in range(processes.size):
        yield from processes.hear("finished", rank)


def _nothing(head: OutputHead, sample_size: int) -> Detection:
    """A detection of no positions, for a process without blocks."""
    rows, width = head.total_rows, head.hidden_size
    sample = HiddenSample.empty(sample_size, width)
    return Detection(
        positions=0,
        p_sum=np.zeros(rows),
        log_rescued=np.full(rows, -np.inf),
        counts=np.zeros(rows, np.int64),
        h_sum=np.zeros(width),
        hh_sum=np.zeros((width, width)),
        log_z_sum=0.0,
        nll_sum=0.0,
        sample=sample,
        groups=BlockGroups.empty(rows),
    )


class _Group:
    """The processes as a process group, for as long as their sums take: nccl between GPUs, gloo for the rest."""

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.processes = processes
        self.device = device if device.type == "cuda" else torch.device("cpu")

    def __enter__(self) -> _Group:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        assert self.processes.store is not None  # noqa: S101 - a process alone has no group
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", self.processes.store),
            rank=self.processes.rank,
            world_size=self.processes.size,
            timeout=timedelta(seconds=self.processes.timeout),
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            dist.all_reduce(torch.zeros(1))  # nobody leaves, and takes the store away, before all are done
        dist.destroy_process_group()

    def total(self, share: Detection, resumed: int) -> tuple[Detection | None, int]:
        """(the sum over all processes, in the first; over all the positions resumed)."""
        sums = [self._sum(values) for values in (share.p_sum, share.h_sum, share.hh_sum)]
        scalars = self._sum(np.array([share.log_z_sum, share.nll_sum]))
        counts = self._sum(np.concatenate([share.counts, [share.positions, resumed]]))
        log_rescued = self._log_sum(share.log_rescued)
        groups = self._groups(share.groups)
        sample = self._sample(share.sample)
        if not self.processes.first:
            return None, 0
        p_sum, h_sum, hh_sum = sums
        whole = Detection(
            positions=int(counts[-2]),
            p_sum=p_sum,
            log_rescued=log_rescued,
            counts=counts[:-2],
            h_sum=h_sum,
            hh_sum=hh_sum,
            log_z_sum=float(scalars[0]),
            nll_sum=float(scalars[1]),
            sample=sample,
            groups=groups,
        )
        return whole, int(counts[-1])

    def from_first(self, value: bool) -> bool:
        """The value of the first process, in every process."""
        shared = torch.tensor([int(value)])
        dist.broadcast(shared, 0)
        return bool(shared.item())

    def _sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum over all processes, in the first."""
        tensor = torch.tensor(values, device=self.device)
        dist.reduce(tensor, 0)
        return self._array(tensor)

    def _log_sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The logarithm of the sum of exponentials over all processes, in the first; -inf where all have -inf."""
        tensor = torch.tensor(values, device=self.device)
        top = tensor.clone()
        dist.all_reduce(top, dist.ReduceOp.MAX)
        top = torch.where(torch.isfinite(top), top, 0.0)
        terms = (tensor - top).exp()
        dist.reduce(terms, 0)
        return self._array(terms.log() + top)

    def _groups(self, groups: BlockGroups | None) -> BlockGroups | None:
        """The groups of everything, in the first process; None where one has none, from what an older version saved."""
        known = torch.tensor([int(groups is not None)], device=self.device)
        dist.all_reduce(known, dist.ReduceOp.MIN)
        if groups is None or not known.item():
            return None
        return BlockGroups(positions=self._sum(groups.positions), log_sums=self._log_sum(groups.log_sums))

    def _sample(self, sample: HiddenSample) -> HiddenSample:
        """The sample of everything, in the first process: merged one by one, so that two are held at most."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.processes.size)]
        dist.all_gather(sizes, torch.tensor([len(sample)]))
        if not self.processes.first:
            if len(sample):
                for part in (sample.hidden, sample.next_ids, sample.priority.view(np.int64)):
                    dist.send(torch.from_numpy(np.ascontiguousarray(part)), 0)
            return sample
        merged = sample
        for rank, count in enumerate(int(size) for size in sizes):
            if rank and count:
                hidden = torch.empty(count, sample.hidden.shape[1])
                next_ids, priority = (torch.empty(count, dtype=torch.int64) for _ in range(2))
                for tensor in (hidden, next_ids, priority):
                    dist.recv(tensor, rank)
                merged += HiddenSample(sample.size, hidden.numpy(), next_ids.numpy(), priority.numpy().view(np.uint64))
        return merged

    @staticmethod
    def _array(tensor: Tensor) -> NDArray[Any]:
        array: NDArray[Any] = tensor.cpu().numpy()
        return array
