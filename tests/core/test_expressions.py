"""Conditions that people type: what they mean, and that whatever else is typed is one sentence and never run."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpe_core.errors import TpeError
from tpe_core.expressions import parse_condition

NUMBERS, FLAGS = ("slope", "sd_h", "rank"), ("pruned", "outlier")
RNG = np.random.default_rng(0)
COLUMNS = {
    "slope": np.append(RNG.normal(size=49), np.nan),
    "sd_h": RNG.uniform(0, 5, 50),
    "rank": np.arange(1, 51),
    "pruned": RNG.uniform(size=50) < 0.3,
    "outlier": RNG.uniform(size=50) < 0.1,
}


@pytest.mark.parametrize(
    "text",
    ["abs(slope) > 1 and not pruned and sd_h < 3", "rank <= 10 or pruned", "-1 < slope <= .5", "pruned", "not pruned",
     "slope * sd_h / 2 - 1 >= sd_h ** 2 - 3", "rank == 7", "rank != 7", "exp(slope) > sqrt(sd_h)", "log(slope) < 0",
     "not (pruned or outlier)", "2 > 1", "+rank > 1e1", "slope > 1 / 0 - 1 / 0"],
)  # fmt: skip
def test_a_condition_means_what_python_means_by_it_in_every_row(text: str) -> None:
    holds = parse_condition(text, NUMBERS, FLAGS).holds(COLUMNS)
    assert holds.dtype == bool
    functions = {"abs": np.abs, "exp": np.exp, "log": np.log, "sqrt": np.sqrt}
    with np.errstate(all="ignore"):
        for row in range(50):
            values = {name: column[row] for name, column in COLUMNS.items()}
            one = {"1": np.float64(1.0), "0": np.float64(0.0)} if "/ 0" in text else {}
            source = text.replace("1 / 0", "np.float64(1) / np.float64(0)") if one else text
            assert holds[row] == bool(eval(source, {"np": np, **functions}, values))  # noqa: S307


def test_it_says_which_columns_it_reads() -> None:
    assert parse_condition("abs(slope) > 1 and not pruned", NUMBERS, FLAGS).names == {"slope", "pruned"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("slop > 1", "no column is called slop (is slope meant?)"), ("slope", "slope is a number and no condition"),
     ("slope >", "not understood"), ("", "not understood"), ("slope > 1 and 2", "2 is a number"),
     ("pruned > 1", "pruned is yes or no"), ("max(slope) > 1", "there is no max(...)"),
     ("abs(slope, 2) > 1", "there is no abs(...)"), ("__import__('os').system('x')", "not understood"),
     ("slope.real > 1", "slope.real is not understood"), ("slope > 'a'", "'a' is not understood"),
     ("(slope > 1) > 1", "slope > 1 is a condition"), ("slope in (1, 2)", "slope in (1, 2)"), ("True", "True is not"),
     ("lambda: 1", "lambda: 1 is not understood"), ("[slope > 1]", "[slope > 1] is not understood"),
     ("slope % 2 > 1", "slope % 2 is not understood"), ("x := 1", "not understood"), ("\0", "not understood"),
     ("(" * 300 + "slope" + ")" * 300, "at most 500 characters"),
     ("not " * 120 + "pruned and (", "not understood"), ("rank > " + "9" * 400, "not understood")],
)  # fmt: skip
def test_anything_else_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(TpeError) as caught:
        parse_condition(text, NUMBERS, FLAGS)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["-" * 480 + "slope > 1", "not " * 120 + "pruned", "(" * 200 + "pruned" + ")" * 200,
                                  "1e999 > 9**9**9**9"])  # fmt: skip
def test_what_is_deep_or_large_is_answered_or_refused(text: str) -> None:
    with contextlib.suppress(TpeError):
        assert len(parse_condition(text, NUMBERS, FLAGS).holds(COLUMNS)) == 50


@given(st.text(alphabet="slopehdrankuti()<>=!+-*/.0123456789 '\"[]{}:,_%&|^~\n\t#@\\", max_size=60))
def test_no_text_raises_anything_but_a_sentence(text: str) -> None:
    with contextlib.suppress(TpeError):
        assert parse_condition(text, NUMBERS, FLAGS).holds(COLUMNS).shape == (50,)
