"""The number of torch threads: what the user says, else the cores that other programs leave idle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_models import save_tiny
from tpe_core.models import threads
from tpe_core.models.loading import load_model
from tpe_core.models.threads import CpuTimes, Usage, choose_threads, core_quota, cpu_times, is_chosen, others_use
from tpe_core.options import RunOptions


@pytest.mark.parametrize(
    ("cores", "others", "default", "number"),
    [
        (2.0, 0.0, 2, 2),
        (2.0, 0.4, 2, 2),  # what a desktop does beside
        (2.0, 1.0, 2, 1),
        (2.0, 2.0, 2, 1),  # one at least
        (16.0, 1.0, 16, 15),
        (16.0, 1.0, 8, 8),  # torch's own number counts no second threads of a core
        (2.0, 0.0, 64, 2),  # a control group's quota
        (0.5, 0.0, 4, 1),
    ],
)
def test_threads_are_as_many_as_cores_are_idle(cores: float, others: float, default: int, number: int) -> None:
    assert choose_threads(default, Usage(cores=cores, others=others)).number == number


def test_fewer_threads_are_told_with_the_reason_and_what_sets_another_number() -> None:
    told = choose_threads(2, Usage(cores=2.0, others=1.9))
    assert told.note == "1 of 2 cores: the machine is busy"
    assert "other programs use 1.9" in told.sentence
    assert "--threads" in told.sentence
    for usage, default in ((Usage(cores=2.0, others=0.1), 2), (Usage(cores=8.0, others=0.0), 4)):
        quiet = choose_threads(default, usage)
        assert (quiet.note, quiet.sentence) == ("", "")


def at(clock: float, own: float, idle: float | None) -> CpuTimes:
    return CpuTimes(clock=clock, own=own, idle=idle)


@pytest.mark.parametrize(
    ("idle", "own", "others"),
    [
        (20.0, 0.0, 0.0),  # two cores that idled for ten seconds
        (10.0, 10.0, 0.0),  # this process alone was busy
        (10.0, 0.0, 1.0),  # another one was
        (0.0, 3.0, 1.7),
        (0.0, 20.5, 0.0),  # clocks that differ a little
    ],
)
def test_what_this_process_used_itself_is_not_other_programs_work(idle: float, own: float, others: float) -> None:
    before, after = at(50.0, 7.0, 1000.0), at(60.0, 7.0 + own, 1000.0 + idle)
    assert others_use(before, after, 2, load=99.0) == pytest.approx(others)


def test_where_idling_is_not_counted_the_load_average_stands_for_it() -> None:
    before, after = at(50.0, 7.0, None), at(60.0, 12.0, None)
    assert others_use(before, after, 4, load=2.0) == pytest.approx(1.5)
    assert others_use(before, after, 4, load=30.0) == 4.0
    assert others_use(before, after, 4, load=0.1) == 0.0


def test_only_the_cores_that_this_process_may_use_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 999 9 9\ncpu0 1 1 1 300 50 0\ncpu1 1 1 1 500 0 0\ncpu2 1 1 1 7000 0 0\nctxt 5\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    assert cpu_times(stat).idle == pytest.approx((300 + 50 + 500) / 100)
    assert cpu_times(tmp_path / "absent").idle is None


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
    ],
)
def test_a_control_groups_quota_is_read_in_both_versions(tmp_path: Path, files: dict[str, str], quota: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert core_quota(tmp_path) == quota


def test_the_environment_chooses_for_every_program() -> None:
    assert is_chosen({"OMP_NUM_THREADS": "2"})
    assert is_chosen({"MKL_NUM_THREADS": "4"})
    assert not is_chosen({"OMP_NUM_THREADS": ""})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two cores, one of which another program uses; torch would have two threads; nobody chose."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "_default", lambda: 2)
    monkeypatch.setattr(threads, "usage_since", lambda _: Usage(cores=2.0, others=1.0))
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("busy")
def test_a_model_loaded_beside_other_work_has_one_thread_and_says_so(folder: str) -> None:
    model = load_model(RunOptions(folder))
    assert torch.get_num_threads() == 1
    (warning,) = [sentence for sentence in model.warnings if "threads" in sentence]
    assert warning.startswith("torch has 1 of 2 cores: the machine is busy")


@pytest.mark.usefixtures("busy")
def test_what_the_user_says_wins(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [load_model(RunOptions(folder, threads=2)).warnings]
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    told += [load_model(RunOptions(folder)).warnings]
    assert torch.get_num_threads() == 2
    assert not any("threads" in sentence for each in told for sentence in each)
