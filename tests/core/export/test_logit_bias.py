"""Constants for servers, against the edit itself and against brute force over whole distributions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tests.core.export.conftest import steered
from tpe_core.detection.detection import Detection
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import edit_logits
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import ExistsError, TpeError
from tpe_core.export.formats import FORMATS, export, planned
from tpe_core.export.logit_bias import POSITIONS
from tpe_core.export.plan import Exported, Request
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run


def written(
    model: LanguageModel, edit: ResolvedEdit, out: Path, detection: Detection | None = None
) -> tuple[Exported, dict[int, float]]:
    exported = run(export(Request(model=model, edit=edit, out=out, detection=detection), "logit-bias"))
    assert isinstance(exported, Exported)
    document = json.loads(out.read_text())
    assert list(document) == ["logit_bias"]
    return exported, {int(key): value for key, value in document["logit_bias"].items()}


def log_p(logits: torch.Tensor) -> torch.Tensor:
    return logits.double().log_softmax(-1)


def kl_with(model: LanguageModel, edit: ResolvedEdit, h: torch.Tensor, biases: dict[int, float]) -> float:
    """Mean KL(edited || plain logits with constants), over all of the vocabulary."""
    p = log_p(edit_logits(model.head, edit, h))
    z = model.head.logits(h).double()
    for token_id, bias in biases.items():
        z[:, token_id] += bias
    return float((p.exp() * (p - log_p(z))).nan_to_num().sum(-1).mean())


@pytest.mark.parametrize("name", ["llama-tied", "granite-tied", "gptj-untied"])
def test_bias_steering_is_exactly_the_log_ratios(
    tiny: Callable[[str], LanguageModel], name: str, tmp_path: Path
) -> None:
    model = tiny(name)
    edit = steered(model.head.hidden_size, (9, 20, 31), ("bias",))
    exported, biases = written(model, edit, tmp_path / "bias.json")
    assert (exported.verdict.holding, exported.lost) == ("exactly", "nothing")
    assert biases == pytest.approx({e.token_id: math.log(e.ratio) for e in edit.intervention.steering}, abs=1e-6)
    h = model.hidden(model.example_inputs()).flatten(0, 1).float()
    assert kl_with(model, edit, h, biases) < 1e-9


@pytest.mark.parametrize("name", ["llama-tied", "gemma2-tied"])
def test_the_constants_for_moved_rows_cost_the_least_and_the_cost_is_that_of_whole_distributions(
    tiny: Callable[[str], LanguageModel], detected: Callable[[str], Detection], name: str, tmp_path: Path
) -> None:
    model, detection = tiny(name), detected(name)
    edit = steered(model.head.hidden_size, (9, 20, 31))
    with pytest.raises(TpeError, match="is measured on text"):
        written(model, edit, tmp_path / "bias.json")
    exported, biases = written(model, edit, tmp_path / "bias.json", detection)
    h = torch.from_numpy(detection.sample.hidden[:POSITIONS])
    cost = exported.facts["cost"]
    assert cost["positions"] == len(h)
    assert cost["kl"] == pytest.approx(kl_with(model, edit, h, biases), rel=1e-4)
    assert cost["kl_unedited"] == pytest.approx(kl_with(model, edit, h, {}), rel=1e-4)
    logs = {entry.token_id: math.log(entry.ratio) for entry in edit.intervention.steering}
    assert cost["kl_log_ratio"] == pytest.approx(kl_with(model, edit, h, logs), rel=1e-4)
    ids = list(biases)
    best = minimize(
        lambda c: kl_with(model, edit, h, dict(zip(ids, c, strict=True))), np.zeros(3), options={"gtol": 1e-7}
    )
    assert cost["kl"] == pytest.approx(best.fun, rel=1e-3)
    assert cost["kl"] < cost["kl_unedited"]
    assert [biases[i] for i in ids] == pytest.approx(best.x, abs=0.01)


def test_a_soft_cap_makes_a_constant_approximate(
    tiny: Callable[[str], LanguageModel], detected: Callable[[str], Detection], tmp_path: Path
) -> None:
    model = tiny("gemma2-tied")
    edit = steered(model.head.hidden_size, (9,), ("bias",))
    exported, biases = written(model, edit, tmp_path / "bias.json", detected("gemma2-tied"))
    assert exported.verdict.holding == "at a cost"
    assert "soft cap" in exported.verdict.how
    assert 0 < exported.facts["cost"]["kl"] < exported.facts["cost"]["kl_unedited"]
    assert abs(biases[9]) < abs(math.log(edit.intervention.steering[0].ratio))  # the cap's slope is below 1


def test_what_servers_clip_is_clipped_and_its_cost_is_said(
    tiny: Callable[[str], LanguageModel], detected: Callable[[str], Detection], tmp_path: Path
) -> None:
    model = tiny("llama-tied")
    edit = ResolvedEdit(
        intervention=Intervention(steering=(Steering(9, math.exp(130), "bias"), Steering(20, 2.0, "bias"))),
        hidden_size=model.head.hidden_size,
        constant=np.zeros(0),
        biases={9: 130.0, 20: math.log(2)},
    )
    exported, biases = written(model, edit, tmp_path / "bias.json", detected("llama-tied"))
    assert biases[9] == 100
    assert biases[20] == pytest.approx(math.log(2), abs=1e-6)
    assert exported.facts["clipped"] == 1
    assert exported.facts["cost"]["kl_unclipped"] == 0
    assert "had 1 not been clipped to 100" in exported.lost


def test_pruning_is_refused_with_the_format_that_can(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("llama-tied")
    verdict = planned(model, steered(model.head.hidden_size, (9,), pruned=(1,)), "logit-bias")
    assert verdict.holding == "not"
    assert verdict.sentence.startswith("logit-bias cannot hold this edit: pruning 1 dimensions changes the logit")
    assert "--to hf" in verdict.sentence
    assert "--to peft" not in verdict.sentence


def test_only_a_file_of_biases_is_replaced_and_only_if_asked(
    tiny: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    model = tiny("llama-tied")
    edit, out, other = steered(model.head.hidden_size, (9,), ("bias",)), tmp_path / "bias.json", tmp_path / "other.json"
    written(model, edit, out)
    with pytest.raises(ExistsError):
        FORMATS["logit-bias"].check(out, False)
    FORMATS["logit-bias"].check(out, True)
    other.write_text('{"kind": "tpe.intervention"}')
    with pytest.raises(TpeError, match="is not a file of logit biases"):
        FORMATS["logit-bias"].check(other, True)
    with pytest.raises(TpeError, match="is not a file of logit biases"):
        run(export(Request(model=model, edit=edit, out=other), "logit-bias"))
