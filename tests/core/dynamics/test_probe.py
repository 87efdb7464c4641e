"""The training probe: against statsmodels and NumPy, in plain loops and in a Trainer, stopped and resumed."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from tests.helpers.forked import Forked
from tests.helpers.tiny_models import VOCAB, WIDTH, text, tiny_config, tiny_tokenizer
from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.probe import EncodingProbe
from tpe_core.dynamics.probe_log import LogWriter, open_log, read_log
from tpe_core.dynamics.trajectory_file import figures
from tpe_core.errors import CorpusError, HeadError, TpeError


def frequencies(rows: int = VOCAB, seed: int = 0) -> Frequencies:
    return Frequencies.of(np.random.default_rng(seed).integers(0, 1000, rows), "a text")


def new_model(kind: str = "gpt2", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(kind))


def update(model: Any, step: int) -> None:
    """Some change of the weights that depends on the step alone."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def loop(
    model: Any, probe: EncodingProbe, first: int, last: int, after: Callable[[int], object] = lambda _: None
) -> None:
    """Steps `first` to `last` of a plain loop."""
    for step in range(first, last + 1):
        if step > first:
            update(model, step)
        probe.step(step, model, loss=1.0 / (step + 1))
        after(step)


def flat(weights: dict[str, torch.Tensor], mark: str = "") -> np.ndarray[Any, Any]:
    return np.concatenate([value.double().numpy().ravel() for name, value in weights.items() if mark in name])


def test_a_plain_loop_logs_what_statsmodels_and_numpy_say(tmp_path: Path) -> None:
    model, given = new_model(), frequencies()
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def keep(step: int) -> None:
        kept[step] = {name: value.detach().clone() for name, value in model.named_parameters()}

    probe = EncodingProbe(model, given, tmp_path / "log.jsonl")
    loop(model, probe, 0, 9, keep)
    probe.close()
    trajectory = read_log(probe.path)
    assert [point.step for point in trajectory.points] == [0, 1, 2, 3, 4, 6, 8]
    assert trajectory.warnings == ()
    for point, before in zip(trajectory.points[1:], trajectory.points, strict=False):
        now, then, start = (kept[step] for step in (point.step, before.step, 0))
        design = sm.add_constant(now["transformer.wte.weight"].double().numpy())
        fit = sm.OLS(-np.log((given.counts + 1) / (given.counts.sum() + VOCAB)), design).fit()
        assert point.r2 == pytest.approx(fit.rsquared, abs=1e-9)
        assert point.r2_adjusted == pytest.approx(fit.rsquared_adj, abs=1e-9)
        assert point.top_dims[0] == int(np.argmax(np.abs(fit.params[1:])))
        assert point.loss == pytest.approx(1 / (point.step + 1))
        for group, mark in (("all", ""), ("mlp", ".mlp."), ("layer 1", ".h.1."), ("positions", ".wpe.")):
            for relative, past in ((point.change, then), (point.travel, start)):
                moved = np.linalg.norm(flat(now, mark) - flat(past, mark)) / np.linalg.norm(flat(past, mark))
                assert relative[group] == pytest.approx(moved, rel=1e-9)
        assert not point.convergence


def test_steps_and_the_last_one_can_be_chosen(tmp_path: Path) -> None:
    model = new_model()
    probe = EncodingProbe(model, frequencies(), tmp_path / "log.jsonl", steps=[3, 5], total=7, parameters=False)
    assert [step for step in range(9) if probe.is_due(step)] == [3, 5, 7]
    loop(model, probe, 0, 7)
    log = open_log(probe.path)
    assert [point.step for point in log.points] == [3, 5, 7]
    assert (log.ended, log.total) == ("finished", 7)
    assert not log.points[-1].travel
    assert not log.points[-1].change


def test_the_share_of_the_time_is_measured_by_real_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("tpe_core.dynamics.probe.time.perf_counter", lambda: now[0])
    real = EncodingProbe._log

    def slow(self: EncodingProbe, *arguments: Any) -> None:
        now[0] += 2.0
        real(self, *arguments)

    monkeypatch.setattr(EncodingProbe, "_log", slow)
    model = new_model()
    probe = EncodingProbe(model, frequencies(), tmp_path / "log.jsonl")
    assert probe.share == 0
    for step in range(4):
        probe.step(step, model)
        now[0] += 48.0
    assert probe.share == pytest.approx(8.0 / 200.0)
    log = open_log(probe.path)  # as of the last point's end
    assert (log.probe_seconds, log.training_seconds) == pytest.approx((8.0, 152.0))
    probe.close()
    assert open_log(probe.path).share == pytest.approx(8.0 / 200.0)


