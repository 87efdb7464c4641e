"""The tokens that an edit makes unreachable: planted ones, those of the atlas, and what is known on the way."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

import tpe_core as tpe
from tests.helpers.head_rows import rows_of
from tpe_core.atlas.head_rows import HeadRows
from tpe_core.atlas.lost_tokens import lost_tokens
from tpe_core.progress import run
from tpe_core.session import LiveSession
from tpe_core.snapshots import LostTokens


def planted() -> tuple[HeadRows, HeadRows]:
    """200 tokens in 6 dimensions; without the last one, tokens 150 to 199 lie inside the others."""
    random = np.random.default_rng(3)
    weight = random.normal(size=(200, 6))
    weight[:150, :5] /= np.linalg.norm(weight[:150, :5], axis=1, keepdims=True)
    weight[:150, 5] = 0
    weight[150:, :5] *= 0.05
    weight[150:, 5] = 1
    weight = weight.astype(np.float32).astype(np.float64)
    weight[150:, 5] += np.linspace(0, 1, 50).astype(np.float32) ** 2  # a row of each its own
    return rows_of(weight), rows_of(weight[:, :5])


def test_the_lost_tokens_are_those_that_were_reachable_and_are_not_any_more() -> None:
    before, after = planted()
    corners = [set(ConvexHull(rows.columns.T.double().numpy()).vertices.tolist()) for rows in (before, after)]
    expected = corners[0] - corners[1]
    answer = run(lost_tokens(before, after, np.arange(200.0)[::-1]))
    assert set(answer.ids) == expected
    assert len(expected) > 5
    assert list(answer.ids) == sorted(expected, reverse=True), "the most frequent first"
    assert answer.is_complete


def test_one_that_was_unreachable_before_is_not_lost() -> None:
    weight = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0.1, 0.1, 1], [0, 0.1, 0], [0, 0, -1]])
    known: dict[int, bool] = {}
    answer = run(lost_tokens(rows_of(weight), rows_of(weight[:, :2]), np.zeros(7), known=known))
    assert answer.ids == (4, 6)
    assert known == {4: True, 5: False, 6: True}


def test_every_step_has_what_is_known_by_then_and_the_first_tokens_are_those_near_the_middle() -> None:
    before, after = planted()
    answers = [step.partial for step in lost_tokens(before, after, np.zeros(200)) if step.partial is not None]
    assert all(isinstance(answer, LostTokens) for answer in answers)
    counts = [(answer.checked, len(answer.ids)) for answer in answers]
    assert counts == sorted(counts)
    first = next(answer for answer in answers if answer.checked == 64)
    assert first.ids
    assert not first.is_complete
    assert set(first.ids) == set(run(lost_tokens(before, after, np.zeros(200))).ids)


def test_a_session_says_what_its_atlas_says(session: LiveSession) -> None:
    width = len(session.table.slope)
    edit = tpe.Intervention(tuple(range(3, width)), "least-squares")
    atlas = run(tpe.token_atlas(session.analysis, session.resolved(edit)))
    assert set(run(session.lost_tokens(edit)).ids) == set(atlas.lost.tolist()) != set()
    assert run(session.lost_tokens(tpe.Intervention())).is_complete
    assert run(session.lost_tokens(tpe.Intervention())).ids == ()
