"""Opening a GGUF file as tpe has transformers do it, against transformers alone: on the models of `make real`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.real_models import FOLDER, MODELS
from benchmarks.report import Row, seconds
from benchmarks.timing import median

__all__ = ["run"]

OPEN = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tpe_core.models.gguf_reading import GgufReading

file = Path(sys.argv[1])
at = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
started = time.perf_counter()
with GgufReading().shared() if sys.argv[2] == "ours" else nullcontext():
    for each in (AutoTokenizer, AutoModelForCausalLM):
        each.from_pretrained(**at)
print(time.perf_counter() - started)
"""


def _seconds(file: Path, whose: str) -> float:
    done = subprocess.run([sys.executable, "-c", OPEN, file, whose], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def run(quick: bool) -> list[Row]:
    """Medians of openings in turns, after one of each that warms the page cache."""
    folder = Path(os.environ.get("TPE_REAL_MODELS") or FOLDER)
    rows = []
    for name, model in MODELS.items():
        file = folder / model.file
        if not file.is_file():
            print(f"gguf: {file} is not there, so {name} is left out: run `make real` first.", file=sys.stderr)
            continue
        taken: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(2 if quick else 4):
            for whose, times in taken.items():
                times.append(_seconds(file, whose))
        ours, theirs = (median(times[1:]) for times in taken.values())
        rows.append(Row(f"gguf: {name} opened / transformers alone", seconds(ours), seconds(theirs), ours / theirs))
    return rows
