"""The inspector on the bundled model; on SIGUSR1 it writes what the robot compares into the file named first.

On SIGUSR2 it writes what every thread is at beside that file, also where it handles nothing any more.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from tests.tui.robot import answered, state_of
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.shell.engine_app import run_in_terminal


class Watched(TpeApp):
    """Says its state when asked."""

    def on_mount(self) -> None:
        """Textual calls those of the classes above as well."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._tell)
        Path(sys.argv[1]).write_text('{"settled": false}')  # it can be asked from now on

    def _tell(self) -> None:
        try:
            state = state_of(self)
            state["settled"] = self.workspace.session is not None and answered(self)
            state["jobs"] = len(self.workspace.jobs.active)
        except Exception:  # what the loop would say of it goes where nobody reads it
            state = {"settled": False, "problem": traceback.format_exc()}
        path = Path(sys.argv[1])
        path.with_suffix(".new").write_text(json.dumps(state))
        os.replace(path.with_suffix(".new"), path)


threads = Path(sys.argv[1]).with_suffix(".threads").open("w", encoding="utf-8")
faulthandler.register(signal.SIGUSR2, threads, all_threads=True)
run_in_terminal(Watched(RunOptions(positions=int(sys.argv[2]))))
