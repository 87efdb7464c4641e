"""The glossary knows every column title, every status word and every figure."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from tests.tui.fakes import FakeSession
from tpe_core.edits.intervention import Intervention
from tpe_core.metrics import METRICS
from tpe_core.pruning.orders import ORDERS
from tpe_core.snapshots import PruningForecast
from tpe_tui.dialogs.help import words_table
from tpe_tui.fit.token_table import COLUMNS as FIT_COLUMNS
from tpe_tui.fit.token_table import FitTable
from tpe_tui.fit_figures import fit_figures
from tpe_tui.glossary import COLUMNS, FIGURES, STATUS, sections
from tpe_tui.inspector.status import inspect_fields
from tpe_tui.widgets.dim_table import DimTable
from tpe_tui.widgets.token_table import TokenBars


def titles(text: str) -> set[str]:
    """The titles in a header line, which hold no spaces but for those that the glossary has."""
    for name in sorted(COLUMNS, key=len, reverse=True):
        if " " in name:
            text = text.replace(name, name.replace(" ", "_"))
    return {word.strip("↓↑…").replace("_", " ") for word in text.split()}


def test_every_column_title_of_the_tables_is_explained() -> None:
    session = FakeSession()
    dims, bars, tokens = DimTable(), TokenBars(), FitTable()
    dims.show(session.table, ())
    tokens.show(session.table, None)
    shown = set[str]()
    for widget in (dims, bars, tokens):
        shown |= titles("".join(text for text, _ in widget.header(140)))
    assert {"slope", "std", "r", "Δ pts", "residual", "−log α", "log p"} <= shown  # all of them are in view
    assert shown <= set(COLUMNS)
    assert {column.title for column in FIT_COLUMNS} <= set(COLUMNS)
    assert {metric.short for metric in METRICS.values()} <= set(COLUMNS)


def test_every_figure_is_explained() -> None:
    assert [figure.name for figure in fit_figures(FakeSession().fit_summary())] == list(FIGURES)


def test_the_words_of_the_status_line_are_explained() -> None:
    session, edit = FakeSession(), Intervention((1, 2), "mean")
    answer = session.evaluate("Return", edit)
    forecast = PruningForecast(pruned=edit.pruned, replacement="mean", steering=(), kl=0.322, toggled=None)
    fields = [field.text for field in inspect_fields(session.table, edit, answer, True, forecast)]
    fields += ["from 14:05", "model still loading", "model not loaded"]  # of a table that was kept
    for text in filter(None, fields[1:]):  # the first is the model's name
        starts = {text, text.split()[0], text.split(" ")[-1], " ".join(text.split()[:2])}
        assert starts & set(STATUS) or text.startswith("top-1"), text


@pytest.mark.parametrize("name", ["std", "r", "text ≈0.322", "fisher-obs", *ORDERS])
def test_the_help_says_what_a_word_means(name: str) -> None:
    printed = StringIO()
    Console(width=400, file=printed).print(words_table())
    help_lines = [line.strip() for line in printed.getvalue().splitlines()]
    meaning = next(words[name] for words in sections().values() if name in words)
    assert any(line.startswith(name) and line.endswith(meaning) for line in help_lines)