def test_a_run_that_is_resumed_logs_what_it_would_have_logged(tmp_path: Path) -> None:
    whole, model = EncodingProbe(new_model(), frequencies(), tmp_path / "whole.jsonl", total=12), new_model()
    kept: dict[int, dict[str, torch.Tensor]] = {}
    loop(model, whole, 0, 12, lambda step: kept.setdefault(step, {n: p.clone() for n, p in model.named_parameters()}))

    path, model = tmp_path / "resumed.jsonl", new_model()
    first = EncodingProbe(model, frequencies(), path, total=12)
    loop(model, first, 0, 9)  # and then it dies, with 6 and 8 logged after the last checkpoint, of step 5
    assert first._writer is not None
    first._writer._stream.close()
    model.load_state_dict({**model.state_dict(), **kept[5]})
    second = EncodingProbe(model, frequencies(), path, total=12, recall=kept.get)
    loop(model, second, 5, 12)
    for one, other in zip(read_log(path).points, read_log(whole.path).points, strict=True):
        assert (one.step, one.top_dims) == (other.step, other.top_dims)
        assert figures(one) == pytest.approx(figures(other), rel=1e-9, abs=1e-12)
    assert read_log(path).warnings == ()
    assert open_log(path).probe_seconds > second._clock.probe_seconds - 1e-9 > 0


def test_without_the_first_weights_a_resumed_run_says_that_it_has_no_travel(tmp_path: Path) -> None:
    path, model = tmp_path / "log.jsonl", new_model()
    first = EncodingProbe(model, frequencies(), path)
    loop(model, first, 0, 3)
    first.close("it was stopped")
    second = EncodingProbe(model, frequencies(), path)
    with pytest.warns(RuntimeWarning, match="travel is not measured"):
        loop(model, second, 3, 8)
    second.close()
    trajectory = read_log(path)
    assert [(p.step, bool(p.travel), bool(p.change)) for p in trajectory.points] == [
        (0, True, False),
        (1, True, True),
        (2, True, True),
        (3, False, False),
        (4, False, True),
        (6, False, True),
        (8, False, True),
    ]
    assert trajectory.warnings == (
        "resumed at step 3 without the run's first weights: travel is not measured from there.",
    )


def test_weights_that_diverge_are_said_and_the_training_goes_on(tmp_path: Path) -> None:
    model = new_model()
    probe = EncodingProbe(model, frequencies(), tmp_path / "log.jsonl")
    probe.step(0, model)
    with torch.no_grad():
        model.transformer.wte.weight[3, 3] = float("nan")
    with pytest.warns(RuntimeWarning, match="step 1 could not be measured or logged: the output embedding holds NaN"):
        probe.step(1, model)
    probe.close()
    trajectory = read_log(probe.path)
    assert [point.step for point in trajectory.points] == [0]
    assert "NaN" in trajectory.warnings[0]


def test_a_disk_that_refuses_does_not_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model()
    probe = EncodingProbe(model, frequencies(), tmp_path / "log.jsonl")
    probe.step(0, model)
    real, full = LogWriter.write, [True]

    def write(self: LogWriter, record: Any) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        real(self, record)

    monkeypatch.setattr(LogWriter, "write", write)
    with pytest.warns(RuntimeWarning, match="No space left"):
        probe.step(1, model)
    full[0] = False
    probe.step(2, model)
    assert [point.step for point in read_log(probe.path).points] == [0, 2]
    (tmp_path / "file").write_text("")
    other = EncodingProbe(model, frequencies(), tmp_path / "else.jsonl")
    other.path = tmp_path / "file" / "log.jsonl"
    with pytest.warns(RuntimeWarning, match="nothing is logged"):
        loop(model, other, 0, 4)


def test_a_probe_in_a_block_says_how_it_was_left(tmp_path: Path) -> None:
    model = new_model()
    for error, reason in (
        (None, "finished"),
        (KeyboardInterrupt(), "it was stopped"),
        (MemoryError("too much"), "MemoryError: too much"),
    ):
        path = tmp_path / f"{reason[:4]}.jsonl"
        try:
            with EncodingProbe(model, frequencies(), path) as probe:
                probe.step(0, model)
                if error is not None:
                    raise error
        except (KeyboardInterrupt, MemoryError):
            pass
        assert open_log(path).ended == reason


