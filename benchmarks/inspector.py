"""`tpe demo` for the terminal benchmarks: folders of its own, a cached detection, and what its screen must show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.painted import Painted
from tpe_tui.shell.tour_seen import TourSeen

__all__ = ["COMMAND", "browsable", "first_text", "folders", "opened", "usable"]

COMMAND = (str(Path(sys.executable).with_name("tpe")), "demo")
RANKED = re.compile(r"^ . +1 +\d+ +[+-]\d", re.MULTILINE)
DISTRIBUTION = re.compile(r"KL 0\.000(?!…)")


@contextmanager
def folders() -> Iterator[dict[str, str]]:
    """An environment with folders of its own; the detection is in its cache, or in ``TPE_CACHE_DIR``."""
    with tempfile.TemporaryDirectory(prefix="tpe-bench-") as home:
        own = {f"XDG_{name}_HOME": f"{home}/{name.lower()}" for name in ("CACHE", "CONFIG", "STATE", "DATA")}
        TourSeen(Path(home, "state", "tpe")).remember()
        env = {"TPE_CACHE_DIR": f"{home}/detections", **os.environ, **own}
        subprocess.run([COMMAND[0], "analyze", "demo"], env=env, check=True, capture_output=True)
        yield env


def first_text(lines: list[str]) -> bool:
    """Whether the first frame is painted: the status bar names the model."""
    return lines[0].startswith(" demo")


def browsable(lines: list[str]) -> bool:
    """Whether ranked dimensions with their numbers are on screen, be it those that were kept of the last analysis."""
    return RANKED.search("\n".join(lines)) is not None


def usable(lines: list[str]) -> bool:
    """Whether the loaded model's ranked dimensions and a current distribution are on screen."""
    text = "\n".join(lines)
    return (
        browsable(lines) and "model still loading" not in lines[0] and bool(DISTRIBUTION.search(text) and "%" in text)
    )


def opened(env: dict[str, str]) -> Painted:
    """An inspector that is just started."""
    return Painted(COMMAND, env)
