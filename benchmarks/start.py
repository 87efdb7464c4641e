"""From the shell to the first frame and to a usable table, against importing torch and against plain transformers."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.inspector import browsable, first_text, folders, opened, usable
from benchmarks.report import Row, seconds
from benchmarks.timing import median
from tpe_core.models.loading import bundled_path

__all__ = ["run"]

FRAME, BROWSABLE, USABLE = 0.5, 1.0, 4.0  # seconds
IMPORT = "import torch, transformers"
PLAIN = f"""
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(bundled_path())!r})
model = AutoModelForCausalLM.from_pretrained({str(bundled_path())!r})
with torch.inference_mode():
    inputs = tokenizer("Returns the number of elements in the", return_tensors="pt")
    print(model(**inputs).logits[0, -1].softmax(-1).topk(10))
"""


def _python(code: str, env: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    return time.perf_counter() - started


def run(quick: bool) -> list[Row]:
    """Medians of starts in turns, after one of each that warms the page cache."""
    frames: list[float] = []
    browsables: list[float] = []
    tables: list[float] = []
    imports: list[float] = []
    plains: list[float] = []
    with folders() as env:
        for repetition in range(-1, 2 if quick else 7):
            term = opened(env)
            try:
                frame, kept, table = term.until(first_text), term.until(browsable), term.until(usable)
            finally:
                term.close()
            importing, plain = _python(IMPORT, env), _python(PLAIN, env)
            if repetition >= 0:
                frames.append(frame)
                browsables.append(kept)
                tables.append(table)
                imports.append(importing)
                plains.append(plain)
    frame, kept, table, importing, plain = map(median, (frames, browsables, tables, imports, plains))
    return [
        Row("start: first frame / import torch, transformers", seconds(frame), seconds(importing), frame / importing,
            f"<= {FRAME} s", frame <= FRAME),
        Row("start: first frame / transformers to a distribution", seconds(frame), seconds(plain), frame / plain,
            f"<= {FRAME} s", frame <= FRAME),
        Row("start: table to browse / transformers to a distribution", seconds(kept), seconds(plain), kept / plain,
            f"<= {BROWSABLE:g} s", kept <= BROWSABLE),
        Row("start: table and live distribution / transformers to a distribution", seconds(table), seconds(plain),
            table / plain, f"<= {USABLE:g} s", table <= USABLE),
    ]  # fmt: skip
