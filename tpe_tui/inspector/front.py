"""What the inspector's screen needs of the app that it is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.signal import Signal

from tpe_core.options import RunOptions
from tpe_tui.shell.burst import Burst
from tpe_tui.shell.counts import Counts
from tpe_tui.shell.prompt_history import PromptHistory
from tpe_tui.shell.session_memory import SessionMemory
from tpe_tui.workspace import Change, Workspace

if TYPE_CHECKING:
    from tpe_tui.dynamics.reader import ReadTrajectory

__all__ = ["Front"]


class Front(Protocol):
    """An app with one workspace, which opens models and keeps their sessions."""

    workspace: Workspace
    changed: Signal[Change]
    memory: SessionMemory
    prompts: PromptHistory
    keys_file: Path
    counts: Counts
    burst: Burst
    dynamics_reader: Callable[[RunOptions], ReadTrajectory]

    def open_model(self, again: bool = False, other: RunOptions | None = None) -> None:
        """Open the model, or an`other` one, as a job; `again` runs the detection anew."""

    def choose_model(self) -> None:
        """Ask which model to open next."""

    def show_jobs(self) -> None:
        """Show the list of jobs."""

    def remember(self) -> None:
        """Have the session saved where it has changed."""

    def copy_text(self, text: str) -> str:
        """Copy; the sentence that says where to."""

    def edit_text(self, text: str) -> str:
        """A text as the user leaves it in an editor. Raises `TpeError` where there is none, or it fails."""

    def ask_to_leave(self) -> None:
        """Leave, after a question where something would be lost."""

    def action_command_palette(self) -> None:
        """Show the palette."""