def test_a_probe_that_is_forgotten_leaves_an_end(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    script = (
        "import sys; from pathlib import Path; from tests.core.dynamics.test_probe import *\n"
        "model = new_model(); probe = EncodingProbe(model, frequencies(), Path(sys.argv[1]), total=9)\n"
        "loop(model, probe, 0, 2)\nraise SystemExit('out of patience')"
    )
    assert Forked(script, str(path), folder=tmp_path / "process").wait(120) == 1
    assert read_log(path).warnings == (
        "the run ended at step 2 of 9 before it was finished: its process, or its probe, went away without a word.",
    )
    model = new_model()
    probe: EncodingProbe | None = EncodingProbe(model, frequencies(), tmp_path / "b.jsonl")
    assert probe is not None
    probe.step(0, model)
    probe = None
    gc.collect()
    assert open_log(tmp_path / "b.jsonl").ended is not None


def test_a_cell_that_is_run_again_takes_its_log_over(tmp_path: Path) -> None:
    model, path = new_model(), tmp_path / "log.jsonl"
    first = EncodingProbe(model, frequencies(), path)
    loop(model, first, 0, 2)
    second = EncodingProbe(model, frequencies(), path)
    loop(model, second, 0, 1)
    loop(model, first, 3, 5)  # logs nothing any more
    assert [point.step for point in read_log(path).points] == [0, 1]
    second.close()
    assert open_log(path).ended == "finished"


def test_bad_input_is_refused_before_the_training(tmp_path: Path) -> None:
    model, path = new_model(), tmp_path / "log.jsonl"
    with pytest.raises(CorpusError, match="321 counts but the model's head has 320 rows"):
        EncodingProbe(model, frequencies(VOCAB + 1), path)
    with pytest.raises(CorpusError, match="100 counts"):
        EncodingProbe(model, frequencies(100), path)
    with pytest.raises(HeadError, match="names no output embedding"):
        EncodingProbe(nn.Linear(3, 4), frequencies(4), path)
    assert not path.exists()
    path.write_text("my diary\n")
    with pytest.raises(TpeError, match="no probe log"):
        EncodingProbe(model, frequencies(), path)
    path.unlink()
    held = LogWriter(path, EncodingProbe(model, frequencies(), path)._start, 0)
    with pytest.raises(TpeError, match="another run is writing"):
        EncodingProbe(model, frequencies(), path).step(0, model)
    held.close()
    with pytest.raises(TpeError, match="other frequencies"):
        EncodingProbe(model, frequencies(seed=1), path)


def test_padding_rows_wrapped_models_and_models_of_ones_own(tmp_path: Path) -> None:
    padded, given = new_model("neox"), frequencies()
    probe = EncodingProbe(padded, given, tmp_path / "a.jsonl")
    probe.step(0, nn.DataParallel(padded))
    weight = padded.lm_head.weight.detach().double().numpy()[:VOCAB]
    fit = sm.OLS(given.surprisal, sm.add_constant(weight)).fit()
    point = read_log(probe.path).points[0]
    assert point.r2 == pytest.approx(fit.rsquared, abs=1e-9)
    assert set(point.travel) == {"all", "attention", "embedding", "head", "mlp", "norms", "layer 0", "layer 1"}

    own = nn.Sequential(nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB))
    probe = EncodingProbe(own, given, tmp_path / "b.jsonl", weight=lambda model: model[1].weight)
    probe.step(0, own)
    fit = sm.OLS(given.surprisal, sm.add_constant(own[1].weight.detach().double().numpy())).fit()
    assert read_log(probe.path).points[0].r2 == pytest.approx(fit.rsquared, abs=1e-9)


