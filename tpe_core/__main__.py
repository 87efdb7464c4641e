"""``python -m tpe_core detect MODEL``: detection without a front end, alone or under ``torchrun`` by several processes.

The result is one entry of the cache, which ``tpe analyze MODEL`` and the inspector then find under the same options.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from tpe_core.errors import FAILED, INTERRUPTED, USAGE, TpeError
from tpe_core.json_text import json_text
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import Progress, run
from tpe_core.streams import check_arguments, with_standard_streams

if TYPE_CHECKING:
    from tpe_core.detection.distributed import DistributedDetection
    from tpe_core.models.processes import Processes

__all__ = ["main"]

EPILOG = """several processes, each with a share of the text (on GPUs: one each):
  torchrun --standalone --nproc-per-node 4 -m tpe_core detect MODEL
A run that was killed goes on where each process was: start the same command again, with as many processes
(torchrun --max-restarts does it by itself)."""


def main(arguments: list[str] | None = None) -> int:
    """Parse, detect, print; the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return with_standard_streams(lambda: _run(words), _say)


def _run(arguments: list[str]) -> int:
    try:
        check_arguments(arguments)
    except TpeError as error:
        _say(str(error))
        return USAGE
    chosen = _parser().parse_args(arguments)
    options = RunOptions(
        model=chosen.model,
        revision=chosen.revision,
        adapter=chosen.adapter,
        device=chosen.device,
        dtype=chosen.dtype,
        text=tuple(chosen.text),
        text_field=chosen.text_field,
        positions=chosen.positions,
        sample=chosen.sample,
        seed=chosen.seed,
        cache=not chosen.no_cache,
        offline=chosen.offline,
        trust_remote_code=chosen.trust_remote_code,
        threads=chosen.threads,
        task=chosen.task,
        quantize=chosen.quantize,
    )
    from tpe_core.models.processes import OtherFailedError, Processes

    processes: Processes | None = None
    line = _ProgressLine()
    try:
        processes = Processes.join(chosen.timeout)
        started = time.monotonic()
        shared = _detect(options, processes, chosen.save_seconds, line)
    except OtherFailedError:
        return FAILED
    except TpeError as error:
        line.close()
        if processes is None or processes.fail():
            who = f"rank {processes.rank} of {processes.size}: " if processes and processes.size > 1 else ""
            _say(f"{who}{error}")
        return FAILED
    except KeyboardInterrupt:
        line.close()
        if processes is None or processes.first:
            _say("interrupted: start the same command again to go on.")
        return INTERRUPTED
    except BaseException:
        if processes is not None:
            processes.fail()
        raise
    line.close()
    if processes.first:
        for warning in shared.warnings:
            _say(warning)
        _print(_summary(shared, processes.size, time.monotonic() - started), chosen.json)
    return 0


def _detect(
    options: RunOptions, processes: Processes, save_seconds: float, line: _ProgressLine
) -> DistributedDetection:
    from tpe_core.detection.distributed import detect_together

    steps = detect_together(options, processes, stdin=sys.stdin.buffer, save_seconds=save_seconds)
    return run(steps, line.show if processes.first else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tpe_core", description="The engine of tpe, without a front end.")
    command = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "detect",
        help="run a model over a text and cache what every front end starts from",
        description="Run a model over a text and cache the sums that every front end starts from.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = RunOptions()
    add = command.add_argument
    add("model", metavar="MODEL", nargs="?", default=DEMO, help="hub id, local folder, or demo (the default)")
    add("--revision", help="branch, tag or commit on the hub")
    add("--adapter", help="folder or hub id of a PEFT adapter to put on the model")
    add("--device", help="cpu, cuda; default: a GPU where there is one")
    add("--dtype", help="float32, bfloat16, float16; default: the checkpoint's on a GPU, float32 on a CPU")
    add("--task", help="causal, masked, seq2seq; default: what the checkpoint is")
    add("--quantize", help="8bit or 4bit: load the body so (needs bitsandbytes)")
    add("--text", action="append", default=[], metavar="PATH", help="a text file or folder; repeatable")
    add("--text-field", metavar="NAME", help="of records: the field that is read")
    add("--positions", type=_whole(1), default=default.positions, help=f"to average over ({default.positions})")
    add("--sample", type=_whole(0), default=default.sample, help=f"positions that keep h ({default.sample})")
    add("--seed", type=_whole(0), default=default.seed, help=f"of the sample ({default.seed})")
    add("--threads", type=_whole(1), help="torch threads of each process")
    add("--save-seconds", type=_seconds, default=30.0, help="between two saves of an unfinished share (30)")
    add("--timeout", type=_seconds, default=1800.0, help="seconds without progress until a process is given up (1800)")
    add("--offline", action="store_true", help="never ask the hub; use what is in its local cache")
    add("--trust-remote-code", action="store_true", help="run code that comes with the model; read it first")
    add("--no-cache", action="store_true", help="neither read nor write cached detections")
    add("--json", action="store_true", help="print one JSON document on stdout")
    return parser


def _whole(least: int) -> Any:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    parse.__name__ = "whole number"  # what argparse calls it
    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def _summary(shared: DistributedDetection, processes: int, seconds: float) -> dict[str, Any]:
    """The JSON document of ``detect``."""
    detection, head = shared.detection, shared.model.head
    assert detection is not None  # noqa: S101 - only the first process prints
    return {
        "schema": 1,
        "model": shared.model.name,
        "revision": shared.model.revision,
        "text": shared.text,
        "processes": processes,
        "positions": detection.positions,
        "resumed": shared.resumed,
        "vocab_rows": head.vocab_rows,
        "hidden_size": head.hidden_size,
        "loss": detection.loss if math.isfinite(detection.loss) else None,
        "mean_log_z": detection.mean_log_z,
        "key": shared.key,
        "found": shared.found,
        "cached": shared.cached,
        "seconds": round(seconds, 3),
    }


def _print(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json_text(summary, 1) + "\n")
        return
    several = "1 process" if summary["processes"] == 1 else f"{summary['processes']} processes"
    how = "found in the cache" if summary["found"] else several
    if summary["resumed"]:
        how += f", {summary['resumed']:,} positions from an earlier run"
    where = "cached" if summary["cached"] else "not cached"
    for name, value in (
        ("model", summary["model"]),
        ("text", summary["text"]),
        ("positions", f"{summary['positions']:,} in {summary['seconds']:.1f} s ({how})"),
        ("loss", "infinite" if summary["loss"] is None else f"{summary['loss']:.4f} nats"),
        ("entry", f"{summary['key'][:16]}… ({where})"),
    ):
        sys.stdout.write(_visible(f"{name:<10} {value}") + "\n")


class _ProgressLine:
    """Progress on stderr: one line that is overwritten on a terminal, one line per stage or tenth elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""

    def show(self, event: Progress) -> None:
        """Show an event where it reads otherwise than the last one."""
        share = "" if event.fraction is None else f" {event.fraction:4.0%}"
        if not self._terminal and event.fraction is not None:
            share = f" {event.fraction * 10 // 1 * 10:.0f}%"
        text = f"{event.label}{share} {event.note}".rstrip()
        if text != self._shown:
            sys.stderr.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
            sys.stderr.flush()
            self._shown = text

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._terminal and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _say(sentence: str) -> None:
    sys.stderr.write(f"tpe: {_visible(sentence)}\n")
    sys.stderr.flush()


def _visible(text: str) -> str:
    """`text` with control characters spelled out, safe in any terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


if __name__ == "__main__":
    sys.exit(main())
