"""``python -m benchmarks [NAME ...]``: measure side by side and print one table. A missed budget is no failure."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence

from benchmarks.report import Row, table
from tpe_core.options import DEMO

NAMES = {
    "toggle": "one toggled dimension against a head product and an edited forward (V = 50,257, d = 768)",
    "detection": "the streaming pass against plain forwards with logits",
    "memory": "peak memory of a detection beyond the loaded model",
    "regression": "the fit against statsmodels' OLS (minutes; --quick takes a smaller vocabulary)",
    "sweep": "a pruning sweep of 20 fractions against rerunning the model for each; a pruned head against the full one",
    "refit": "a step of a refit on drawn rows of a large vocabulary against one on all of them",
    "steering": "100 tokens steered to 9 ratios against one pass over the sample's logits",
    "start": "from the shell to the first frame and to a usable table",
    "gguf": "a GGUF file opened as tpe has it done against transformers alone (the models of make real)",
    "keys": "from a key to the painted change, and bytes on the wire",
    "wire": "bytes of the first paint, a move, a toggle, a page, and a second of a running job",
    "storm": "2,000 keys at 200 a second while a sweep runs: when they are seen, what is left, the memory",
    "busy": "from a toggle to its new figures while jobs run, beside idle; --model takes another than the bundled one",
    "threads": "one torch thread against as many as there are cores, alone and beside a busy loop",
}


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, this program's own by default; ends it with a sentence for an unknown name."""
    listed = "\n".join(f"  {name:<12} {text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure tpe beside what a user would use instead.",
        epilog=f"names:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller sizes: a look, not a result")
    parser.add_argument("--model", default=DEMO, help="what busy measures on: a hub id or a folder; default: demo")
    chosen = parser.parse_args(words)
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(NAMES)}.")
    return chosen


def main() -> None:
    """Run the named benchmarks, all by default."""
    chosen = parsed()
    rows: list[Row] = []
    for name in chosen.names or NAMES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        more = {"model": chosen.model} if name == "busy" else {}
        rows += importlib.import_module(f"benchmarks.{name}").run(chosen.quick, **more)
    load = os.getloadavg()[0]
    import torch

    print(
        f"Python {platform.python_version()}, torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"{os.cpu_count()} cores, load {load:.1f}{', quick' if chosen.quick else ''}\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
