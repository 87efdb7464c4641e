"""Closes the terminal of the app at random moments of painting, COUNT times by SEED; one JSON line for each round.

A program of its own: it imports the app once and forks it for every round, which takes no second.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import struct
import sys
import termios
import time
from pathlib import Path

import fake_app

MOST_SECONDS = 5.0
KEYS = (b"G", b"g", b" ", b"\t", b"z", b"\x0c", b"?", b"\x1b", b"p")


def opened(controlling: bool, job: Path) -> tuple[int, int]:
    """The process and the terminal's other end; a `controlling` terminal also sends a hang-up when it goes."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 48, 160, 0, 0))
    pid = os.fork()
    if pid:
        os.close(slave)
        return pid, master
    os.setsid()
    if controlling:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.environ["TPE_FAKE_JOB"] = str(job)
    for name in ("STATE", "CONFIG", "CACHE"):
        os.environ[f"XDG_{name}_HOME"] = str(job.parent / name)
    for descriptor in (0, 1, 2):
        os.dup2(slave, descriptor)
    os.close(master)
    os.close(slave)
    fake_app.run()
    os._exit(99)


def read_until(master: int, end: float, what: bytes = b"\x00never") -> bytes:
    """Read until `what` has come or it is `end`."""
    seen = b""
    while what not in seen and time.monotonic() < end:
        if select.select([master], [], [], 0.02)[0]:
            seen += os.read(master, 65536)
    return seen


def ended(pid: int) -> tuple[int | None, float]:
    """The exit code and the seconds it took; no code for one that had to be killed."""
    since = time.monotonic()
    while time.monotonic() - since < MOST_SECONDS + 3:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - since
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None, time.monotonic() - since


def round_of(rng: random.Random, folder: Path) -> dict[str, object]:
    """One terminal that vanishes."""
    at_work, controlling, deaf = rng.random() < 0.6, rng.random() < 0.5, rng.random() < 0.4
    job = folder / f"round{rng.getrandbits(48):012x}" / "job"
    job.parent.mkdir(parents=True)
    pid, master = opened(controlling, job)
    seen = read_until(master, time.monotonic() + 60, b"positions of")
    ready = b"positions of" in seen
    if at_work:
        os.write(master, b"r")
        while not job.exists():
            read_until(master, time.monotonic() + 0.05)
    for _ in range(rng.randrange(4)):
        os.write(master, rng.choice(KEYS))
        read_until(master, time.monotonic() + rng.random() * 0.1)
    if deaf:  # so that it goes in the middle of a frame
        os.write(master, b"\x0c" * 3)
        time.sleep(rng.random() * 0.3)
    else:
        read_until(master, time.monotonic() + rng.random() * 0.5)
    os.close(master)
    code, seconds = ended(pid)
    return {
        "at_work": at_work, "controlling": controlling, "deaf": deaf, "ready": ready, "code": code,
        "seconds": round(seconds, 3), "job": job.read_text() if job.exists() else "",
        "saved": any(job.parent.rglob("demo.json")),
    }  # fmt: skip


if __name__ == "__main__":
    place, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    source = random.Random(seed)  # noqa: S311 - a replay, no secret
    for _ in range(count):
        print(json.dumps(round_of(source, place)), flush=True)
