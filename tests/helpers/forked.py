"""Processes of their own that start in milliseconds: forked from one that has only imported the libraries."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

__all__ = ["Forked", "forked"]

IMPORTED = (
    "pytest",
    "tpe_core.session",
    "tests.helpers.tiny_models",
    "transformers.models.gpt2.modeling_gpt2",
    "tpe_tui.app",
)


def forked(run: Callable[..., object], *words: object) -> ForkServerProcess:
    """A process that runs a function of a module, with nothing imported but `IMPORTED`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    process: ForkServerProcess = context.Process(target=run, args=words)
    process.start()
    return process


class Forked:
    """``python -c script words…`` in a process with an environment of its own; `folder` holds what it writes.

    It is killed, waited for and asked for its exit code as a `subprocess.Popen` is.
    """

    def __init__(self, script: str, *words: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self.stdout.touch()
        environment = dict(os.environ if env is None else env)
        self._process = forked(_run, script, words, environment, str(folder))
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Wait for its end; the exit code."""
        self._process.join(seconds)
        assert self.returncode is not None, f"it has not ended after {seconds:g} s"
        return self.returncode

    def communicate(self, seconds: float) -> tuple[str, str]:
        """Wait for its end; what it wrote on stdout and stderr."""
        self.wait(seconds)
        return self.stdout.read_text(), self.stderr.read_text()

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self._process.kill()
        self._process.join()


def _run(script: str, words: tuple[str, ...], environment: dict[str, str], folder: str) -> None:
    """What the process does: as the interpreter with ``-c``, its end included."""
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with Path(folder, name).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["-c", *words]
    try:
        exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as `python -c` does
    finally:
        atexit._run_exitfuncs()
