"""The job that refits the mask in force: all of h is made anew from its kept dimensions, at the least KL."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.progress import Steps
from tpe_tui.engine.messages import JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.workspace import Workspace

__all__ = ["RefitJob", "start_refit"]


class RefitJob:
    """Refits the mask of `edit`; the result comes into force where that mask still is, as one step to undo."""

    name = "refit"

    def __init__(self, workspace: Workspace, session: Session, edit: Intervention) -> None:
        """Nothing is fitted before `start`."""
        self._workspace, self._session, self._edit = workspace, session, edit

    def start(self) -> Steps[Intervention]:
        """Make the generator of its steps; called on the engine thread."""
        return self._session.refit(self._edit)

    def update(self, message: JobUpdate) -> str | None:
        """Bring the refit into force once it is done, and say how it ended."""
        if message.state == "running":
            return None
        workspace, asked = self._workspace, self._edit
        now, keys, status = workspace.history.intervention, workspace.keymap, workspace.status
        again = keys.shown("mask.refit")
        if message.failure is not None:
            status.say(f"the refit failed; {again} tries again", "bad")
            workspace.fail("the refit failed", message.failure)
        elif message.state != "done":
            status.say(f"the refit was cancelled; {again} starts it anew", "warn")
        elif (now.pruned, now.origin) != (asked.pruned, asked.origin):
            count = len(asked.pruned)
            status.say(f"the refit is of the {count} pruned before; bring them back and {again} has it", "warn")
            return f"of the {count} pruned before"
        else:
            fitted = cast("Intervention", message.value)
            kept = workspace.history.hidden_size - len(now.pruned)
            said = f"refitted: all of h is made of the {kept} kept dimensions; {keys.shown('mask.undo')} undoes"
            edit = replace(now, replacement=fitted.replacement, origin=fitted.origin)
            workspace.apply(edit, said, nothing="")
            return f"{kept} dimensions kept; in force"
        return None


def start_refit(workspace: Workspace) -> None:
    """Queue a refit of the mask in force, or say why there is none to make."""
    session, edit = workspace.session, workspace.history.intervention
    if not workspace.ready() or session is None or not workspace.free():
        return
    if not edit.pruned:
        workspace.status.say("nothing is pruned: a refit belongs to a mask", "warn")
    elif REPLACEMENTS[edit.replacement].is_fitted:
        workspace.status.say("this mask is refitted already")
    else:
        workspace.run(RefitJob(workspace, session, edit))
