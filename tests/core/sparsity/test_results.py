"""The shipped grid: whole, small, its effects those that statsmodels gives for its runs; files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from tpe_core.errors import TpeError
from tpe_core.sparsity import results
from tpe_core.sparsity.design import Plan
from tpe_core.sparsity.results import RESPONSES, SparsityGrid, read_grid, shipped_grid

SHIPPED = Path(results.__file__).with_name("shipped.json")


@pytest.fixture(scope="module")
def grid() -> SparsityGrid:
    return shipped_grid()


def test_the_shipped_grid_is_whole_small_and_without_paths(grid: SparsityGrid) -> None:
    assert grid.plan == Plan(), "what tpe sparsity --out trains where nothing else is asked"
    assert grid.shipped
    assert grid.plan.runs >= 12
    assert grid.plan.seeds >= 2
    points = {point.number: point for point in grid.plan.points()}
    assert {run.point for run in grid.runs} == set(points)
    twice = [number for number in points if sum(run.point == number for run in grid.runs) == grid.plan.seeds]
    assert len(twice) >= 12
    for run in grid.runs:
        assert run.document["recipe"] == grid.plan.recipe(points[run.point], run.seed).to_dict()
    assert SHIPPED.stat().st_size < 300_000
    assert "detecting.jsonl" not in SHIPPED.read_text()
    assert {run.document["positions"] for run in grid.runs} == {grid.plan.positions}


@pytest.mark.parametrize("figure", RESPONSES)
def test_effects_are_recomputed_from_the_shipped_runs(grid: SparsityGrid, figure: str) -> None:
    effects = {effect.factor: effect for effect in grid.effects if effect.figure == figure}
    frame = pd.DataFrame([{**run.levels, "point": run.point, "y": run.figures()[figure]} for run in grid.runs])
    if not effects:
        assert frame["y"].isna().any() or frame["y"].nunique() == 1
        return
    for factor in grid.plan.factors:
        frame[factor.name] = np.where(frame[factor.name] == factor.high, 1.0, -1.0)
    means = frame.groupby("point").mean()
    fit = smf.ols("y ~ " + " + ".join(effects), means).fit()
    for name, effect in effects.items():
        high, low = (means.loc[means[name] == sign, "y"].mean() for sign in (1, -1))
        assert effect.effect == pytest.approx(high - low, abs=1e-9)
        assert effect.effect == pytest.approx(2 * fit.params[name], abs=1e-9)
        assert [effect.interval_low, effect.interval_high] == pytest.approx(2 * fit.conf_int().loc[name], abs=1e-9)
        squares = anova_lm(fit, typ=2)["sum_sq"]
        assert effect.share == pytest.approx(squares[name] / ((means["y"] - means["y"].mean()) ** 2).sum(), abs=1e-9)


def test_it_is_a_table_and_a_summary(grid: SparsityGrid) -> None:
    assert len(grid.table()) == len(grid.runs)
    assert len(grid.effects_table()) == len(grid.effects)
    assert f"{len(grid.runs)} runs of a grid" in grid._repr_html_()
    document = grid.to_dict()
    assert document["resolution"] == "IV"
    assert len(document["runs"]) == len(grid.runs)


def test_files_that_hold_no_grid_are_refused(tmp_path: Path) -> None:
    for at, content in enumerate(
        ("{", "[]", "{}", '{"kind": "tpe.comparison"}', '{"kind": "tpe.sparsity", "runs": [1]}')
    ):
        (path := tmp_path / f"{at}.json").write_text(content)
        with pytest.raises(TpeError, match="holds no grid"):
            read_grid(path)
    with pytest.raises(TpeError, match="cannot be read"):
        read_grid(tmp_path / "none.json")
