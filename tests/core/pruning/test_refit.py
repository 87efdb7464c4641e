"""A refit as an edit: the inspector's session, its file, hooks and whole forwards give one distribution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tpe_core
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ManifestError, TpeError
from tpe_core.manifest.manifest import read_edit, read_manifest
from tpe_core.progress import run
from tpe_core.session import LiveSession, open_session

MASK = Intervention((0, 3, 7, 9, 12))
PROMPT = "the cat"


@pytest.fixture(scope="module")
def refitted(session: LiveSession) -> Intervention:
    return run(session.refit(MASK.steer(5, 2.0), positions=1500))


def probabilities(session: LiveSession, edit: Intervention) -> np.ndarray:
    return session.probabilities(PROMPT, edit)[1]


def test_it_costs_less_than_the_least_squares_it_starts_from(session: LiveSession, refitted: Intervention) -> None:
    assert (refitted.replacement, refitted.pruned, refitted.steering) == ("refit", MASK.pruned, refitted.steering)
    assert len(refitted.steering) == 1
    fitted = run(session.cost(run(session.refit(MASK, positions=1500))))["local"].kl
    folded = run(session.cost(MASK.with_replacement("least-squares")))["local"].kl
    assert fitted < folded


def test_hooks_and_the_session_agree(session: LiveSession, refitted: Intervention) -> None:
    model = session.analysis.model
    ids = model.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with tpe_core.apply(model, session.resolved(refitted)), torch.inference_mode():
        hooked = model.hf(input_ids=ids).logits[0, -1].double().softmax(-1).numpy()
    np.testing.assert_allclose(probabilities(session, refitted), hooked, atol=1e-6)


def test_a_later_session_has_the_numbers_of_an_earlier_one_and_one_without_a_cache_says_so(
    session: LiveSession,
) -> None:
    cached = replace(session.options, cache=True)
    first = run(open_session(cached))
    edit = run(first.refit(MASK, positions=1500))
    later = run(open_session(cached))
    np.testing.assert_allclose(probabilities(later, edit), probabilities(first, edit), atol=1e-9)
    without = run(open_session(session.options))
    with pytest.raises(TpeError, match="import the file again"):
        without.evaluate(PROMPT, edit)


def test_a_file_brings_the_same_numbers_to_another_session(
    session: LiveSession, refitted: Intervention, tmp_path: Path
) -> None:
    path = session.export(tmp_path / "mask.json", refitted, PROMPT)
    other = run(open_session(session.options))
    loaded = other.load(path)
    assert loaded.replacement == "refit"
    np.testing.assert_allclose(probabilities(other, loaded), probabilities(session, refitted), atol=1e-9)
    manifest, edit = read_edit(path)
    width = session.analysis.model.head.hidden_size
    assert manifest.needed_arrays()["reconstruction"] == (width, width - len(MASK.pruned))
    assert edit.written == tuple(range(width))
    baked = run(tpe_core.bake(session.analysis.model, edit, tmp_path / "out", allow_lossy=True, manifest=path))
    assert baked.verified.model_error < 1e-4
    # One that claims another replacement does not fit its arrays.
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"replacement": "least-squares"}))
    with pytest.raises(ManifestError, match="export"):
        read_manifest(path)


def test_another_mask_is_replaced_by_least_squares_and_undo_brings_the_refit_back(
    session: LiveSession, refitted: Intervention
) -> None:
    before = probabilities(session, refitted)
    changed = refitted.toggle([1])
    assert (changed.replacement, changed.pruned) == ("least-squares", (0, 1, 3, 7, 9, 12))
    plain = Intervention(changed.pruned, "least-squares", changed.steering)
    np.testing.assert_allclose(probabilities(session, changed), probabilities(session, plain), atol=1e-9)
    # Back at the mask by hand, the replacement is least squares still, and its numbers are those.
    back = changed.toggle([1])
    plain = Intervention(back.pruned, "least-squares", back.steering)
    np.testing.assert_allclose(probabilities(session, back), probabilities(session, plain), atol=1e-9)
    np.testing.assert_array_equal(probabilities(session, refitted), before)
    assert refitted.prune([0]) == refitted
    assert refitted.clear() == Intervention(replacement="least-squares")


def test_what_cannot_be_refitted_is_said(session: LiveSession) -> None:
    with pytest.raises(TpeError, match="nothing is pruned"):
        run(session.refit(Intervention().steer(5, 2.0)))
    with pytest.raises(TpeError, match="has no refit"):
        session.evaluate(PROMPT, MASK.with_replacement("refit"))
