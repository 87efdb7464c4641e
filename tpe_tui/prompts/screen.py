"""The screen of several prompts: what the edit in force does after each of them, followed as it changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from tpe_core.edits.intervention import Intervention
from tpe_core.outputs import shown_path
from tpe_core.progress import Progress
from tpe_core.prompt_files import check_prompts_file, read_prompts, write_prompts
from tpe_tui.cells import count, number, typed_prompt
from tpe_tui.command_line import command_lines, mask_name
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.ask_prompt import AskPrompt
from tpe_tui.dialogs.reading import nothing_there
from tpe_tui.dialogs.saving import ask_where, typed_path
from tpe_tui.edit_words import edit_sizes
from tpe_tui.engine.messages import Answer
from tpe_tui.prompts.state import PromptList
from tpe_tui.prompts.table import PromptTable
from tpe_tui.study import COMMON_KEYS, ListStudy, bindings, list_keys
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.workspace import Change, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpe_core.snapshots import PromptCost

__all__ = ["KEYS", "PromptsScreen"]

KEYS: tuple[tuple[str, str, str], ...] = (
    *list_keys("prompt"),
    ("enter", "choose", "make it the inspector's prompt, and go back"),
    ("a", "add", "add a prompt"),
    ("d", "delete", "delete the prompt from the list"),
    ("r", "read", "add the prompts of a file: a line each, or a record each"),
    ("out.export", "write", "write the prompts to a file, .txt or .jsonl"),
    ("table.sort", "sort", "order by KL, or as they came"),
    ("mask.bottom", "inspector('mask_bottom')", "prune the bottom share by the current sort key"),
    ("mask.replacement", "inspector('mask_replacement')", "what a pruned dimension becomes"),
    ("mask.clear", "inspector('mask_clear')", "clear every edit"),
    ("mask.undo", "inspector('mask_undo')", "undo"),
    ("mask.redo", "inspector('mask_redo')", "redo"),
    ("run.cancel", "cancel", "stop reading the prompts"),
    ("out.copy", "copy", "copy the row, to the clipboard and to a file"),
    ("out.headless", "headless", "the command line that shows this prompt"),
    *COMMON_KEYS,
    ("app.help", "help", "these keys"),
    ("app.escape", "leave", "back to the inspector"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("prompt.list", "leave"), ("q", "leave"))
FOOTER = (
    ("choose", "Take"), ("add", "Add"), ("delete", "Delete"), ("read", "Read"), ("write", "Write"),
    ("sort", "Sort"), ("help", "Keys"), ("leave", "Back"),
)  # fmt: skip
PORTION = 8  # prompts that are asked for at a time: a key waits for no more
KIND = "prompts"  # of the requests


class PromptsScreen(ListStudy):
    """Shows `state`; closed with None. `chosen` is then the prompt that the inspector takes.

    `earlier` are the prompts that were asked before, `edit_text` opens the user's editor, `act` does in the inspector
    what a key does there.
    """

    NAME, KEYS, FOOTER = "Prompts", KEYS, FOOTER
    NOTES = (
        "KL is of the next-token distribution after the prompt, KL(base || edited), nats.",
        "top-1 is the most probable token there, without the edit and with it.",
        "● is the inspector's prompt.",
    )
    COUNTED = frozenset({"move", "page"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(
        self,
        workspace: Workspace,
        state: PromptList,
        earlier: Callable[[], Sequence[str]],
        edit_text: Callable[[str], str],
        *,
        act: Callable[[str], Awaitable[object]],
    ) -> None:
        super().__init__(workspace)
        self.state = state
        self.list = PromptTable(state)
        self.chosen: str | None = None
        self._earlier, self._edit_text, self._act = earlier, edit_text, act
        self._asked: tuple[Intervention, tuple[str, ...]] | None = None
        self._reading = ""

    @property
    def listed(self) -> ListPane:
        """The list."""
        return self.list

    def compose_panes(self) -> ComposeResult:
        """The list."""
        yield self.list

    def on_mount(self) -> None:
        """Show what is known, ask for the rest; an empty list begins with the inspector's prompt."""
        prompt = self.workspace.history.prompt
        if not self.state.prompts:
            self.state.add([prompt])
        self.list.cursor = self.state.cursor
        self.list.focus()
        self._refill(prompt)
        self.call_after_refresh(self._ask)

    @property
    def settled(self) -> bool:
        """Whether every prompt has its figures under the edit in force."""
        return not self.state.lacking(self.workspace.history.intervention, ())

    # what is shown

    def follow(self, change: Change) -> None:
        """Another edit has other figures, another session none of these."""
        if change == "session":
            self.state.forget()
            self._asked = None
        self._refill(self.list.prompt)
        self._ask()

    def _refill(self, at: str | None) -> None:
        history = self.workspace.history
        self.list.show(self.workspace.table, history.intervention, history.prompt, at)
        self.show()

    def show(self) -> None:
        """The bars and the title."""
        edit = self.workspace.history.intervention
        known, changed, mean, most = self.state.summary(edit)
        many = f"{count(len(self.state.prompts))} prompts" if len(self.state.prompts) != 1 else "1 prompt"
        self.list.border_title = f" {many} · {self._reading or 'under ' + (edit_sizes(edit) or 'no edit')} "
        self.state.cursor = self.list.cursor
        fields = [
            Field(f"KL mean {number(mean)}, most {number(most)}", 1),
            Field(f"top-1 changed {changed} of {known}", 2, "steered" if changed else "row"),
        ]
        self.show_bars(fields if known else [])

    def _ask(self) -> None:
        """Ask for the next few prompts that have no figures, those on the screen first."""
        session, edit = self.workspace.session, self.workspace.history.intervention
        portion = tuple(self.state.lacking(edit, self.list.seen)[:PORTION])
        if session is None or not portion or not self.is_open or self._asked == (edit, portion):
            return
        self._asked = edit, portion
        self.workspace.ask(
            KIND,
            lambda: session.compare_prompts(portion, edit),
            self._accept,
            topic=(session, edit, portion),
            waiting=self._wait,
        )

    def _wait(self, progress: Progress) -> None:
        self._reading = f"{progress.label} {progress.fraction or 0:.0%}"
        self.show()

    def _accept(self, answer: Answer) -> None:
        self._reading = ""
        if answer.failure is not None:
            self.say(f"prompts: {answer.failure.sentence}", "warn")
        else:
            self.state.learn(cast("Sequence[PromptCost]", answer.value))
        if self.is_open:
            self._refill(self.list.prompt)
            if answer.failure is None:
                self._ask()

    @on(ListPane.Moved)
    def _moved(self, event: ListPane.Moved) -> None:
        event.stop()
        self.show()

    # keys

    def action_choose(self) -> None:
        """Close, for the inspector to take the prompt."""
        self.chosen = self.list.prompt
        self.dismiss(None)

    def action_add(self) -> None:
        """Ask for a prompt."""

        def answered(line: str | None) -> None:
            if line is not None:
                self._add([typed_prompt(line)], "that prompt is in the list already")

        self.frame.push_screen(
            AskPrompt(self.workspace.history.prompt, "is added to the list", self._earlier(), self._edit_text), answered
        )

    def _add(self, prompts: Sequence[str], nothing: str) -> None:
        added = self.state.add(prompts)
        if added:
            self.say(f"{count(added)} prompts added" if added != 1 else "1 prompt added")
            self._refill(self.state.prompts[-added])
        else:
            self.say(nothing, "warn")
        self._ask()

    def action_delete(self) -> None:
        """Take the prompt out of the list."""
        if self.list.prompt is not None:
            self.state.delete(self.list.prompt)
            self._refill(None)

    def action_read(self) -> None:
        """Ask for a file, then add its prompts."""

        def answered(text: str | None) -> None:
            if text is not None:
                path, self.state.read_from = typed_path(text), text.strip()
                self.workspace.ask("read prompts", lambda: read_prompts(path), lambda answer: self._read(path, answer))

        offered = self.state.read_from or self.state.saved
        hint = "a text file with a prompt a line, or JSON lines with a field text"
        self.frame.push_screen(Ask("read prompts from", offered, hint, nothing_there), answered)

    def _read(self, path: Path, answer: Answer) -> None:
        if answer.failure is not None:
            self.say(answer.failure.sentence, "bad")
        else:
            self.state.read_from = ""
            self._add(cast("Sequence[str]", answer.value), f"every prompt of {shown_path(path)} is in the list already")

    def action_write(self) -> None:
        """Ask for a file, then write the prompts to it."""
        prompts = list(self.state.prompts)
        if not prompts:
            self.say("there is no prompt to write", "warn")
            return

        def check(path: Path, replace: bool) -> None:
            check_prompts_file(path, prompts, replace=replace)

        def write(path: Path, replace: bool) -> None:
            write_prompts(path, prompts, replace=replace)
            self.state.saved = str(path)
            self.say(f"written to {shown_path(path)}", "good")

        offered = self.state.saved or "tpe-prompts.jsonl"
        ask_where(self.frame, "write the prompts to", offered, ".txt, a prompt a line, or .jsonl", check, write)

    def action_sort(self) -> None:
        """Order by KL, or as they came."""
        self.state.by_kl = not self.state.by_kl
        self._refill(self.list.prompt)
        self._ask()

    def action_cancel(self) -> None:
        """Stop reading, or the running job."""
        self.workspace.cancel()

    async def action_inspector(self, action: str) -> None:
        """Do what a key does in the inspector."""
        await self._act(action)

    def action_copy(self) -> None:
        """Copy the row."""
        if text := self.list.copy_text():
            self.say(self.frame.copy_text(text))

    def headless(self) -> str:
        """The command lines for the prompt under the cursor."""
        options, history = self.workspace.options, self.workspace.history
        return command_lines(options, self.list.prompt or history.prompt, history.intervention, mask_name(options))