def test_from_a_text_to_a_finished_log_with_public_names_alone(tmp_path: Path) -> None:
    """What the README says, by the letter."""
    from tpe_core import EncodingProbe, count_text, run, text_source

    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text(text(1))
    model, tokenizer, steps = new_model(), tiny_tokenizer(), 5
    frequencies = run(count_text(text_source([tmp_path / "corpus"]), tokenizer, model.config.vocab_size))
    with EncodingProbe(model, frequencies, tmp_path / "run" / "dynamics.jsonl", total=steps) as probe:
        for step in range(steps + 1):
            probe.step(step, model)
    ids = tokenizer(text(1), verbose=False)["input_ids"]
    assert frequencies.counts.tolist() == np.bincount(ids, minlength=VOCAB).tolist()
    found = read_log(probe.path)
    assert [point.step for point in found.points] == [0, 1, 2, 3, 4, 5]
    assert found.warnings == ()


def test_the_loss_may_be_the_one_that_was_just_minimised(tmp_path: Path) -> None:
    model = new_model()
    ids = torch.arange(16)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with EncodingProbe(model, frequencies(), tmp_path / "log.jsonl") as probe:
            loss = model(input_ids=ids, labels=ids).loss
            probe.step(0, model, loss)
    assert loss.requires_grad
    assert read_log(probe.path).points[0].loss == loss.item()


class Blocks(torch.utils.data.Dataset):  # type: ignore[misc]
    """Random blocks of tokens."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(np.random.default_rng(index).integers(0, VOCAB, 16))
        return {"input_ids": ids, "labels": ids}


def trainer(folder: Path, model: Any, *callbacks: TrainerCallback, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_steps=100,
        seed=0,
        **({"max_steps": 12, "save_steps": 5} | options),
    )
    return Trainer(model=model, args=arguments, train_dataset=Blocks(), callbacks=list(callbacks))


class Stop(TrainerCallback):  # type: ignore[misc]
    """Ends the training at a step, early or by an error."""

    def __init__(self, step: int, error: Exception | None = None) -> None:
        self.step, self.error = step, error

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.step:
            if self.error is not None:
                raise self.error
            control.should_training_stop = True


def test_a_trainer_logs_and_is_not_changed_by_it(tmp_path: Path) -> None:
    path, given = tmp_path / "log.jsonl", frequencies()
    model, alone = new_model(), new_model()
    watched = trainer(tmp_path / "a", model, EncodingProbe(model, given, path))
    watched.train()
    trainer(tmp_path / "b", alone).train()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    log = open_log(path)
    assert [point.step for point in log.points] == [0, 1, 2, 3, 4, 6, 8, 11, 12]
    assert (log.ended, log.total, log.last_step) == ("finished", 12, 12)
    assert log.share is not None
    assert 0 < log.share < 1
    said = {entry["step"]: entry["loss"] for entry in watched.state.log_history if "loss" in entry}
    assert {p.step: p.loss for p in log.points if p.step} == said
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "checkpoint-12").lm_head.weight
    fit = sm.OLS(given.surprisal, sm.add_constant(saved.detach().double().numpy())).fit()
    assert log.points[-1].r2_adjusted == pytest.approx(fit.rsquared_adj, abs=1e-9)


def test_a_trainer_that_failed_goes_on_in_its_log(tmp_path: Path) -> None:
    path, given = tmp_path / "log.jsonl", frequencies()
    model = new_model()
    broken = trainer(tmp_path / "run", model, EncodingProbe(model, given, path), Stop(9, RuntimeError("a bad batch")))
    with pytest.raises(RuntimeError, match="a bad batch"):
        broken.train()
    model = new_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no travel without the first weights
        resumed = trainer(tmp_path / "run", model, EncodingProbe(model, given, path))
        resumed.train(resume_from_checkpoint=True)
    whole = new_model()
    trainer(tmp_path / "whole", whole, EncodingProbe(whole, given, tmp_path / "whole.jsonl")).train()
    found, expected = open_log(path), open_log(tmp_path / "whole.jsonl")
    assert [point.step for point in found.points] == [point.step for point in expected.points]
    assert [p.r2 for p in found.points] == pytest.approx([p.r2 for p in expected.points], abs=1e-9)
    assert found.ended == "finished"
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds.count("start") == 1
    assert kinds.count("resume") == 1


def test_a_trainer_that_is_stopped_early_says_so(tmp_path: Path) -> None:
    path, model = tmp_path / "log.jsonl", new_model()
    trainer(tmp_path / "run", model, EncodingProbe(model, frequencies(), path), Stop(5)).train()
    assert read_log(path).warnings == (
        "the run ended at step 5 of 12 before it was finished: the Trainer was stopped early.",
    )
