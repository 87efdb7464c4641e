"""The inspector's part in pruning: the edit brought into force, and the two jobs that look for a better one.

A sweep measures whole curves, and its screen shows them; a refit makes the mask in force as good as it can be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.pruning.results import SweptCurve
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.inspector.generation_actions import GenerateBench
from tpe_tui.sweep.screen import SweepScreen
from tpe_tui.sweep.state import SWEEP, SWEEP_SECONDS, SweepState, figure

if TYPE_CHECKING:
    from tpe_tui.inspector.screen import InspectScreen

__all__ = ["REFIT", "PruneBench"]

REFIT = "refit"


class PruneBench(GenerateBench):
    """The inspector with a sweep, and a refit under way."""

    def __init__(self) -> None:
        """Nothing was swept, nothing is fitted."""
        super().__init__()
        self.sweep = SweepState()
        self._refitted: tuple[int, Intervention] | None = None  # the job, and the edit it was asked for

    def opened(self, session: Session) -> None:
        """A sweep of another model is dropped, one of an earlier detection kept as such."""
        before = self.inspector
        super().opened(session)
        if self.inspector is before:
            self.sweep.outdated = self.sweep.result is not None
        else:
            self.sweep = SweepState()

    def _edit(self, change: Callable[[], bool], said: str = "", nothing: str = "") -> None:
        """Change the intervention, show it, say it; an impossible change is a sentence, not a crash."""
        if not self._ready():
            return
        try:
            done = change()
        except TpeError as error:
            self.strip.say(str(error), "bad")
            return
        if done:
            self.changed()
        self.strip.say(said if done else nothing)

    def apply_edit(self, edit: Intervention, said: str) -> None:
        """Bring an edit made elsewhere into force, as one step to undo."""
        self._edit(lambda: self.inspector.apply(edit), said, "that edit is in force already")

    def _busy(self) -> bool:
        if self.strip.job is not None:
            self.strip.say("a job is running already; cancel it first", "warn")
        return self.strip.job is not None

    # sweep

    def action_run_sweep(self) -> None:
        """See the key table."""
        if self._ready():
            self.tpe.push_screen(SweepScreen(cast("InspectScreen", self)))

    def ask_sweep_seconds(self) -> None:
        """Ask the engine how long the next sweep should take, while none runs."""
        session, request = self.session, self.sweep.request
        if session is not None and self.sweep.job is None:
            self.ask(SWEEP_SECONDS, lambda: session.sweep_seconds(request))

    def accept(self, answer: Answer) -> None:
        """Keep what the engine says of a sweep's time; a failure of that is no news. The rest is for the panes."""
        if answer.kind != SWEEP_SECONDS:
            super().accept(answer)
        elif answer.seq == self._asked[SWEEP_SECONDS] and isinstance(answer.value, float):
            self.sweep.seconds = answer.value
            self._show_sweep()

    def _show_sweep(self) -> None:
        for screen in self.tpe.screen_stack:
            if isinstance(screen, SweepScreen):
                screen.show()

    def start_sweep(self) -> None:
        """Queue a sweep; the replacement shown comes first."""
        session, state = self.session, self.sweep
        if not self._ready() or session is None or self._busy():
            return
        names = (state.replacement, *(name for name in REPLACEMENTS.ready if name != state.replacement))
        request = replace(state.request, replacements=names)
        state.begin(self.tpe.host.job(SWEEP, lambda: session.sweep(request)))
        self.strip.say("")
        self.strip.begin(state.job or 0, SWEEP)

    def sweep_update(self, message: JobUpdate) -> None:
        """A sweep took a step, or ended; whoever looks at it sees it."""
        state = self.sweep
        if message.job != state.job:
            return
        keys = self.tpe.keymap
        if message.state == "running" and message.progress is not None:
            self.strip.step(message.progress)
            state.grow(message.progress.partial)
        else:
            self.strip.end()
            state.grow(message.value)
            state.end("" if message.state == "done" else message.state)
            there = "what it measured stays" if state.fresh else "it had measured nothing"
            again = f"{keys.shown('run.sweep')}, {keys.shown('run.rerun')} runs it again"
            done = f"the pruning sweep is done; {keys.shown('run.sweep')} shows it"
            said = {"done": (done, "good"), "failed": (f"the pruning sweep failed; {again}", "bad")}
            self.strip.say(*said.get(message.state, (f"the pruning sweep was cancelled: {there}; {again}", "warn")))
        self._show_sweep()
        if message.failure is not None:
            self.fail("the pruning sweep failed", message.failure)

    def apply_point(self, curve: SweptCurve, dims: tuple[int, ...]) -> None:
        """Prune exactly `dims`, by the replacement of the curve that they are a point of."""
        edit, at = self.inspector.intervention, self.sweep.at
        # The curve was measured with this detection's means, not with those of a file that was imported before.
        origin = edit.origin if edit.steering else ""
        pruned = replace(edit, pruned=dims, replacement=curve.replace, origin=origin)
        kl = figure("kl", float(curve.mean("heldout", "kl")[at]))
        undo = self.tpe.keymap.shown("mask.undo")
        said = f"pruned {len(dims)} by {curve.order}, {curve.replace}: KL {kl} held-out; {undo} undoes"
        self._edit(lambda: self.inspector.apply(pruned), said, "that mask is in force already")

    # refit

    def action_mask_refit(self) -> None:
        """See the key table."""
        session, edit = self.session, self.inspector.intervention
        if not self._ready() or session is None or self._busy():
            return
        if not edit.pruned:
            self.strip.say("nothing is pruned: a refit belongs to a mask", "warn")
        elif REPLACEMENTS[edit.replacement].is_fitted:
            self.strip.say("this mask is refitted already")
        else:
            job = self.tpe.host.job(REFIT, lambda: session.refit(edit))
            self._refitted = job, edit
            self.strip.say("")
            self.strip.begin(job, REFIT)

    def refit_update(self, message: JobUpdate) -> None:
        """The refit took a step, or ended: it comes into force where its mask still is, as one step to undo."""
        if self._refitted is None or message.job != self._refitted[0]:
            return
        if message.state == "running" and message.progress is not None:
            self.strip.step(message.progress)
            return
        asked, now, keys = self._refitted[1], self.inspector.intervention, self.tpe.keymap
        again = keys.shown("mask.refit")
        self._refitted = None
        self.strip.end()
        if message.failure is not None:
            self.strip.say(f"the refit failed; {again} tries again", "bad")
            self.fail("the refit failed", message.failure)
        elif message.state != "done":
            self.strip.say(f"the refit was cancelled; {again} starts it anew", "warn")
        elif (now.pruned, now.origin) != (asked.pruned, asked.origin):
            count = len(asked.pruned)
            self.strip.say(f"the refit is of the {count} pruned before; bring them back and {again} has it", "warn")
        else:
            found = cast("Intervention", message.value)
            kept = self.session.table.info.hidden_size - len(now.pruned) if self.session is not None else 0
            said = f"refitted: all of h is made of the {kept} kept dimensions; {keys.shown('mask.undo')} undoes"
            fitted = replace(now, replacement=found.replacement, origin=found.origin)
            self._edit(lambda: self.inspector.apply(fitted), said)
