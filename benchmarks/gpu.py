"""Detection and the live toggle on a GPU, on random weights of real models' shapes: ``python -m benchmarks.gpu``.

The same batches go through detection, through plain forwards that return logits, and through the body alone, in turns;
the head product's share of a forward is measured with float32 operands and with the model's own.
Without a GPU, ``--device cpu --shapes tiny`` shows that it runs; there, peaks of memory are not counted.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.models import BLOCK, opened, random_corpus
from benchmarks.report import Row, at_least, at_most, milliseconds, table
from benchmarks.timing import median
from tpe_core.detection.detection import Detection, blocks_per_forward, detect
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edited_head import EditedHead
from tpe_core.edits.intervention import Intervention
from tpe_core.models.head_product import HALF_POSITIONS, half_product
from tpe_core.models.model import LanguageModel

__all__ = ["SHAPES", "measure"]

SHAPES = ("tiny", "gpt2", "gpt2-xl", "pythia-2.8b", "gpt-j", "llama-3-8b")
DTYPES = ("bfloat16", "float16", "float32")
STEPS, QUICK_STEPS = 12, 3  # batches timed
TOGGLES, QUICK_TOGGLES = 60, 10
PROMPT = 16  # tokens
PRUNED = 8  # dimensions pruned all the time


def config(shape: str) -> Any:
    """The transformers config of a shape."""
    from transformers import GPT2Config, GPTJConfig, GPTNeoXConfig, LlamaConfig

    makers: dict[str, Callable[[], Any]] = {
        "tiny": lambda: GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0),
        "gpt2": GPT2Config,
        "gpt2-xl": lambda: GPT2Config(n_embd=1600, n_layer=48, n_head=25),
        "pythia-2.8b": lambda: GPTNeoXConfig(
            vocab_size=50304, hidden_size=2560, num_hidden_layers=32, num_attention_heads=32, intermediate_size=10240
        ),
        "gpt-j": GPTJConfig,
        "llama-3-8b": lambda: LlamaConfig(
            vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
            intermediate_size=14336, max_position_embeddings=8192,
        ),
    }  # fmt: skip
    return makers[shape]()


def build(shape: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A model of a shape with random weights, made on the device."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        hf = AutoModelForCausalLM.from_config(config(shape), dtype=dtype).eval()
    return opened(hf)


class Device:
    """Seconds and bytes on a device that works behind the caller's back."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.counts_memory = device.type == "cuda"

    def seconds(self, work: Callable[[], object]) -> float:
        """Of a piece of work, from an idle device to an idle device."""
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def interleaved(self, sides: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
        """The median seconds of each side; the sides take turns, and the first turn of each is not counted."""
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for repetition in range(-1, repetitions):
            for name in list(sides)[:: 1 if repetition % 2 else -1]:
                elapsed = self.seconds(sides[name])
                if repetition >= 0:
                    taken[name].append(elapsed)
        return {name: median(values) for name, values in taken.items()}

    def allocated(self) -> int:
        """Bytes held by tensors now; 0 where they are not counted."""
        return torch.cuda.memory_allocated(self.device) if self.counts_memory else 0

    def peak(self, work: Callable[[], object]) -> int:
        """Bytes that a piece of work takes at most beyond what is there before it; 0 where they are not counted."""
        if not self.counts_memory:
            work()
            return 0
        before = self.allocated()
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) - before

    def free(self) -> None:
        """Give back what nothing refers to."""
        gc.collect()
        if self.counts_memory:
            torch.cuda.empty_cache()

    def _wait(self) -> None:
        if self.counts_memory:
            torch.cuda.synchronize(self.device)


def _detection(name: str, model: LanguageModel, device: Device, steps: int) -> tuple[list[Row], Detection]:
    """Rows for the speed of detection; the detection itself, for the toggle."""
    batch = blocks_per_forward(model, BLOCK)
    corpus = random_corpus(batch * (steps + 1), model.head.vocab_rows)
    ids = torch.from_numpy(corpus.blocks[:batch].copy())
    job = detect(model, corpus)
    found: list[Detection] = []

    def advance() -> None:
        try:
            next(job)
        except StopIteration as stop:
            found.append(stop.value)

    advance()  # the set-up: what follows is one forward pass each
    sides = {"detection": advance, "forward": lambda: model.logits(ids), "body": lambda: model.hidden(ids)}
    taken = device.interleaved(sides, steps)
    while not found:
        advance()
    own, plain, body = taken.values()
    positions = batch * BLOCK
    return [
        at_most(f"{name}: detection / forward with logits, {positions:,} positions", own, plain, 1.5),
        Row(f"{name}: detection / body alone", milliseconds(own), milliseconds(body), own / body),
        Row(
            f"{name}: detection / forwards, positions a second", f"{positions / own:,.0f}", f"{positions / plain:,.0f}"
        ),
    ], found[0]


