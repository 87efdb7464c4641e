"""Training dynamics as an app of its own, without an inspector: `tpe dynamics … --screen`, `tpe train-on --screen`.

An app beside the inspector and no mode of it, because it has no model to open: nothing of the other's start, memory or
palette would apply. What both need is their base, `EngineApp`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_tui.dynamics.experiment_screen import ExperimentScreen
from tpe_tui.dynamics.reader import DynamicsReader, ReadTrajectory
from tpe_tui.dynamics.screen import DynamicsScreen
from tpe_tui.dynamics.state import SHAPES
from tpe_tui.jobs.screen import JobsScreen
from tpe_tui.shell.engine_app import EngineApp, run_in_terminal

__all__ = ["DynamicsApp", "run_dynamics"]


class DynamicsApp(EngineApp):
    """Reads the sources `names` with `reader`, once the first frame is painted; its exit code is 1 where none could be.

    `words` are the options that `reader` stands for on a command line. With the folder of an `experiment` it begins
    with the second page.
    """

    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        names: Sequence[str],
        reader: ReadTrajectory,
        words: Sequence[str] = (),
        *,
        experiment: Path | None = None,
        state_dir: Path | None = None,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing starts before the app runs. Raises `TpeError` where no screen can tell so many sources apart."""
        if len(names) > len(SHAPES):
            raise TpeError(f"a screen tells {len(SHAPES)} sources apart, not {len(names)}: leave some out.")
        super().__init__(RunOptions(), state_dir, keys_file, clock)
        self.reader = DynamicsReader(self.workspace, reader, names=names, words=words, experiment=experiment)

    def get_default_screen(self) -> DynamicsScreen | ExperimentScreen:
        """The page that was asked for; a key leads to the other."""
        if self.reader.experiment.state.folder is None:
            return DynamicsScreen(self.reader, base=True)
        return ExperimentScreen(self.reader, lambda: DynamicsScreen(self.reader, over_experiment=True))

    def begin(self) -> None:
        """Read."""
        self.reader.start()

    def show_jobs(self) -> None:
        """Show the list of jobs: the one that reads, and those that have read."""
        self.push_screen(JobsScreen(self.workspace, lambda record: self.pop_screen()))

    def losses(self) -> list[str]:
        """A job that reads checkpoints; what a log says stays in the log."""
        sources = self.reader.state.sources
        reading = self.workspace.is_busy and any(source.status == "reading" for source in sources)
        return ["Checkpoints are being read; what was read would be dropped."] if reading else []

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where nothing could be read, else 0."""
        self.problem = self.reader.problem
        super().leave(code)


def run_dynamics(
    names: Sequence[str],
    reader: ReadTrajectory,
    words: Sequence[str] = (),
    leave: Callable[[int], object] = os._exit,
    *,
    experiment: Path | None = None,
) -> int:
    """Run the screen in this terminal, then `leave` with its exit code: see `run_in_terminal`."""
    return run_in_terminal(DynamicsApp(names, reader, words, experiment=experiment), leave)
