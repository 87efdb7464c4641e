"""Which tokens an edit makes unreachable: looked for behind everything else, of the edit in force and of proposed ones.

A proposed edit is what the line of an open question would do, or what toggling the dimension under the cursor would:
its user learns before it is in force that no hidden state would make some tokens the top one any more. It asks the
engine and keeps the answers; it shows nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from textual.timer import Timer

from tpe_core.edits.intervention import Intervention
from tpe_core.snapshots import LostTokens
from tpe_tui.cells import count
from tpe_tui.engine.messages import JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.workspace import CallbackJob, Workspace

__all__ = ["ReachWatch", "lost_besides", "lost_names", "reach_words"]

REST_SECONDS = 0.4  # without another edit, before one is looked at
LONGEST = 30.0  # seconds that one edit is looked at; then what was seen stands
QUICK = 2.0  # seconds: where an edit takes longer, no dimension is looked at for the cursor being on it
KEPT = 64  # answers
NAMED = 4  # lost tokens in a sentence

Key = tuple[object, ...]


def _key(edit: Intervention) -> Key:
    return edit.pruned, edit.replacement, edit.steering, edit.origin


def lost_names(ids: Sequence[int], tokens: Sequence[str]) -> str:
    """The first few tokens by their texts, and how many more there are."""
    named = ", ".join(tokens[each] for each in islice(ids, NAMED))
    return f"{named} and {count(len(ids) - NAMED)} more" if len(ids) > NAMED else named


def reach_words(answer: LostTokens, tokens: Sequence[str]) -> str:
    """What is known of a proposed edit's lost tokens, in a few words."""
    least = "" if answer.is_complete else "at least "
    if answer.ids:
        many = f"{least}{count(len(answer.ids))} token{'s' if len(answer.ids) > 1 else ''}"
        return f"no hidden state would make {many} the top one any more: {lost_names(answer.ids, tokens)}"
    if answer.is_complete:
        return "every token stays reachable"
    return f"the {count(answer.checked)} tokens nearest the middle stay reachable"


def lost_besides(answer: LostTokens | None, already: LostTokens | None) -> tuple[int, ...]:
    """The lost tokens of an edit that are not lost already."""
    if answer is None:
        return ()
    before = frozenset(already.ids) if already is not None else frozenset()
    return tuple(each for each in answer.ids if each not in before)


class ReachWatch:
    """Of one session at a time. `receive` is called whenever more is known."""

    def __init__(
        self,
        workspace: Workspace,
        set_timer: Callable[[float, Callable[[], None]], Timer],
        receive: Callable[[], object],
    ) -> None:
        self._workspace, self._set_timer, self._receive = workspace, set_timer, receive
        self._session: Session | None = None
        self._answers: OrderedDict[Key, LostTokens] = OrderedDict()
        self._settled: set[Key] = set()
        self._proposed: Intervention | None = None
        self._at_cursor: Intervention | None = None
        self._wanted: Intervention | None = None
        self._rest: Timer | None = None
        self._job: int | None = None
        self._begun: float | None = None
        self._took = 0.0

    def begin(self, session: Session) -> None:
        """Look at another session's edits: what was known is of the one before."""
        self._stop()
        self._session, self._proposed, self._at_cursor = session, None, None
        self._answers.clear()
        self._settled.clear()
        self._took = 0.0

    def of(self, edit: Intervention) -> LostTokens | None:
        """What is known of an edit by now."""
        return self._answers.get(_key(edit))

    @property
    def settled(self) -> bool:
        """Whether all that is to be known by now is known."""
        return self._session is not None and self._most_wanted() is None

    def words(self, edit: Intervention, tokens: Sequence[str]) -> str:
        """What is known of a proposed edit, in a few words; empty where nothing is and nothing will be."""
        answer = self.of(edit)
        if answer is not None and (answer.ids or answer.is_complete or _key(edit) in self._settled):
            return reach_words(answer, tokens)
        return "" if edit.is_empty or _key(edit) in self._settled else "looking for tokens that it makes unreachable"

    def propose(self, edit: Intervention | None) -> None:
        """Look at an edit that an open question would make; None once it is closed."""
        self._proposed = edit
        self.follow()

    def at_cursor(self, edit: Intervention | None) -> None:
        """Look at what toggling the dimension under the cursor would do, where something is pruned already."""
        self._at_cursor = edit
        self.follow()

    def follow(self) -> None:
        """Look at what is wanted most and not known yet, once nothing else comes for a moment."""
        wanted = self._most_wanted()
        if self._session is None or wanted == self._wanted:
            return
        if wanted is None or self._rest is None:
            self._stop()
            self._wanted = wanted
            if wanted is not None:
                self._rest = self._set_timer(REST_SECONDS, self._look)
        else:  # another key within the moment
            self._wanted = wanted
            self._rest.reset()

    def _most_wanted(self) -> Intervention | None:
        in_force = self._workspace.history.intervention
        cursor = self._at_cursor if in_force.pruned and self._took <= QUICK else None
        for edit in (self._proposed, in_force, cursor):
            if edit is not None and not edit.is_empty and _key(edit) not in self._settled:
                return edit
        return None

    def _stop(self) -> None:
        if self._rest is not None:
            self._rest.stop()
        if self._job is not None:
            self._workspace.drop(self._job)
        self._rest = self._job = self._wanted = self._begun = None

    def _look(self) -> None:
        session, edit = self._session, self._wanted
        self._rest = None
        if session is None or edit is None:
            return

        def learn(message: JobUpdate) -> None:
            self._learn(message, edit)

        job = CallbackJob("unreachable tokens", lambda: session.lost_tokens(edit), learn)
        self._job = self._workspace.queue(job, background=True)

    def _learn(self, message: JobUpdate, edit: Intervention) -> None:
        now = self._workspace.jobs.clock()
        self._begun = now if self._begun is None else self._begun
        answer = message.value if message.state == "done" else getattr(message.progress, "partial", None)
        is_over = message.state != "running" or now - self._begun > LONGEST
        is_news = isinstance(answer, LostTokens) and answer.ids != getattr(self.of(edit), "ids", ())
        if isinstance(answer, LostTokens):
            self._keep(edit, answer)
        if is_over:
            self._took = now - self._begun
            self._settled.add(_key(edit))
            if message.state != "running":
                self._job = None
            self._stop()
        if is_over or is_news:
            self._receive()
            self.follow()

    def _keep(self, edit: Intervention, answer: LostTokens) -> None:
        self._answers[_key(edit)] = answer
        self._answers.move_to_end(_key(edit))
        while len(self._answers) > KEPT:
            self._settled.discard(self._answers.popitem(last=False)[0])
