"""`tpe doctor`: every line with its verdict, exit code 1 where something is broken, and nothing private in it."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from tpe_core import machine
from tpe_core.machine import Finding, folder_finding, package_findings, private_path, torch_findings
from tpe_core.store import default_root
from tpe_tui.cli import doctor_tables
from tpe_tui.cli.doctor_tables import report, terminal_findings, worst
from tpe_tui.cli.main import main

MODERN = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}


def named(findings: Any, name: str) -> Finding:
    (found,) = (each for each in findings if each.name == name)
    return found  # type: ignore[no-any-return]


def test_the_report_holds_nothing_private_and_fits_80_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secrets = {
        "HF_TOKEN": "hf_secretsecret",
        "SSH_CONNECTION": "203.0.113.7 50000 203.0.113.9 22",
        "HF_ENDPOINT": "https://mirror.example.org",
        "TPE_CACHE_DIR": str(tmp_path / "jane" / "cache"),
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(getpass, "getuser", lambda: "jane")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for private in ("hf_secret", "203.0.113", "example.org", "/jane", str(Path.home()) + "/"):
        assert private not in out
    assert len(platform.node()) < 4 or platform.node() not in out
    assert "ssh" in out
    lines = out.splitlines()
    assert all(len(line) <= 80 or " " not in line[25:] for line in lines), "a long path is not cut"
    sections = [line for line in lines if line and not line.startswith(("ok", "look", "broken", " "))]
    assert sections[:4] == ["program", "terminal", "torch", "packages"]
    assert importlib.metadata.version("tpe-tui") in lines[1]


def test_a_torch_that_cannot_be_imported_is_a_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "broken"
    (found,) = (each for each in document["findings"] if each["section"] == "torch")
    assert found["verdict"] == "broken"
    assert "not usable" in found["value"]
    assert found["advice"]


def test_packages_that_are_missing_or_of_a_wrong_version_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("gguf", "scipy"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "4.57.0" if name == "transformers" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = list(package_findings())
    gguf, scipy, transformers = (named(found, name) for name in ("gguf", "scipy", "transformers"))
    assert (gguf.verdict, gguf.value) == ("ok", "not installed: pip install 'tpe-tui[gguf]'")
    assert (scipy.verdict, scipy.advice) == ("broken", "pip install 'tpe-tui'")
    assert transformers.verdict == "broken"
    assert transformers.value == "4.57.0"
    assert "5.0" in transformers.advice
    assert "pytest" not in [each.name for each in found], "what the tests need is nobody's bug report"


def test_every_dependency_of_the_project_and_of_the_users_extras_is_listed() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in machine.EXTRAS for text in project["optional-dependencies"][extra]]
    plain = {text.split(">")[0].replace("_", "-") for text in (*project["dependencies"], *extras)}
    assert {each.name.replace("_", "-") for each in package_findings()} == plain


@pytest.mark.parametrize(
    ("environment", "name", "verdict", "said"),
    [
        (MODERN, "TERM", "ok", "xterm-256color, COLORTERM=truecolor"),
        (MODERN, "colours", "ok", "16 million colours"),
        (MODERN, "inside", "ok", "neither"),
        (MODERN, "glyphs", "ok", "Unicode"),
        ({**MODERN, "COLORTERM": ""}, "colours", "ok", "256 colours"),
        ({"TERM": "xterm"}, "colours", "look", "16 colours"),
        ({**MODERN, "NO_COLOR": "1"}, "colours", "ok", "NO_COLOR is set"),
        ({"TERM": "dumb"}, "TERM", "look", "dumb"),
        ({}, "TERM", "look", "not set"),
        ({**MODERN, "STY": "1.x", "SSH_TTY": "/dev/pts/1"}, "inside", "ok", "GNU screen, ssh"),
        ({"TERM": "xterm", "LC_ALL": "C"}, "glyphs", "look", "ASCII"),
    ],
)
def test_the_terminal(environment: dict[str, str], name: str, verdict: str, said: str) -> None:
    found = named(terminal_findings(environment), name)
    assert found.verdict == verdict
    assert said in found.value
    assert bool(found.advice) == (verdict != "ok")


def test_a_locale_that_the_machine_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    assert named(terminal_findings({"LC_ALL": "xx_XX.UTF-8"}), "locale").verdict == "look"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = folder_finding("cache", tmp_path / "file" / "cache", "set TPE_CACHE_DIR")
    assert found.verdict == "look"
    assert "not writable" in found.value
    assert found.advice == "set TPE_CACHE_DIR"
    assert folder_finding("cache", tmp_path, "").value.startswith(f"{private_path(tmp_path)}: 0 B, writable")


def test_broken_entries_and_wrong_keys_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    default_root().mkdir(parents=True)
    (default_root() / f"{'ab' * 8}.tpe").write_bytes(b"?")
    (tmp_path / "keys.toml").write_text('mask.topple = "a"\n')
    monkeypatch.setattr("tpe_tui.keymap.default_keys_file", lambda: tmp_path / "keys.toml")
    found = list(doctor_tables._folders())
    assert "tpe cache prune" in named(found, "stored results").advice
    assert "tpe keys" in named(found, "keys.toml").advice


def test_offline_variables_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert named(machine.hub_findings(), "offline").verdict == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = named(machine.hub_findings(), "offline")
    assert (found.verdict, found.value) == ("look", "HF_HUB_OFFLINE=1")


def test_threads_and_memory_are_told() -> None:
    found = list(torch_findings())
    assert named(found, "threads").value.split()[0].isdigit()
    assert named(found, "memory").value.endswith(" free")


def test_a_path_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "jane")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/jane"))
    assert private_path("/home/jane/x") == os.path.join("~", "x")
    assert private_path("/scratch/jane/janes/x") == "/scratch/USER/janes/x"


def test_the_last_line_counts_and_the_worst_verdict_decides() -> None:
    findings = [Finding(section="a", name="x", value="1"), Finding(section="a", name="y", value="2", verdict="look")]
    assert worst([]) == "ok"
    assert worst(findings) == "look"
    assert report(findings)[-1] == "0 broken, 1 to look at, 1 ok."
