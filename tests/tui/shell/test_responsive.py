"""The interface has Python's lock and a core as soon as it asks."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tpe_tui.shell.responsive import SWITCH_SECONDS, stay_responsive


@pytest.fixture(autouse=True)
def _interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("environ", "policy"),
    [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "1000"}, None)],
)
def test_waiting_threads_sleep_unless_the_user_said_how_they_wait(environ: dict[str, str], policy: str | None) -> None:
    stay_responsive(environ)
    assert environ.get("OMP_WAIT_POLICY") == policy
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
