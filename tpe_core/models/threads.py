"""How many threads torch gets on a CPU: as many as there are cores that other programs leave idle.

Threads of one product wait for each other, so where more of them run than there are free cores, all wait for the
slowest (`tpe_core.busy`). What other programs use is measured over the seconds in which a model is loaded, from the
kernel's counters where it has them (Linux), else from the load average; what this process used itself is taken off.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from tpe_core.busy import cores
from tpe_core.clamping import at_least, at_most

__all__ = [
    "CpuTimes",
    "Threads",
    "Usage",
    "choose_threads",
    "core_quota",
    "cpu_times",
    "is_chosen",
    "others_use",
    "settle_threads",
    "usage_since",
    "watch_cores",
]

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # by which a user chooses for every program
WINDOW = 0.25  # seconds, the least to measure over: the counters tick every hundredth
IDLE_FIELDS = (3, 4)  # of a line of /proc/stat: idle, and waiting for a disk
COUNTED_FIELDS = 8  # those behind count a guest's time a second time


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Seconds so far: of a steady clock, of this process's work, and of the idling of all cores it may use."""

    clock: float
    own: float
    idle: float | None  # None where the system does not count it


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How many cores this process may use, and how many of them other programs kept busy."""

    cores: float
    others: float


@dataclass(frozen=True, kw_only=True)
class Threads:
    """A number of torch threads, and the cores that there are for them."""

    number: int
    default: int  # torch's own
    usage: Usage

    @property
    def note(self) -> str:
        """That other programs' work costs threads, in a few words; empty where it does not."""
        whole = math.ceil(self.usage.cores)
        return "" if self.number >= min(self.default, whole) else f"{self.number} of {whole} cores: the machine is busy"

    @property
    def sentence(self) -> str:
        """The same for who has not seen the progress."""
        if not self.note:
            return ""
        return (
            f"torch has {self.note} (other programs use {self.usage.others:.1f}); "
            "--threads or OMP_NUM_THREADS sets another number."
        )


def choose_threads(default: int, usage: Usage) -> Threads:
    """As many threads as cores are idle, at least one and at most `default`."""
    idle = math.floor(usage.cores - usage.others + 0.5)
    return Threads(number=max(1, min(default, idle)), default=default, usage=usage)


def is_chosen(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user chose a number of threads for every program."""
    return any(environment.get(name) for name in VARIABLES)


@cache
def _default() -> int:
    """Torch's own number of threads: what it is when this is first asked for."""
    return int(torch.get_num_threads())


def watch_cores(asked: int | None) -> CpuTimes | None:
    """Give torch the number of threads that was `asked` for; where none was, return from when on to measure.

    None where `asked` or the environment settles the number.
    """
    _default()
    if asked:
        torch.set_num_threads(asked)
    return None if asked or is_chosen() else cpu_times()


def settle_threads(since: CpuTimes | None, device: str) -> Threads | None:
    """Give torch as many threads as cores were idle since `watch_cores`, for a model on a CPU `device`.

    None, and nothing is changed, where the user chose the number or the model is elsewhere.
    """
    if since is None or not device.startswith("cpu"):
        return None
    chosen = choose_threads(_default(), usage_since(since))
    torch.set_num_threads(chosen.number)
    return chosen


def cpu_times(stat: Path = Path("/proc/stat")) -> CpuTimes:
    """The seconds so far, now."""
    own = os.times()
    used = own.user + own.system + own.children_user + own.children_system
    return CpuTimes(clock=time.monotonic(), own=used, idle=_idle_seconds(stat))


def usage_since(before: CpuTimes) -> Usage:
    """How busy other programs kept the cores since `before`, waiting until that was `WINDOW` seconds ago."""
    time.sleep(at_least(0.0, before.clock + WINDOW - time.monotonic()))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return Usage(cores=min(float(cores()), core_quota()), others=others_use(before, cpu_times(), cores(), load))


def others_use(before: CpuTimes, after: CpuTimes, n_cores: int, load: float) -> float:
    """How many of `n_cores` other programs used between two moments.

    Where idling is not counted, `load` (runnable processes over the last minute) stands for it, without this process's.
    """
    seconds = after.clock - before.clock
    own = (after.own - before.own) / seconds
    busy = load if before.idle is None or after.idle is None else n_cores - (after.idle - before.idle) / seconds
    return at_most(float(n_cores), at_least(0.0, busy - own))


def core_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """How many cores' time the control group of this process may use (version 2 or 1); infinite without a limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            limit, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return math.inf
    try:
        share = float(limit) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
    return share if share > 0 else math.inf


def _idle_seconds(stat: Path) -> float | None:
    """Seconds that the cores which this process may use have idled since the start of the system, all together."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return None
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if not name.startswith("cpu") or name == "cpu":
            continue
        if usable is None or int(name[3:]) in usable:
            ticks += sum(int(fields[at]) for at in IDLE_FIELDS)
    return ticks / os.sysconf("SC_CLK_TCK")
