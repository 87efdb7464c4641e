"""Standard streams that are closed, full, gone or of another encoding: a sentence and an exit code, everywhere."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tpe_tui.cli import main as cli

TPE = [sys.executable, "-m", "tpe_tui"]
ENGINE = [sys.executable, "-m", "tpe_core"]
FULL = "standard output cannot be written (No space left on device): what was printed is incomplete."
CLOSED = "standard output is closed, so nothing could be printed: send it to /dev/null instead."
COMMANDS = sorted(name for name in cli.COMMANDS if " " not in name)


def shell(line: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of sh, in which ``tpe`` and ``engine`` are the programs."""
    names = f'tpe() {{ {" ".join(TPE)} "$@"; }}; engine() {{ {" ".join(ENGINE)} "$@"; }}; '
    folders = {f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "CONFIG", "CACHE")}
    whole = {**os.environ, **folders, "HF_HUB_OFFLINE": "1", **env}
    return subprocess.run(
        ["sh", "-c", names + line], env=whole, cwd=folder, capture_output=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("tpe schema >/dev/full", 1, FULL),
        ("tpe --help >/dev/full", 1, FULL),
        ("tpe --version >/dev/full", 1, FULL),
        ("engine detect --help >/dev/full", 1, FULL),
        ("tpe schema >&-", 1, CLOSED),
        ("tpe >&-", 1, CLOSED),
        ("engine detect >&-", 1, CLOSED),
        ("tpe schema 2>/dev/full >/dev/null", 0, ""),
        ("tpe schema 2>&- >/dev/null", 0, ""),
        ("tpe show nofile.json 2>/dev/full", 1, ""),
        ("tpe show nofile.json 2>&-", 1, ""),
        ("tpe --nonsense 2>/dev/full", 2, ""),
        ("tpe --nonsense 2>&-", 2, ""),
        ("engine detect --nonsense 2>/dev/full", 2, ""),
        ("tpe schema <&- >/dev/null", 0, ""),
        ("tpe schema <&- 2>&- >/dev/null", 0, ""),
        ("tpe analyze --text - <&-", 1, "standard input is empty: pipe text into it, or name a file instead of -."),
    ],
)
def test_a_stream_that_is_full_or_closed_is_a_sentence_and_an_exit_code(
    line: str, code: int, words: str, tmp_path: Path
) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    said = [text for text in done.stderr.decode().splitlines() if text.startswith("tpe: ")]
    assert said == ([f"tpe: {words}"] if words else [])
    assert b"Traceback" not in done.stderr
    assert b"report it" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_terminal_without_standard_input_gets_a_sentence(tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    done = subprocess.Popen(
        ["sh", "-c", f"exec {shlex.join([*TPE, './nothing'])} <&-"], stdout=terminal, stderr=terminal, cwd=tmp_path
    )
    os.close(terminal)
    printed = b""
    with suppress(OSError):  # the end of a terminal
        while data := os.read(screen, 4096):
            printed += data
    os.close(screen)
    assert done.wait(60) == 1
    assert b"this is the analysis" in printed
    assert b"nothing" in printed.splitlines()[-1]
    assert b"Traceback" not in printed
    assert b"report it" not in printed


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_an_argument_that_is_no_utf8_is_wrong_usage_for_every_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, "caf\udce9"] if command else ["caf\udce9"]
    assert cli.main(words) == 2
    assert capsys.readouterr().err == (
        "tpe: the argument caf\\xe9 is not UTF-8: give it in UTF-8; a file of such a name must be renamed.\n"
    )


def test_a_letter_that_the_encoding_lacks_is_spelled_out(tmp_path: Path) -> None:
    done = shell("tpe show 漢字.json", tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 1
    assert b"\\u6f22\\u5b57.json" in done.stderr
    code = "from tpe_core.streams import with_standard_streams as w; print(w(lambda: print('漢 é') or 0, print))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=True
    )
    assert done.stdout == b"\\u6f22 \xe9\n0\n"


def test_a_reader_that_leaves_is_told_nothing(tmp_path: Path) -> None:
    done = shell("{ tpe schema; echo CODE=$? >&2; } | true", tmp_path)
    assert done.stderr in {b"CODE=1\n", b"CODE=0\n"}  # it may have printed everything before


def test_a_full_disk_is_a_sentence_whatever_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "some file"))

    monkeypatch.setattr(cli, "command_line", lambda _words: full)
    assert cli.main(["analyze"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "some file" in said
    assert "report it" not in said


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--debug", "--version"], ["demo", "--version"], ["--version", "--json"], ["analyze", "--version"]],
)
def test_the_version_is_printed_wherever_it_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.metadata

    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"tpe {importlib.metadata.version('tpe-tui')}\n"


def test_the_help_names_the_version_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "--version" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"TERM": "dumb"}, "TERM=dumb is no terminal"),
        ({"SSH_CONNECTION": "::1 1 ::1 22", "TERM": "xterm"}, "ssh -t HOST tpe opens the inspector"),
        ({"TERM": "xterm"}, "standard input and output is no terminal"),
    ],
)
def test_without_a_terminal_one_line_says_how_to_get_the_inspector(
    env: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli, "_print_analysis", lambda *arguments: None)
    assert cli.main(["demo"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert cli.main(["demo", "--json"]) == 0
    assert capsys.readouterr().err == ""
