"""Files that are cut, left out, pointers, adapters or of another model; a cache with holes: each told as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.helpers.hub import COMMIT, FakeHub, fake_hub
from tests.helpers.tiny_models import VOCAB, WIDTH, save_tiny, text
from tpe_core.dynamics.suite.weight_files import LocalFiles, UnusableError, open_weights
from tpe_core.errors import ModelError, reason_of
from tpe_core.models.hub import fetch
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session
from tpe_tui.cli.main import main
from tpe_tui.engine.host import failure_of

REPO = "someone/tiny"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 548105171\n"


def save(folder: Path, **fields: object) -> None:
    """Rewrite fields of a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def shard(folder: Path) -> None:
    """Save the folder's weights again in several files."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def pickled(folder: Path) -> Path:
    """Save the folder's weights as a pickle instead."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_single(folder: Path) -> None:
    cut(folder / "model.safetensors")


def _cut_shard(folder: Path) -> None:
    shard(folder)
    cut(max(folder.glob("model-*.safetensors")))


def _cut_pickle(folder: Path) -> None:
    cut(pickled(folder))


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(POINTER)


def _pointer_pickle(folder: Path) -> None:
    pickled(folder).write_text(POINTER)


def _pointer_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(POINTER)


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _shapes(folder: Path) -> None:
    save(folder, vocab_size=VOCAB + 7)


def _shapes_sharded(folder: Path) -> None:
    shard(folder)
    save(folder, vocab_size=VOCAB + 7)


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')


FAULTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "cut": (_cut_single, ("model.safetensors of", "is not whole", "ends at byte", "copy or fetch it again")),
    "cut shard": (_cut_shard, ("safetensors of", "model-0000", "is not whole", "ends at byte")),
    "cut pickle": (_cut_pickle, ("pytorch_model.bin of", "the end of the archive is missing")),
    "pointer": (_pointer, ("model.safetensors of", "is a Git LFS pointer", "git lfs pull")),
    "pointer for a pickle": (_pointer_pickle, ("pytorch_model.bin of", "is a Git LFS pointer")),
    "pointer for a tokenizer": (_pointer_tokenizer, ("tokenizer.json of", "is a Git LFS pointer")),
    "empty": (_empty, ("model.safetensors of", "is empty")),
    "shapes": (
        _shapes,
        (f".weight is {VOCAB}×{WIDTH} in model.safetensors", f"{VOCAB + 7}×{WIDTH} by the config", "config.json"),
    ),
    "shapes in shards": (_shapes_sharded, (f".weight is {VOCAB}×{WIDTH} in model-0000", "by the config")),
    "no tokenizer": (_no_tokenizer, ("has no tokenizer beside its weights", "tokenizer.save_pretrained()")),
    "broken tokenizer": (_broken_tokenizer, ("the tokenizer of", "could not be loaded")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_named_with_what_is_wrong_wherever_it_is_met(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    damage, parts = FAULTS[fault]
    damage(folder)
    with pytest.raises(ModelError) as refused:
        load_model(RunOptions(model=str(folder)))
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert "above report" not in sentence
    assert all(part in sentence for part in parts), sentence
    for command in ("check", "analyze"):
        assert main([command, str(folder)]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == f"tpe: {sentence}"
    with pytest.raises(ModelError) as opened:
        run(open_session(RunOptions(model=str(folder))))
    assert failure_of(opened.value).sentence == sentence  # what the inspector's error shows


def test_a_checkpoint_of_a_suite_that_is_a_pointer_is_called_one(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    (folder / "model.safetensors").write_text(POINTER)
    with pytest.raises(UnusableError, match=r"model\.safetensors is a Git LFS pointer"):
        run(open_weights(LocalFiles(folder)))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnusableError, match=r"pytorch_model\.bin is a Git LFS pointer"):
        run(open_weights(LocalFiles(folder)))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("made from one of:\n(1) a file,\n(2) another", "made from one of: (1) a file, (2) another"),
        ("\n\n  \x1b[31mred\x1b[0m  \n", "red"),
        ("", "ValueError"),
        ("word " * 200, "word " * 59 + "…"),
    ],
)  # fmt: skip
def test_all_lines_of_a_librarys_error_are_told_as_one(said: str, wanted: str) -> None:
    assert reason_of(ValueError(said)) == wanted


# adapters


def put_adapter(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "someone/base", "r": 8})
    )
    (folder / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return folder


def test_an_adapter_is_called_one_and_its_base_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put_adapter(tmp_path / "adapter")
    for command in ("check", "analyze"):
        assert main([command, str(folder), "--offline"]) == 1
        told = capsys.readouterr().err
        assert f"{folder} is an adapter for someone/base, which cannot be had (someone/base is not in" in told
        assert "name a copy of it, with --adapter" in told
        assert "has no config.json" not in told


def test_an_adapter_inside_a_model_is_said_to_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put_adapter(save_tiny(tmp_path / "model", "llama"))
    words = tmp_path / "words.txt"
    words.write_text(text(3, 6000))
    reading = ["--text", str(words), "--positions", "512", "--no-cache"]
    written = ["generate", str(folder), "--prompt", "the", "--length", "2"]
    for command in (["check", str(folder)], ["analyze", str(folder), *reading], written):
        assert main(command) == 0
        assert "holds an adapter too (adapter_config.json, for someone/base), and is inspected without it" in (
            capsys.readouterr().err
        )
    session = run(open_session(RunOptions(model=str(folder), text=(str(words),), positions=512, cache=False)))
    assert any("inspected without it" in warning for warning in session.warnings)


# the hub's cache


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = save_tiny(tmp_path / "served", "llama")
    with fake_hub(folder, tmp_path / "hub-cache", monkeypatch) as served:
        run(fetch(REPO, RunOptions(model=REPO)))
        served.requests.clear()
        yield served


def snapshot() -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{REPO.replace('/', '--')}" / "snapshots" / COMMIT


def lose_blob(name: str) -> None:
    (snapshot() / name).resolve().unlink()


def lose_branch() -> None:
    (snapshot().parents[1] / "refs" / "main").unlink()


CACHES: dict[str, tuple[Callable[[], object], str | None, str]] = {
    "weights without their blob": (
        lambda: lose_blob("model.safetensors"), None,
        "is only partly in the local cache (model.safetensors is a link to a file that is gone) and",
    ),
    "config without its blob": (
        lambda: lose_blob("config.json"), None,
        "is only partly in the local cache (config.json is a link to a file that is gone) and",
    ),
    "tokenizer without its blob": (
        lambda: lose_blob("tokenizer.json"), None,
        "is only partly in the local cache (tokenizer.json is a link to a file that is gone) and",
    ),
    "no weights yet": (
        lambda: (snapshot() / "model.safetensors").unlink(), None,
        "is only partly in the local cache (model.safetensors is missing) and",
    ),
    "no config yet": (
        lambda: (snapshot() / "config.json").unlink(), None,
        "is only partly in the local cache (config.json is missing) and",
    ),
    "no main branch": (
        lose_branch, None,
        "is in the local cache without its main branch (refs/main is missing or leads nowhere; --revision takes "
        f"{COMMIT})",
    ),
    "an unknown revision": (
        lambda: None, "v7", "is in the local cache, but not its revision 'v7' (there is main) and",
    ),
    "nothing": (
        lambda: shutil.rmtree(snapshot().parents[1]), None, "is not in the local cache and",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reached", ["--offline", "no network"])
@pytest.mark.parametrize("state", CACHES)
def test_what_the_local_cache_lacks_is_said_as_it_is(
    hub: FakeHub, state: str, reached: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, revision, clause = CACHES[state]
    damage()
    if reached == "no network":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        url = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    with pytest.raises(ModelError) as refused:
        run(fetch(REPO, RunOptions(model=REPO, revision=revision, offline=reached == "--offline")))
    assert f"{REPO} {clause}" in str(refused.value)
    assert ("--offline was given" if reached == "--offline" else "the hub cannot be reached") in str(refused.value)
    assert hub.requests == []


@pytest.mark.parametrize("state", [state for state in CACHES if state != "an unknown revision"])
def test_a_cache_with_holes_is_mended_where_the_hub_can_be_reached(hub: FakeHub, state: str) -> None:
    CACHES[state][0]()
    assert load_model(RunOptions(model=REPO)).report.supported
    assert load_model(RunOptions(model=REPO, offline=True)).report.supported


def test_a_cache_without_its_main_branch_is_read_by_commit(hub: FakeHub) -> None:
    lose_branch()
    assert load_model(RunOptions(model=REPO, revision=COMMIT, offline=True)).report.supported


def test_an_adapter_of_the_hub_is_called_one(hub: FakeHub) -> None:
    (hub.folder / "config.json").unlink()
    put_adapter(hub.folder)
    shutil.rmtree(snapshot().parents[1])
    for offline in (False, True):  # the second time from the local cache
        with pytest.raises(ModelError, match="someone/tiny is an adapter for someone/base, which cannot be had"):
            load_model(RunOptions(model=REPO, offline=offline))
