"""The keys that hand something out or take it in: each action of the key table is one method named after its id."""

from __future__ import annotations

from pathlib import Path

from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.outputs import check_intervention, shown_path
from tpe_tui.command_line import command_lines, mask_name
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.reading import nothing_there
from tpe_tui.dialogs.saving import ask_where, typed_path
from tpe_tui.edit_words import doubtful_words
from tpe_tui.engine.messages import Answer, Failure
from tpe_tui.inspector.frame import InspectFrame

__all__ = ["OutActions"]


class OutActions:
    """The keys of `frame` that copy, export, import and print command lines."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace
        self._exported = self._imported = ""  # the paths given last, of an import where it failed
        self._exporting: tuple[EditHistory, Intervention] | None = None

    def forget(self) -> None:
        """Forget where edits were written and read: those were another model's."""
        self._exported = self._imported = ""

    def out_copy(self) -> None:
        """Copy the row, to the clipboard and to a file."""
        text = self.frame.pane(self.frame.focused_pane).copy_text()
        if text and self.workspace.has_table():
            self.workspace.status.say(self.frame.front.copy_text(text))

    def out_export(self) -> None:
        """Export the edit as JSON."""
        session = self.workspace.session
        if not self.workspace.ready() or session is None:
            return

        history = self.workspace.history

        def check(path: Path, replace_file: bool) -> None:
            if history.intervention.is_empty:
                raise TpeError("nothing is edited, so there is nothing to export: prune or steer first, esc leaves")
            check_intervention(path, replace=replace_file)

        def write(path: Path, replace_file: bool) -> None:
            self._exported = str(path)
            edit, prompt = history.intervention, history.prompt
            self._exporting = history, edit
            self.workspace.ask("export", lambda: session.write(path, edit, prompt, replace_file), self._accept_export)

        ask_where(self.frame.app, "export the edit to", self._export_name, "a JSON manifest", check, write)

    @property
    def _export_name(self) -> str:
        """Where the edit was written last, or a name that says the model."""
        return self._exported or mask_name(self.workspace.options)

    def out_import(self) -> None:
        """Import an edit from JSON."""
        if self.workspace.ready():
            offered = self._imported or self._export_name
            self.frame.question("import an edit from", self.import_mask, offered, "a JSON manifest", nothing_there)

    def import_mask(self, text: str) -> None:
        """Ask the engine to read and check a manifest; its edit comes into force as one undoable step."""
        session = self.workspace.session
        if session is not None:
            path, self._imported = typed_path(text), text.strip()
            self.workspace.ask("import", lambda: session.load(path), self._accept_import)

    def _accept_export(self, answer: Answer) -> None:
        if answer.failure is not None:
            key = self.workspace.keymap.shown("out.export")
            advice = f"{key} asks again, with the path typed."
            self.workspace.fail("export failed", Failure(answer.failure.sentence), advice)
        elif isinstance(answer.value, Path):
            doubtful, table = "", self.workspace.table
            if self._exporting is not None:
                self._exporting[0].saved = self._exporting[1]
                doubtful = doubtful_words(table.stability, self._exporting[1].pruned) if table is not None else ""
            self.frame.show_status()
            self.workspace.status.say(
                f"written to {shown_path(answer.value)}{doubtful}", "warn" if doubtful else "good"
            )

    def _accept_import(self, answer: Answer) -> None:
        if answer.failure is not None:
            self._import_failed(answer.failure)
        elif isinstance(answer.value, Intervention):
            self._import(answer.value)

    def _import_failed(self, failure: Failure) -> None:
        key = self.workspace.keymap.shown("out.import")
        self.workspace.fail("import failed", failure, f"{key} asks again, with the path typed.")

    def _import(self, edit: Intervention) -> None:
        try:
            done = self.workspace.history.apply(edit)
        except TpeError as error:
            self._import_failed(Failure(str(error)))
            return
        self.workspace.history.saved, self._imported = edit, ""
        if done:
            self.workspace.changed("edit")
        self.workspace.status.say(f"imported: {len(edit.pruned)} pruned, {len(edit.steering)} steered", "good")

    def out_headless(self) -> None:
        """Show the command line that gives this view."""
        if self.workspace.ready() and self.workspace.session is not None:
            edit = self.workspace.history.intervention
            text = command_lines(self.workspace.options, self.workspace.history.prompt, edit, self._export_name)
            self.frame.app.push_screen(TextScreen("Without a screen", text, self.frame.front.copy_text))
