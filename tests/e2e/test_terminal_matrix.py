"""Every kind of terminal by every size in tmux: what is drawn, in which colours and characters, and what is left."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from tests.e2e.conftest import ROOT
from tests.e2e.terminal import Terminal

Open = Callable[..., Terminal]

FAKE = f"{sys.executable} {ROOT / 'tests' / 'tui' / 'run_fake.py'}"
READY = "positions of held-out docstrings"
COLOURS = {  # environment, and the most that a cell's colour may be
    "truecolor": ({"COLORTERM": "truecolor", "TERM": "xterm-256color"}, "rgb"),
    "256": ({"TERM": "xterm-256color"}, "palette"),
    "16": ({"TERM": "xterm-16color"}, "named"),
    "linux": ({"TERM": "linux"}, "named"),
    "screen": ({"TERM": "screen-256color"}, "palette"),
    "tmux": ({"TERM": "tmux-256color", "COLORTERM": "truecolor"}, "rgb"),
    "NO_COLOR": ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "none"),
}
LOCALES = {"utf-8": "C.UTF-8", "C": "C"}
SGR = re.compile(r"\x1b\[([\d;:]*)m")
JOB = "detection"
FIRST = re.compile(r"^[^\d\n]* 1 +\d+ +[+-]\d", re.MULTILINE)  # the first of the ranked dimensions


def colours(painted: str) -> set[str]:
    """The kinds of colours in what tmux captured with its attributes: ``rgb``, ``palette``, ``named``."""
    kinds = set()
    for codes in SGR.findall(painted):
        parts = re.split("[;:]", codes)
        while parts:
            code = int(parts.pop(0) or 0)
            if code in (38, 48):
                kinds.add("rgb" if parts[0] == "2" else "palette" if int(parts[1]) > 15 else "named")
                del parts[: 4 if parts[0] == "2" else 2]
            elif 30 <= code <= 37 or 40 <= code <= 47 or 90 <= code <= 107:
                kinds.add("named")
    return kinds


def modes(term: Terminal) -> str:
    """The line settings of its terminal, as ``stty -a`` prints them."""
    term.command("clear; stty -a; echo al''l")
    term.wait("^all$")
    return term.screen().split("stty -a")[-1]


QUICK = [("truecolor", "utf-8"), ("16", "C"), ("NO_COLOR", "utf-8")]
PAIRS = [
    pytest.param(colour, locale, marks=() if (colour, locale) in QUICK else pytest.mark.slow)
    for colour in COLOURS
    for locale in LOCALES
]


@pytest.mark.parametrize(("colour", "locale"), PAIRS)
def test_every_size_is_drawn_whole_in_what_the_terminal_can_show_while_a_job_runs(
    terminal: Open, colour: str, locale: str
) -> None:
    variables, most = COLOURS[colour]
    term = terminal(100, 40)
    before = modes(term)
    names = "TERM COLORTERM NO_COLOR TPE_THEME COLORFGBG LC_ALL LANG"
    settings = " ".join(f"{name}={value}" for name, value in {**variables, "LC_ALL": LOCALES[locale]}.items())
    term.start(f"env {' '.join(f'-u {name}' for name in names.split())} PYTHONUTF8=0 {settings} {FAKE}")
    term.wait(READY)
    term.wait(r"KL 0\.000")
    term.keys("r")  # a job that paints all the time
    term.wait(JOB)
    for size in ((80, 24), (160, 48), (60, 16), (59, 15)):
        term.resize(*size)
        if size == (59, 15):
            screen = term.until(lambda: _small(term), "it says which size it needs")
        else:
            screen = term.until(lambda size=size: _whole(term, *size), f"{size} is drawn whole")
        if locale == "C":
            assert screen.isascii(), {char for char in screen if not char.isascii()}
    term.resize(80, 24)
    term.until(lambda: _whole(term, 80, 24), "it is drawn whole again")
    kinds = colours(term.tmux("capture-pane", "-p", "-e"))
    allowed = ["none", "named", "palette", "rgb"]
    assert kinds <= set(allowed[1 : allowed.index(most) + 1])
    assert (most in kinds) or most == "none"
    term.keys("q")
    term.until(lambda: "leaves" in term.screen() or "EXIT=" in term.screen(), "it leaves or asks")
    if "EXIT=" not in term.screen():
        term.keys("y")
    assert term.exit_code() == 0
    term.resize(100, 40)
    term.assert_clean()
    assert modes(term) == before


def _whole(term: Terminal, columns: int, rows: int) -> str:
    """The screen where all of it is drawn for this size: its lines, the ranked table and the keys below; else empty."""
    screen = term.screen()
    lines = screen.split("\n")[:-1]
    drawn = len(lines) == rows and all(cell_len(line) <= columns for line in lines)
    return screen if drawn and FIRST.search(screen) and re.search(r"\bQuit\b|\bq\b", lines[-1]) else ""


def _small(term: Terminal) -> str:
    screen = term.screen()
    return screen if "60" in screen and "16" in screen and not FIRST.search(screen) else ""
