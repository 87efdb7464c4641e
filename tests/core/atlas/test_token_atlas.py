"""The atlas of a tiny model, and of its head under edits, against the head itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tpe_core as tpe
from tpe_core.atlas.head_rows import head_rows
from tpe_core.atlas.sections import SECTIONS
from tpe_core.atlas.token_atlas import TokenAtlas, token_atlas
from tpe_core.edits.edited_head import edited_logits
from tpe_core.progress import run
from tpe_core.session import LiveSession

EDITS = [
    tpe.Intervention(),
    tpe.Intervention((1, 5, 9), "zero"),
    tpe.Intervention((1, 5, 9), "mean"),
    tpe.Intervention((1, 5, 9), "least-squares"),
    tpe.Intervention((2, 3), "mean").steer(40, 5.0, "least-squares").steer(41, 0.1, "bias"),
]


@pytest.fixture(scope="module")
def atlas(session: LiveSession) -> TokenAtlas:
    return run(token_atlas(session.analysis))


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_the_rows_of_an_edited_head_give_its_logits(session: LiveSession, edit: tpe.Intervention) -> None:
    head, hidden = session.analysis.model.head, session.analysis.detection.sample.hidden[:20]
    rows = head_rows(head, session.resolved(edit))
    expected = edited_logits(head, edit, session.basis(edit), torch.from_numpy(hidden)).double().numpy()
    for state, logits in zip(hidden, expected, strict=True):
        own = rows.logits(state[rows.kept].astype(np.float64))
        np.testing.assert_allclose(own - own.mean(), logits - logits.mean(), atol=2e-4)


def test_the_figures_are_those_of_the_analysis(session: LiveSession, atlas: TokenAtlas) -> None:
    analysis = session.analysis
    worst = SECTIONS["residual"].first(atlas, 20)[0].tolist()
    assert worst == analysis.undertrained.worst_fitted.tolist()
    assert SECTIONS["untrained"].first(atlas, 20)[0].tolist() == analysis.undertrained.nearest.tolist()
    unseen = SECTIONS["unseen"].first(atlas, 500)[0]
    assert (analysis.detection.counts[unseen] == 0).all()
    assert len(unseen) == int((analysis.detection.counts[: len(atlas.tokens)] == 0).sum())
    assert (np.diff(atlas.surprisal[unseen]) >= 0).all()


def test_every_proof_holds_under_every_edit(session: LiveSession) -> None:
    for edit in EDITS:
        made = run(token_atlas(session.analysis, session.resolved(edit)))
        for verdict in ("reachable", "unreachable"):
            assert all(made.reach.holds(each) for each in made.reach.of(verdict).tolist())
        assert not len(made.reach.of("undecided"))


def test_an_edit_that_makes_tokens_unreachable_lists_them(session: LiveSession) -> None:
    width = session.analysis.model.head.hidden_size
    edit = session.resolved(tpe.Intervention(tuple(range(2, width)), "zero"))
    made = run(token_atlas(session.analysis, edit))
    assert len(made.lost) > 100
    assert made.unedited is not None
    assert set(made.lost.tolist()) <= set(made.unedited.of("reachable").tolist())
    document = made.to_dict(5)
    assert document["edited"]
    assert [each["token_id"] for each in document["lost"]] == made.lost[:5].tolist()
    assert document["lost"][0]["reach"] == "unreachable"


def test_a_bias_far_below_is_unreachable_within_the_values_of_the_text(session: LiveSession) -> None:
    edit = session.resolved(tpe.Intervention().steer(40, 1e-60, "bias"))
    made = run(token_atlas(session.analysis, edit, region="observed"))
    assert made.reach.verdict(40) == "unreachable"
    assert 40 in made.lost.tolist()


def test_tables_and_document_hold_the_same(atlas: TokenAtlas) -> None:
    columns = atlas.columns()
    assert {len(values) for values in columns.values()} == {len(atlas.tokens)}
    document = atlas.to_dict(3)
    for one in document["lists"].values():
        for entry in one["tokens"]:
            at = entry["token_id"]
            assert columns["token"][at] == entry["token"]
            assert columns["bytes"][at] == entry["bytes"]
            assert columns["kind"][at] == entry["kind"]
            assert columns["reach"][at] == entry["reach"]
            assert columns["cosine_token_id"][at] == entry["nearest_by_cosine"]["token_id"]


def test_pairs_are_listed_once(atlas: TokenAtlas) -> None:
    near = atlas.neighbours
    for by, other in (("cosine", near.by_cosine), ("distance", near.by_distance)):
        ids = SECTIONS[by].first(atlas, 1000)[0].tolist()
        pairs = {frozenset((each, int(other[each]))) for each in ids}
        assert len(pairs) == len(ids)
