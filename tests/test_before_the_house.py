"""Files written before the modules were moved open with today's code and show the same.

`tests/fixtures/before_house/README.md` says which command wrote each of them.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import tpe_core
from tpe_core.__main__ import main as detect_main
from tpe_core.dynamics.probe_log import LogWriter
from tpe_core.dynamics.trajectory_file import write_trajectories
from tpe_core.kept_numbers import KIND
from tpe_core.stored import stored_entries
from tpe_tui.cli.main import main
from tpe_tui.keymap import load_keymap
from tpe_tui.shell.view_memory import SavedView, ViewMemory

FIXTURES = Path(__file__).parent / "fixtures" / "before_house"
TEXT = ("--text", "text.txt", "--threads", "1")
READ = (*TEXT, "--positions", "1024")
STUDY = (*READ, "--ood", "ood.txt")
SWEEP = ("--order", "slope,random,fisher", "--replace", "zero,mean,least-squares", "--fractions", "0.25,0.5")
SWEEP = (*SWEEP, "--seeds", "2")
REFIT = ("--order", "slope", "--replace", "refit", "--fractions", "0.5", "--fit-positions", "512")
BUDGET = ("--order", "slope", "--replace", "least-squares", "--budget", "0.1")
STEER = ("--token", " the", "--token", " value", "--ratio", "2", "--method", "least-squares", "--together")
METHODS = ("--token", " the", "--ratio", "0.5,2", "--method", "least-squares,min-norm,top-k,bias")
WRITE = ("--threads", "1", "--prompt", "the value of", "--intervention", "refit.json", "--length", "16")
TRANSFER = ("transfer", "least-squares.json", "model", *STUDY, "--seeds", "2", "--measure-home")
TASK = ("eval", "steer.json", "model", "--tasks", "choose", "--tasks-path", "tasks", "--threads", "1")

EDITS = ("schema-1", "zero", "budget", "least-squares", "refit", "steer")
PRINTED: dict[str, tuple[str, ...]] = {
    "check.txt": ("check", "model"),
    "check.json": ("check", "model", "--json"),
    "analyze.txt": ("analyze", "model", *READ),
    "analyze.json": ("analyze", "model", *READ, "--json"),
    "prune.txt": ("prune", "model", *STUDY, *SWEEP),
    "prune.json": ("prune", "model", *STUDY, *SWEEP, "--json"),
    "prune-budget.json": ("prune", "model", *STUDY, *BUDGET, "--json"),
    "prune-refit.json": ("prune", "model", *STUDY, *REFIT, "--json"),
    "steer.txt": ("steer", "model", *STUDY, *METHODS),
    "steer.json": ("steer", "model", *STUDY, *STEER, "--json"),
    "steer-dose.json": ("steer", "model", *STUDY, "--token", " the", "--ratio", "2", "--dose", "--few-shot", "--json"),
    "generate.txt": ("generate", "model", *WRITE),
    "generate.json": ("generate", "model", *WRITE, "--json"),
    "transfer.txt": TRANSFER,
    "transfer.json": (*TRANSFER, "--json"),
    "eval.json": (*TASK, "--json"),
    "refit.on.txt": ("show", "refit.json", "--on", "model", "--threads", "1"),
}
"""What is computed again: the name of what was printed, and the command."""

READ_ONLY: dict[str, tuple[str, ...]] = {
    **{f"{name}.show.txt": ("show", f"{name}.json") for name in EDITS},
    "schema-1.show.json": ("show", "schema-1.json", "--json"),
    "diff.txt": ("diff", "least-squares.json", "refit.json"),
    "diff.json": ("diff", "least-squares.json", "refit.json", "--json"),
    "diff-steer.txt": ("diff", "zero.json", "steer.json"),
    "dynamics.txt": ("dynamics", "probe.jsonl"),
    "dynamics-follow.txt": ("dynamics", "--follow", "probe.jsonl"),
    "dynamics-demo.txt": ("dynamics", "demo"),
}
"""What only reads a file: printed again to the letter."""

SAVING: dict[str, tuple[str, ...]] = {
    "zero": ("prune", "model", *STUDY, "--order", "slope", "--replace", "zero", "--fractions", "0.25"),
    "least-squares": (
        "prune", "model", *STUDY, "--order", "slope", "--replace", "least-squares", "--fractions", "0.25",
    ),
    "budget": ("prune", "model", *STUDY, *BUDGET),
    "refit": ("prune", "model", *STUDY, *REFIT),
    "steer": ("steer", "model", *STUDY, *STEER),
}  # fmt: skip

VARYING = {"created", "versions", "sha256", "bytes", "available_bytes", "harness", "seconds"}
"""Names in a document whose values another run, or another installation, may change."""

FITTED = {"kl", "js", "top1", "perplexity", "entropy", "self_test"}
"""Names in a document whose values a refit decides. Since then a fit that leads nowhere goes on with smaller steps, so
that this one is another and costs less; its result has another name as well."""

FITTED_ANEW = {
    "84392c9c71482edece20520bf9b8d0e719f067cda7f3f18321fe454f19c54f4e.tpe": (
        "15e47d808d26d01902775bf132148fd613f0c12c716a72d5cec5434d4cac478a.tpe"
    ),
}
"""The name of that result before, and now."""

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
Tpe = Callable[..., str]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for results that all commands of this module share, with the entries made before in it."""
    return Path(shutil.copytree(FIXTURES / "cache", tmp_path_factory.mktemp("house") / "cache"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Path]:
    """A copy of the files as the current folder, with the results that were cached; one thread."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "data-sets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TPE_CACHE_DIR", str(cache))
    monkeypatch.setenv("COLUMNS", "100")
    folder = Path(shutil.copytree(FIXTURES, tmp_path / "files"))
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def tpe(here: Path, capsys: pytest.CaptureFixture[str]) -> Tpe:
    """Run a command that succeeds; what it prints."""

    def call(*words: str) -> str:
        capsys.readouterr()
        code = main(list(words))
        out, error = capsys.readouterr()
        assert code == 0, error
        return out

    return call


def printed(name: str) -> str:
    """What a command printed before."""
    return (FIXTURES / "printed" / name).read_text(encoding="utf-8")


def assert_alike(before: Any, now: Any, at: str = "") -> None:
    """The same names in the same order, the same types, and the same values up to rounding in float32."""
    assert type(before) is type(now), at
    if isinstance(before, dict):
        assert list(before) == list(now), at
        for name in before:
            assert_alike(before[name], now[name], f"{at}.{name}" if name not in VARYING else f"{at}.{name}?")
    elif at.endswith("?"):
        pass
    elif isinstance(before, list):
        assert len(before) == len(now), at
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            assert_alike(one, other, f"{at}[{index}]")
    elif isinstance(before, float):
        assert now == pytest.approx(before, rel=1e-4, abs=1e-6), at
    else:
        assert before == now, at


def assert_reads_alike(before: str, now: str) -> None:
    """The same words in the same lines, and the same numbers up to one in the last digit that is printed."""
    assert NUMBER.sub("#", before).split() == NUMBER.sub("#", now).split()
    assert before.count("\n") == now.count("\n")
    for one, other in zip(NUMBER.findall(before), NUMBER.findall(now), strict=True):
        digits, _, power = one.replace(",", "").partition("e")
        last = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
        assert float(other.replace(",", "")) == pytest.approx(float(one.replace(",", "")), abs=1.01 * last), one


BESIDE = "-read.tpe"  # how much of a text was read for a detection, which was not kept before


def without_new_names(before: Any, now: Any) -> Any:
    """A document that is printed now without the names that it did not have: it may gain some."""
    if isinstance(before, dict) and isinstance(now, dict):
        return {name: without_new_names(before[name], value) for name, value in now.items() if name in before}
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [without_new_names(one, other) for one, other in zip(before, now, strict=True)]
    return now


def without_fitted(document: Any) -> Any:
    """A document without what a refit decides."""
    if isinstance(document, dict):
        return {name: without_fitted(value) for name, value in document.items() if name not in FITTED}
    return [without_fitted(value) for value in document] if isinstance(document, list) else document


def without_new_lines(before: str, now: str) -> str:
    """What is printed now without the lines that it did not have: each line of before is the next one like it."""
    lines, kept = iter(now.splitlines(keepends=True)), []
    for line in before.splitlines():
        shape = NUMBER.sub("#", line).split()
        kept.append(next((other for other in lines if NUMBER.sub("#", other).split() == shape), f"no line: {line}\n"))
    return "".join(kept)


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_file_is_read_and_shown_to_the_letter(tpe: Tpe, name: str) -> None:
    assert tpe(*READ_ONLY[name]) == printed(name)


def test_the_schema_only_gained_what_a_file_need_not_have(tpe: Tpe) -> None:
    def assert_kept(before: Any, now: Any, at: str) -> None:
        if not isinstance(before, dict):
            assert before == now, at
            return
        gained = now.keys() - before.keys()
        assert not gained or at.endswith((".properties", ".$defs")), at
        for name, value in before.items():
            assert_kept(value, now[name], f"{at}.{name}")

    assert_kept(json.loads(printed("schema.json")), json.loads(tpe("schema")), "")


@pytest.mark.parametrize("name", PRINTED)
def test_a_command_prints_what_it_printed(tpe: Tpe, name: str) -> None:
    before, now = printed(name), tpe(*PRINTED[name])
    if name.endswith(".json"):
        document = json.loads(now)
        if name.startswith(("analyze", "steer-dose")):  # more of the text; few-shot's KL and detecting text
            document = without_new_names(json.loads(before), document)
        if name == "prune-refit.json":
            costs = [each["curves"][0]["points"][0]["kl"] for each in (document, json.loads(before))]
            assert costs[0] < costs[1]
            assert_alike(without_fitted(json.loads(before)), without_fitted(document))
            return
        assert_alike(json.loads(before), document)
        return
    if name == "check.txt":  # the memory that is free is another
        free = re.compile(r"\S+ \S+ free")
        before, now = free.sub("", before), free.sub("", now)
    if name == "analyze.txt":  # it says more of the text
        now = without_new_lines(before, now)
    assert_reads_alike(before, now)


# Saved edits


@pytest.mark.parametrize("name", EDITS)
def test_a_saved_edit_has_the_same_dimensions_tokens_and_arrays(here: Path, name: str) -> None:
    document = json.loads(Path(f"{name}.json").read_text())
    manifest, edit = tpe_core.read_edit(Path(f"{name}.json"))
    assert list(edit.intervention.pruned) == list(manifest.pruned) == document["pruned"]
    assert edit.intervention.replacement == document["replacement"]
    steered = [(each.token_id, each.ratio, each.method) for each in edit.intervention.steering]
    assert steered == [(each["token_id"], each["ratio"], each["method"]) for each in document["steering"]]
    arrays = load_file(f"{name}.safetensors") if document["arrays"] else {}
    assert bool(arrays) == (name != "zero")
    np.testing.assert_array_equal(edit.constant, arrays.get("replacement_values", np.zeros(len(document["pruned"]))))
    if "reconstruction" in arrays:
        np.testing.assert_array_equal(edit.fold, arrays["reconstruction"])
    else:
        assert edit.fold is None
    for token_id, ratio, method in steered:
        np.testing.assert_array_equal(edit.rows[token_id], np.log(ratio) * arrays[f"direction.{method}"])


@pytest.mark.parametrize("name", SAVING)
def test_the_same_edit_is_saved_again_in_place_of_the_old_file(tpe: Tpe, here: Path, name: str) -> None:
    path = here / f"{name}.json"
    before = json.loads(path.read_text())
    beside = here / f"{name}.safetensors"
    arrays = load_file(beside) if beside.exists() else {}
    assert main([*SAVING[name], "--save", path.name]) != 0  # not unasked
    assert json.loads(path.read_text()) == before
    tpe(*SAVING[name], "--save", path.name, "--force")
    now = json.loads(path.read_text())
    again = load_file(beside) if beside.exists() else {}
    assert now["created"] > before["created"]
    assert {key: array.shape for key, array in again.items()} == {key: array.shape for key, array in arrays.items()}
    if name == "refit":
        assert now["measured"]["kl"] < before["measured"]["kl"]
        assert_alike(without_fitted(before), without_fitted(now))
        return
    assert_alike(before, now)
    for key, array in arrays.items():
        np.testing.assert_allclose(again[key], array, rtol=1e-4, atol=1e-6)


def test_a_baked_checkpoint_has_the_same_card_and_record(tpe: Tpe, here: Path) -> None:
    words = ("bake", "least-squares.json", "model", *READ, "--out")
    now = json.loads(tpe(*words, "again", "--json"))
    before = json.loads(printed("bake.json"))
    places = before.pop("path"), now.pop("path")
    assert [Path(place).name for place in places] == ["baked", "again"]
    assert now.pop("comparison")["edited_difference"] < 1e-5, "new since"
    for document in (before, now):  # how far rounding is off is never the same twice
        for figure in ("head_error", "model_error"):
            assert document["verified"].pop(figure) < 1e-5
    assert_alike(before, now)
    cards = [re.sub("within [0-9.e-]+ of", "", (here / name / "README.md").read_text()) for name in ("baked", "again")]
    without_new = re.sub(r"## (Measured|Citation)\n.*?(?=## |\Z)", "", cards[1], flags=re.DOTALL)
    assert_reads_alike(cards[0], f"{without_new.rstrip()}\n")
    assert re.findall("^## .*", cards[1], re.MULTILINE)[3::2] == ["## Measured", "## Citation"], "new sections"
    first, second = (json.loads((here / name / "tpe_checkpoint.json").read_text()) for name in ("baked", "again"))
    assert list(first) == [name for name in second if name != "comparison"]
    assert list(first["files"]) == list(second["files"])
    assert (first["kind"], first["schema"]) == (second["kind"], second["schema"])
    assert_alike(first["representation"], second["representation"])
    manifest, edit = tpe_core.read_edit(here / "baked" / "intervention.json")
    assert manifest.pruned == tpe_core.read_edit(here / "least-squares.json")[0].pruned
    np.testing.assert_array_equal(edit.fold, tpe_core.read_edit(here / "least-squares.json")[1].fold)
    for name in ("intervention.json", "intervention.safetensors"):
        assert (here / "again" / name).read_bytes() == (here / "baked" / name).read_bytes()


def test_what_a_model_said_is_saved_again_in_place_of_the_old_files(tpe: Tpe, here: Path) -> None:
    words = ("generate", "model", *WRITE, "--save", "said")
    assert main(list(words)) != 0
    tpe(*words, "--force")
    before, now = ((folder / "said.json").read_text(encoding="utf-8") for folder in (FIXTURES, here))
    assert_alike(json.loads(before), json.loads(now))
    assert_reads_alike((FIXTURES / "said.txt").read_text(), (here / "said.txt").read_text())


# Training dynamics


def test_a_log_is_read_and_exported_to_the_letter(tpe: Tpe, here: Path) -> None:
    trajectory = tpe_core.read_log(Path("probe.jsonl"))
    assert [point.step for point in trajectory.points] == [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 24]
    for name in ("trajectory.json", "trajectory.csv"):  # the old export is known as one, and replaced
        before = Path(name).read_bytes()
        Path(name).write_bytes(before.replace(b"0.0", b"1.0"))
        assert write_trajectories(Path(name), [trajectory]).read_bytes() == before
    assert json.loads(tpe("dynamics", "probe.jsonl", "--json")) == json.loads(Path("trajectory.json").read_text())


def test_a_run_goes_on_in_its_log(here: Path) -> None:
    path = Path("probe.jsonl")
    before, start = path.read_bytes(), json.loads(path.read_text().splitlines()[0])
    points = tpe_core.read_log(path).points
    given = {name: start[name] for name in ("frequencies", "fingerprint", "tokens", "unseen", "total")}
    LogWriter(path, given, 25).close()
    assert path.read_bytes().startswith(before)
    assert tpe_core.read_log(path).points == points


# The cache


def same_versions() -> bool:
    """Whether the cache's names can be the same: they depend on torch and on transformers."""
    made_with = json.loads((FIXTURES / "zero.json").read_text())["versions"]
    return (torch.__version__, transformers.__version__) == (made_with["torch"], made_with["transformers"])


of_the_same_versions = pytest.mark.skipif(not same_versions(), reason="other versions name their results otherwise")


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    """(inode, content) of every entry by its name: a result that is computed again gets another file."""
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in (folder / "results").iterdir()}


