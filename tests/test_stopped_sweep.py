"""A sweep of the command line that is stopped prints the points that were done."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tpe_core.pruning import curves
from tpe_tui.cli.main import main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_prune_prints_the_points_that_were_done_and_leaves_with_130(
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"Return the value {i} of the array at index {i % 7}." for i in range(3000)))
    monkeypatch.setattr(curves, "COLUMNS_BYTES", 1)  # one curve at a time
    path_of = curves.path_of

    def stopped(evidence, order, *rest):  # type: ignore[no-untyped-def]
        if order == "magnitude":
            os.kill(os.getpid(), number)
        return path_of(evidence, order, *rest)

    monkeypatch.setattr(curves, "path_of", stopped)
    asked = ["--order", "slope,magnitude", "--fractions", "0.1,0.5", "--text", str(text), "--ood", str(text)]
    code = main(["prune", "demo", *asked, "--positions", "1024", "--no-cache", "--threads", "1", "--json"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert code == 130
    assert document["stopped"]
    assert [(curve["order"], len(curve["points"])) for curve in document["curves"]] == [("slope", 2)]
    assert "the 2 points that were done are printed" in printed.err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
