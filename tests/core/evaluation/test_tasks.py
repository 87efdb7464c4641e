"""Tasks of lm-evaluation-harness: hooks against a checkpoint with edited weights, errors against resampling."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tests.helpers.tiny_models import WORDS, save_tiny, text
from tpe_core.checkpoint.bake import bake
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import TpeError
from tpe_core.evaluation import harness
from tpe_core.evaluation import tasks as module
from tpe_core.evaluation.harness import Scored, find_tasks
from tpe_core.evaluation.tasks import TaskScore, evaluate_tasks
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session
from tpe_core.store import Store
from tpe_tui.cli.main import main

ITEMS = 24


@pytest.fixture(autouse=True)
def _own_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "data-sets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small local tasks: multiple choice, perplexity of whole lines, and written text."""
    folder = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(0)
    with (folder / "items.jsonl").open("w") as stream:
        for _ in range(ITEMS):
            choices = [f" {word}" for word in rng.choice(WORDS, 3, replace=False)]
            item = {
                "text": f"{rng.choice(WORDS)} {rng.choice(WORDS)}",
                "choices": choices,
                "label": int(rng.integers(3)),
            }
            stream.write(json.dumps(item) + "\n")
    shared = (
        f"dataset_path: json\ndataset_kwargs:\n  data_files: {{test: {folder / 'items.jsonl'}}}\ntest_split: test\n"
    )
    (folder / "choose.yaml").write_text(
        f"task: choose\n{shared}fewshot_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{{{text}}}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: label\ntarget_delimiter: ''\nmetric_list:\n  - metric: acc\n"
    )
    (folder / "lines.yaml").write_text(
        f"task: lines\n{shared}output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{{{text}}}}'\n"
        "metric_list:\n  - metric: word_perplexity\n  - metric: bits_per_byte\n"
    )
    (folder / "write.yaml").write_text(
        f"task: write\n{shared}output_type: generate_until\ndoc_to_text: '{{{{text}}}}'\ndoc_to_target: ' the'\n"
        "generation_kwargs: {max_gen_toks: 3, until: ['.']}\nmetric_list:\n  - metric: exact_match\n"
    )
    (folder / "broken.yaml").write_text(
        f"task: broken\n{shared.replace('items', 'absent')}output_type: multiple_choice\ndoc_to_text: '{{{{text}}}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: label\nmetric_list:\n  - metric: acc\n"
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(RunOptions(model=str(save_tiny(tmp_path_factory.mktemp("model"), "llama"))))


@pytest.fixture(scope="module")
def edit() -> ResolvedEdit:
    steering = (Steering(7, 2.0, "min-norm"), Steering(9, 3.0, "min-norm"))
    rng = np.random.default_rng(1)
    rows = {7: rng.normal(size=16) / 4, 9: rng.normal(size=16) / 4}
    return ResolvedEdit(
        intervention=Intervention((1, 4, 5, 9), "zero", steering),
        hidden_size=16,
        constant=np.zeros(4),
        fold=None,
        rows=rows,
    )


def by_metric(scores: tuple[TaskScore, ...]) -> dict[tuple[str, str], TaskScore]:
    return {(each.task, each.metric): each for each in scores}


def plain_harness(pretrained: Any, folder: Path, tasks: list[str], **options: Any) -> dict[str, Any]:
    """What lm-evaluation-harness says by itself, without anything of ours."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    lm = HFLM(pretrained=pretrained, batch_size=8, device="cpu", **options)
    found: dict[str, Any] = lm_eval.simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=10)
    return found["results"]


def test_the_hooked_model_scores_as_the_exported_folder(
    model: LanguageModel, edit: ResolvedEdit, tasks_folder: Path, tmp_path: Path
) -> None:
    names = ["choose", "lines", "write"]
    scores = by_metric(run(evaluate_tasks(model, edit, find_tasks(names, tasks_folder))).scores)
    folder = run(bake(model, edit, tmp_path / "edited")).path
    edited = plain_harness(str(folder), tasks_folder, names)
    base = plain_harness(model.hf, tasks_folder, names, tokenizer=model.tokenizer)
    for (task, metric), score in scores.items():
        assert score.items == ITEMS
        assert score.base.value == pytest.approx(base[task][f"{metric},none"], rel=1e-5)
        assert score.edited.value == pytest.approx(edited[task][f"{metric},none"], rel=1e-5)
        assert score.difference.value == score.edited.value - score.base.value
    assert scores["choose", "acc"].edited.value == edited["choose"]["acc,none"]
    assert scores["choose", "acc"].base.error == pytest.approx(base["choose"]["acc_stderr,none"], rel=1e-9)
    assert scores["lines", "word_perplexity"].difference.value != 0
    assert scores["choose", "acc"].higher_is_better
    assert not scores["lines", "bits_per_byte"].higher_is_better
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf.modules())


def test_few_shot_and_limit_are_the_harness_s(model: LanguageModel, edit: ResolvedEdit, tasks_folder: Path) -> None:
    found = run(evaluate_tasks(model, edit, find_tasks(["choose"], tasks_folder), limit=10, shots=2))
    manager = TaskManager(include_path=str(tasks_folder), include_defaults=False)
    lm = HFLM(pretrained=model.hf, tokenizer=model.tokenizer, batch_size=8)
    want = lm_eval.simple_evaluate(
        model=lm, tasks=["choose"], task_manager=manager, limit=10, num_fewshot=2, bootstrap_iters=0,
        fewshot_random_seed=harness.SEED,
    )  # fmt: skip
    assert found.scores[0].items == 10
    assert found.scores[0].base.value == want["results"]["choose"]["acc,none"]
    assert (found.limit, found.shots) == (10, 2)
    again = run(evaluate_tasks(model, edit, find_tasks(["choose"], tasks_folder), limit=10, shots=2))
    assert again == found


def test_a_stopped_run_goes_on_where_it_was(
    model: LanguageModel, edit: ResolvedEdit, tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 12)
    store, tasks = Store(tmp_path / "store"), find_tasks(["choose"], tasks_folder)
    sequences = 0

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal sequences
        sequences += len(args[0] if args else kwargs["input_ids"])

    handle = model.hf.register_forward_pre_hook(count, with_kwargs=True)
    try:
        whole = run(evaluate_tasks(model, edit, tasks))
        alone, sequences = sequences, 0
        steps = evaluate_tasks(model, edit, tasks, store=store)
        for step in steps:
            if step.note == "edited" and step.done > step.total // 2:  # type: ignore[operator]
                break
        steps.close()
        assert not any(each._forward_pre_hooks for each in model.hf.lm_head.modules())
        first, sequences = sequences, 0
        assert run(evaluate_tasks(model, edit, tasks, store=store)) == whole
        assert (first > alone // 2, sequences) == (True, alone - first)
        sequences = 0
        other = replace(edit, rows={7: edit.rows[7], 9: 2 * edit.rows[9]})
        run(evaluate_tasks(model, other, tasks, store=store))
        assert sequences == alone // 2  # the base's answers serve any edit
    finally:
        handle.remove()


def scored(metric: str, each: list[Any], value: float, error: float | None = None) -> Scored:
    return Scored(
        task="task",
        metric=metric,
        filter="none",
        value=value,
        error=error,
        items=len(each),
        each=tuple(each),
        higher_is_better=True,
    )


def test_errors_are_those_of_resampling() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(3, 40, 400).astype(float)
    base = [-(weight * rng.gamma(9, 0.2, 400)), -(weight * rng.gamma(9, 0.2, 400))]
    pairs = [[[float(a), float(b)] for a, b in zip(lost, weight, strict=True)] for lost in base]
    picks = rng.integers(0, 400, (4000, 400))
    rates = [(-lost[picks].sum(1) / weight[picks].sum(1), -lost.sum() / weight.sum()) for lost in base]
    for metric, of in (("word_perplexity", np.exp), ("bits_per_byte", lambda rate: rate / math.log(2))):
        drawn = [of(each) for each, _ in rates]
        values = [float(of(rate)) for _, rate in rates]
        score = module._compared([scored(metric, pairs[0], values[0])], [scored(metric, pairs[1], values[1])])[0]
        assert score.base.error == pytest.approx(np.std(drawn[0]), rel=0.06)
        assert score.edited.error == pytest.approx(np.std(drawn[1]), rel=0.06)
        assert score.difference.error == pytest.approx(np.std(drawn[1] - drawn[0]), rel=0.06)


def test_the_difference_is_taken_item_by_item() -> None:
    right = [1.0] * 60 + [0.0] * 40
    one_lost = [*right[:59], 0.0, *right[60:]]
    score = module._compared([scored("acc", right, 0.6)], [scored("acc", one_lost, 0.59)])[0]
    assert score.base.error == pytest.approx(math.sqrt(0.6 * 0.4 / 99))
    assert score.difference.value == pytest.approx(-0.01)
    assert score.difference.error == pytest.approx(0.01)  # one item of a hundred, not two errors of 0.05


def test_a_metric_of_another_kind_keeps_the_harness_s_error() -> None:
    f1 = [1.0, 0.0, 1.0, 1.0]
    score = module._compared([scored("f1", f1, 0.8, 0.11)], [scored("f1", f1, 0.5, None)])[0]
    assert (score.base.error, score.edited.error, score.difference.error) == (0.11, None, None)
    group = module._compared([scored("acc", [], 0.8, 0.02)], [scored("acc", [], 0.5, 0.03)])[0]
    assert (group.base.error, group.difference.error) == (0.02, None)
    assert group.to_dict()["difference"] == {"value": pytest.approx(-0.3), "stderr": None}


def test_what_cannot_be_run_is_one_sentence(
    model: LanguageModel, edit: ResolvedEdit, tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(lm_eval.tasks, "TaskManager", partial(TaskManager, include_defaults=False))
        with pytest.raises(TpeError, match=r"there is no task 'chose': did you mean .*choose"):
            find_tasks(["chose"], tasks_folder)
    with pytest.raises(TpeError, match="no task is named"):
        find_tasks([], tasks_folder)
    with pytest.raises(TpeError, match="there is no folder"):
        find_tasks(["choose"], tmp_path / "absent")
    broken = find_tasks(["broken"], tasks_folder)
    with pytest.raises(TpeError, match=r"^the tasks broken cannot be loaded by lm-evaluation-harness \(.*\)\.$"):
        run(evaluate_tasks(model, edit, broken))
    with pytest.raises(TpeError, match="the edit is for 8 dimensions"):
        run(
            evaluate_tasks(
                model,
                ResolvedEdit(intervention=Intervention((1,)), hidden_size=8, constant=np.zeros(1)),
                find_tasks(["choose"], tasks_folder),
            )
        )
    with pytest.raises(TpeError, match="is a masked model"):
        run(evaluate_tasks(replace(model, task="masked"), edit, find_tasks(["choose"], tasks_folder)))
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TpeError, match=r"not installed: `pip install 'tpe-tui\[eval\]'`"):
        find_tasks(["choose"], tasks_folder)


@pytest.mark.slow
def test_a_task_is_looked_for_among_those_of_the_folder_and_the_harness_s_own(tasks_folder: Path) -> None:
    with pytest.raises(TpeError, match=r"there is no task 'chose': did you mean .*choose"):
        find_tasks(["chose"], tasks_folder)
    with pytest.raises(TpeError, match=r"there is no task 'arc_eas': did you mean .*arc_easy"):
        find_tasks(["arc_eas"], tasks_folder)
    assert find_tasks(["arc_easy", "choose"], tasks_folder).names == ("arc_easy", "choose")


def test_the_command_prints_a_table_and_one_document(
    tasks_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(text(1, 4000))
    folder = str(save_tiny(tmp_path / "model", "gpt2"))
    options = RunOptions(model=folder, text=(str(tmp_path / "text.txt"),), positions=2000, sample=500)
    session = run(open_session(options))
    file = str(session.export(tmp_path / "edit.json", Intervention((1, 2, 3)), "the"))
    asked = ["eval", file, folder, "--tasks", "choose,lines", "--tasks-path", str(tasks_folder), "--limit", "12"]
    capsys.readouterr()
    assert main([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {(each["task"], each["metric"]) for each in document["scores"]} == {
        ("choose", "acc"), ("lines", "word_perplexity"), ("lines", "bits_per_byte"),
    }  # fmt: skip
    assert main(asked) == 0
    table = capsys.readouterr().out
    accuracy = next(each for each in document["scores"] if each["metric"] == "acc")
    row = next(line for line in table.splitlines() if line.startswith("choose"))
    assert row.split()[:3] == ["choose", "acc", "12"]
    assert f"{accuracy['edited']['value']:.4f} ± {accuracy['edited']['stderr']:.4f}" in row
    other = str(save_tiny(tmp_path / "other", "gpt2", lambda hf: hf.transformer.wte.weight.mul_(1.5)))
    assert main([*asked[:2], other, *asked[3:]]) == 1
    assert "made for another head" in capsys.readouterr().err
    assert main([*asked[:2], other, *asked[3:], "--force"]) == 0
