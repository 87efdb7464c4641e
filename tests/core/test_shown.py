"""Results show themselves: summaries as HTML, tables that hold what the documents say, figures, data frames."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import tpe_core as tpe
from tests.helpers.tiny_models import text
from tpe_core.detection.samples import read_samples
from tpe_core.dynamics.recorded import bundled_trajectory
from tpe_core.pruning.results import PruningRequest
from tpe_core.shown import SHOWN_ROWS, Shown, figure_text
from tpe_core.steering.results import SteeringStudy
from tpe_core.steering.study import SteeringPlan, study
from tpe_core.tables import Table


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tpe.LiveSession:
    words = tmp_path_factory.mktemp("words") / "words.txt"
    words.write_text(text(1, 6000))
    options = tpe.RunOptions("demo", text=(str(words),), positions=1000, sample=200, cache=False)
    return tpe.run(tpe.open_session(options))


@pytest.fixture(scope="module")
def steered(live: tpe.LiveSession) -> SteeringStudy:
    analysis = live.analysis
    samples = tpe.run(read_samples(analysis.model, analysis.detection.sample, analysis.source, size=200))
    plan = SteeringPlan(token_ids=(633, 20), ratios=(0.5, 2.0), methods=("least-squares", "bias"), few_shot=True)
    return tpe.run(study(analysis, samples, plan))


@pytest.fixture(scope="module")
def results(live: tpe.LiveSession, steered: SteeringStudy) -> dict[str, Shown]:
    request = PruningRequest(orders=("slope", "random"), replacements=("zero",), draws=2, fractions=(0.0, 0.25, 0.5))
    swept = tpe.run(live.sweep(request))
    edit = tpe.Intervention((14, 3), "mean").steer(633, 2.0)
    return {
        "analysis": live.analysis,
        "swept": swept,
        "curve": swept.curves[0],
        "steered": steered,
        "edit": edit,
        "trajectory": bundled_trajectory(),
    }


NAMES = ("analysis", "swept", "curve", "steered", "edit", "trajectory")


class Cells(HTMLParser):
    """The texts of a table's cells, and every tag that was opened and closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_shows_itself_in_a_notebook_in_the_notebooks_colours(name: str, results: dict[str, Shown]) -> None:
    result = results[name]
    html = result._repr_html_()
    cells = Cells(html)
    assert not cells.open
    assert (
        {"table", "caption", "tr", "td"}
        <= cells.tags
        <= {"table", "caption", "tbody", "tr", "td", "b", "p", "code", "br"}
    )
    assert type(result).__name__ in cells.texts[0]
    assert "color" not in html
    assert "http" not in html
    for label, value in result._summary().items():
        assert label in cells.texts
        assert figure_text(value) in cells.texts or figure_text(value) == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_there_as_a_frame_and_every_figure_is_drawn(name: str, results: dict[str, Shown]) -> None:
    result = results[name]
    for table in result._tables():
        held, frame = result.to_table(table), result.to_frame(table)
        assert len(held) == len(frame) > 0
        assert list(frame.columns) == list(held.columns)
    assert result.plots()
    assert isinstance(result.plot(), Figure)
    assert result.to_table().columns == result.to_table(next(iter(result._tables()))).columns
    with pytest.raises(tpe.TpeError, match="unknown figure 'pie': choose one of"):
        result.plot("pie")
    with pytest.raises(tpe.TpeError, match="unknown table 'pie': choose one of"):
        result.to_table("pie")


def test_the_tables_of_an_analysis_hold_the_figures_of_its_document(live: tpe.LiveSession) -> None:
    analysis = live.analysis
    document = analysis.to_dict()
    slopes = analysis.to_table("slopes")
    for column, name in {"dim": "dim", "rank": "rank", "slope": "slope", "std_error": "stderr", "r": "r"}.items():
        assert slopes.column(column) == [entry[name] for entry in document["dimensions"]]
    assert analysis.to_table("components").column("correlation") == document["components"]["correlations"]
    assert (
        analysis.to_table("components").column("explained_variance")
        == (document["components"]["explained_variance_ratio"])
    )
    by_k = analysis.to_table("r2_by_k")
    pairs = zip(by_k.column("k"), by_k.column("r2"), strict=True)
    assert {str(k): r2 for k, r2 in pairs} == document["sparsity"]["r2_by_k"]
    fit = analysis.to_table("fit")
    assert fit.column("rank") == list(range(1, len(fit) + 1))
    actual, predicted = (np.array(fit.column(name), dtype=float) for name in ("minus_log_alpha", "predicted"))
    known = np.isfinite(predicted)
    assert np.all(np.diff(actual[known]) >= 0)
    r2 = 1 - np.sum((actual - predicted)[known] ** 2) / np.sum((actual[known] - actual[known].mean()) ** 2)
    assert r2 == pytest.approx(document["encoding"]["r2"])
    cumulative = analysis.to_table("components").column("r2_cumulative")
    assert cumulative[-1] == pytest.approx(document["encoding"]["r2"], abs=1e-6), "components are uncorrelated"
    pca = analysis.to_table("pca")
    assert pca.column("percentile")[0] == 0.0
    assert pca.column("token_id") == [one for one, shown in zip(fit.column("token_id"), known, strict=True) if shown]


