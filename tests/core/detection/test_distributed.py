"""Several processes against one: the same detection, found by every front end; killed, failing and hanging ranks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.forked import Forked
from tests.helpers.tiny_models import random_corpus, save_tiny, text
from tpe_core import analysis
from tpe_core.analysis import analyze
from tpe_core.detection.detection import Detection
from tpe_core.detection.distributed import detect_together, share_of
from tpe_core.errors import ModelError, TpeError
from tpe_core.models.processes import Processes
from tpe_core.options import RunOptions
from tpe_core.progress import run

ROOT = Path(__file__).parents[3]
POSITIONS = 64 * 4 * 21  # an odd number of forward passes
PASSES = {0: 10, 1: 11}  # by rank
ALONE_SECONDS = 240  # for a whole run of several processes

# Runs the command; a rank named by $RANK_TO_FAIL does $DEED at its $AT-th forward pass. Writes how many it made.
WORKER = """
    import os, signal, sys, time
    from pathlib import Path
    from tpe_core.models import model as models
    from tpe_core.errors import NumericalError
    rank, calls, plain = os.environ.get("RANK", "0"), 0, models.LanguageModel.hidden
    def hidden(self, inputs):
        global calls
        calls += 1
        if rank == os.environ.get("RANK_TO_FAIL") and calls == int(os.environ["AT"]):
            deed = os.environ["DEED"]
            if deed == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if deed == "hang":
                time.sleep(600)
            raise NumericalError("it went wrong.") if deed == "fail" else ZeroDivisionError("a bug")
        return plain(self, inputs)
    models.LanguageModel.hidden = hidden
    from tpe_core.__main__ import main
    code = main(sys.argv[1:])
    Path(os.environ["COUNTS"], f"forwards-{rank}").write_text(str(calls))
    sys.exit(code)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a tiny model, a text)."""
    folder = tmp_path_factory.mktemp("shared")
    written = folder / "text.txt"
    written.write_text(text(3, 12_000), encoding="utf-8")
    return save_tiny(folder / "model", "gptj"), written


@pytest.fixture
def command(folders: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """The worker and what it is to do."""
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER), encoding="utf-8")
    model, written = folders
    return [str(script), "detect", str(model), "--text", str(written), "--positions", str(POSITIONS), "--json"]


def environment(tmp_path: Path, **extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COUNTS": str(tmp_path), **extra}


def torchrun(size: int, command: list[str], tmp_path: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    return subprocess.run(
        [*launcher, *command],
        env=environment(tmp_path, **extra),
        capture_output=True,
        text=True,
        timeout=ALONE_SECONDS,
        check=False,
    )


@contextmanager
def without_launcher(size: int, command: list[str], tmp_path: Path, **extra: str) -> Iterator[list[Forked]]:
    """The processes themselves, with nobody to end the others when one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    script, *words = command
    started = [
        Forked(
            Path(script).read_text(),
            *words,
            folder=tmp_path / f"rank{rank}",
            env=environment(tmp_path, **meeting, RANK=str(rank), LOCAL_RANK=str(rank), **extra),
        )
        for rank in range(size)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()


def options(folders: tuple[Path, Path]) -> RunOptions:
    return RunOptions(model=str(folders[0]), text=(str(folders[1]),), positions=POSITIONS)


def alone(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, cache: Path) -> Detection:
    """What one process detects, with a cache of its own."""
    with monkeypatch.context() as patched:
        patched.setenv("TPE_CACHE_DIR", str(cache))
        found = run(detect_together(options(folders), Processes(0, 1, 0, None, 1.0))).detection
    assert found is not None
    return found


def found_by_analyze(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Detection:
    """What `analyze` finds in the cache, unable to detect by itself."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        patched.setattr(analysis, "detect", refuse)
        return run(analyze(options(folders))).detection


def equal(a: Detection, b: Detection) -> None:
    assert a.positions == b.positions == POSITIONS
    assert np.abs(np.expm1(a.log_alpha - b.log_alpha)).max() < 1e-9
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_allclose(a.h_sum, b.h_sum, rtol=1e-12, atol=1e-9 * np.abs(b.h_sum).max())
    np.testing.assert_allclose(a.hh_sum, b.hh_sum, rtol=1e-12, atol=1e-9 * np.abs(b.hh_sum).max())
    assert a.log_z_sum == pytest.approx(b.log_z_sum, rel=1e-12)
    assert a.nll_sum == pytest.approx(b.nll_sum, rel=1e-12)
    assert a.groups is not None
    assert b.groups is not None
    np.testing.assert_array_equal(a.groups.positions, b.groups.positions)
    assert np.abs(np.expm1(a.groups.log_sums - b.groups.log_sums)).max() < 1e-9
    assert a.sample.size == b.sample.size
    for name in ("priority", "next_ids", "hidden"):
        np.testing.assert_array_equal(getattr(a.sample, name), getattr(b.sample, name))


def detections(tmp_path: Path) -> list[str]:
    """The keys of the detections that are in the cache; beside each stands how much of its text was read."""
    names = [entry.stem for entry in (tmp_path / "cache" / "results").glob("*.tpe")]
    return [name for name in names if not name.endswith("-read")]


def forwards(tmp_path: Path) -> list[int]:
    return [int((tmp_path / f"forwards-{rank}").read_text()) for rank in PASSES]


@pytest.mark.usefixtures("one_thread")
def test_two_processes_detect_what_one_does(
    folders: tuple[Path, Path], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = torchrun(2, command, tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["processes"] == 2
    assert summary["positions"] == POSITIONS
    assert (summary["found"], summary["cached"], summary["resumed"]) == (False, True, 0)
    assert forwards(tmp_path) == list(PASSES.values())
    assert "Traceback" not in done.stderr
    assert detections(tmp_path) == [summary["key"]]  # and no part is left
    whole, found = alone(folders, monkeypatch, tmp_path / "other"), found_by_analyze(folders, monkeypatch)
    equal(found, whole)
    assert len(found.sample) == 4096
    assert summary["loss"] == pytest.approx(whole.loss, rel=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_rank_killed_midway_goes_on_where_it_was(
    folders: tuple[Path, Path], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*command, "--save-seconds", "0"]
    died = torchrun(2, command, tmp_path, RANK_TO_FAIL="1", AT="7", DEED="die")
    assert died.returncode != 0
    assert "Signal 9" in died.stderr
    parts = list((tmp_path / "cache" / "results").glob("*.tpe"))
    assert parts  # of rank 1 at least; rank 0 was ended at any moment
    again = torchrun(2, command, tmp_path)
    assert again.returncode == 0, again.stderr
    first, second = forwards(tmp_path)
    assert second == PASSES[1] - 6
    assert first <= PASSES[0]
    summary = json.loads(again.stdout)
    assert summary["resumed"] == 256 * (6 + PASSES[0] - first)
    assert detections(tmp_path) == [summary["key"]]
    equal(found_by_analyze(folders, monkeypatch), alone(folders, monkeypatch, tmp_path / "other"))


@pytest.mark.parametrize(
    ("deed", "sentence"), [("fail", "tpe: rank 1 of 2: it went wrong."), ("bug", "ZeroDivisionError: a bug")]
)
def test_a_failing_rank_ends_the_others(command: list[str], tmp_path: Path, deed: str, sentence: str) -> None:
    with without_launcher(2, command, tmp_path, RANK_TO_FAIL="1", AT="1", DEED=deed) as started:
        said = [process.communicate(ALONE_SECONDS) for process in started]
    assert [process.returncode for process in started] == [1, 1]
    assert sentence in said[1][1]
    assert ("Traceback" in said[1][1]) == (deed == "bug")
    assert "tpe:" not in said[0][1]  # said once
    assert "Traceback" not in said[0][1]
    assert [out for out, _ in said] == ["", ""]


@pytest.mark.slow
def test_a_hanging_rank_is_given_up(command: list[str], tmp_path: Path) -> None:
    command = [*command, "--timeout", "10"]
    with without_launcher(2, command, tmp_path, RANK_TO_FAIL="1", AT="3", DEED="hang") as started:
        said = started[0].communicate(ALONE_SECONDS)
        assert started[0].returncode == 1
        assert "tpe: rank 0 of 2: rank 1 of 2 has made no progress for 10 s: " in said[1]
        assert "Traceback" not in said[1]
        assert started[1].returncode is None


@pytest.mark.slow
def test_ranks_with_different_texts_do_not_mix(command: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text(4), encoding="utf-8")
    script = Path(command[0])
    swap = (
        f'import os, sys\nif os.environ["RANK"] == "1":\n    sys.argv[sys.argv.index("--text") + 1] = {str(other)!r}\n'
    )
    script.write_text(swap + script.read_text())
    with without_launcher(2, command, tmp_path) as started:
        said = [process.communicate(ALONE_SECONDS)[1] for process in started]
    assert [process.returncode for process in started] == [1, 1]
    assert "tpe: rank 1 of 2: this process has another model, text or torch than rank 0" in said[1]


@pytest.mark.slow
def test_fewer_passes_than_processes(
    folders: tuple[Path, Path], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = command.index("--positions")
    command[at + 1] = "64"
    with without_launcher(2, command, tmp_path) as started:
        said = [process.communicate(ALONE_SECONDS) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    summary = json.loads(said[0][0])
    assert summary["positions"] == 64
    assert said[1] == ("", "")  # only the first speaks
    assert sorted(forwards(tmp_path)) == [0, 1]


def test_one_process_needs_no_launcher(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tpe_core.__main__ import main

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    model, written = folders
    asked = ["detect", str(model), "--text", str(written), "--positions", str(POSITIONS)]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "5,376 in" in out
    assert "(1 process)" in out
    found_by_analyze(folders, monkeypatch)
    assert main(asked) == 0
    assert "found in the cache" in capsys.readouterr().out
    assert main(["detect", str(written / "nowhere"), "--json"]) == 1
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.splitlines()[-1].startswith("tpe: there is no folder ")
    with pytest.raises(SystemExit, match="2"):
        main(["detect", "--positions", "0"])
    assert "0 is less than 1" in capsys.readouterr().err


def test_what_several_processes_cannot_do() -> None:
    several = Processes(1, 2, 1, None, 1.0)
    with pytest.raises(TpeError, match="standard input reaches one process only"):
        next(detect_together(RunOptions(text=("-",)), several))
    with pytest.raises(ModelError, match="cuda:1 is one GPU, but 2 processes need one each"):
        several.device("cuda:1")
    assert several.device("cpu") == "cpu"
    assert Processes(0, 1, 0, None, 1.0).device("cuda:1") == "cuda:1"


def test_every_gpu_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Processes(3, 4, 1, None, 1.0).device(None) == "cuda:1"
    with pytest.raises(ModelError, match=r"process 3 on this machine has no GPU of its own \(2 found\)"):
        Processes(2, 4, 2, None, 1.0).device("cuda")


@given(blocks=st.integers(1, 60), size=st.integers(1, 9), batch=st.integers(1, 7))
def test_shares_are_even_and_cover_the_text(blocks: int, size: int, batch: int) -> None:
    corpus = random_corpus(blocks, 4)
    shares = [share_of(corpus, rank, size, batch) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate([share.blocks for share in shares]), corpus.blocks)
    np.testing.assert_array_equal(np.concatenate([share.targets for share in shares]), corpus.targets)
    np.testing.assert_array_equal(np.concatenate([share.block_hash for share in shares]), corpus.block_hash)
    passes = [-(-len(share.blocks) // batch) for share in shares]
    assert max(passes) - min(passes) <= 1
    begun = np.cumsum([0, *(len(share.blocks) for share in shares)])[:-1]
    assert all(at % batch == 0 or at == blocks for at in begun)
    names = {share.fingerprint for share in shares if len(share.blocks)}
    assert len(names) == min(size, sum(passes))
    assert size == 1 or corpus.fingerprint not in names
