"""Pauses inside long steps: what is asked there is answered, and what the step computes stays what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tpe_core.edits.intervention import Intervention
from tpe_core.errors import CancelledError
from tpe_core.options import RunOptions
from tpe_core.pauses import pause
from tpe_core.progress import Progress, attended, run
from tpe_core.pruning.results import PruningRequest
from tpe_core.session import LiveSession, open_session

OPTIONS = RunOptions(positions=1024, sample=128, cache=False, threads=1)
PROMPT = "Return the"
MASK = Intervention((3, 5, 8))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> LiveSession:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text(" ".join(f"Return the value {i} of the array at index {i % 7}." for i in range(3000)))
    return run(open_session(replace(OPTIONS, text=(str(text),))))


JOBS = {
    "detection": lambda session: session.detect_again(session.options),
    "sweep": lambda session: session.sweep(PruningRequest(orders=("slope",), draws=1, fractions=(0.3, 0.6))),
    "forecast": lambda session: session.prepare_forecast(),
    "steering study": lambda session: session.read_for_steering(MASK),
}


def test_the_reading_of_a_prompt_says_how_many_tokens_it_reads_and_how_far_it_is(session: LiveSession) -> None:
    prompt, told = " value" * 200, []
    with attended(told.append):
        session.evaluate(prompt, MASK)
    tokens = len(session.analysis.model.tokenizer(prompt)["input_ids"])
    reading = [event for event in told if event is not None and event.label == f"reading {tokens} tokens"]
    assert [event.done for event in reading] == sorted({event.done for event in reading})
    assert len(reading) > 1
    assert {event.total for event in reading} == {reading[-1].total}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_questions_asked_at_every_pause_of_a_job_change_neither_the_job_nor_the_answers(job, session) -> None:
    wanted = session.evaluate(PROMPT, MASK).kl
    quiet = job(LiveSession(session.analysis, session.options))
    expected = run(quiet)
    asked = LiveSession(session.analysis, session.options)
    answers: list[float] = []
    pauses: list[None] = []

    def ask(_: Progress | None) -> None:
        pauses.append(None)
        if len(pauses) % 5 == 0 and len(answers) < 6:  # a new prompt runs the model inside of its own pass
            asked.evaluate(f"{PROMPT} {len(answers)}", MASK)
            answers.append(asked.evaluate(PROMPT, MASK).kl)

    steps = job(asked)
    with attended(ask):
        result = run(steps)
    assert answers
    assert answers == pytest.approx([wanted] * len(answers), rel=1e-4)
    _same(expected, result, asked)


def _same(expected, result, asked: LiveSession) -> None:
    if isinstance(expected, LiveSession):
        np.testing.assert_allclose(
            result.analysis.detection.log_alpha, expected.analysis.detection.log_alpha, rtol=1e-12
        )
    elif hasattr(expected, "curves"):
        for one, other in zip(expected.curves, result.curves, strict=True):
            np.testing.assert_allclose(one.figures["heldout"], other.figures["heldout"], rtol=1e-12)
    elif expected is not None:
        assert result == expected


def test_a_pass_through_the_model_pauses_between_its_layers_and_can_be_ended_there(session) -> None:
    model, ids = session.analysis.model, torch.arange(12)[None]
    whole = model.hidden(ids)
    pauses: list[None] = []
    with attended(lambda _: pauses.append(None)):
        assert torch.equal(model.hidden(ids), whole)
    assert len(pauses) >= model.hf.config.num_hidden_layers

    def end(_: Progress | None) -> None:
        raise CancelledError("enough")

    with attended(end), pytest.raises(CancelledError):
        model.hidden(ids)
    assert torch.equal(model.hidden(ids), whole)  # no hook is left behind


def test_nobody_is_called_at_the_pauses_of_what_is_done_at_a_pause() -> None:
    calls: list[int] = []

    def nested(_: Progress | None) -> None:
        calls.append(1)
        pause()

    with attended(nested):
        pause()
        pause()
    pause()
    assert calls == [1, 1]


def test_what_is_kept_at_a_pause_can_be_changed_outside_of_any_job() -> None:
    kept: list[torch.Tensor] = []
    with attended(lambda _: kept.append(torch.zeros(2))), torch.inference_mode():
        pause()
    kept[0].add_(1)
    assert kept[0].tolist() == [1, 1]
