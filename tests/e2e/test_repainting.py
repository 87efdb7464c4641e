"""The terminal in other hands for a while: stopped and gone on, written over, resized; then all is painted anew."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.terminal import PROMPT, Terminal

Open = Callable[..., Terminal]

FAKE = f"{sys.executable} {ROOT / 'tests' / 'tui' / 'run_fake.py'}"
READY = "positions of held-out docstrings"
WHOLE = ("dimensions", "next token", "Prune", "Quit")
SCRIBBLE = "somebody else was here"


def wait_for_rest(term: Terminal) -> None:
    """Wait until the first answer is on screen, and nothing changes any more unasked."""
    term.wait(READY)
    term.wait(r"KL 0\.000")
    looks = [term.screen()]

    def is_still() -> bool:
        looks.append(term.screen())
        return looks[-1] == looks[-2]

    term.until(is_still, "two looks are the same")


@pytest.fixture
def opened(terminal: Open) -> Terminal:
    """The inspector on a fake session."""
    term = terminal()
    term.start(FAKE)
    wait_for_rest(term)
    return term


def scribble(term: Terminal) -> None:
    """Write over the middle of the screen, as a message of another program does; again, where a last frame hid it."""
    path = Path(term.tmux("display-message", "-p", "#{pane_tty}").strip())

    def seen() -> bool:
        path.write_text("".join(f"\x1b[{row};10H{SCRIBBLE}" for row in range(3, 22)))
        return SCRIBBLE in term.screen()

    term.until(seen, f"{SCRIBBLE!r} is on screen")


def is_whole(term: Terminal, before: str) -> None:
    term.until(lambda: term.screen() == before, f"this is on screen:\n{before}")


def stop_by_key(term: Terminal) -> None:
    term.keys("C-z")


def stop_by_signal(term: Terminal) -> None:
    os.kill(term.pid(), signal.SIGTSTP)


def test_ctrl_l_paints_every_cell_again(opened: Terminal) -> None:
    before = opened.screen()
    scribble(opened)
    opened.keys("C-l")
    is_whole(opened, before)


def test_ctrl_l_paints_every_cell_again_below_a_question(opened: Terminal) -> None:
    opened.keys("p")
    opened.wait("is a new line")
    before = opened.screen()
    scribble(opened)
    opened.keys("C-l")
    is_whole(opened, before)


def test_a_resize_paints_every_cell_again(opened: Terminal) -> None:
    before = opened.screen()
    scribble(opened)
    os.kill(opened.pid(), signal.SIGWINCH)  # the same size: another client of tmux had one of its own
    is_whole(opened, before)
    opened.resize(120, 40)
    opened.until(lambda: len(opened.screen().splitlines()[0]) > 80, "it is wide")
    scribble(opened)
    opened.resize(80, 24)
    is_whole(opened, before)


@pytest.mark.parametrize("stop", [stop_by_key, stop_by_signal])
def test_what_was_stopped_goes_on_with_a_whole_screen_and_leaves_a_clean_one(
    opened: Terminal, stop: Callable[[Terminal], None]
) -> None:
    before = opened.screen()
    stop(opened)
    opened.wait(r"EXIT=1\d\d$")
    opened.assert_clean()
    opened.command("fg")
    is_whole(opened, before)
    opened.keys("Space")
    opened.wait("pruned 1/64")
    opened.keys("q")
    opened.wait("is in no file")
    opened.keys("y")
    opened.wait(f"{PROMPT}$")
    opened.assert_clean()


def test_where_no_shell_could_take_over_ctrl_z_changes_nothing(terminal: Open) -> None:
    term = terminal()
    term.command(f"exec {FAKE}")  # the program is the session now, as under ssh HOST tpe
    wait_for_rest(term)
    before = term.screen()
    term.keys("C-z")
    time.sleep(0.5)
    is_whole(term, before)
    term.keys("Space")
    term.wait("pruned 1/64")
