"""Docstrings of many files, parsed in a process of their own.

Parsing a file of the size of some in torch holds the interpreter for a quarter of a second, in which no other thread of
this process runs: an inspector would answer no key. What is parsed elsewhere only has to be waited for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO

from tpe_core.demo import docstrings
from tpe_core.pauses import pause

__all__ = ["parsed"]

FEW = 4  # files that are parsed sooner than another process starts
LOOK = 0.01  # seconds between two pauses while the other process parses

Lines = SimpleQueue[str]


def parsed(paths: Sequence[Path]) -> Iterator[list[str]]:
    """The docstrings of each of `paths`, in their order, with pauses; as `docstrings.docstrings` finds them.

    What the other process does not answer, because it could not be started or was ended, is parsed here.
    """
    answered = 0
    if len(paths) > FEW and sys.executable:
        for documented in _elsewhere(paths):
            answered += 1
            yield documented
    for path in paths[answered:]:
        pause()
        yield docstrings.docstrings(path)


def _elsewhere(paths: Sequence[Path]) -> Iterator[list[str]]:
    """What another process answers, in order, until it has no more to say."""
    try:
        process = subprocess.Popen(  # noqa: S603 -- this interpreter, and a file of this package
            [sys.executable, "-I", "-S", docstrings.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",  # as JSON is written
            start_new_session=True,  # a Ctrl-C is for this process, which ends the other one
        )
    except OSError:  # no interpreter where it should be, no process to be had
        return
    lines: Lines = SimpleQueue()
    streams = process.stdin, process.stdout
    talking = Thread(target=_talk, args=([str(path) for path in paths], *streams, lines), daemon=True)
    talking.start()
    try:
        while line := _next(lines):
            yield json.loads(line)
    except ValueError:  # an interpreter that says something else
        return
    finally:
        process.kill()
        talking.join()
        process.wait()


def _next(lines: Lines) -> str:
    """The next line, empty at the end, with pauses while it is waited for."""
    while True:
        pause()
        try:
            return lines.get(timeout=LOOK)
        except Empty:
            continue


def _talk(names: Sequence[str], given: IO[str], answers: IO[str], lines: Lines) -> None:
    """Give the other process its paths and pass on its whole lines, then an empty one."""
    try:
        with given:
            json.dump(names, given, allow_nan=False)
        with answers:
            for line in answers:
                if line.endswith("\n"):  # and not half of one, of a process that was ended
                    lines.put(line)
    except (OSError, ValueError):  # the other process is gone
        pass
    finally:
        lines.put("")
