"""Models side by side as an app of its own, for `tpe compare … --screen`: that screen without an inspector."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tpe_core.options import RunOptions
from tpe_tui.comparison.reader import ComparisonReader
from tpe_tui.comparison.screen import ComparisonScreen
from tpe_tui.jobs.screen import JobsScreen
from tpe_tui.shell.engine_app import EngineApp, run_in_terminal

__all__ = ["ComparisonApp", "run_comparison"]


class ComparisonApp(EngineApp):
    """Analyses `sources` once the first frame is painted; its exit code is 1 where none could be."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        sources: Sequence[RunOptions | Path],
        budget: float | None = None,
        *,
        state_dir: Path | None = None,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing starts before the app runs."""
        first = next((each for each in sources if isinstance(each, RunOptions)), RunOptions())
        super().__init__(first, state_dir, keys_file, clock)
        self.reader = ComparisonReader(self.workspace, sources, budget)

    def get_default_screen(self) -> ComparisonScreen:
        """The one screen."""
        return ComparisonScreen(self.reader)

    def begin(self) -> None:
        """Analyse."""
        self.reader.start()

    def show_jobs(self) -> None:
        """Show the list of jobs."""
        self.push_screen(JobsScreen(self.workspace, lambda record: self.pop_screen()))

    def losses(self) -> list[str]:
        """A detection that runs; what is done of it is in the cache, and is found again."""
        busy = self.workspace.is_busy and self.reader.job is not None
        return ["Models are being analysed; a detection goes on from where it is at the next start."] if busy else []

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where nothing could be analysed, else 0."""
        self.problem = self.reader.failure
        super().leave(code)


def run_comparison(
    sources: Sequence[RunOptions | Path], budget: float | None = None, leave: Callable[[int], object] = os._exit
) -> int:
    """Run the screen in this terminal, then `leave` with its exit code: see `run_in_terminal`."""
    return run_in_terminal(ComparisonApp(sources, budget), leave)
