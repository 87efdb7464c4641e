"""The inspector's panes and their layout, what is asked of the engine for them, and the status line.

It shows the workspace and changes nothing of it; what keys do is in the modules of actions beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from tpe_core.cached_view import CachedView
from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.notebook import Note
from tpe_core.progress import Progress
from tpe_core.snapshots import (
    FURTHER_KEYS,
    SORT_KEYS,
    DimensionDetail,
    EncodingTable,
    NextTokens,
    PruningForecast,
    TokenDetail,
)
from tpe_tui.cells import clock_or_date
from tpe_tui.dialogs.ask import Ask, Check
from tpe_tui.edit_words import change_between
from tpe_tui.engine.messages import Answer, Failure
from tpe_tui.engine.session import Session
from tpe_tui.inspector.continuation import Continued, ContinuedStrip
from tpe_tui.inspector.detail_pane import Detail
from tpe_tui.inspector.forecast import Forecaster
from tpe_tui.inspector.front import Front
from tpe_tui.inspector.plot_pane import PLOTS, Plot
from tpe_tui.inspector.prompt_tokens import PromptTokens
from tpe_tui.inspector.reach import ReachWatch, lost_besides, reach_words
from tpe_tui.inspector.status import inspect_fields
from tpe_tui.inspector.tour import TourStrip
from tpe_tui.keymap import BY_ID, FOOTER
from tpe_tui.shell.one_paint import OnePaint
from tpe_tui.shell.sized import NeedsRoom
from tpe_tui.shell.view_memory import SavedView
from tpe_tui.sizes import short_name
from tpe_tui.widgets.bars import Field, Footer, PromptBar, StatusBar
from tpe_tui.widgets.dim_table import DimTable, parse_filter
from tpe_tui.widgets.job_strip import JobStrip
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.widgets.token_strip import TokenStrip
from tpe_tui.widgets.token_table import TokenBars
from tpe_tui.workspace import Change

__all__ = ["InspectFrame"]

WIDE = (120, 28)
STALE_SECONDS = 0.15
NEVER = -1  # the number of no request
RIGHT_SHARE = 44 / 80  # of the width, as in app.tcss; a pane not laid out yet has no width to ask for
NAMES = {1: "Dims", 2: "Next token", 3: "Plot", 4: "Detail"}
PROMPT_PANE = 5  # the prompt's tokens, which lie above the others while they are open
Panes = DimTable | TokenBars | Plot | Detail | TokenStrip


class InspectFrame(NeedsRoom, Screen[None]):
    """Four panes over the session of the workspace."""

    def __init__(self) -> None:
        super().__init__()
        self.workspace = self.front.workspace
        self.dims = DimTable()
        self.tokens = TokenBars()
        self.plot = Plot()
        self.detail = Detail()
        self.status = StatusBar()
        self.prompt_bar = PromptBar()
        self.positions = PromptTokens(self.workspace, TokenStrip(), self.edited, self.show_status)
        self.continued = Continued(self.workspace, ContinuedStrip())
        self.footer = Footer()
        self.strip = JobStrip(self.workspace.status, self.workspace.keymap.shown("run.cancel"))
        self.tour = TourStrip(self.workspace.keymap.shown)
        self.forecaster = Forecaster(self.workspace, self._accept_forecast)
        self.reach = ReachWatch(self.workspace, self.set_timer, self._reach_known)
        self.right = 2
        self.zoomed = False
        self.subject = "dim"
        self._seen_dims: dict[int, DimensionDetail] = {}
        self._token: tuple[str, Intervention, int | None, TokenDetail] | None = None
        self._asked_token: tuple[str, Intervention, int | None] = ("", Intervention(), None)
        self._stale: Timer | None = None
        self._one_paint = OnePaint(self.app)
        self._answered = ""  # the last prompt that had an answer
        self._warned: tuple[Intervention, tuple[int, ...]] | None = None  # of which lost tokens was told last
        self._kept: tuple[Session, str] | None = None  # the session and prompt of the answer kept for the next start
        self._refused: tuple[str, Intervention] | None = None  # the prompt and edit that have none
        self._titles: dict[int, str] = {}
        self._left: dict[tuple[str, str | None, int, int], tuple[EditHistory, object]] = {}  # by model, while we run

    @property
    def front(self) -> Front:
        """The app, by what the inspector needs of it."""
        return cast("Front", self.app)

    def compose(self) -> ComposeResult:
        """Two bars, the panes, the tour, two bars; and the sentence for a terminal that is too small."""
        yield self.status
        yield self.prompt_bar
        yield self.positions.strip
        yield self.continued.strip
        with Horizontal(id="main"):
            yield self.dims
            yield self.tokens
            with Vertical(id="side"):
                yield self.plot
                yield self.detail
        yield self.tour
        yield self.strip
        yield self.footer
        yield Static(id="small", markup=False)

    def on_mount(self) -> None:
        """The first frame: empty panes, the model's name."""
        self.front.changed.subscribe(self, self._workspace_changed)
        self.status.show((Field(short_name(self.workspace.options.model), 0, "title"), Field("opening", 1, "muted")))
        self.dims.focus()
        self.lay_out()

    def show_empty(self) -> None:
        """No model is open, and none is being opened."""
        self.status.show((Field("tpe", 0, "title"), Field("no model is open", 1, "muted")))

    def question(
        self,
        question: str,
        then: Callable[[str], None],
        value: str = "",
        hint: str = "",
        check: Check | None = None,
        *,
        shown: Callable[[str], str] | None = None,
        would: Callable[[str], Intervention] | None = None,
    ) -> None:
        """Ask for a line; `then` gets it, unless another model was opened meanwhile.

        `would` is the edit that a line would make: which tokens it makes unreachable is said below.
        """
        outcome = None if would is None else self._outcome(would)
        self.put(Ask(question, value, hint, check, shown=shown, outcome=outcome), then)

    def _outcome(self, would: Callable[[str], Intervention]) -> Callable[[str], tuple[str, bool]]:
        def outcome(text: str) -> tuple[str, bool]:
            table, edit = self.workspace.read_table, would(text)
            self.reach.propose(edit)
            known = self.reach.of(edit)
            return self.reach.words(edit, table.tokens if table else ()), known is not None and bool(known.ids)

        return outcome

    def put(self, question: Ask, then: Callable[[str], None]) -> None:
        """Put a question over the screen; `then` gets the answer, unless another model was opened meanwhile."""
        asked = self.workspace.history

        def answered(text: str | None) -> None:
            self.reach.propose(None)
            if text is not None and self.workspace.history is not asked:
                self.workspace.status.say(
                    "another model was opened meanwhile: the answer was about the one before", "warn"
                )
            elif text is not None:
                then(text)

        self.app.push_screen(question, answered)

    # layout

    def pane(self, number_: int) -> Panes:
        """A pane by its number."""
        panes: tuple[Panes, ...] = (self.dims, self.tokens, self.plot, self.detail, self.positions.strip)
        return panes[number_ - 1]

    @property
    def focused_pane(self) -> int:
        """The number of the focused pane; 1 where none is."""
        return next((index for index in (*NAMES, PROMPT_PANE) if self.pane(index) is self.focused), 1)

    @property
    def wide(self) -> bool:
        """Whether all four panes fit."""
        return self.size.width >= WIDE[0] and self.size.height >= WIDE[1]

    def visible_panes(self) -> set[int]:
        """The panes on screen."""
        if self.zoomed:
            return {self.right if self.focused_pane == PROMPT_PANE else self.focused_pane}
        return {1, 2, 3, 4} if self.wide else {1, self.right}

    def lay_out(self) -> None:
        """Show the panes that belong on screen now."""
        self.measure(self.workspace.keymap.shown)
        self.set_class(self.wide, "-wide")
        seen = self.visible_panes()
        for index in NAMES:
            self.pane(index).display = index in seen
        self.query_one("#side").display = bool(seen & {3, 4})
        self.retitle()

    def retitle(self) -> None:
        """Titles, with the other panes' names where they share one place; and the footer's keys."""
        focused = self.focused_pane
        for index, name in NAMES.items():
            info = (
                {1: self.dims.title(), 2: self.tokens.title()}.get(index, "")
                if self.workspace.table is not None
                else ""
            )
            parts: list[tuple[str, str]] = [
                (f"{'▸' if index == focused else ' '}{index} {name} ", "bold" if index == focused else "")
            ]
            if info:
                parts.append((f"· {info} ", ""))
            if not self.wide and not self.zoomed and index == self.right:
                others = [other for other in (2, 3, 4) if other != index]
                named = "".join(f"╱ {other} {NAMES[other]} " for other in others)
                used = sum(len(text) for text, _ in parts)
                fits = used + len(named) + 2 <= self.size.width * RIGHT_SHARE
                parts.append((named if fits else "".join(f"╱ {other} " for other in others), "dim"))
            if self.zoomed:
                parts.append((f"╱ {self.workspace.keymap.shown('pane.zoom')} shows the others ", "dim"))
            key = repr(parts)
            if self._titles.get(index) != key:
                self._titles[index] = key
                self.pane(index).border_title = Content.assemble(*parts)
        keys = self.workspace.keymap
        self.footer.show(tuple((name, keys.shown(name), BY_ID[name].label) for name in FOOTER[focused]))

    def show_pane(self, index: int, focus: bool = True) -> None:
        """Bring a pane on screen and, by default, focus it."""
        if index == PROMPT_PANE:
            self.set_focus(self.positions.strip, scroll_visible=False)
            return
        if index != 1:
            self.right = index
        if index in (1, 2):
            self.subject = "dim" if index == 1 else "token"
        if focus or self.zoomed:
            self.pane(index).display = True
            self.query_one("#side").display = index in (3, 4) or self.wide
            self.set_focus(self.pane(index), scroll_visible=False)
        self.lay_out()
        self.show_detail()
        self.show_plot()

    @on(events.DescendantFocus)
    def _focus_moved(self) -> None:
        if self.small:
            return  # nobody moved it, and the panes are not to be seen
        focused = self.focused_pane
        if focused in (1, 2):
            self.subject = "dim" if focused == 1 else "token"
        self.retitle()
        self.show_detail()

    def on_resize(self) -> None:
        """Another size can be another layout."""
        self.lay_out()
        self.call_after_refresh(self.show_detail)
        self.call_after_refresh(self.show_plot)

    # what the workspace and the engine say

    def _workspace_changed(self, change: Change) -> None:
        if change == "status":
            self.strip.repaint()
        elif change == "edit":
            self.edited()

    def show_session(self, session: Session, is_another: bool) -> None:
        """Show a session; of another model, its own view."""
        self.forecaster.begin(session)
        self.reach.begin(session)
        self._show_table(session.table, is_another)

    def show_kept(self, view: CachedView) -> None:
        """Show what was kept of a model that is still to be loaded: its table, and its last distribution."""
        self._show_table(view.table, is_another=True, answer=view.answer)

    def _show_table(self, table: EncodingTable, is_another: bool, answer: NextTokens | None = None) -> None:
        """Show what is open now; `answer` is what is known of its distribution."""
        begun = self.front.memory.begun
        self._seen_dims.clear()
        self._token = self._refused = None
        self.tokens.answer = None
        self.positions.forget()
        if is_another:
            self._answered = ""
            self.tokens.forget()
            self.dims.forget()
            self._restore_view(begun.view, is_whole=begun.is_whole)
            self.dims.bookmarks = {dim for dim in begun.view.bookmarks if 0 <= dim < len(table.slope)}
            self.tokens.marked = {token for token in begun.view.marked if 0 <= token < len(table.surprisal)}
        self.tokens.table = self.workspace.table
        self.dims.show(table, self.workspace.history.intervention.pruned)
        if is_another and begun.is_whole:
            self._restore_place(begun.view)
        self.prompt_bar.show(self.workspace.history.prompt)
        if answer is not None and self.current(answer):
            self._show_tokens(answer)
        self.edited()
        self.retitle()
        self.show_detail()

    def _restore_view(self, view: SavedView, *, is_whole: bool) -> None:
        """Sort key and plot of a session, and the order and filters where all of it comes back."""
        self.dims.sort = view.sort if view.sort in (*SORT_KEYS, *FURTHER_KEYS) else SORT_KEYS[0]
        self.dims.descending = view.descending
        self.plot.name_shown = view.plot if view.plot in PLOTS else next(iter(PLOTS))
        if is_whole:
            self.tokens.by_base, self.tokens.filter = view.by_base, view.tokens_filter
            self.continued.strip.set_class(view.continued, "-open")
            with suppress(TpeError):  # written by hand, or for columns that there are no more
                parse_filter(view.dims_filter)
                self.dims.filter = view.dims_filter

    def _restore_place(self, view: SavedView) -> None:
        """The cursor, the marked range and the selected token, where this model has them; the panes' layout."""
        table = self.workspace.table
        if table is None:
            return
        if 0 <= view.dim < len(table.slope):
            self.dims.select(view.dim)
        if 0 <= view.range_from < len(table.slope):
            self.dims.range_from = view.range_from
        if 0 <= view.token < len(table.surprisal):
            self.tokens.selected = view.token
        self.right = view.right if view.right in (2, 3, 4) else 2
        self.zoomed = view.zoomed
        self.show_pane(view.pane if view.pane in NAMES else 1)

    def view(self) -> SavedView:
        """What to restore at the next start: of a prompt that has no answer, the last one that had."""
        edit, unmarked = self.workspace.history.intervention, -1
        return SavedView(
            prompt=self.workspace.history.prompt if self._refused is None else self._answered,
            sort=self.dims.sort,
            descending=self.dims.descending,
            plot=self.plot.name_shown,
            method=self.workspace.history.method,
            replacement=edit.replacement,
            pane=self.focused_pane,
            right=self.right,
            zoomed=self.zoomed,
            dim=unmarked if self.dims.dim is None else self.dims.dim,
            range_from=unmarked if self.dims.range_from is None else self.dims.range_from,
            dims_filter=self.dims.filter,
            token=unmarked if self.tokens.selected is None else self.tokens.selected,
            by_base=self.tokens.by_base,
            tokens_filter=self.tokens.filter,
            continued=self.continued.strip.is_open,
            bookmarks=tuple(sorted(self.dims.bookmarks)),
            marked=tuple(sorted(self.tokens.marked)),
        )

    def _show_reading(self, progress: Progress) -> None:
        """A prompt takes long to be read: say how far it is, and which key ends it."""
        key = self.workspace.keymap.shown("run.cancel")
        note = f"{progress.label} {progress.fraction or 0:.0%}, {key} cancels"
        self.prompt_bar.show(self.workspace.history.prompt, note)

    def current(self, answer: NextTokens | None) -> bool:
        """Whether an answer belongs to the prompt and the edit in force."""
        return answer is not None and (answer.prompt, answer.intervention, answer.position) == self.subject_of_answers

    @property
    def subject_of_answers(self) -> tuple[str, Intervention, int | None]:
        """The prompt, the edit and the position in the prompt that are in force."""
        return self.workspace.history.prompt, self.workspace.history.intervention, self.positions.follow()

    def edited(self) -> None:
        """The prompt or the edit changed: show what is known at once and ask for the rest."""
        if self.workspace.table is None:
            return
        prompt, edit, _ = self.subject_of_answers
        self.tour.follow(edit, prompt)
        self.dims.mark(edit.pruned)
        ratios = self._ratios(edit)
        if self.current(self.tokens.answer):
            self._awaited()
            self.tokens.settle(ratios)
        else:
            self.tokens.wait(ratios)
            if self._stale is None:
                self._stale = self.set_timer(STALE_SECONDS, self.tokens.dim_stale)
        self.front.burst.later(self._follow_edit)

    def _follow_edit(self) -> None:
        """Ask for what is not known about the prompt and the edit in force, and show what they change."""
        session = self.workspace.session
        prompt, edit, position = self.subject_of_answers
        if self.current(self.tokens.answer):
            self._awaited()
        elif session is not None:
            self._ask_tokens(session, prompt, edit, position)
        self.positions.ask()
        self.continued.ask()
        self.forecaster.ask()
        self.reach.follow()
        self.show_status()
        self.show_plot()
        self.show_detail()

    def _ask_tokens(self, session: Session, prompt: str, edit: Intervention, position: int | None) -> None:
        if not self.front.burst.is_drawing:  # a burst's frame waits for nothing
            self._one_paint.begin()
        self.workspace.ask(
            "evaluate",
            lambda: session.evaluate(prompt, edit, position=position),
            self._accept_tokens,
            topic=(session, prompt),
            waiting=self._show_reading,
        )

    def _awaited(self) -> None:
        """No answer is awaited any more."""
        self._one_paint.end()
        if self._stale is not None:
            self._stale.stop()
            self._stale = None

    def _ratios(self, edit: Intervention) -> dict[int, float]:
        """The ratio of every steered token, by its id; the list learns which of them are in sets."""
        self.tokens.in_sets = frozenset(token_id for each in edit.sets for token_id in each.token_ids)
        return {entry.token_id: entry.ratio for entry in edit.steering}

    def _accept_tokens(self, answer: Answer) -> None:
        if answer.failure is not None:
            told = self._refuse(answer.failure)
            if self.workspace.is_given_up(answer):
                self.workspace.status.say(answer.failure.sentence, "warn")
            elif not told:
                self.workspace.fail("evaluate failed", answer.failure)
        elif isinstance(answer.value, NextTokens) and self.current(answer.value):
            self._show_tokens(answer.value)

    def _accept_forecast(self, answer: Answer) -> None:
        if answer.failure is not None:
            self.workspace.fail("forecast failed", answer.failure)
        elif isinstance(answer.value, PruningForecast):
            self.forecaster.answer = answer.value
            self.show_status()
            self.show_detail()

    def _reach_known(self) -> None:
        """More is known of which tokens an edit makes unreachable."""
        table, edit, top = self.workspace.table, self.workspace.history.intervention, self.app.screen
        if isinstance(top, Ask):
            top.look_again()
        if table is None:
            return
        lost = self.reach.of(edit)
        if lost is not None and lost.ids and self._warned != (edit, lost.ids):
            self._warned = edit, lost.ids
            undo = self.workspace.keymap.shown("mask.undo")
            self.workspace.status.say(f"{reach_words(lost, table.tokens)}; {undo} undoes", "warn")
        self.show_status()
        self.show_detail()

    def _accept_dim(self, answer: Answer) -> None:
        if answer.failure is not None:
            self.workspace.fail("dimension failed", answer.failure)
        elif isinstance(answer.value, DimensionDetail):
            self._seen_dims[answer.value.dim] = answer.value
            self.show_detail()

    def _accept_token(self, answer: Answer) -> None:
        if answer.failure is not None:
            self.workspace.fail("token failed", answer.failure)
        elif isinstance(answer.value, TokenDetail):
            self._token = (*self._asked_token, answer.value)
            if self._token_known(answer.value.token_id)[1]:
                self.tokens.learn(answer.value)
            self.show_detail()

    def _refuse(self, failure: Failure) -> bool:
        """Nothing that is shown is about the prompt and edit in force: take it away. Whether it was said already."""
        told = self._refused is not None and self.tokens.refusal == failure.sentence
        self._refused = self.workspace.history.prompt, self.workspace.history.intervention
        self._awaited()
        self._token = None
        self.tokens.refuse(failure.sentence, self._ratios(self.workspace.history.intervention))
        self.prompt_bar.show(self.workspace.history.prompt, "no answer")
        self.show_status()
        self.show_detail()
        self.front.remember()
        return told

    def _show_tokens(self, answer: NextTokens) -> None:
        first, new = self.tokens.answer is None, self._answered != answer.prompt
        self._refused, self._answered = None, answer.prompt
        session = self.workspace.session
        if new:
            self.front.remember()
        if session is not None and answer.position is None:  # both are about what comes after the whole prompt
            self._note(answer)
            if self._kept != (session, answer.prompt):
                self._kept = session, answer.prompt
                self.workspace.ask("keep the answer", lambda: session.keep_answer(answer), lambda _: None)
        self._awaited()
        self.tokens.show(answer, self._ratios(answer.intervention))
        if first:
            self.retitle()
        note = f"{answer.prompt_tokens} tokens" if answer.prompt_tokens != 1 else "1 token"
        if answer.truncated:
            note += f", first {answer.truncated} cut"
        self.prompt_bar.show(answer.prompt, note)
        self.show_status()
        self.show_detail()

    def _note(self, answer: NextTokens) -> None:
        """Write down in the notebook what an edit does after the prompt."""
        notebook, table = self.workspace.notebook, self.workspace.table
        if table is None:
            return
        model, edit = self.workspace.options.model, answer.intervention
        base, now = (table.tokens[int(answer.ids[side.argmax()])] for side in (answer.base, answer.now))
        before = notebook.last_edit(model)
        notebook.record(
            Note(
                time=time.time(), model=model, prompt=answer.prompt, edit=edit, kl=answer.kl, js=answer.js,
                change="" if edit == before else change_between(before, edit, table.tokens), top_base=base, top_now=now,
            )
        )  # fmt: skip

    # what is shown

    def show_status(self) -> None:
        """The status line."""
        table, preview = self.workspace.table, self.workspace.preview
        if table is None:
            return
        edit, answer = self.workspace.history.intervention, self.tokens.answer
        forecast = self.forecaster.of(edit)
        fields = list(inspect_fields(table, edit, answer, self.current(answer), forecast, lost=self.reach.of(edit)))
        if preview is not None:
            state = "model not loaded" if self.workspace.opening_failed else "model still loading"
            fields.append(Field(f"from {clock_or_date(preview.made)}, {state}", 1, "warn"))
        if self.workspace.history.is_unsaved:
            fields.append(Field("not exported", 4, "warn"))  # what the edit is and costs comes first
        if self._refused is not None:
            fields.append(Field("no answer", 2, "bad"))
        if self.positions.place:
            fields.append(Field(self.positions.place, 2))
        self.status.show(tuple(fields))

    def show_plot(self) -> None:
        """The plot, if anyone sees it."""
        if self.workspace.read_table is not None and 3 in self.visible_panes():
            self.plot.show(self.workspace.read_table, self.dims.pruned)

    def show_detail(self) -> None:
        """The detail of what the cursor is on, if anyone sees it; ask for what is not known."""
        session, table = self.workspace.session, self.workspace.table
        if table is None:
            return
        seen = 4 in self.visible_panes()
        token_id, dim = self.tokens.token_id, self.dims.dim
        pinned = token_id is not None and self.tokens.rows[self.tokens.cursor].pinned
        if token_id is not None and (pinned or (seen and self.subject == "token")):
            figures, fresh = self._token_known(token_id)
            if not fresh and not self.tokens.pending and session is not None:
                prompt, edit, position = self._asked_token = self.subject_of_answers
                self.workspace.ask("token", lambda: session.token(token_id, prompt, edit, position), self._accept_token)
            if seen and self.subject == "token":
                lost = self.reach.of(self.workspace.history.intervention)
                self.detail.show_token(
                    table, token_id, figures, pending=not fresh, lost=lost is not None and token_id in lost.ids
                )
        elif seen and self.subject == "token" and self._refused is not None:
            self.detail.clear()
        if seen and self.subject == "dim" and dim is not None:
            preview = self.workspace.preview
            known = self._seen_dims.get(dim) if preview is None else preview.dimension(dim)
            pruned = bool(self.dims.pruned[dim])
            edit = self.workspace.history.intervention
            toggled = edit.toggle([dim])
            self.reach.at_cursor(toggled)
            new = lost_besides(self.reach.of(toggled), self.reach.of(edit))
            self.detail.show_dim(
                table, dim, int(self.dims.rank[dim]), pruned, known, forecast=self.forecaster.of(edit), lost=new
            )
            if known is None and session is not None:
                self.workspace.ask("dimension", lambda: session.dimension(dim), self._accept_dim)

    def _token_known(self, token_id: int) -> tuple[TokenDetail | None, bool]:
        """The last answer about a token, and whether it is for the prompt and edit in force."""
        if self._token is None or self._token[-1].token_id != token_id:
            return None, False
        *asked, figures = self._token
        return figures, tuple(asked) == self.subject_of_answers

    @on(ListPane.Sorted)
    def _sorted_by_click(self, event: ListPane.Sorted) -> None:
        event.stop()
        self.retitle()
        self.show_detail()

    @on(ListPane.Moved)
    def _cursor_moved(self, event: ListPane.Moved) -> None:
        event.stop()
        focused = self.focused_pane
        if focused not in (1, 2) or event.pane is self.pane(focused):  # the subject is of the pane that has the focus
            self.subject = "dim" if event.pane is self.dims else "token"
        self.front.burst.later(self.show_detail)

    @on(TokenStrip.Chosen)
    def _position_chosen(self, event: TokenStrip.Chosen) -> None:
        event.stop()
        self.positions.choose(event.position)

    @on(Footer.Pressed)
    async def _footer_pressed(self, event: Footer.Pressed) -> None:
        event.stop()
        await self.run_action(BY_ID[event.action_id].method)

    @on(PromptBar.Pressed)
    async def _prompt_pressed(self, event: PromptBar.Pressed) -> None:
        event.stop()
        await self.run_action(BY_ID["run.prompt"].method)
