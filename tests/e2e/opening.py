"""The inspector in a real terminal, opened and settled."""

from __future__ import annotations

from tests.e2e.conftest import POSITIONS
from tests.e2e.terminal import Terminal

START = f"tpe demo --positions {POSITIONS}"
SETTLED = r"KL ([\d.e-]+)( |$)"  # an awaited number carries an ellipsis


def opened(term: Terminal, line: str = START) -> None:
    """Start the inspector and wait for the loaded model's ranked dimensions and a distribution.

    What was kept of an earlier analysis is there before that; a key that needs the model says so until then.
    """
    term.start(line)
    term.wait(SETTLED)
    term.until(lambda: [*term.rows()][:15] == [*range(1, 16)], "the dimensions are ranked")
    term.wait_without("model still loading")
    term.wait(SETTLED)
    term.wait(r"\d%")
