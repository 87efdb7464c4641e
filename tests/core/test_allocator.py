"""Memory that was freed goes back to the system where it is asked to, and stays where a loop wants it again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tpe_core import allocator

BLOCKS = """
import os
from pathlib import Path
from tpe_core.allocator import give_back_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

begun = held()
blocks = [b"x" * 100_000 for _ in range(2000)]  # too small to be mapped one by one
last = b"x" * 100_000
full = held()
del blocks
freed = held()
give_back_freed_memory()
print(begun, full, freed, held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has an allocator of its own")
def test_what_a_job_has_freed_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True, env=os.environ)
    begun, full, freed, after = map(float, done.stdout.split())
    assert full - begun > 150
    assert freed - begun > 150, "else there is nothing to give back, and this test can go"
    assert after - begun < 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    allocator.give_back_freed_memory()
    allocator.keep_freed_memory()
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())  # a library without malloc_trim, as musl
    allocator.give_back_freed_memory()
    allocator.keep_freed_memory()
