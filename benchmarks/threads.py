"""One torch thread against as many as there are cores, alone and beside a program that keeps one core busy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks.report import Row, milliseconds
from benchmarks.timing import interleaved, median
from tpe_core.busy import cores
from tpe_core.models.threads import choose_threads, cpu_times, usage_since

__all__ = ["run"]

VOCABULARY, WIDTH, POSITIONS, REPETITIONS = 49_152, 576, 32, 25
LAYERS, PROMPT = 30, 16


def _logits(generator: torch.Generator) -> Callable[[], object]:
    """A head product and a softmax of its logits, as a sweep does for a chunk of positions."""
    columns = torch.randn(WIDTH, VOCABULARY, generator=generator)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator)
    return lambda: (hidden @ columns).log_softmax(1)


def _layers(generator: torch.Generator) -> Callable[[], object]:
    """Many small products one after the other, as in a forward pass of a short prompt."""
    weights = [torch.randn(WIDTH, WIDTH, generator=generator) for _ in range(LAYERS)]
    hidden = torch.randn(PROMPT, WIDTH, generator=generator)

    def step() -> None:
        state = hidden
        for weight in weights:
            state = torch.nn.functional.gelu(state @ weight) / WIDTH

    return step


def _with_threads(work: Callable[[], object], threads: int) -> Callable[[], object]:
    def step() -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            work()

    return step


def run(quick: bool = False) -> list[Row]:
    """One thread beside all, and the number that would be chosen, without and with a busy loop."""
    all_threads, before = cores(), torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    works = {
        f"{POSITIONS} positions' logits": _logits(generator),
        f"{LAYERS} small products": _layers(generator),
    }
    rows: list[Row] = []
    for title in ("as it is", "beside a busy loop"):
        loop = None if title == "as it is" else subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            for name, work in works.items():
                since = cpu_times()
                sides = {"one": _with_threads(work, 1), "all": _with_threads(work, all_threads)}
                taken = interleaved(sides, 5 if quick else REPETITIONS)
                chosen = choose_threads(all_threads, usage_since(since))
                one, every = median(taken["one"]), median(taken["all"])
                rows.append(
                    Row(
                        f"threads: {name} {title}, {all_threads} beside 1",
                        milliseconds(every),
                        milliseconds(one),
                        every / one,
                        f"others use {chosen.usage.others:.1f} of {chosen.usage.cores:g} cores: {chosen.number} chosen",
                    )
                )
        finally:
            if loop is not None:
                loop.kill()
                loop.wait()
            torch.set_num_threads(before)
    return rows
