"""Models of the hub: what is fetched, how it is stopped and gone on with, and why a model cannot be had."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import errors as hub_errors

from tests.helpers.hub import COMMIT, FakeHub, fake_hub
from tests.helpers.tiny_models import save_tiny
from tpe_core.errors import ModelError
from tpe_core.models.hub import cached_models, explain, fetch
from tpe_core.models.loading import load_model, load_steps
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, run, size_text
from tpe_tui.cli.main import main

REPO = "someone/tiny"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub-cache"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = save_tiny(tmp_path / "served", "llama")
    (folder / "README.md").write_text("a card")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    with fake_hub(folder, cache, monkeypatch) as served:
        yield served


def padded(hub: FakeHub, size: int) -> Path:
    """Give the served model a second, large weight file."""
    weights = hub.folder / "model.safetensors"
    names = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    weights.rename(hub.folder / min(names))
    (hub.folder / max(names)).write_bytes(os.urandom(size))
    (hub.folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {f"w{i}": name for i, name in enumerate(sorted(names))}})
    )
    return hub.folder / max(names)


def says(match: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(RunOptions(**{"model": REPO, **options}))
    assert "\n" not in str(caught.value)


def test_a_model_is_fetched_whole_and_only_once(hub: FakeHub, cache: Path) -> None:
    events = list(load_steps(RunOptions(model=REPO)))
    steps = [event for event in events if event.label == "download"]
    assert {name for name, _ in hub.contents()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert all(a.done <= b.done and a.total == b.total for a, b in itertools.pairwise(steps))
    wanted = (
        sum((hub.folder / name).stat().st_size for name, _ in hub.contents())
        - (hub.folder / "config.json").stat().st_size
    )
    assert steps[-1].total == steps[-1].done == wanted
    assert steps[-1].amount == f"{size_text(wanted)} of {size_text(wanted)}"
    assert steps[-1].note in {name for name, _ in hub.contents()}
    hub.requests.clear()
    model = load_model(RunOptions(model=REPO))
    assert model.report.supported
    assert hub.contents() == []
    hub.requests.clear()
    assert load_model(RunOptions(model=REPO, offline=True)).fingerprint == model.fingerprint
    assert hub.requests == []


def test_a_hub_model_is_the_model_of_its_folder(hub: FakeHub) -> None:
    assert load_model(RunOptions(model=REPO)).fingerprint == load_model(RunOptions(model=str(hub.folder))).fingerprint


def test_revisions_are_followed(hub: FakeHub) -> None:
    assert run(fetch(REPO, RunOptions(model=REPO, revision="v1"))).revision == COMMIT
    assert run(fetch(REPO, RunOptions(model=REPO, revision="v1", offline=True))).revision == "v1"
    says("has no revision 'v9': check the branch", revision="v9")
    says(
        r"is in the local cache, but not its revision .v2. \(there is v1\) and --offline was given",
        revision="v2",
        offline=True,
    )


def test_an_unreachable_hub_leaves_the_cache(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(fetch(REPO, RunOptions(model=REPO)))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    url = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    source = run(fetch(REPO, RunOptions(model=REPO)))
    assert source.local_only
    assert source.folder == first.folder
    says("is not in the local cache and the hub cannot be reached", model="someone/else")


def test_shards_are_those_of_the_index(hub: FakeHub) -> None:
    padded(hub, 1000)
    (hub.folder / "model-00003-of-00003.safetensors").write_bytes(b"left over")
    folder = run(fetch(REPO, RunOptions(model=REPO))).folder
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert not (folder / "pytorch_model.bin").exists()
    assert (folder / "model-00002-of-00002.safetensors").read_bytes() == (
        hub.folder / "model-00002-of-00002.safetensors"
    ).read_bytes()


def test_pickles_are_fetched_where_there_is_nothing_else(hub: FakeHub) -> None:
    (hub.folder / "model.safetensors").unlink()
    assert (run(fetch(REPO, RunOptions(model=REPO))).folder / "pytorch_model.bin").is_file()


def stop_after(steps: Any, share: float) -> Progress:
    """Step a download until so much has come, then close it."""
    for event in steps:
        if event.label == "download" and event.fraction is not None and event.fraction > share:
            began = time.monotonic()
            steps.close()
            assert time.monotonic() - began < 1.5
            return event
    raise AssertionError("it ended before it could be stopped")


def test_a_stopped_download_goes_on_where_it_was(hub: FakeHub, cache: Path) -> None:
    large = padded(hub, 3_000_000)
    hub.rate = 2e6
    stopped = stop_after(fetch(REPO, RunOptions(model=REPO)), 0.4)
    time.sleep(0.3)
    sent = hub.sent
    time.sleep(0.5)
    assert hub.sent - sent < 200_000  # nobody reads any more
    [partial] = cache.rglob("*.tpe.incomplete")
    kept = partial.stat().st_size
    assert kept > 0.3 * large.stat().st_size
    says(f"only partly in the local cache .{large.name} is missing. and --offline was given", offline=True)
    hub.rate = None
    hub.requests.clear()
    events = list(fetch(REPO, RunOptions(model=REPO)))
    assert (large.name, f"bytes={kept}-") in hub.contents()
    assert not list(cache.rglob("*.tpe.incomplete"))
    folder = run(fetch(REPO, RunOptions(model=REPO, offline=True))).folder
    assert (folder / large.name).read_bytes() == large.read_bytes()
    done = [event.done for event in events if event.label == "download"]
    assert done == sorted(done)
    assert stopped.done < stopped.total  # type: ignore[operator]


def test_a_broken_connection_is_taken_up_again(hub: FakeHub, cache: Path) -> None:
    large = padded(hub, 2_000_000)
    hub.break_after = 1_000_000
    folder = run(fetch(REPO, RunOptions(model=REPO))).folder
    assert (folder / large.name).read_bytes() == large.read_bytes()
    parts = [part for name, part in hub.contents() if name == large.name]
    assert parts[0] == ""
    assert parts[1].startswith("bytes=")


def test_a_hub_that_gives_no_parts_sends_the_file_again(hub: FakeHub, cache: Path) -> None:
    large = padded(hub, 2_000_000)
    hub.break_after, hub.ranges = 1_000_000, False
    events = list(fetch(REPO, RunOptions(model=REPO)))
    done = [event.done for event in events if event.label == "download"]
    assert done == sorted(done)
    folder = run(fetch(REPO, RunOptions(model=REPO, offline=True))).folder
    assert (folder / large.name).read_bytes() == large.read_bytes()


def test_two_downloads_at_once_fetch_every_byte_once(hub: FakeHub) -> None:
    large = padded(hub, 1_000_000)
    hub.rate = 2e6
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(run(fetch(REPO, RunOptions(model=REPO))))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert sum(name == large.name for name, _ in hub.contents()) == 1
    assert (found[0].folder / large.name).read_bytes() == large.read_bytes()


def test_a_full_disk_is_said_before_anything_is_fetched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    says("needs .* of disk and .* has 1.0 kB free: make room, or set HF_HUB_CACHE")
    assert {name for name, _ in hub.contents()} == {"config.json"}


def test_refusals_of_the_hub(hub: FakeHub) -> None:
    says("the hub has no model someone/typo .*check the spelling", model="someone/typo")
    hub.gated = True
    says("is gated: accept its terms on its hub page, then log in with `hf auth login`")
    hub.gated = False
    (hub.folder / "config.json").rename(hub.folder / "settings.json")
    says("has no config.json on the hub")


def test_a_hub_without_the_models_weights(hub: FakeHub) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (hub.folder / name).unlink()
    says("has no weights on the hub that transformers can load")


def _response(code: int) -> httpx2.Response:
    return httpx2.Response(code, request=httpx2.Request("GET", "https://hub.invalid"))


@pytest.mark.parametrize(
    ("raised", "match"),
    [
        (
            lambda: hub_errors.RepositoryNotFoundError("404", response=_response(404)),
            "the hub has no model .*check the spelling",
        ),
        (lambda: hub_errors.GatedRepoError("403", response=_response(403)), "is gated: accept its terms"),
        (
            lambda: hub_errors.LocalEntryNotFoundError("offline"),
            "is not in the local cache and the hub cannot be reached",
        ),
        (lambda: httpx2.ConnectError("[Errno -2]"), "is not in the local cache and the hub cannot be reached"),
        (lambda: hub_errors.RevisionNotFoundError("404", response=_response(404)), "has no revision 'v9'"),
        (lambda: hub_errors.EntryNotFoundError("404"), "has no config.json on the hub"),
        (lambda: MemoryError(), "does not fit in memory: try --dtype bfloat16"),
        (lambda: ValueError("pass trust_remote_code=True\nplease"), "needs code of its own to run"),
        (lambda: ValueError("odd\nthing"), "could not be loaded: ValueError: odd thing$"),
    ],
)
def test_failures_are_different_sentences(raised: Callable[[], Exception], match: str) -> None:
    outer = RuntimeError("around it")
    outer.__cause__ = raised()
    error = outer.__cause__ if isinstance(outer.__cause__, ValueError) else outer
    with pytest.raises(ModelError, match=match):
        raise explain(error, RunOptions(model="someone/model", revision="v9"))


def test_offline_and_misspelt(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    says("is not in the local cache and --offline was given", offline=True)
    says("neither a folder nor a hub id", model="some one model??", offline=True)


def test_the_cached_models_are_listed(hub: FakeHub, cache: Path) -> None:
    assert cached_models() == []
    run(fetch(REPO, RunOptions(model=REPO, revision="v1")))
    [model] = cached_models()
    assert (model.id, model.revisions) == (REPO, ("v1",))
    assert model.size >= (hub.folder / "model.safetensors").stat().st_size
    assert abs(model.last_used - time.time()) < 600


def test_the_command_line_downloads_with_its_progress_on_stderr(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", REPO, "--task", "causal", "--device-map", "auto", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["memory"]["parameters"] > 0
    stages = [line.split("  ")[1] for line in err.splitlines() if "  " in line]  # after the time of day
    assert stages.index("look up the model") < stages.index("download") < stages.index("measure the head")
    assert main(["check", "someone/typo"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("tpe: the hub has no model someone/typo")
