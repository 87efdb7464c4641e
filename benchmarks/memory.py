"""Peak memory of a detection beyond the loaded model, each measured in its own process.

At V = 50,257 against plain forwards, and for a head alone (a random one under random hidden states) at V = 256,000,
d = 2,048 and in Gemma 3 270M's shape, V = 262,144, d = 640. ``python -m benchmarks.memory SIDE BLOCKS`` is such a
process. The engine's float32 copy of W belongs to an opened model, detection or not, and has a row of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.models import BLOCK
from benchmarks.report import Row

if TYPE_CHECKING:
    from tpe_core.models.model import LanguageModel

__all__ = ["WIDE_BUDGET", "run", "wide_extra"]

MIB = 2**20
BUDGET = 256  # MiB
GROWTH = 16  # MiB between a short and a long text: noise of the allocator
SHORT, LONG, QUICK = 16, 64, 24  # blocks; with the short text already, the sample of hidden states is full
SHAPES = {"wide": (256_000, 2_048), "gemma": (262_144, 640)}  # V and d of heads without a body
WIDE_BLOCKS, WIDE_QUICK = 79, 4  # 20,224 positions; 1,024
WIDE_BUDGET = 1.5e9 / MIB  # MiB


def _resident() -> int:
    """Bytes resident now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _forget_peak() -> None:
    """Let the kernel count the peak from here on: loading a model can take more than running it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """Bytes resident at most since `_forget_peak` (Linux counts in KiB)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def _bodyless(vocab: int, width: int) -> LanguageModel:
    """Random hidden states under a random head; a few hundred rows lie below what float32 holds."""
    import torch

    from tpe_core.models.head import HeadReport, OutputHead, Post
    from tpe_core.models.model import LanguageModel

    class Bodyless(LanguageModel):
        device = torch.device("cpu")
        fingerprint = "0" * 64

        def hidden(self, inputs: Any) -> torch.Tensor:
            return torch.randn(*inputs["input_ids"].shape, width)

    torch.manual_seed(0)
    bias = torch.zeros(vocab)
    bias[:256] = -80
    columns = torch.randn(width, vocab).mul_(0.03)
    head = OutputHead(columns=columns, bias=bias, post=Post("identity"), vocab_rows=vocab, tied=False, module="Linear")
    report = HeadReport(architecture="random", head="Linear", dtype="float32", device="cpu")
    return Bodyless(
        name="random",
        revision=None,
        hf=SimpleNamespace(config=None, get_input_embeddings=lambda: None),
        tokenizer=None,
        context=256,
        report=report,
        measured_head=head,
    )


def main(side: str, blocks: int) -> None:
    """Print the bytes resident with the model loaded and with its head opened, and the peak after that."""
    import torch

    from benchmarks.models import gpt2_small, opened, random_corpus
    from tpe_core.detection.detection import detect
    from tpe_core.progress import run as drive

    hf = None if side in SHAPES else gpt2_small()
    corpus = random_corpus(blocks, SHAPES[side][0] if hf is None else int(hf.config.vocab_size))
    loaded = _resident()
    model = _bodyless(*SHAPES[side]) if hf is None else opened(hf) if side == "detect" else None
    with_head = _resident()
    _forget_peak()
    if model is not None:
        found = drive(detect(model, corpus))
        assert found.positions == corpus.positions
    else:
        with torch.inference_mode():
            for at in range(blocks):
                ids = torch.from_numpy(corpus.blocks[at : at + 1].copy())
                _ = hf(input_ids=ids, use_cache=False).logits
    print(json.dumps({"loaded": loaded, "opened": with_head, "peak": _peak()}))


def _extra(side: str, blocks: int) -> tuple[float, float]:
    """MiB (of the opened head, at the peak beyond the model with its head)."""
    command = [sys.executable, "-m", "benchmarks.memory", side, str(blocks)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return (found["opened"] - found["loaded"]) / MIB, (found["peak"] - found["opened"]) / MIB


def wide_extra(blocks: int) -> tuple[float, float]:
    """MiB (of the head with V = 256,000 and d = 2,048, at the peak of a detection of `blocks` blocks beyond that)."""
    return _extra("wide", blocks)


def run(quick: bool) -> list[Row]:
    """Two lengths of text: the extra memory is bounded and does not grow with it. Then a large vocabulary."""
    long = QUICK if quick else LONG
    (_, plain), (head, short), (_, more) = _extra("plain", SHORT), _extra("detect", SHORT), _extra("detect", long)
    small, steady = short < BUDGET, more < BUDGET and more - short < GROWTH
    blocks = WIDE_QUICK if quick else WIDE_BLOCKS
    name = "memory: detection, extra peak"
    return [
        Row(f"{name}, {SHORT} blocks / forwards", _mib(short), _mib(plain), short / plain, f"< {BUDGET} MiB", small),
        Row(f"{name}, {long} / {SHORT} blocks", _mib(more), _mib(short), more / short, f"grows < {GROWTH} MiB", steady),
        Row("memory: the opened head's copy of W, float32", _mib(head)),
        *_beside_the_head("wide", *wide_extra(blocks), blocks),
        *_beside_the_head("gemma", *_extra("gemma", blocks), blocks),
    ]  # fmt: skip


def _beside_the_head(side: str, head: float, detection: float, blocks: int) -> list[Row]:
    """Extra memory of a detection beside that of the head's float32 W, both in MiB."""
    shape = "V = {:,}, d = {:,}".format(*SHAPES[side])
    return [
        Row(f"memory: detection, extra peak, {shape}, {blocks * BLOCK:,} positions", _mib(detection), _mib(head),
            detection / head, f"< {_mib(WIDE_BUDGET)}", detection < WIDE_BUDGET),
        Row(f"memory: that head's W, float32, {shape}", _mib(head)),
    ]  # fmt: skip


def _mib(value: float) -> str:
    return f"{value:.0f} MiB"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
