"""Every way out is in time and leaves a clean terminal: signals, quitting at work, a terminal that vanishes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import POSITIONS
from tests.e2e.terminal import Terminal, gone

Open = Callable[..., Terminal]

IN_TIME = 4.0  # seconds
READY = r"KL 0\.000"
LONG = "tpe demo --no-cache --positions 2000000"


def signalled(term: Terminal, number: int) -> None:
    """Send a signal: the process ends in time, with the code of that signal, on a clean terminal."""
    pid = term.pid()
    sent = time.monotonic()
    os.kill(pid, number)
    term.until(lambda: gone(pid), "the process has ended")
    assert time.monotonic() - sent <= IN_TIME
    assert term.exit_code() == 128 + number
    assert "Traceback" not in term.screen()
    term.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_an_idle_inspector(terminal: Open, number: signal.Signals) -> None:
    term = terminal()
    term.start(f"tpe demo --positions {POSITIONS}")
    term.wait(READY)
    signalled(term, number)


def test_a_signal_while_the_engine_is_imported(terminal: Open) -> None:
    term = terminal()
    term.start(LONG)
    term.wait("importing the engine|opening the model|load model")
    signalled(term, signal.SIGTERM)


@pytest.mark.slow
def test_a_cancelled_job_starts_again_and_a_signal_ends_it(terminal: Open) -> None:
    term = terminal()
    term.start(LONG)
    term.wait(r"x cancel")
    term.wait(r"reading text|detect")
    term.keys("x")
    term.wait(r"was cancelled; r tries again")
    term.keys("r")
    term.wait(r"reading text|detect")
    signalled(term, signal.SIGTERM)


def test_quitting_during_a_job(terminal: Open) -> None:
    term = terminal()
    term.start(LONG)
    term.wait(r"reading text|detect")
    term.keys("q")
    pid = term.pid()
    pressed = time.monotonic()
    term.until(lambda: gone(pid), "the process has ended")
    assert time.monotonic() - pressed <= IN_TIME
    assert term.exit_code() == 0
    term.assert_clean()


@pytest.mark.parametrize(
    ("command", "shown"), [(f"tpe demo --positions {POSITIONS}", READY), (LONG, r"reading text|detect")]
)
def test_a_terminal_that_vanishes(terminal: Open, command: str, shown: str) -> None:
    term = terminal()
    term.start(command)
    term.wait(shown)
    pid = term.pid()
    closed = time.monotonic()
    term.close()
    while not gone(pid):
        assert time.monotonic() - closed <= IN_TIME + 1, "the process outlives its terminal"
        time.sleep(0.05)
