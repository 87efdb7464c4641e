"""Reading weights tells how far it is and can be ended between two tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from tests.helpers.tiny_models import save_tiny
from tpe_core.models.loading import load_model
from tpe_core.models.weights_read import told_loading
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, attended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


def test_every_tensor_that_is_read_is_told_with_their_number(folder: Path) -> None:
    told: list[Progress] = []
    with attended(lambda event: told.append(event) if event is not None else None):
        model = load_model(RunOptions(str(folder)))
    read = [event for event in told if event.label == "loading weights"]
    assert [event.done for event in read] == list(range(len(read)))
    assert {event.total for event in read} == {len(read)}
    assert len(read) >= len(list(model.hf.parameters())) - 1  # a tied head is read once


def test_the_hook_is_gone_afterwards_also_where_the_step_is_ended(folder: Path) -> None:
    class Ended(BaseException):
        pass

    def end(event: Progress | None) -> None:
        if event is not None and event.done == 2:
            raise Ended

    with pytest.raises(Ended), attended(end):
        load_model(RunOptions(str(folder)))
    assert transformers.utils.logging.set_tqdm_hook(None) is None


def test_an_older_transformers_without_the_hook_loads_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(transformers.utils.logging, "set_tqdm_hook")
    with told_loading():
        pass
