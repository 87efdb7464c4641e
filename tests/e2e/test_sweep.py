"""The pruning sweep in a terminal: it runs, is cancelled, runs again, and one of its points becomes the mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import POSITIONS, WIDTH, Run
from tests.e2e.opening import SETTLED, opened
from tests.e2e.terminal import Terminal

Open = Callable[..., Terminal]

SLOPE = r"● slope +([\d.]+) +([\d.]+) +([\d.]+)% +([\d.]+) +([\d.]+)"  # held-out figures, and the first one beside them


@pytest.mark.slow
def test_a_sweep_is_cancelled_run_again_and_applied(terminal: Open, analysis: dict[str, Any], tmp_path: Path) -> None:
    term, removed = terminal(), round(0.3 * WIDTH)
    opened(term)
    term.keys("w")
    term.wait("How many dimensions can go")
    term.wait("starts · x cancels")
    term.keys("r")
    term.wait(SLOPE)
    term.wait(r"of 4,096 positions")
    term.keys("x")
    term.wait("the pruning sweep was cancelled: what it measured stays")
    term.wait_without("x cancel")
    assert float(term.wait(SLOPE)[1]) > 0

    term.keys("r")
    term.wait("first look")
    term.wait(r"▲ activation +0\.\d+ .*%")
    term.keys("l", "l")
    term.wait(f"40% removed: {round(0.4 * WIDTH)} of {WIDTH}")
    more = float(term.wait(SLOPE)[1])
    term.keys("h", "h")
    term.wait(f"30% removed: {removed} of {WIDTH}")
    kl = float(term.wait(SLOPE)[1])
    assert 0 < kl < more
    term.keys("Enter")
    term.wait(f"pruned {removed}/{WIDTH} zero")
    term.wait("Next token")
    assert float(term.wait(SETTLED)[1]) > 0
    term.wait(r"(first look|full sweep) \d+/28 .* x cancel")  # the job goes on
    term.keys("x")
    term.wait("was cancelled")

    path = tmp_path / "point.json"
    term.keys("e")
    term.answer("export the edit to", str(path))
    term.wait("written to")
    by_slope = sorted(analysis["dimensions"], key=lambda entry: abs(entry["slope"]))
    manifest = json.loads(path.read_text())
    assert manifest["pruned"] == sorted(entry["dim"] for entry in by_slope[:removed])
    term.keys("u")
    term.wait(f"pruned 0/{WIDTH}")
    term.keys("w")
    assert float(term.wait(SLOPE)[1]) == pytest.approx(kl, rel=0.2), "what was measured is shown again"
    term.keys("Escape")  # alone: with a letter after it, it would be that letter with alt
    term.wait("Next token")
    term.keys("q")
    assert term.exit_code() == 0
    term.assert_clean()


@pytest.mark.slow
def test_the_figures_are_those_of_the_command_line(terminal: Open, tpe: Callable[..., Run]) -> None:
    done = tpe("prune", "demo", "--positions", POSITIONS, "--order", "slope", "--fractions", "0.3", "--json")
    assert done.returncode == 0, done.stderr
    point = json.loads(done.stdout)["curves"][0]["points"][0]
    term = terminal()
    opened(term)
    term.keys("w", "r")
    term.wait("full sweep 2/28")  # one draw of random after slope: slope has seen every position
    kl, js, top1, perplexity, outside = (float(text) for text in term.wait(SLOPE).groups())
    assert kl == pytest.approx(point["kl"], abs=1e-4)
    assert js == pytest.approx(point["js"], abs=1e-4)
    assert top1 == pytest.approx(100 * point["top1"], abs=0.06)
    assert perplexity == pytest.approx(point["perplexity"], rel=1e-3)
    assert outside == pytest.approx(point["ood"]["kl"], abs=1e-4)
    term.keys("C-q")
    term.wait("A job is running")
    term.keys("y")
    assert term.exit_code() == 0
    term.assert_clean()