def names_now() -> list[str]:
    """The names that results have now."""
    return sorted(FITTED_ANEW.get(name, name) for name in (FIXTURES / "cache" / "names.txt").read_text().split())


@pytest.fixture
def stored(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache as it was, for one test alone."""
    monkeypatch.setenv("TPE_CACHE_DIR", "cache")
    return here / "cache"


DETECTION = "6a9be966d2a8fd8f8708b0676529c1b6081626ab1c2c75494148398b369635af"
NAMED_BY_BITS = {
    "bb3e8afd5a7643636d98525e896ae8062dc8439798303821fb2a923806321be0.tpe",  # Fisher information
    "15e47d808d26d01902775bf132148fd613f0c12c716a72d5cec5434d4cac478a.tpe",  # a refit
}
"""Results whose names hold what was computed before them, bit by bit: another kind of processor has other bits."""


def computes_alike(tpe: Tpe, stored: Path) -> bool:
    """Whether this processor gives the bits of the one that the cache was made on: the detection made anew is equal."""
    shutil.rmtree(stored)
    tpe("analyze", "model", *TEXT, "--positions", "256")
    made = tpe_core.Store(stored / "results").load(DETECTION)
    kept = tpe_core.Store(FIXTURES / "cache" / "results").load(DETECTION)
    assert made is not None
    assert kept is not None
    return all(np.array_equal(array, made[0][name]) for name, array in kept[0].items())


def results(stored: Path) -> set[str]:
    """The names of what was kept in those days too: not what was read, nor the numbers of a refit for a later start."""
    since = {entry.path.name for entry in stored_entries(stored / "results") if entry.kind == KIND}
    return {name for name in stamps(stored) if not name.endswith(BESIDE)} - since


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("the model was run on the text")


@of_the_same_versions
def test_a_detection_is_found_and_not_computed_again(tpe: Tpe, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamps(stored)
    words = ("analyze", "model", *TEXT, "--positions", "256", "--json")
    monkeypatch.setattr(sys.modules[tpe_core.detect.__module__], "hidden_batch", refuse)
    printed_before = json.loads(printed("analyze-256.json"))
    assert_alike(printed_before, without_new_names(printed_before, json.loads(tpe(*words))))
    now = stamps(stored)
    assert {name: now[name] for name in before} == before
    beside = {entry.path.name for entry in stored_entries(stored / "results") if entry.kind == "view"}
    assert now.keys() - before.keys() == beside, "the table that the next start shows is kept beside it"
    shutil.rmtree(stored)
    with pytest.raises(AssertionError, match="was run on the text"):  # so it would have been noticed
        main([*words, "--debug"])


@of_the_same_versions
@pytest.mark.parametrize(
    "words",
    [
        (*TASK, "--json"),
        ("prune", "model", *STUDY, *SWEEP, "--json"),
        ("prune", "model", *STUDY, *REFIT, "--json", "--save", "new.json"),
    ],
    ids=["answers", "Fisher information", "refit"],
)
def test_results_are_found_and_not_computed_again(tpe: Tpe, stored: Path, words: tuple[str, ...]) -> None:
    before = stamps(stored)
    tpe(*words)
    now = stamps(stored)
    assert {name: now[name] for name in before} == before
    known = before.keys() | set(names_now())
    new = results(stored) - known
    if new and not computes_alike(tpe, stored):
        assert len(new) == 1, "the one result that is named by the bits of what this processor computes"
        return
    assert not new


@of_the_same_versions
def test_every_result_has_the_name_that_it_had(tpe: Tpe, stored: Path) -> None:
    shutil.rmtree(stored)
    tpe("prune", "model", *STUDY, *SWEEP)
    tpe("prune", "model", *STUDY, *REFIT, "--save", "new.json")
    tpe(*TASK)
    names = sorted(results(stored))
    if computes_alike(tpe, stored):
        assert names == names_now()
    else:
        assert len(names) == len(names_now())
        assert set(names_now()) - set(names) <= NAMED_BY_BITS


HELD = {
    "6a9be966": {
        "p_sum", "log_rescued", "counts", "h_sum", "hh_sum", "scalars", "sizes", "sample_hidden", "sample_next",
        "sample_priority", "next_block",
    },
    "bb3e8afd": {"log_z", "mean", "metric", "zero"},
    "84392c9c": {"constant", "fold", "steps", "kl_before", "kl_after"},
    "85a4783b": {"answers"},
    "b450d632": {"answers"},
}  # fmt: skip
"""What an entry holds, arrays and values, by how its name begins."""


@pytest.mark.parametrize("path", sorted((FIXTURES / "cache" / "results").iterdir()), ids=lambda path: path.name[:8])
def test_every_entry_opens_under_any_versions(here: Path, path: Path) -> None:
    entry = tpe_core.Store(here / "cache" / "results").load(path.stem)
    assert entry is not None
    arrays, meta = entry
    assert arrays.keys() | meta.keys() == HELD[path.name[:8]]
    if "sizes" in arrays:
        found = tpe_core.Detection.from_arrays(arrays)
        assert (found.positions, found.sample.hidden.shape) == (256, (256, 16))
        assert np.exp(found.log_alpha).sum() == pytest.approx(1, rel=1e-6)


@of_the_same_versions
def test_the_bundled_models_detection_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class AskedError(Exception):
        pass

    def load(_: Any, key: str) -> Any:
        raise AskedError(key)

    monkeypatch.setattr(tpe_core.Store, "load", load)
    with pytest.raises(AskedError) as asked:
        tpe_core.run(tpe_core.analyze(tpe_core.RunOptions("demo", positions=512)))
    assert f"{asked.value}.tpe" == (FIXTURES / "cache" / "demo.txt").read_text().strip()


@of_the_same_versions
def test_detecting_without_a_front_end_prints_what_it_printed(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads(printed("detect.json"))
    for found in (True, False):
        assert detect_main(["detect", "model", *TEXT, "--positions", "256", "--json"]) == 0
        now = json.loads(capsys.readouterr().out)
        assert_alike(before | {"found": found}, now)
        shutil.rmtree(stored)


# What the inspector keeps


def test_the_inspector_opens_saved_edits(here: Path) -> None:
    options = tpe_core.RunOptions("model", text=("text.txt",), positions=256, threads=1)
    session = tpe_core.run(tpe_core.open_session(options))
    for name in EDITS[1:]:
        assert session.load(Path(f"{name}.json")) == tpe_core.read_edit(Path(f"{name}.json"))[1].intervention
    with pytest.raises(tpe_core.TpeError, match="for 6 dimensions"):  # of another model
        session.load(Path("schema-1.json"))


def test_the_remembered_views_come_back_and_stay_as_they_are(here: Path) -> None:
    memory, before = ViewMemory(here), Path("inspector.json").read_bytes()
    demo = memory.recall("demo")
    assert demo == SavedView(
        prompt="The capital of France is",
        sort="mean",
        descending=False,
        plot="components",
        method="min-norm",
        replacement="least-squares",
    )
    model = memory.recall("model")
    assert model == SavedView(prompt="the value", replacement="mean")
    assert (Path("inspector.json").read_bytes(), memory.set_aside) == (before, "")


def test_the_users_own_keys_are_used(here: Path) -> None:
    keymap = load_keymap(here / "keys.toml")
    assert keymap.problems == ()
    assert keymap.keys("mask.toggle") == ("X",)
    assert keymap.keys("move.down") == ("E", "down")
