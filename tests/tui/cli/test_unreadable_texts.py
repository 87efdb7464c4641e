"""A text that cannot be read is one sentence on stderr, nothing on stdout, and exit code 1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tpe_tui.cli.main import main


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no text"),
        (b"", "is empty"),
        (b"some text\x00 and more " * 2000, "is binary"),
        ("un café au lait ".encode("latin-1") * 4000, "is not UTF-8"),
        (b"a few words only", r"has \d+ tokens"),
    ],
    ids=["missing", "empty", "binary", "latin-1", "too short"],
)
def test_a_text_that_cannot_be_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("some.txt").write_bytes(content)
    assert main(["analyze", "--text", "some.txt"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    *_, last = printed.err.splitlines()
    assert [line for line in printed.err.splitlines() if line.startswith("tpe: ")] == [last]
    assert "some.txt" in last
    assert re.search(words, last), last
