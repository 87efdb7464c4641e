"""The fit screen's numbers are those of the document that `tpe analyze --json` prints, rounded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_models import text
from tpe_core.analysis import analyze
from tpe_core.edits.intervention import Intervention
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession
from tpe_tui.cli.tables import print_analysis
from tpe_tui.fit.token_table import FitTable
from tpe_tui.fit_figures import fit_figures

PROMPT = "the"


@pytest.fixture(scope="module")
def live(tiny: Callable[[str], LanguageModel], tmp_path_factory: pytest.TempPathFactory) -> LiveSession:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text(3, 6000), encoding="utf-8")
    options = RunOptions(text=(str(path),), positions=1024, sample=16, cache=False)
    return LiveSession(run(analyze(options, model=tiny("gpt2"))), options)


def test_every_figure_is_that_of_the_json_document(live: LiveSession) -> None:
    document = live.analysis.to_dict()
    shown = {figure.name: figure.text for figure in fit_figures(live.fit_summary())}
    fit, sparsity = document["encoding"], document["sparsity"]
    for name, value in {
        "R²": fit["r2"],
        "adjusted": fit["r2_adjusted"],
        "held-out": fit["r2_heldout_vocab"],
        "permuted": fit["r2_permuted"],
        "intercept": fit["intercept"],
        "cosine": fit["cosine_to_mean_hidden"],
        "corr E[-log p]": fit["jensen_correlation"],
        "Gini": sparsity["gini"],
        "participation": sparsity["participation_ratio"],
        "drift": document["geometry"]["common_drift"],
        "excluded": document["rows_excluded"],
    }.items():
        decimals = len(shown[name].partition(".")[2])
        assert float(shown[name].replace(",", "")) == pytest.approx(value, rel=0, abs=0.5001 * 10**-decimals), name
    assert float(shown["condition"]) == pytest.approx(fit["condition_number"], rel=5e-3)
    best = {k: float(value) for k, value in (part.split(": ") for part in shown["R² of k best"].split("  "))}
    assert best == pytest.approx(sparsity["r2_by_k"], abs=6e-4)
    worst = document["undertrained"]["worst_fitted"][0]
    assert shown["worst fitted"].startswith(f"{worst['token']} {worst['residual']:+.2f}")
    nearest = document["undertrained"]["nearest"][0]
    assert shown["untrained"].startswith(f"{nearest['token']} {nearest['distance']:.2f}")


def test_every_text_stands_in_what_analyze_prints(live: LiveSession, capsys: pytest.CaptureFixture[str]) -> None:
    print_analysis(live.analysis)
    printed = capsys.readouterr().out
    for figure in fit_figures(live.fit_summary()):
        assert figure.text in printed or figure.text == "not known", figure.name


def test_a_tokens_row_is_its_place_in_the_fit_and_after_the_prompt(live: LiveSession, tmp_path: Path) -> None:
    table = FitTable()
    table.show(live.table, live.base_log_p(PROMPT))
    for token_id in (0, 7, len(live.table.tokens) - 1):
        detail = live.token(token_id, PROMPT, Intervention())
        figures = {name: float(values[token_id]) for name, values in table.figures.items()}
        assert figures["rank"] == pytest.approx(detail.rank, abs=2)  # tokens of the same alpha follow each other
        assert figures["alpha"] == pytest.approx(detail.alpha)
        assert figures["residual"] == pytest.approx(detail.residual, nan_ok=True)
        assert np.exp(figures["log_p"]) == pytest.approx(detail.base, rel=1e-4)
    path = live.write_tokens(tmp_path / "tokens.csv", PROMPT)
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(live.table.tokens) + 1
