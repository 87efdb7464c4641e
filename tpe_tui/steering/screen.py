"""The steering study: how far a token goes when it is asked to, on three texts, at what cost, and the prompt beside it.

The inspector's edit stays as it is until the study's is applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.binding import BindingType
from textual.timer import Timer

from tpe_core.snapshots import NextTokens
from tpe_core.steering.results import CalibratedRatios, DoseResponse, MostAffected
from tpe_tui.command_line import steer_lines
from tpe_tui.dialogs.ask import Ask
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.ratios import parse_probability, parse_ratio, short_ratio
from tpe_tui.steering.dose_plot import DosePlot
from tpe_tui.steering.dose_table import DoseTable
from tpe_tui.steering.keys import ALSO, KEYS
from tpe_tui.steering.reading import TextsReading
from tpe_tui.steering.state import WHO, SteerState
from tpe_tui.steering.token_search import TokenSearch
from tpe_tui.steering.view import SteerView
from tpe_tui.study import bindings
from tpe_tui.workspace import CallbackJob, Change, Workspace

__all__ = ["SteerScreen"]

QUESTIONS = ("steer", "steer-live", "steer-calibrate", "steer-find")
"""The kinds of its requests."""

PAY_SECONDS = 0.3  # after the last key, until who pays is measured
STALE_SECONDS = 0.15


class SteerScreen(SteerView):
    """Over the edit in force, beginning with one token; closed with the edit that is to be applied."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(
        self,
        workspace: Workspace,
        session: Session,
        token_id: int | None,
        reading: TextsReading | None = None,
        state: SteerState | None = None,
    ) -> None:
        super().__init__(workspace, session, token_id, reading, state)
        self._paying: int | None = None
        self._waits: dict[str, Timer] = {}

    def on_mount(self) -> None:
        """Read the texts, once for every mask."""
        self.table.focus()
        self.action_start()
        self.changed()

    def on_unmount(self) -> None:
        """Drop what only this study wanted to know; its jobs go on."""
        for kind in QUESTIONS:
            self.workspace.forget(kind)

    @property
    def settled(self) -> bool:
        """Whether everything shown belongs to the edit in force, who pays included."""
        state, steered = self.state, bool(self.state.edit.steering)
        return not (state.figures is None or state.stale or self.live.pending or (steered and state.unpaid))

    # what is asked of the engine, and what it says

    def changed(self) -> None:
        """Another token, ratio or method: ask, and show what is known."""
        state, session, prompt = self.state, self.session, self.workspace.history.prompt
        self._stop_paying()
        edit, request = state.edit, state.request
        self._ask("steer-live", lambda: session.evaluate(prompt, edit))
        self.live.wait({entry.token_id: entry.ratio for entry in edit.steering})
        if state.read is not None and (state.stale or state.figures is None):
            self._ask("steer", lambda: session.steering(request))
        self._later("stale", STALE_SECONDS, self.show)
        self.show()

    def _ask(self, kind: str, question: Callable[[], object]) -> None:
        self.workspace.ask(kind, question, self.accept)

    def _later(self, name: str, seconds: float, do: Callable[[], None]) -> None:
        if name in self._waits:
            self._waits.pop(name).stop()
        self._waits[name] = self.set_timer(seconds, do)

    def accept(self, answer: Answer) -> None:
        """An answer of the engine; failures are said in their own sentence."""
        if not self.is_open:
            return
        state = self.state
        if answer.failure is not None:
            if answer.kind == "steer":
                state.problem, state.figures = answer.failure.sentence, None
            self.say(answer.failure.sentence, "bad")
        match answer.value:
            case NextTokens() as next_tokens:
                self._show_live(next_tokens)
            case DoseResponse() as figures:
                state.figures, state.problem = figures, ""
                self._later("pay", PAY_SECONDS, self._pay)
            case int() as token_id:
                self.look_at(token_id)
            case CalibratedRatios() as calibrated if state.calibrate(calibrated):
                self._say_calibrated(calibrated)
                self.changed()
        self.show()

    def _show_live(self, answer: NextTokens) -> None:
        """The steered tokens first, however improbable: they are what this is about."""
        ratios = {entry.token_id: entry.ratio for entry in answer.intervention.steering}
        wanted = [self.state.token_id, *ratios]
        order = sorted(range(len(answer.ids)), key=lambda at: (int(answer.ids[at]) not in wanted, at))
        self.live.selected = self.state.token_id if self.state.token_id in answer.ids else None
        self.live.show(replace(answer, ids=answer.ids[order], base=answer.base[order], now=answer.now[order]), ratios)

    def follow(self, change: Change) -> None:
        """Show a change of the workspace; once the texts are read, measure on them."""
        if self.state.read is not self.reading.read:
            self.state.read = self.reading.read
            self.changed()
        self.show()

    def _paid(self, message: JobUpdate) -> None:
        """It is known who pays."""
        if message.state == "running":
            return
        self._paying = None
        if isinstance(message.value, MostAffected):
            self.state.paid = message.value
        if message.failure is not None and self.is_open:
            self.workspace.fail("the steering study failed", message.failure)

    def _pay(self) -> None:
        session, request = self.session, self.state.request
        if self._paying is None and self.state.unpaid and not self.state.stale and request.edit.steering:
            job = CallbackJob(WHO, lambda: session.most_affected(request), self._paid)
            self._paying = self.workspace.queue(job)

    def _stop_paying(self) -> None:
        job, self._paying = self._paying, None
        if job is not None:
            self.workspace.drop(job)

    # keys

    def action_start(self) -> None:
        """Read the texts."""
        self.reading.begin()
        self.show()

    def action_cancel(self) -> None:
        """Cancel reading."""
        self.workspace.cancel(self.reading.job)
        self.show()

    def action_slide(self, steps: int) -> None:
        """More or less."""
        self.state.slide(steps)
        self.changed()

    def action_reset(self) -> None:
        """Ratio 1."""
        self.state.set_ratio(1.0)
        self.changed()

    def action_calibrate(self) -> None:
        """Ask what achieves the ratio."""
        session, request = self.session, self.state.request
        if self.state.read is None:
            self.say("the texts are not read yet", "warn")
            return
        self._ask("steer-calibrate", lambda: session.calibrated(request))

    def _say_calibrated(self, calibrated: CalibratedRatios) -> None:
        result = calibrated.results[0]
        name, got = self.text_of(result.steered), short_ratio(result.achieved["local"])
        asked = f"{name} is asked ×{short_ratio(result.ratio)} to achieve ×{got} on the local text"
        missed = f"{name} cannot achieve ×{short_ratio(result.asked)} by {result.method}: ×{got} is the nearest"
        self.say(asked if result.reached else missed, "row" if result.reached else "warn")

    def action_method(self) -> None:
        """The next method."""
        self.state.next_method()
        self.changed()

    def action_add(self) -> None:
        """Into the set, or out of it."""
        name, added = self.text_of(self.state.steered), self.state.toggle()
        more = f"{self.key('find.search')} chooses the next one" if added else f"{self.key('a')} adds it again"
        self.say(f"{name} is {'added' if added else 'taken out'}; {more}")
        self.changed()

    def action_turn(self, step: int) -> None:
        """Another token of the set."""
        if not self.state.turn(step):
            self.say(f"no other token is added; {self.key('find.search')} chooses one", "row")
        self.changed()

    def action_search(self) -> None:
        """Another token of the vocabulary."""
        session = self.session

        def chosen(token: int | str | None) -> None:
            if isinstance(token, str):
                self._ask("steer-find", lambda: session.find_token(token))
            elif token is not None:
                self.look_at(token)

        self.app.push_screen(TokenSearch(self.drawn), chosen)

    def look_at(self, token_id: int) -> None:
        """Study another token."""
        self.state.look_at(token_id)
        self.say("")
        self.changed()

    def action_exact(self) -> None:
        """Type the ratio, or the mean probability on the local text."""
        state, figures = self.state, self.state.known
        own = figures.token.alpha["local"] if figures is not None else math.nan
        lowest, highest = figures.token.attainable if figures is not None else (0.0, 1.0)

        def check(text: str) -> str | None:
            target = parse_probability(text)
            if target is None:
                fine = parse_ratio(text) is not None
                return None if fine else "a ratio is a finite number above 0, a probability lies between 0% and 100%"
            if not own > 0:
                return "its mean probability is not measured: give a ratio"
            if not lowest < target < highest:
                return f"out of reach: any edit of its row stays between {100 * lowest:.3g}% and {100 * highest:.3g}%"
            return None

        def answered(text: str | None) -> None:
            if text is not None:
                target = parse_probability(text)
                state.set_ratio(target / own if target is not None else parse_ratio(text) or 1.0)
                self.changed()

        question = f"ratio, or mean probability, for {self.text_of(state.steered)}"
        hint = "2 doubles its mean probability, 1% asks for that one, on the local text"
        self.app.push_screen(Ask(question, f"{state.ratio:.6g}", hint, check), answered)

    def action_apply(self) -> None:
        """Steer so in the inspector."""
        self.dismiss(self.state.edit)

    def said(self) -> str:
        """What is steered, for people."""
        steered = [(each, ratio) for each, ratio in self.state.tokens.items() if ratio != 1]
        names = ", ".join(f"{self.text_of(each)} ×{short_ratio(ratio)}" for each, ratio in steered[:3])
        more = ", …" if len(steered) > 3 else ""
        return f"{names + more or 'nothing'} steered by {self.state.method}"

    def headless(self) -> str:
        """The command lines that measure what is shown."""
        return steer_lines(self.workspace.options, self.state.request)

    @on(DoseTable.Picked)
    def _picked(self, event: DoseTable.Picked) -> None:
        event.stop()
        self.state.method = event.method
        self.changed()

    @on(DosePlot.Pointed)
    def _pointed(self, event: DosePlot.Pointed) -> None:
        event.stop()
        self.state.set_ratio(event.ratio)
        self.changed()
