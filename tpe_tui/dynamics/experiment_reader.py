"""Reading an experiment's folder again and again while runs write to it: it asks the engine and feeds the state.

It outlives the page. A look takes the time of a few file states, and a folder is read only where one of them changed.
"""

from __future__ import annotations

from pathlib import Path

from tpe_tui.dynamics.experiment_state import ExperimentRead, ExperimentState, read_folder
from tpe_tui.engine.messages import Answer
from tpe_tui.workspace import Workspace

__all__ = ["ExperimentReader"]

LOOK = "experiment"
"""The kind of its requests."""


class ExperimentReader:
    """The state of one page, and the requests that fill it."""

    def __init__(self, workspace: Workspace, folder: Path | None = None) -> None:
        """Nothing is read before `look`."""
        self.workspace = workspace
        self.state = ExperimentState(folder=folder)
        self._is_looking = False

    def open(self, folder: Path) -> None:
        """Read another folder from now on."""
        self.state.open(folder)
        self._is_looking = False
        self.look()

    def look(self, anew: bool = False) -> None:
        """Read the folder where something was written since, or `anew` in any case; one look at a time."""
        state = self.state
        folder = state.folder
        if folder is None or self._is_looking:
            return
        self._is_looking = True
        known = None if anew or state.read is None else state.read.stamp

        def receive(answer: Answer) -> None:
            self._is_looking = False
            if state.folder == folder:
                self._take(answer)

        self.workspace.ask(LOOK, lambda: read_folder(folder, known), receive, topic=folder, of_session=False)

    def _take(self, answer: Answer) -> None:
        before = self.state.problem
        if answer.failure is not None:
            self.state.problem = answer.failure.sentence
        elif isinstance(answer.value, ExperimentRead):
            self.state.take(answer.value)
        else:
            self.state.problem = ""
        if isinstance(answer.value, ExperimentRead) or self.state.problem != before:
            self.workspace.changed("job")
