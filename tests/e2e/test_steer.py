"""The steering study in a terminal: it reads, is cancelled, reads again; a token is searched, steered and applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import POSITIONS, Run
from tests.e2e.opening import opened
from tests.e2e.terminal import Terminal

Open = Callable[..., Terminal]

ROW = r"● least-squares +×([\d.]+) +×([\d.]+) +×([\d.]+)"


def ask_for(term: Terminal, ratio: str) -> None:
    """Type an exact ratio."""
    term.keys("=")
    term.answer("ratio, or mean probability", ratio)


@pytest.mark.slow
def test_a_token_is_searched_steered_calibrated_and_applied(
    terminal: Open, tpe: Callable[..., Run], tmp_path: Path
) -> None:
    term = terminal()
    opened(term)
    term.keys("T")
    term.wait("Reading three texts, once")
    term.keys("x")
    term.wait("the steering study was cancelled")
    term.keys("r")
    term.wait(ROW)
    term.keys("/")
    term.wait("Choose a token")
    term.type("number")
    term.wait(r"number +#\d+")
    term.keys("Enter")
    term.wait(r"Achieved by asked.*number")
    ask_for(term, "4")
    settled = term.wait(rf"(?s)×4 .*{ROW}.*paid by .* points")
    figures = [float(text) for text in settled.groups()]
    term.keys("c")
    term.wait(r"is asked ×[\d.]+ to achieve ×4 on the local text")
    assert float(term.wait(r"● least-squares +×(4\.000)")[1]) == 4.0
    ask_for(term, "4")
    term.wait(r"● least-squares +×" + f"{figures[0]:.3f}".replace(".", r"\."))
    term.keys("Enter")
    term.wait(r"number ×4 steered by least-squares")
    term.wait("steered 1")

    path = tmp_path / "steered.json"
    term.keys("e")
    term.answer("export the edit to", str(path))
    term.wait("written to")
    entry = json.loads(path.read_text())["steering"][0]
    assert (entry["ratio"], entry["method"]) == (4.0, "least-squares")
    assert "number" in entry["token"]
    term.keys("u")
    term.wait("undone")
    term.keys("q")
    assert term.exit_code() == 0
    term.assert_clean()

    done = tpe("steer", "demo", "--positions", POSITIONS, "--token", f"#{entry['token_id']}", "--ratio", "4", "--json")
    assert done.returncode == 0, done.stderr
    achieved = json.loads(done.stdout)["results"][0]["achieved"]
    assert figures == pytest.approx([achieved[name] for name in ("local", "heldout", "ood")], abs=6e-4)
