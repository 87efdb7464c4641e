"""The edits screen: go back to any step, name an edit, compare two, write all that was tried to a notebook."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType

from tpe_core.edits.intervention import Intervention
from tpe_core.notebook import check_notebook_file, write_notebook
from tpe_core.outputs import shown_path
from tpe_core.pauses import pause
from tpe_core.snapshots import NextTokens
from tpe_tui.command_line import default_name
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.saving import ask_where
from tpe_tui.edit_words import change_between, compared, edit_sizes
from tpe_tui.edits.table import EditRow, EditsTable
from tpe_tui.engine.messages import Answer
from tpe_tui.study import COMMON_KEYS, ListStudy, bindings, list_keys
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.workspace import Change, Workspace

__all__ = ["EditsScreen"]

ASKED = "figures of edits"
LONGEST_NAME = 60  # characters

KEYS: tuple[tuple[str, str, str], ...] = (
    *list_keys("edit"),
    ("enter", "apply", "bring the edit into force and go back; the other steps stay"),
    ("n", "name", "name the edit, to come back to it whatever is undone"),
    ("X", "forget", "forget the name"),
    ("d", "compare", "compare the edit with the one in force"),
    ("out.export", "export", "write every edit that was tried to a notebook, Markdown or JSON"),
    ("out.copy", "copy", "copy the edit's words, to the clipboard and to a file"),
    *COMMON_KEYS,
    ("out.headless", "headless", "how to have the same without a screen"),
    ("app.help", "help", "these keys"),
    ("app.escape", "leave", "back to the inspector"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("run.edits", "leave"), ("q", "leave"))
FOOTER = (
    ("apply", "Apply"), ("name", "Name"), ("compare", "Compare"), ("export", "Notebook"), ("help", "Keys"),
    ("leave", "Back"),
)  # fmt: skip


class EditsScreen(ListStudy):
    """Closed with None; what is applied is in force in the workspace already."""

    NAME, KEYS, FOOTER = "Edits", KEYS, FOOTER
    COUNTED = frozenset({"move", "page"})
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(self, workspace: Workspace) -> None:
        """List the workspace's edits."""
        super().__init__(workspace)
        self.table = EditsTable()
        self._figures: dict[Intervention, NextTokens] = {}
        self._of = (workspace.session, workspace.history.prompt)  # what the figures are of
        self._exported = ""

    @property
    def listed(self) -> ListPane:
        """The list."""
        return self.table

    def compose_panes(self) -> ComposeResult:
        """The table alone."""
        yield self.table

    def on_mount(self) -> None:
        """Begin at the step in force."""
        self.table.focus()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.show()
        self.table.go(len(self.workspace.history.named) + self.workspace.history.position)
        self._ask()

    def follow(self, change: Change) -> None:
        """Another edit, prompt or session."""
        self.show()
        self._ask()

    def show(self) -> None:
        """Every edit, with the figures that are known."""
        history, table = self.workspace.history, self.workspace.table
        if table is None:
            return
        of = (self.workspace.session, history.prompt)
        if of != self._of:
            self._figures, self._of = {}, of
        pane, steps = self.table, history.steps
        words = ["as it began", *(change_between(a, b, table.tokens) for a, b in itertools.pairwise(steps))]
        pane.rows = [
            *(EditRow(edit, name) for name, edit in history.named.items()),
            *(EditRow(edit, said, step) for step, (edit, said) in enumerate(zip(steps, words, strict=True))),
        ]
        pane.figures, pane.position, pane.now, pane.tokens = (
            self._figures, history.position, history.intervention, table.tokens
        )  # fmt: skip
        pane.go(pane.cursor, quiet=True)
        pane.repaint()
        done = len(steps) - 1
        undone = done - history.position
        self.show_bars((
            Field(f"{done} step{'' if done == 1 else 's'}" + (f", {undone} undone" if undone else ""), 1),
            Field(f"{len(history.named)} named" if history.named else "", 2, "steered"),
            Field(f"{len(self.workspace.notebook.notes)} in the notebook", 4, "muted"),
        ))  # fmt: skip

    # figures

    def _ask(self) -> None:
        """Ask for what the edits in view do, where that is not known."""
        session, prompt = self.workspace.session, self.workspace.history.prompt
        wanted = [row.edit for row in self.table.seen if row.edit not in self._figures]
        if session is None or not wanted:
            return
        edits = tuple(dict.fromkeys(wanted))

        def figures() -> list[tuple[Intervention, NextTokens]]:
            answers = []
            for edit in edits:
                pause(None)
                answers.append((edit, session.evaluate(prompt, edit)))
            return answers

        self.workspace.ask(ASKED, figures, lambda answer: self._accept((session, prompt), answer), topic=edits)

    def _accept(self, of: tuple[object, str], answer: Answer) -> None:
        if not self.is_open or of != self._of:
            return
        if answer.failure is not None:
            self.say(answer.failure.sentence, "bad")
            return
        self._figures.update(cast("list[tuple[Intervention, NextTokens]]", answer.value))
        self.show()

    # keys

    def on_list_pane_moved(self, event: ListPane.Moved) -> None:
        """Other rows may be in view."""
        event.stop()
        self._ask()

    def action_apply(self) -> None:
        """Bring the edit into force."""
        row, history = self.table.chosen, self.workspace.history
        if row is None:
            return
        step = row.step
        undo = self.workspace.keymap.shown("mask.undo")
        if step is None:
            done = self.workspace.apply(row.edit, f"{row.words} is in force; {undo} undoes")
        else:
            done = self.workspace.edit(
                lambda: history.go_to(step), f"step {step} is in force", "that step is in force already"
            )
        if done:
            self.dismiss(None)

    def action_name(self) -> None:
        """Ask for a name of the edit under the cursor."""
        row = self.table.chosen
        if row is None:
            return

        def check(text: str) -> str | None:
            name = text.strip()
            if not name:
                return "type a name, esc leaves"
            if len(name) > LONGEST_NAME:
                return f"a name has at most {LONGEST_NAME} characters"
            taken = self.workspace.history.named.get(name)
            return None if taken in (None, row.edit) else f"{name} is another edit's name ({edit_sizes(taken)})"

        def answered(text: str | None) -> None:
            if text is not None:
                named = self.workspace.history.named
                is_new = text.strip() not in named
                named[text.strip()] = row.edit
                self.workspace.changed("edit")
                self.table.go(self.table.cursor + (is_new and row.step is not None))
                self.say(f"named {text.strip()}")

        hint = "it is kept under this name, whatever is undone"
        self.frame.push_screen(
            Ask("name of the edit", "" if row.step is not None else row.words, hint, check), answered
        )

    def action_forget(self) -> None:
        """Forget the name under the cursor; the edit stays where it is a step."""
        row = self.table.chosen
        if row is None or row.step is not None:
            self.say("only named edits can be forgotten: they stand first", "warn")
            return
        del self.workspace.history.named[row.words]
        self.workspace.changed("edit")
        self.say(f"{row.words} is forgotten")

    def action_compare(self) -> None:
        """What the edit under the cursor and the one in force have and lack."""
        row, table = self.table.chosen, self.workspace.table
        if row is None or table is None:
            return
        name = row.words if row.step is None else f"step {row.step}"
        text = compared(
            (name, row.edit, self._figures.get(row.edit)),
            ("the edit in force", self.table.now, self._figures.get(self.table.now)),
            table.tokens,
        )
        self.frame.push_screen(TextScreen(f"{name} and the edit in force", text, self.frame.copy_text))

    def action_export(self) -> None:
        """Ask where to, then write the notebook."""
        notebook, options = self.workspace.notebook, self.workspace.options

        def check(path: Path, replace: bool) -> None:
            check_notebook_file(path, replace=replace)

        def write(path: Path, replace: bool) -> None:
            write_notebook(notebook, path, replace=replace)
            self._exported = str(path)
            self.say(f"written to {shown_path(path)}", "good")

        name = default_name("tpe-notebook", options.model, options.revision, options.adapter)
        offered = self._exported or name.removesuffix(".json") + ".md"
        ask_where(self.frame, "write the notebook to", offered, "a .md or .json file", check, write)

    def action_copy(self) -> None:
        """Copy the edit's words."""
        if text := self.table.copy_text():
            self.say(self.frame.copy_text(text))

    def headless(self) -> str:
        """Edits without a screen are files."""
        return "tpe show MASK.json\ntpe diff ONE.json OTHER.json"