def _product(name: str, model: LanguageModel, device: Device, steps: int) -> list[Row]:
    """Rows for the head product's share of a forward pass, with float32 operands and with the model's own.

    The product is that of all positions of the pass, in chunks of `HALF_POSITIONS`; nothing else happens to the logits.
    """
    head, batch = model.head, blocks_per_forward(model, BLOCK)
    ids = torch.from_numpy(random_corpus(batch, head.vocab_rows).blocks)
    hidden = model.hidden(ids).flatten(0, 1).to(head.columns.device)
    chunks = hidden.split(HALF_POSITIONS)
    buffer = torch.empty(len(chunks[0]), head.total_rows, device=hidden.device)

    def product(narrow: bool) -> None:
        for chunk in chunks:
            head.raw(chunk if narrow else chunk.float(), out=buffer[: len(chunk)])

    sides: dict[str, Callable[[], object]] = {
        "forward": lambda: model.logits(ids),
        "float32": lambda: product(narrow=False),
    }
    narrow = str(hidden.dtype).removeprefix("torch.")
    takes_half = half_product(hidden.dtype, head.columns.dtype, hidden.device, len(chunks[0]))
    if takes_half:
        sides[narrow] = lambda: product(narrow=True)
    taken = device.interleaved(sides, steps)
    rows = [
        Row(
            f"{name}: head product, {kind} operands / forward",
            milliseconds(taken[kind]),
            milliseconds(taken["forward"]),
            taken[kind] / taken["forward"],
        )
        for kind in taken
        if kind != "forward"
    ]
    if not takes_half:
        why = f"none in {narrow} on {hidden.device.type}"
        rows.append(Row(f"{name}: head product, bfloat16 or float16 operands / forward", why))
    return rows


def _memory(name: str, model: LanguageModel, device: Device, weights: int) -> list[Row]:
    """Rows for what is held and what a pass takes beyond it; none where the device does not count."""
    if not device.counts_memory:
        return []
    held, batch = device.allocated(), blocks_per_forward(model, BLOCK)
    corpus = random_corpus(2 * batch, model.head.vocab_rows)
    ids = torch.from_numpy(corpus.blocks[:batch].copy())
    plain = device.peak(lambda: model.logits(ids))
    extra = device.peak(lambda: list(detect(model, corpus)))
    return [
        Row(f"{name}: weights / with the opened head", _gib(held), _gib(weights), held / weights),
        Row(f"{name}: extra peak of detection / of a forward with logits", _gib(extra), _gib(plain), extra / plain),
    ]


def _toggle(name: str, model: LanguageModel, device: Device, detection: Detection, toggles: int) -> list[Row]:
    """Rows for one toggled dimension with its softmax and KL against a head product and a forward of a short prompt."""
    head = model.head
    ids = torch.arange(PROMPT)[None]
    hidden = model.hidden(ids)[0, -1].float()
    edited = EditedHead(head, EditStatistics.of(np.zeros(head.hidden_size), detection))
    edited.set_hidden(hidden)
    base = Distribution(edited.base_logits())
    kept = tuple(range(PRUNED))
    dims = itertools.cycle(range(PRUNED, head.hidden_size))
    edits = itertools.chain.from_iterable((Intervention((*kept, dim)), Intervention(kept)) for dim in dims)
    taken = device.interleaved(
        {
            "toggle": lambda: base.kl(edited.distribution(next(edits))),
            "product": lambda: head.raw(hidden[None]),
            "forward": lambda: model.logits(ids),
        },
        toggles,
    )
    toggle, product, forward = taken.values()
    return [
        Row(
            f"{name}: toggle, softmax, KL / head product", milliseconds(toggle), milliseconds(product), product / toggle
        ),
        at_least(f"{name}: the same / forward of {PROMPT} tokens", toggle, forward, 1),
    ]


def measure(shape: str, device: torch.device, dtype: torch.dtype, quick: bool = False) -> list[Row]:
    """Every row of a shape; one that says so where it does not fit on the device."""
    name, on = f"gpu: {shape}", Device(device)
    on.free()
    try:
        model = build(shape, device, dtype)
        weights = sum(value.nbytes for value in model.hf.parameters())
        memory = _memory(name, model, on, weights)
        with torch.inference_mode():
            rows, detection = _detection(name, model, on, QUICK_STEPS if quick else STEPS)
            products = _product(name, model, on, QUICK_STEPS if quick else STEPS)
            toggles = _toggle(name, model, on, detection, QUICK_TOGGLES if quick else TOGGLES)
    except torch.OutOfMemoryError:
        return [Row(name, "out of memory")]
    return [*rows, *products, *memory, *toggles]


def _gib(value: float) -> str:
    return f"{value / 2**30:.2f} GiB"


def main(arguments: list[str] | None = None) -> None:
    """Measure the named shapes and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure tpe on a GPU.")
    shapes = SHAPES[1:]
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=shapes, help=f"default: {' '.join(shapes)}")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: a look, not a result")
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: --device cpu --shapes tiny only shows that this runs.")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, {chosen.dtype}{', quick' if chosen.quick else ''}\n")
    rows = [
        row for shape in chosen.shapes for row in measure(shape, device, getattr(torch, chosen.dtype), chosen.quick)
    ]
    print(table(rows))


if __name__ == "__main__":
    main()
