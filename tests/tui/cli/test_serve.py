"""`tpe serve` on the command line: what it refuses before anything is loaded, and what it prints."""

from __future__ import annotations

import importlib.util
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tpe_tui.browser.server import BrowserServer
from tpe_tui.cli.main import main


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_a_host_that_other_machines_reach_is_refused_without_the_flag(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--host", host]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"tpe: other machines can reach {host}, ")
    assert "add --allow-remote" in err


def test_the_flag_alone_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--allow-remote"]) == 2
    assert "--allow-remote is for a --host" in capsys.readouterr().err


def test_without_the_extra_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "textual_serve" else found(name))
    assert main(["serve"]) == 1
    assert capsys.readouterr().err == (
        "tpe: tpe serve needs textual-serve, which is not installed: `pip install 'tpe-tui[serve]'`.\n"
    )


def test_a_port_that_is_taken_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"port {port} of 127.0.0.1 is taken: give another --port" in err


def test_a_theme_or_a_text_that_is_not_there_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--theme", "mauve"]) == 1
    assert "there is no theme 'mauve'" in capsys.readouterr().err
    assert main(["serve", "--text", str(tmp_path / "none.txt")]) == 1
    assert "none.txt" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_prints_an_address_with_a_token_and_ends_by_an_interrupt(
    host: str, warns: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(self: BrowserServer, host: str, port: int, announce: Callable[[int], object]) -> None:
        def told(taken: int) -> None:
            announce(taken)
            signal.raise_signal(signal.SIGINT)

        await served(self, host, port, told)

    served = BrowserServer.serve
    monkeypatch.setattr(BrowserServer, "serve", interrupted)
    assert main(["serve", "--port", "0", "--host", host, *(["--allow-remote"] if warns else [])]) == 0
    out, err = capsys.readouterr()
    address = out.splitlines()[0]
    assert address.startswith("http://127.0.0.1:")
    assert len(address.rstrip("/").rpartition("/")[2]) == 32
    assert ("over plain HTTP" in err) == warns
