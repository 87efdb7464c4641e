"""From a toggle to its new figures while a job runs, beside idle: one engine thread, as in the inspector.

Nothing is drawn: `keys` measures the terminal's part. Every job begins with nothing read and nothing cached.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.report import Row, milliseconds
from benchmarks.timing import median, p95
from tpe_core.edits.intervention import Intervention
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import Steps
from tpe_core.progress import run as finish
from tpe_core.pruning.results import PruningRequest
from tpe_core.session import LiveSession, open_session
from tpe_tui.engine.host import EngineHost
from tpe_tui.engine.messages import Answer, JobUpdate

__all__ = ["run"]

TOGGLES = 300
LATENCY = 0.300  # seconds
GAP = 0.25  # seconds between two toggles, at most
PATIENCE = 60.0
PRUNED = Intervention((1, 2, 3))
JOBS: dict[str, Callable[[LiveSession], Steps[Any]] | None] = {
    "idle": None,
    "while text is detected on": lambda session: session.detect_again(session.options),
    "while a sweep reads and measures": lambda session: session.sweep(PruningRequest()),
    "while the forecast is made": lambda session: session.prepare_forecast(),
    "while a study reads": lambda session: session.read_for_steering(PRUNED),
    "while a mask is refitted": lambda session: session.refit(PRUNED),
}


def _measured(session: LiveSession, job: Callable[[LiveSession], Steps[Any]] | None, toggles: int) -> list[float]:
    """Seconds of every toggle, at random moments, until the job ends."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    host = EngineHost(inbox.put)
    host.start()
    rng = np.random.default_rng(0)
    taken: list[float] = []
    prompt = session.default_prompt
    edits = itertools.cycle([Intervention((dim,)) for dim in range(16)])
    session.evaluate(prompt, Intervention())
    number = None if job is None else host.job("job", lambda: job(session))
    ended = False
    try:
        while len(taken) < toggles and not ended:
            time.sleep(float(rng.uniform(0, GAP)))
            edit = next(edits)
            asked = time.perf_counter()
            wanted = host.latest("evaluate", lambda edit=edit: session.evaluate(prompt, edit))
            while True:
                message = inbox.get(timeout=PATIENCE)
                if isinstance(message, JobUpdate) and message.state != "running":
                    if message.failure is not None:
                        raise RuntimeError(message.failure.sentence)
                    ended = True
                if isinstance(message, Answer) and message.seq == wanted:
                    taken.append(time.perf_counter() - asked)
                    break
    finally:
        if number is not None:
            host.cancel(number)
        host.stop(PATIENCE)
    return taken


def run(quick: bool, model: str = DEMO) -> list[Row]:
    """Idle first, then beside every job; a job that ends early is measured as long as it runs."""
    options = RunOptions(model=model, positions=4096, sample=1024, cache=False, threads=1)
    opened = finish(open_session(options))
    rows, name = [], "demo" if model == DEMO else model.rstrip("/").split("/")[-1]
    idle = None
    for title, job in JOBS.items():
        session = LiveSession(opened.analysis, options)
        taken = _measured(session, job, 20 if quick else TOGGLES)
        if len(taken) < 2:
            rows.append(Row(f"busy: {name}, toggle {title}", "the job ended before a second toggle"))
            continue
        worst = p95(taken)
        idle = worst if idle is None else idle
        budget = f"<= {milliseconds(LATENCY)}"
        rows.append(
            Row(f"busy: {name}, toggle {title}, p95 of {len(taken)}", milliseconds(worst), milliseconds(idle),
                worst / idle, budget, worst <= LATENCY)
        )  # fmt: skip
        rows.append(
            Row(
                f"busy: {name}, toggle {title}, median; most",
                f"{milliseconds(median(taken))}; {milliseconds(max(taken))}",
            )
        )
    return rows
