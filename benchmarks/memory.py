"""Peak memory of a detection at V = 50,257 beyond the loaded model, against plain forwards, each in its own process.

``python -m benchmarks.memory SIDE BLOCKS`` is such a process. The engine's float32 copy of W belongs to an opened
model, detection or not, and has a row of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Row

__all__ = ["run"]

MIB = 2**20
BUDGET = 256  # MiB
GROWTH = 16  # MiB between a short and a long text: noise of the allocator
SHORT, LONG, QUICK = 16, 64, 24  # blocks; with the short text already, the sample of hidden states is full


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


def main(side: str, blocks: int) -> None:
    """Print the bytes resident with the model loaded and with its head opened, and the peak after that."""
    import torch

    from benchmarks.models import gpt2_small, opened, random_corpus
    from tpe_core.detection import detect
    from tpe_core.progress import run as drive

    hf = gpt2_small()
    corpus = random_corpus(blocks, int(hf.config.vocab_size))
    loaded = _resident()
    model = opened(hf) if side == "detect" else None
    with_head = _resident()
    _forget_peak()
    if model is not None:
        drive(detect(model, corpus))
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


def run(quick: bool) -> list[Row]:
    """Two lengths of text: the extra memory is bounded and does not grow with it."""
    long = QUICK if quick else LONG
    (_, plain), (head, short), (_, more) = _extra("plain", SHORT), _extra("detect", SHORT), _extra("detect", long)
    small, steady = short < BUDGET, more < BUDGET and more - short < GROWTH
    name = "memory: detection, extra peak"
    return [
        Row(f"{name}, {SHORT} blocks / forwards", _mib(short), _mib(plain), short / plain, f"< {BUDGET} MiB", small),
        Row(f"{name}, {long} / {SHORT} blocks", _mib(more), _mib(short), more / short, f"grows < {GROWTH} MiB", steady),
        Row("memory: the opened head's copy of W, float32", _mib(head)),
    ]


def _mib(value: float) -> str:
    return f"{value:.0f} MiB"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
