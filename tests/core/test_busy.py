"""A busy machine and several threads: one sentence with the option that helps, and none where it would not."""

from __future__ import annotations

import pytest

from tpe_core.busy import busy_notice


@pytest.mark.parametrize(
    ("device", "load", "cores", "threads", "told"),
    [
        ("cpu", 6.0, 2, 2, True),
        ("cpu", 3.0, 2, 2, True),
        ("cpu", 2.9, 2, 2, False),
        ("cpu", 6.0, 2, 1, False),
        ("cpu", 6.0, 16, 16, False),
        ("cuda:0", 60.0, 2, 2, False),
    ],
)
def test_several_threads_on_a_busy_machine_are_told_with_what_helps(
    device: str, load: float, cores: int, threads: int, told: bool
) -> None:
    notice = busy_notice(device, load=load, n_cores=cores, n_threads=threads)
    assert bool(notice) == told
    if told:
        assert "--threads 1" in notice
        assert f"load {load:.1f} on {cores} cores" in notice
        assert f"{threads} threads" in notice
