"""The inspector's steering study and `tpe steer`: one token, ratio and method has the same figures in both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.corpus.domains import DOMAINS
from tpe_core.edits.intervention import METHODS, Intervention
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session
from tpe_tui.cells import four_decimals, number
from tpe_tui.cli.main import main
from tpe_tui.steering.dose_table import HEAD_ROWS, DoseTable
from tpe_tui.steering.state import SteerState

FIGURES = ("alpha", "achieved", "spread", "kl", "js", "relative_edit", "attainable")


def test_what_the_inspector_shows_is_what_tpe_steer_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "text.txt"
    corpus.write_text(text(3, 6000))
    model = str(save_tiny(tmp_path / "model"))
    words = ["--token", "#7", "--ratio", "3", "--method", ",".join(METHODS), "--calibrate", "--dose", "--threads", "1"]
    words += ["--text", str(corpus), "--positions", "2048", "--no-cache", "--json"]
    assert main(["steer", model, *words]) == 0
    document = json.loads(capsys.readouterr().out)
    printed = {(entry["method"], entry["calibrated"]): entry for entry in document["results"]}

    session = run(open_session(RunOptions(model, text=(str(corpus),), positions=2048, cache=False, threads=1)))
    state = SteerState.of(Intervention(), 7, "least-squares")
    state.read = run(session.read_for_steering(state.edit))
    assert (state.read.texts, state.read.positions) == (document["texts"], document["positions"])
    for _ in METHODS:
        state.set_ratio(3.0)
        state.figures = session.steering(state.request)
        (calibrated,) = session.calibrated(state.request).results
        state.paid = run(session.most_affected(state.request))
        wanted = printed[state.method, False]
        for found, entry in ((state.figures.token, wanted), (calibrated, printed[state.method, True])):
            shown = json.loads(json.dumps(found.to_dict(session.table.tokens)))
            assert {name: shown[name] for name in FIGURES} == {name: entry[name] for name in FIGURES}
        paid = [(one.token_id, pytest.approx(one.lost, rel=1e-5)) for one in state.paid.tokens]  # float32, in batches
        assert [(payer["token_id"], payer["lost"]) for payer in wanted["paid"]] == paid[:5]
        points = [point for point in document["dose"] if point["method"] == state.method]
        curve = state.figures.curves[state.method]
        assert list(curve.asked) == [point["asked"] for point in points]
        assert list(curve.achieved["heldout"]) == [point["achieved"]["heldout"] for point in points]

        table = DoseTable(state, session.table.tokens)
        row, _ = table.line(HEAD_ROWS + METHODS.index(state.method), 160)
        for width in range(60, 160):
            narrow = "".join(part for part, _ in table.line(HEAD_ROWS + METHODS.index(state.method), width)[0])
            assert len(narrow) <= width
            assert set(narrow.split()) <= set("".join(part for part, _ in row).split()), width
        cells = "".join(part for part, _ in row).split()
        costs = [four_decimals(wanted[name][domain]) for name in ("js", "kl") for domain in DOMAINS]
        assert cells[2:-1] == [f"×{number(wanted['achieved'][domain])}" for domain in DOMAINS] + costs
        state.next_method()