def test_the_table_of_a_sweep_holds_the_figures_of_its_document(results: dict[str, Any]) -> None:
    held = results["swept"].to_table()
    rows = {(row["order"], row["replacement"], row["pruned"], row["text"]): row for row in held.records()}
    curves = results["swept"].to_dict()["curves"]
    count = 0
    for curve in curves:
        for point in curve["points"]:
            domains: Mapping[str, Any] = {"heldout": point} | ({"ood": point["ood"]} if "ood" in point else {})
            for domain, figures in domains.items():
                row = rows[curve["order"], curve["replace"], point["removed"], domain]
                assert row["kl"] == pytest.approx(figures["kl"], rel=1e-12)
                assert row["top1_same"] == pytest.approx(figures["top1"], rel=1e-12)
                assert row["share"] == point["fraction"]
                count += 1
    assert count == len(held) == len(rows)
    assert results["curve"].to_table().records() == [
        row
        for row in held.records()
        if (row["order"], row["replacement"]) == (curves[0]["order"], curves[0]["replace"])
    ]


def test_the_tables_of_a_steering_study_hold_the_figures_of_its_document(steered: SteeringStudy) -> None:
    document = steered.to_dict()
    rows = steered.to_table().records()
    assert len(rows) == 3 * len(document["results"])
    for row in rows:
        (entry,) = [one for one in document["results"] if (one["token_id"], one["method"], one["asked"]) == (
            row["token_id"], row["method"], row["ratio_asked"]
        )]  # fmt: skip
        text = row["text"]
        assert (row["ratio_achieved"], row["js"], row["kl"]) == (
            entry["achieved"][text], entry["js"][text], entry["kl"][text]
        )  # fmt: skip
    few = steered.to_table("few_shot").records()
    heldout = [row for row in few if row["text"] == "heldout"]
    assert [row["ratio_achieved"] for row in heldout] == [point["achieved"] for point in document["few_shot"]]
    assert [row["tokens"] for row in heldout] == [point["positions"] for point in document["few_shot"]]


def test_an_edit_lists_what_it_prunes_and_steers() -> None:
    edit = tpe.Intervention((14, 3), "mean").steer(633, 2.0, "bias")
    assert edit.to_table().records() == [
        {"kind": "pruned", "id": 3, "ratio": None, "how": "mean"},
        {"kind": "pruned", "id": 14, "ratio": None, "how": "mean"},
        {"kind": "steered", "id": 633, "ratio": 2.0, "how": "bias"},
    ]
    assert len(tpe.Intervention().to_table()) == 0
    assert "dimensions pruned" in tpe.Intervention()._repr_html_()
    with pytest.raises(tpe.TpeError, match="has no rows"):
        tpe.Intervention().plot()


def test_a_trajectory_leaves_out_what_says_nothing() -> None:
    points = (
        tpe.Point(name="a", step=0, r2_adjusted=0.1, convergence={"all": 1.0, "layer 0": 1.0}),
        tpe.Point(name="b", step=1, r2_adjusted=0.2, duplicate_of="a"),
        tpe.Point(name="c", step=2, r2_adjusted=0.3, suspected=True),
        tpe.Point(name="d", step=4, r2_adjusted=0.4, convergence={"all": 0.0, "layer 0": 0.5}),
    )
    trajectory = tpe.Trajectory(source="run", frequencies="text", tokens=9, unseen=0, points=points)
    rows = [
        (row["layer"], row["step"], row["r2_adjusted"], row["convergence"]) for row in trajectory.to_table().records()
    ]
    assert rows == [("", 0, 0.1, 1.0), ("layer 0", 0, None, 1.0), ("", 4, 0.4, 0.0), ("layer 0", 4, None, 0.5)]


class Hostile(Shown):
    """A result whose names are markup."""

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"<script>": lambda: Table({"x": [1]})}

    def _summary(self) -> Mapping[str, object]:
        return {f"<script>alert({at})</script>": "<img src=x onerror=alert(1)>&" for at in range(40)}

    def _subject(self) -> str:
        return "<b>model</b>"


def test_what_is_shown_is_never_markup_and_never_long() -> None:
    html = Hostile()._repr_html_()
    assert Cells(html).tags <= {"table", "caption", "tbody", "tr", "td", "b", "p", "code", "br"}
    assert "<script>" not in html
    assert "<img" not in html
    assert html.count("<tr>") == SHOWN_ROWS + 1
    assert "and 16 more" in html
    with pytest.raises(tpe.TpeError, match="there is no figure of Hostile"):
        Hostile().plot()


def test_figures_are_written_for_people() -> None:
    values: dict[str, object] = {
        "–": None,
        "yes": True,
        "no": False,
        "8,192": 8192,
        "0.8635": 0.86354,
        "nan": float("nan"),
    }
    assert [figure_text(value) for value in values.values()] == list(values)


def test_a_missing_pandas_or_matplotlib_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] in ("matplotlib", "pandas"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    edit = tpe.Intervention((3,))
    for show in (edit.to_frame, edit.plot):
        with pytest.raises(tpe.TpeError, match=r"^[^\n]*pip install [^\n]*\.$"):
            show()


def test_results_need_no_library_of_figures_before_one_is_drawn() -> None:
    code = (
        "import tpe_core.analysis, tpe_core.pruning.results, tpe_core.dynamics.trajectory, sys\n"
        "print({'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
