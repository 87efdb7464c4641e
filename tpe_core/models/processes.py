"""The processes of one run: where each stands, which GPU is its own, and that no failure leaves the others waiting.

They meet as ``torchrun`` tells them and talk in a few bytes through its key-value store; `distributed` does the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist

from tpe_core.errors import ModelError, TpeError, reason_of
from tpe_core.progress import Progress, Steps

__all__ = ["TIMEOUT", "OtherFailedError", "Processes", "talking"]

TIMEOUT = 1800.0  # seconds without a sign of progress after which a process is given up; loading a model gives none
TELL_SECONDS = 1.0  # between two reports of a process
POLL_SECONDS = 0.05


class OtherFailedError(TpeError):
    """Another process of the run failed and has said why: there is nothing to add."""


@contextmanager
def talking() -> Iterator[None]:
    """Turn what torch.distributed raises where a process or the network went away into a `TpeError`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise TpeError(
            f"the processes lost each other ({reason_of(error)}): start the same command again, "
            "it goes on where each was saved."
        ) from error


class Processes:
    """The processes of one run as one of them sees it: `rank` of `size`, `local_rank` on this machine.

    A process alone has no store and talks to nobody.
    """

    def __init__(self, rank: int, size: int, local_rank: int, store: dist.Store | None, timeout: float) -> None:
        self.rank, self.size, self.local_rank, self.store, self.timeout = rank, size, local_rank, store, timeout
        self._told = self._asked = -TELL_SECONDS
        self._whole = Progress("detect", 0)

    @staticmethod
    def join(timeout: float = TIMEOUT) -> Processes:
        """Meet those that ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` name; alone without them.

        Raises `TpeError` where they cannot be met within `timeout` seconds.
        """
        try:
            size, rank, local = (int(os.environ.get(name, "0")) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
        except ValueError as error:
            raise TpeError(f"WORLD_SIZE, RANK or LOCAL_RANK is no number ({error}): start with torchrun.") from None
        if size <= 1:
            return Processes(0, 1, local, None, timeout)
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout)))
        except (RuntimeError, ValueError) as error:
            raise TpeError(
                f"rank {rank} could not meet the other {size - 1} processes ({reason_of(error)}): start with torchrun."
            ) from error
        return Processes(rank, size, local, dist.PrefixStore("tpe", store), timeout)

    @property
    def first(self) -> bool:
        """Whether this process collects, saves and prints."""
        return self.rank == 0

    def device(self, requested: str | None) -> str | None:
        """The device of this process: a GPU of its own. Raises `ModelError` where there are too few."""
        if self.size == 1:
            return requested
        kind = requested or ("cuda" if torch.cuda.is_available() else "cpu")
        if not kind.startswith("cuda"):
            return kind
        if kind != "cuda":
            raise ModelError(f"{kind} is one GPU, but {self.size} processes need one each: pass --device cuda.")
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise ModelError(
                f"process {self.local_rank + 1} on this machine has no GPU of its own ({count} found): "
                "start as many processes as there are GPUs, or pass --device cpu."
            )
        return f"cuda:{self.local_rank}"

    def fail(self) -> bool:
        """Make the others stop; True where this process is the first to fail and so the one that says why."""
        if self.store is None:
            return True
        try:
            return int(self.store.add("failures", 1)) == 1
        except RuntimeError:  # the store is gone with the process that held it
            return True

    def tell(self, key: str, value: str) -> None:
        """Publish a value under a key, for `hear` in the other processes."""
        if self.store is not None:
            with talking():
                self.store.set(f"{key}/{self.rank}", value)

    def hear(self, key: str, rank: int) -> Steps[str]:
        """Wait for a value that another process published with `tell`: a job.

        Raises `OtherFailedError` where one fails meanwhile, and `TpeError` where that process makes no progress for
        the timeout.
        """
        assert self.store is not None  # noqa: S101 - a process alone hears nobody
        last, since = "", time.monotonic()
        while True:
            with talking():
                if self.store.check([f"{key}/{rank}"]):
                    return str(self.store.get(f"{key}/{rank}").decode())
            self.check()
            now, sign = time.monotonic(), self._said(rank)
            if sign != last:
                last, since = sign, now
            elif now - since > self.timeout:
                raise TpeError(
                    f"rank {rank} of {self.size} has made no progress for {self.timeout:g} s: look at its machine, "
                    "then start the same command again (--timeout waits longer)."
                )
            yield self._together(now)
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise `OtherFailedError` where another process failed."""
        if self.store is not None:
            with talking():
                failed = self.store.check(["failures"])
            if failed:
                raise OtherFailedError("another process failed.")

    def progress(self, event: Progress) -> Progress:
        """Tell the others of a step, at most once a second; the first process gets back how far all of them are."""
        if self.store is None:
            return event
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS or event.done == event.total:
            self._told = now
            self.tell("progress", f"{event.done} {event.total or 0}")
            self.check()
        return replace(self._together(now), note=event.note) if self.first else event

    def _said(self, rank: int) -> str:
        """How far a process said it is; empty before it said anything."""
        assert self.store is not None  # noqa: S101 - as in `hear`
        with talking():
            key = f"progress/{rank}"
            return str(self.store.get(key).decode()) if self.store.check([key]) else ""

    def _together(self, now: float) -> Progress:
        """How far all of them are, asked at most once a second."""
        if now - self._asked >= TELL_SECONDS:
            self._asked = now
            said = [[int(number) for number in self._said(rank).split()] for rank in range(self.size)]
            done = sum(numbers[0] for numbers in said if numbers)
            self._whole = Progress("detect", done, sum(numbers[1] for numbers in said) if all(said) else None)
        return self._whole
