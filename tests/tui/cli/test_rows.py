"""Rows of a table are printed once each, as they come; with --json they go to stderr."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tpe_core.progress import Progress, Steps
from tpe_core.pruning.results import PruningCurve, PruningResult
from tpe_tui.cli.console import drive_until_stopped
from tpe_tui.cli.prune_tables import CurveRows
from tpe_tui.cli.rows import Rows, table_rows

DOMAINS = ("heldout", "ood")
WIDTH = 64


def curve(order: str, way: str, removed: tuple[int, ...], draws: int = 1) -> PruningCurve:
    rng = np.random.default_rng(len(order) + len(way))
    return PruningCurve(
        order=order,
        replace=way,
        removed=removed,
        width=WIDTH,
        dims=tuple(range(WIDTH)),
        figures={domain: rng.uniform(0.1, 1, (draws, len(removed), 5)) for domain in DOMAINS},
        positions=dict.fromkeys(DOMAINS, 100),
    )


def result(*curves: PruningCurve) -> PruningResult:
    base = curve("", "", (0,)).costs("heldout", 0)[0]
    return PruningResult(
        curves=curves,
        baseline=dict.fromkeys(DOMAINS, base),
        positions=dict.fromkeys(DOMAINS, 100),
        model="tiny",
        revision=None,
        width=WIDTH,
        texts=dict.fromkeys(DOMAINS, "a text"),
    )


def points(lines: list[str]) -> list[tuple[str, str, int]]:
    """(order, replacement, removed) of the lines of points below the head."""
    cells = [line.split() for line in lines if "%" in line and not line.startswith("unpruned")]
    return [(each[0], each[1], int(each[2])) for each in cells]


def test_every_point_has_one_row_when_it_is_done_under_one_head() -> None:
    table = CurveRows()
    first = table.new(result(curve("slope", "zero", (6, 19))))
    grown = table.new(result(curve("slope", "zero", (6, 19)), curve("slope", "refit", (6,))))
    again = table.new(result(curve("slope", "zero", (6, 19)), curve("slope", "refit", (6,))))
    rest = table.rest(result(curve("slope", "zero", (6, 19)), curve("slope", "refit", (6, 19))))
    assert points(first) == [("slope", "zero", 6), ("slope", "zero", 19)]
    assert points(grown) == [("slope", "refit", 6)]
    assert again == []
    assert points(rest) == [("slope", "refit", 19)]
    assert first[0].startswith("tiny: 64 dimensions")
    assert sum("dimensions" in line for line in first + grown + rest) == 1


def test_rows_that_come_make_the_table_that_is_printed_at_once() -> None:
    one, two = curve("slope", "zero", (6, 19)), curve("random", "zero", (6, 19), draws=3)
    table = CurveRows(3)
    coming = table.new(result(one)) + table.new(result(one, two)) + table.rest(result(one, two))
    assert coming == CurveRows(3).rest(result(one, two))


def test_a_random_order_waits_for_all_its_draws_unless_it_is_stopped() -> None:
    table = CurveRows(3)
    assert points(table.new(result(curve("random", "zero", (6,), draws=2)))) == []
    stopped = table.rest(result(curve("random", "zero", (6,), draws=2)))
    assert points(stopped) == [("random", "zero", 6)]
    assert "KL over 2 draws" in stopped[-1]
    assert points(CurveRows(3).new(result(curve("random", "refit", (6,))))) == [("random", "refit", 6)]


def job(results: list[PruningResult]) -> Steps[PruningResult]:
    for done, some in enumerate(results):
        yield Progress("prune", done, len(results), partial=some)
    return results[-1]


@pytest.mark.parametrize("json", [False, True])
def test_rows_go_to_stdout_or_beside_a_json_document_to_stderr(capsys: pytest.CaptureFixture[str], json: bool) -> None:
    whole = result(curve("slope", "zero", (6, 19)))
    half = replace(whole, curves=(curve("slope", "zero", (6,)),))
    table = CurveRows()
    done, stopped = drive_until_stopped(job([half, whole]), lambda _: True, table_rows(table.new, json=json))
    assert (done, stopped) == (whole, False)
    printed = capsys.readouterr()
    there, elsewhere = (printed.err, printed.out) if json else (printed.out, printed.err)
    assert points(there.splitlines()) == [("slope", "zero", 6), ("slope", "zero", 19)]
    assert points(elsewhere.splitlines()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "written"), [(io.StringIO, True), (Terminal, False)])
def test_rows_of_a_log_are_not_on_a_terminal_which_has_the_table(
    monkeypatch: pytest.MonkeyPatch, stream: Any, written: bool
) -> None:
    log = stream()
    monkeypatch.setattr("sys.stderr", log)
    drive_until_stopped(job([result()]), lambda _: True, Rows(new=lambda _: ["step 10: R2 0.5"], place="log"))
    assert ("step 10: R2 0.5" in log.getvalue()) == written
