"""What becomes of memory that was freed, where the C library is glibc; with another one nothing happens here.

It keeps blocks that were freed for the next ones of their size, so that after jobs with other sizes a process holds
much more than it uses.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

__all__ = ["give_back_freed_memory", "keep_freed_memory"]

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep it all for what comes: for a loop that takes and frees the same sizes again and again.

    Page faults cost such a loop a third of its time (the training of the bundled model, 130 MB of logits a step).
    """
    with suppress(OSError, AttributeError):
        libc = _c_library()
        libc.mallopt(MMAP_MAX, 0)  # no separate mappings for large blocks
        libc.mallopt(TRIM_THRESHOLD, MOST)


def give_back_freed_memory() -> None:
    """Give every whole page that is free back to the system, once: some milliseconds, for when a job has ended."""
    with suppress(OSError, AttributeError):
        _c_library().malloc_trim(0)


def _c_library() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no glibc")
    return ctypes.CDLL(None)
