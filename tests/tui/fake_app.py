"""The app on a fake session, for programs of their own: a job that paints all the time, a main thread that hangs.

Words: ``fail`` the model cannot be opened, ``stuck`` the key y never returns, ``crash`` it is a mistake of the app's.
The file named by ``TPE_FAKE_JOB`` holds what the rerun's job did last: began or closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import fakes

import tpe_tui.app
from tpe_core.options import RunOptions
from tpe_core.progress import Progress

STEP_SECONDS = 0.01


def run(words: Sequence[str] = ()) -> None:
    """Run it in this terminal and end the process."""
    session = fakes.FakeSession()
    tpe_tui.app.TourSeen.is_seen = property(lambda self: True)  # type: ignore[assignment,method-assign]
    plain = session.evaluate

    def noisy(*args, **kwargs):
        with suppress(OSError):  # native code does not look whether the disk is full
            os.write(1, b"NATIVE-OUT\n")
            os.write(2, b"NATIVE-ERR\n")
        return plain(*args, **kwargs)

    def told(what: str) -> None:
        with suppress(OSError, KeyError):
            Path(os.environ["TPE_FAKE_JOB"]).write_text(what)

    def again():
        told("began")
        try:
            for step in range(100_000):
                time.sleep(STEP_SECONDS)
                yield Progress("detection", step, 100_000, note=f"loss {step * 7919 % 1000 / 100:.2f}")
        finally:
            told("closed")
        return session

    session.evaluate = noisy  # type: ignore[method-assign]
    session.again = again
    tpe_tui.app.open_live = fakes.failing() if "fail" in words else fakes.opening(session)  # type: ignore[assignment]
    if "prompt-answers" in words:  # however busy the machine is, no answer is late enough to be shown as stale before
        tpe_tui.inspector.frame.STALE_SECONDS = 60.0
    if "crash" in words:
        tpe_tui.app.TpeApp.copy_text = lambda self, text: 1 / 0  # type: ignore[method-assign,assignment]
    if "stuck" in words:
        tpe_tui.app.TpeApp.copy_text = lambda self, text: time.sleep(1000)  # type: ignore[method-assign,assignment]
    tpe_tui.app.run_app(RunOptions())
