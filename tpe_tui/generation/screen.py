"""The generate screen: one prompt continued with and without the edit, token by token, while dimensions are toggled.

It shows a `GenerateState`, changes how it is drawn, and starts and stops the job that feeds it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer

from tpe_core.errors import TpeError
from tpe_core.generation.paired import Continuation, pair_files
from tpe_core.snapshots import EncodingTable
from tpe_tui.cells import number
from tpe_tui.command_line import default_name, generate_lines
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.saving import ask_where
from tpe_tui.generation.job import save_generation, start_generation, stop_generation, tell_controls
from tpe_tui.generation.keys import ALSO, FOOTER, KEYS
from tpe_tui.generation.state import GenerateState, drawn_text
from tpe_tui.generation.text import edit_text, plain_lines
from tpe_tui.generation.text_pane import PairPane, SaidPane, StepPane
from tpe_tui.study import StudyScreen, bindings
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.dim_table import DimTable
from tpe_tui.workspace import Change, Workspace

__all__ = ["GenerateScreen"]

COUNTED_THERE = ("mask_undo", "mask_redo")
FRAME_SECONDS = 0.05  # between two pictures of a text that grows faster than one can see


class GenerateScreen(StudyScreen):
    """Shows `state` and changes the edit in force.

    `beside` are the inspector's dimensions, whose order these have; `actions` does what a key does there, by its id.
    """

    NAME, KEYS, FOOTER = "Generation", KEYS, FOOTER
    COUNTED = frozenset({"look", "dims", "page"})
    NOTES = (
        "Both sides draw with the same random numbers, so the first difference is the edit's.",
        "Probabilities are the model's own: temperature 1, all tokens.",
        "A toggle holds from the next token on; what is written stays.",
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(
        self,
        workspace: Workspace,
        state: GenerateState,
        table: EncodingTable,
        beside: DimTable,
        *,
        act: Callable[[str], Awaitable[object]],
        again: bool = True,
    ) -> None:
        """Without `again` what is written stays, also where it is the text of another prompt."""
        super().__init__(workspace)
        self._begins, self._prompt = again, workspace.history.prompt
        self.state, self.table, self.beside, self._act = state, table, beside, act
        self.dims = DimTable()
        self.dims.sort, self.dims.descending = beside.sort, beside.descending
        self.base = SaidPane(state, "base")
        self.edited = SaidPane(state, "edited")
        self.steps = StepPane(state)
        self._frame: Timer | None = None

    def compose_panes(self) -> ComposeResult:
        """The dimensions, both texts, the step looked at."""
        with Horizontal(id="generation"):
            yield self.dims
            with Vertical(id="texts"):
                yield self.base
                yield self.edited
        yield self.steps

    def on_mount(self) -> None:
        """Write at once, unless the text of this prompt is there already."""
        self.dims.show(self.table, self.workspace.history.intervention.pruned)
        if self.beside.dim is not None:
            self.dims.select(self.beside.dim)  # at once: the next key may prune it
            self.dims.top = 0  # it is scrolled into view once it is known how many rows fit
        self.dims.focus()
        if self._begins and not self._is_of(self.workspace.history.prompt):
            self.action_again()
        else:
            tell_controls(self.workspace, self.state)
        self.show()

    def _is_of(self, prompt: str) -> bool:
        """Whether what is written, or being written, is the text of a prompt."""
        state = self.state
        return prompt == (state.prompt if state.pair is None else state.pair.prompt)

    # what happens below

    def follow(self, change: Change) -> None:
        """Show a change of the workspace: the text has grown, or another edit or prompt is in force."""
        if change == "job":
            self.grown(now=self.state.job is None)
        else:
            self.edit_changed()

    def grown(self, now: bool) -> None:
        """The text has grown, or is done; not every token of a fast model is worth a picture."""
        if now:
            self.show()
        elif self._frame is None:
            self._frame = self.set_timer(FRAME_SECONDS, self.show)

    def edit_changed(self) -> None:
        """Another edit holds from the next token on; another prompt is another text."""
        tell_controls(self.workspace, self.state)
        self.dims.mark(self.workspace.history.intervention.pruned)
        prompt = self.workspace.history.prompt
        if prompt != self._prompt:
            self._prompt = prompt
            self.action_again()
        self.show()

    # what is shown

    def show(self) -> None:
        """Everything, as it is now."""
        if self._frame is not None:
            self._frame.stop()
            self._frame = None
        self.set_class(self.wide, "-beside")
        state, pair = self.state, self.state.pair
        prompt = self.workspace.history.prompt if pair is None else pair.prompt
        waits = self.waits(state.job) if state.job is not None else ""
        problem = state.problem or waits
        notes = ("Nothing is written.", "", problem) if problem and pair is None else ()
        sides = (None, None) if pair is None else (pair.base, pair.edited)
        for pane, side in zip((self.base, self.edited), sides, strict=True):
            pane.show(prompt, notes)
            name = "Edited" if pane is self.edited else "Base"
            about = (
                f"· {edit_text(self.workspace.history.intervention)}" if pane is self.edited else "· as the model is"
            )
            pane.border_title = Content.assemble((f" {name} ", "bold"), f"{about} {self._how_far(side)}")
        step = f" Token {state.step + 1} of {state.steps} " if state.steps else " No token yet "
        following = "" if state.at is not None or not state.steps else "· follows the text "
        self.steps.border_title = Content.assemble((step, "bold"), following)
        self.steps.repaint()
        self.dims.border_title = Content.assemble((" Dims ", "bold"), f"· {self.dims.title()} ")
        self.show_bars(self._fields(), {"pause": "Stop" if state.job is not None else "Go on"})

    def _how_far(self, side: Continuation | None) -> str:
        if side is None or not side.ended:
            return ""
        return f"· ended at {len(side.tokens)} "

    def _fields(self) -> tuple[Field, ...]:
        state, pair = self.state, self.state.pair
        fields = [Field(drawn_text(state.decoding), 4)]
        if pair is not None and pair.steps:
            at = pair.first_difference
            apart = f"differs at token {at + 1}" if at is not None else "no difference yet"
            fields.append(Field(apart, 1, "row" if at is None else "steered"))
            fields.append(Field(f"KL {number(pair.edited.tokens[-1].kl)}", 2))
        if state.job is not None:
            rate = "" if math.isnan(state.rate) else f"{state.rate:.3g}/s"
            fields.append(Field(rate if math.isinf(state.pace) else f"{rate} (at most {state.pace:g})", 5, "muted"))
        return tuple(fields)

    # the dimensions

    def action_dims(self, rows: int) -> None:
        """Move in the list."""
        self.dims.go(self.dims.cursor + rows)

    def action_page(self, pages: float) -> None:
        """Move by pages, whole or half."""
        self.dims.go(self.dims.cursor + int(pages * self.dims.page))

    def action_prune(self) -> None:
        """Prune or restore the dimension under the cursor, from the next token on."""
        dim = self.dims.dim
        if dim is None:
            return
        edit = self.workspace.history.intervention.toggle((dim,))
        self.workspace.apply(edit, f"dim {dim} {'pruned' if dim in edit.pruned else 'kept'}, from the next token on")

    async def action_inspector(self, action: str) -> None:
        """Do what a key does in the inspector; this screen is told of another edit."""
        await self._act(action)
        self.dims.sort, self.dims.descending = self.beside.sort, self.beside.descending
        self.dims.rebuild()
        self.show()

    # the text

    def action_again(self) -> None:
        """From the beginning."""
        start_generation(self.workspace, self.state)
        self.show()

    def action_pause(self) -> None:
        """Stop, or go on where it stopped."""
        state = self.state
        if state.job is not None:
            stop_generation(self.workspace, state)
        elif state.pair is None:
            start_generation(self.workspace, state)
        elif state.pair.base.ended and state.pair.edited.ended:
            self.say(f"both texts have ended; {self.key('N')} takes other random numbers", "row")
        else:
            start_generation(self.workspace, state, further=True)
        self.show()

    def action_stop(self) -> None:
        """Stop; say so where nothing runs."""
        self.workspace.cancel(self.state.job)
        self.show()

    def action_look(self, steps: int) -> None:
        """Look at another token."""
        self.state.move(steps)
        self.show()

    def action_difference(self) -> None:
        """Look at the first difference."""
        pair = self.state.pair
        at = None if pair is None else pair.first_difference
        if at is None:
            self.say("there is no difference yet")
        else:
            self.state.at = at
        self.show()

    def action_colour(self) -> None:
        """Colour the edited text by what either head gives its tokens."""
        self.state.by_base = not self.state.by_base
        whose = "the unedited head" if self.state.by_base else "its own head"
        self.say(f"the edited text is coloured by what {whose} gives its tokens")
        self.show()

    def action_pace(self, by: int) -> None:
        """Faster or slower, at once."""
        self.state.faster(by)
        tell_controls(self.workspace, self.state)
        pace = self.state.pace
        self.say("as fast as it can" if math.isinf(pace) else f"at most {pace:g} tokens a second")
        self.show()

    def action_back(self) -> None:
        """Follow the text again; where it is followed, leave."""
        if self.state.at is None:
            self.action_leave()
        else:
            self.state.at = None
            self.show()

    # how it is drawn

    def action_next_seed(self) -> None:
        """Again, with other random numbers."""
        self.state.decoding = replace(self.state.decoding, seed=self.state.decoding.seed + 1)
        self.action_again()

    def action_set(self, name: str, hint: str) -> None:
        """Type one setting; the text is written again with it."""
        state = self.state

        def check(text: str) -> str | None:
            try:
                state.with_setting(name, text)
            except TpeError as error:
                return str(error)
            return None

        def answered(text: str | None) -> None:
            if text is not None:
                state.decoding = state.with_setting(name, text)
                self.action_again()

        question = name.replace("_", "-")
        self.app.push_screen(Ask(question, f"{getattr(state.decoding, name)}", hint, check), answered)

    # out

    def _lines(self) -> list[str]:
        pair = self.state.pair
        return [] if pair is None else plain_lines(pair, self.subject, self.table.info.hidden_size)

    def action_copy(self) -> None:
        """Both texts."""
        if self.state.pair is not None:
            self.say(self.frame.copy_text("\n".join(self._lines())))
            self.show()

    def action_save(self) -> None:
        """Both texts and every figure."""
        if self.state.pair is None:
            self.say("nothing is written yet")
            return

        def check(path: Path, replace: bool) -> None:
            pair_files(path, replace=replace)

        def write(path: Path, replace: bool) -> None:
            save_generation(self.workspace, self.state, path, self._lines(), replace)

        options = self.workspace.options
        name = self.state.saved or default_name("tpe-texts", options.model, options.revision, options.adapter)
        ask_where(self.app, "save the texts to", name, "NAME.json and NAME.txt", check, write)

    @classmethod
    def counted_action(cls, action: str, count: int) -> str | None:
        """An action that takes a number, with it: undoing and redoing as in the inspector."""
        name = action.removeprefix("inspector('").removesuffix("')")
        return f"inspector('{name}({count})')" if name in COUNTED_THERE else super().counted_action(action, count)

    def headless(self) -> str:
        """The command lines that write this text."""
        history, pair = self.workspace.history, self.state.pair
        drawn = self.state.decoding if pair is None else pair.decoding  # whose length is what the context holds
        changed = pair is not None and any(edit != history.intervention for _, edit in pair.edits)
        return generate_lines(self.workspace.options, history.prompt, history.intervention, drawn, changed)

    @on(PairPane.Pointed)
    def _pointed(self, event: PairPane.Pointed) -> None:
        event.stop()
        self.state.at = None
        self.state.move(event.step - self.state.step)
        self.show()

    @on(events.DescendantFocus)
    def _keep_focus(self) -> None:
        """The keys move in the list whatever was clicked."""
        if self.focused is not self.dims:
            self.dims.focus()
