"""The prompt in an editor of the user's, in a real pseudo-terminal: the editor has it alone, and gives it back."""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.terminal_session import LEFT, READY, Session

EDITOR = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, lambda *_: print("INTERRUPTED", flush=True))
name = pathlib.Path(sys.argv[-1])
print(f"EDITING <{name.read_text()}>", flush=True)
for line in sys.stdin:
    if line.strip() == "done":
        break
    print(f"HEARD <{line.strip()}>", flush=True)
name.write_text("a prompt\\nof two lines\\n")
"""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    script = tmp_path / "editor.py"
    script.write_text(EDITOR)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    session = Session(tmp_path)
    yield session
    session.close()


def test_an_editor_has_the_terminal_to_itself_and_its_text_becomes_the_prompt(session: Session) -> None:
    session.until(READY)
    session.press(b"p")
    session.until(b"editor")
    session.press(b"\x0f")
    session.until(b"EDITING <Return the number of>")
    session.settle(0.2)
    assert termios.tcgetattr(session.slave)[3] & termios.ICANON, "lines are the terminal's own again"
    assert LEFT in session.seen
    session.press(b"q \n")
    session.until(b"HEARD <q>")
    assert session.process.poll() is None
    session.press(b"done\n")
    session.settle()
    assert any("a prompt\\nof two lines" in row for row in session.picture())
    session.press(b"\r")
    session.settle()
    assert any(row.startswith(" prompt  a prompt\\nof two lines") for row in session.picture())
    session.press(b"q")
    assert session.ended() == 0
    assert termios.tcgetattr(session.slave) == session.before
