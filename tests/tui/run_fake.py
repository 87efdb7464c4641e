"""Runs the app in a real terminal on a fake session that also writes to descriptors 1 and 2, as native code does."""

from __future__ import annotations

import os
import sys

import fakes

import tpe_tui.app
from tpe_core.options import RunOptions

session = fakes.FakeSession()
plain = session.evaluate


def noisy(*args, **kwargs):
    os.write(1, b"NATIVE-OUT\n")
    os.write(2, b"NATIVE-ERR\n")
    return plain(*args, **kwargs)


session.evaluate = noisy  # type: ignore[method-assign]
tpe_tui.app.open_live = fakes.failing() if "fail" in sys.argv else fakes.opening(session)  # type: ignore[assignment]
tpe_tui.app.run_app(RunOptions())
