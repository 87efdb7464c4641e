"""Figures of a step against their definitions, computed anew from the model's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from tests.helpers.training_on import MATTERING, Planted, planted
from tpe_core.continued_training.measuring import State, measure_step, read_state
from tpe_core.corpus.corpus import Corpus
from tpe_core.detection.reading import corpus_spec
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import NumericalError
from tpe_core.hooks import apply
from tpe_core.manifest.manifest import read_edit
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("measuring"))


@pytest.fixture(scope="module")
def model(world: Planted) -> LanguageModel:
    return load_model(world.run)


@pytest.fixture(scope="module")
def corpora(world: Planted, model: LanguageModel) -> dict[str, Corpus]:
    from tpe_core.corpus.sources import text_source

    return {"heldout": run(corpus_spec(text_source(world.run.text), model, 256, "heldout").corpus())}


@pytest.fixture(scope="module")
def state(model: LanguageModel, corpora: dict[str, Corpus]) -> State:
    return run(read_state(model, corpora, 256))


def own_log_p(model: LanguageModel, corpus: Corpus, edit: ResolvedEdit | None) -> torch.Tensor:
    ids = torch.from_numpy(corpus.blocks)
    with torch.no_grad():
        if edit is None:
            return torch.log_softmax(model.hf(ids).logits.double(), -1)
        with apply(model, edit):
            return torch.log_softmax(model.hf(ids).logits.double(), -1)


@pytest.mark.parametrize("name", ["mattering", "steered"])
def test_figures_are_those_of_the_models_own_logits(
    world: Planted, model: LanguageModel, corpora: dict[str, Corpus], state: State, name: str
) -> None:
    _, edit = read_edit(world.mask(name))
    step = run(measure_step(0, state, edit, {name: edit}, unedited=state)).figures
    corpus = corpora["heldout"]
    targets = torch.from_numpy(corpus.targets)
    log_q, log_p = (own_log_p(model, corpus, each) for each in (None, edit))
    losses = [float(F.nll_loss(each.flatten(0, 1), targets.flatten())) for each in (log_q, log_p)]
    assert step.loss["heldout"] == pytest.approx(losses[1], abs=1e-5)
    assert step.gap["heldout"] == pytest.approx(losses[1] - losses[0], abs=1e-5)
    kl = float((log_q.exp() * (log_q - log_p)).sum(-1).mean())
    assert step.kl["heldout"] == pytest.approx(kl, rel=1e-4)
    if name == "steered":
        ratio = float(log_p.exp()[..., 7].mean() / log_q.exp()[..., 7].mean())
        assert step.steered == {"7": pytest.approx(ratio, rel=1e-4)}
    hidden = state.samples["heldout"].hidden.astype(np.float64)
    weight = model.head.weight.double().numpy()
    spread = hidden.std(0) * weight.std(0)
    rest = [dim for dim in range(len(spread)) if dim not in MATTERING]
    expected = np.sqrt((spread[list(MATTERING)] ** 2).mean() / (spread[rest] ** 2).mean())
    assert step.masks[name].spread == pytest.approx(expected, rel=1e-4)


def test_the_unedited_model_is_nowhere_from_itself(world: Planted, state: State) -> None:
    _, mask = read_edit(world.mask("harmless"))
    step = run(measure_step(3, state, None, {"harmless": mask}, unedited=state))
    assert step.figures.kl["heldout"] == 0
    assert step.figures.gap["heldout"] == 0
    assert step.figures.slope_cosine == pytest.approx(1)
    turned = run(measure_step(3, state, None, {}, start=-step.slope)).figures
    assert turned.slope_cosine == pytest.approx(-1)


def test_a_loss_that_is_no_number_is_refused(state: State) -> None:
    sample = state.samples["heldout"]
    wrong = type(sample)(sample.size, np.full_like(sample.hidden, np.nan), sample.next_ids, sample.priority)
    with pytest.raises(NumericalError, match="the loss on the heldout text is nan at step 3"):
        run(measure_step(3, State(head=state.head, samples={"heldout": wrong}), None, {}))
