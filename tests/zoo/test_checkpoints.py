"""Every architecture that the probe accepts can hold an edit in its weights, but those without one plain matrix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.checkpoints import logits_of, random_edit, with_edited_weights, word_tokenizer
from tests.zoo.cases import SUPPORTED, Case
from tests.zoo.shrink import tiny_model
from tpe_core.checkpoint.bake import bake
from tpe_core.checkpoint.plan import choose
from tpe_core.errors import HeadError
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run

IN_PIECES = {"mobilebert"}
WITHOUT_SETTER = {
    "fsmt"
}  # transformers' own set_output_embeddings puts the head in a place that is not multiplied with


@pytest.mark.slow
@pytest.mark.parametrize("case", SUPPORTED, ids=lambda case: case.id)
def test_what_is_loaded_back_is_the_model_edited_by_hand(case: Case, tmp_path: Path) -> None:
    tiny_model(case.task, case.model_type, case.cls, **case.fixed).save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    model = load_model(RunOptions(model=str(tmp_path / "model"), task=case.task))
    edit = random_edit(model.head.hidden_size, "least-squares")
    if case.model_type in IN_PIECES:
        with pytest.raises(HeadError, match="not one plain matrix"):
            run(bake(model, edit, tmp_path / "out"))
        return
    if not choose(model, edit).is_exact:
        edit = random_edit(model.head.hidden_size, "zero")
    baked = run(bake(model, edit, tmp_path / "out"))
    assert baked.verified.model_error <= baked.verified.model_tolerance
    found = logits_of(load_model(RunOptions(model=str(baked.path), task=case.task)).hf, model)
    wanted = logits_of(with_edited_weights(model, edit), model)
    seen = wanted.isfinite()
    assert float((found - wanted)[seen].abs().max()) <= 1e-5 * max(1.0, float(wanted[seen].abs().max()))
