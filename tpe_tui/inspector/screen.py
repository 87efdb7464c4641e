"""The keys that change something or hand something out: prune, steer, prompt, run, copy, export.

Each action of the key table is one method named after its id; the engine is only ever asked, never called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from textual import events

from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import METHODS, Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.options import DEMO
from tpe_core.outputs import check_intervention, shown_path
from tpe_tui.cells import escape_controls, number, shown_prompt, typed_prompt
from tpe_tui.command_line import command_lines, mask_name
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.saving import ask_where
from tpe_tui.dynamics.reader import DynamicsReader
from tpe_tui.dynamics.screen import DynamicsScreen
from tpe_tui.edit_words import change_between
from tpe_tui.engine.messages import Answer, Failure
from tpe_tui.engine.session import Session
from tpe_tui.generation.screen import GenerateScreen
from tpe_tui.generation.state import GenerateState
from tpe_tui.inspector.browse_actions import BrowseScreen
from tpe_tui.inspector.refit_job import start_refit
from tpe_tui.keymap import bindings
from tpe_tui.ratios import parse_ratio, stepped
from tpe_tui.steering.screen import SteerScreen
from tpe_tui.sweep.screen import SweepScreen
from tpe_tui.sweep.state import SweepState

__all__ = ["InspectScreen", "parse_ratio", "parse_share", "stepped"]


def parse_share(text: str) -> float | None:
    """0.3, 30% or 30 as 0.3; None where it is no share in [0, 1]. A number above 1 is a percentage."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    share = value / 100 if text.strip().endswith("%") or value > 1 else value
    return share if 0 <= share <= 1 else None


class InspectScreen(BrowseScreen):
    """The inspector's one main screen."""

    BINDINGS = bindings()

    def __init__(self) -> None:
        super().__init__()
        self._exported = ""
        self._exporting: tuple[EditHistory, Intervention] | None = None
        self.dynamics: DynamicsReader | None = None
        self.sweep = SweepState()
        self.generation = GenerateState()

    def opened(self, session: Session, is_another: bool) -> None:
        """What was read of another model's training is dropped; a sweep of an earlier detection is kept as such."""
        super().opened(session, is_another)
        self.sweep.outdated = self.sweep.result is not None
        if is_another:
            self.dynamics, self.sweep, self.generation = None, SweepState(), GenerateState()
            self._exported = ""

    # mask

    def action_mask_toggle(self) -> None:
        """Prune or restore the dimension, or the marked range."""
        dims = self.dims.range_dims()
        ranged = self.dims.range_from is not None
        if not dims:
            self.workspace.ready()
            return
        replaced = self.workspace.history.intervention.replacement
        self.workspace.edit(lambda: self.workspace.history.toggle(dims))
        pruned, now = set(self.workspace.history.intervention.pruned), self.workspace.history.intervention.replacement
        also = "" if now == replaced else f"; the {replaced} was another mask's: {now} now"
        if ranged:
            self.dims.set_range(False)
            self.workspace.status.say(f"toggled {len(dims)} dimensions: {len(pruned)} pruned{also}")
        else:
            self.workspace.status.say(f"dim {dims[0]} {'pruned' if dims[0] in pruned else 'kept'}{also}")

    def action_mask_range(self) -> None:
        """Mark a range of dimensions; again toggles it, escape drops it."""
        if not self.workspace.ready():
            return
        if self.dims.range_from is not None:
            self.action_mask_toggle()
            return
        self.show_pane(1)
        self.dims.set_range(True)
        keys = self.workspace.keymap
        self.workspace.status.say(
            f"range: move, then {keys.shown('mask.toggle')} toggles it, {keys.shown('app.escape')} drops it"
        )

    def action_mask_bottom(self) -> None:
        """Prune the bottom share by the current sort key."""
        session = self.workspace.session
        if not self.workspace.ready() or session is None:
            return
        key = "slope" if self.dims.sort == "dim" else self.dims.sort

        def check(text: str) -> str | None:
            return None if parse_share(text) is not None else "a share lies between 0 and 1: try 0.3 or 30%"

        def prune(text: str) -> None:
            share = parse_share(text) or 0.0
            self.workspace.edit(
                lambda: self.workspace.history.prune_bottom(share, session.table, key),
                "",
                "that mask is in force already",
            )
            count = len(self.workspace.history.intervention.pruned)
            self.workspace.status.say(f"pruned the {count} dimensions with the smallest |{key}|")

        self._question(f"prune the bottom share by |{key}|", prune, "30%", "0.3 or 30%; replaces the mask", check)

    def action_mask_invert(self) -> None:
        """Prune exactly what is kept now."""
        self.workspace.edit(self.workspace.history.invert, "inverted: what was kept is pruned")

    def action_mask_clear(self) -> None:
        """Clear every edit, pruned and steered."""
        undo = self.workspace.keymap.shown("mask.undo")
        self.workspace.edit(self.workspace.history.clear, f"cleared; {undo} brings it back", "nothing is edited")

    def action_mask_undo(self) -> None:
        """Undo the last edit."""
        self._step_back_or_forth(self.workspace.history.undo, "undone", "nothing to undo")

    def action_mask_redo(self) -> None:
        """Redo the last edit that was undone."""
        self._step_back_or_forth(self.workspace.history.redo, "redone", "nothing to redo")

    def _step_back_or_forth(self, step: Callable[[], bool], name: str, nothing: str) -> None:
        before, table = self.workspace.history.intervention, self.workspace.table
        self.workspace.edit(step, "", nothing)
        after = self.workspace.history.intervention
        if after is not before and table is not None:
            first, second = (after, before) if name == "undone" else (before, after)
            self.workspace.status.say(f"{name}: {change_between(first, second, table.tokens)}")

    def action_mask_replacement(self) -> None:
        """Choose what stands in for pruned dimensions: zero, their mean, or a guess from the kept."""
        current = self.workspace.history.intervention.replacement
        ready = REPLACEMENTS.ready
        other = ready[(ready.index(current) + 1) % len(ready)] if current in ready else ready[0]
        meaning = REPLACEMENTS[other].they_become
        self.workspace.edit(
            lambda: self.workspace.history.set_replacement(other), f"pruned dimensions become {meaning}"
        )

    # steer

    def _steer(self, choose: Callable[[float], float]) -> None:
        token_id = self.tokens.token_id
        if not self.workspace.ready() or token_id is None:
            return
        self.tokens.selected = token_id
        ratio = choose(self.workspace.history.intervention.ratio(token_id))
        text = self.workspace.table.tokens[token_id] if self.workspace.table else ""
        said = f"{text} ×{number(ratio)} by {self.workspace.history.method}" if ratio != 1 else f"{text} is not steered"
        self.workspace.edit(lambda: self.workspace.history.steer(token_id, ratio), said, f"{text} is not steered")

    def action_steer_up(self) -> None:
        """Steer the selected token up by a step of 2^¼."""
        self._steer(lambda ratio: stepped(ratio, 1))

    def action_steer_down(self) -> None:
        """Steer the selected token down by a step."""
        self._steer(lambda ratio: stepped(ratio, -1))

    def action_steer_reset(self) -> None:
        """Stop steering the selected token."""
        self._steer(lambda _ratio: 1.0)

    def action_steer_exact(self) -> None:
        """Ask for an exact ratio of the selected token."""
        token_id = self.tokens.token_id
        if not self.workspace.ready() or token_id is None or self.workspace.session is None:
            return
        self.tokens.selected = token_id
        ratio = self.workspace.history.intervention.ratio(token_id)

        def check(text: str) -> str | None:
            return (
                None if parse_ratio(text) is not None else "a ratio is a finite number above 0: 2 doubles, 0.5 halves"
            )

        def steer(text: str) -> None:
            self._steer(lambda _ratio: parse_ratio(text) or 1.0)

        question = f"ratio for {(self.workspace.table or self.workspace.session.table).tokens[token_id]}"
        self._question(question, steer, f"{ratio:.6g}", "2 doubles its mean probability, 1 stops steering", check)

    def action_steer_method(self) -> None:
        """Use the next steering method."""
        if not self.workspace.ready():
            return
        self.workspace.history.method = METHODS[(METHODS.index(self.workspace.history.method) + 1) % len(METHODS)]
        edit, method = self.workspace.history.intervention, self.workspace.history.method
        moved = replace(edit, steering=tuple(replace(entry, method=method) for entry in edit.steering))
        said = f"steering by {method}"
        self.workspace.edit(lambda: self.workspace.history.apply(moved), said, said)

    def action_tokens_order(self) -> None:
        """Order tokens by their probability before or after the edit."""
        self.tokens.by_base = not self.tokens.by_base
        self.tokens.rebuild()
        self.retitle()

    # run

    def action_run_prompt(self) -> None:
        """Type another prompt."""
        hint = self.workspace.session.prompt_hint if self.workspace.session is not None else ""
        self._ask_prompt(self.workspace.history.prompt, hint or "\\n is a new line, \\t a tab, \\\\ a backslash")

    def _ask_prompt(self, prompt: str, hint: str) -> None:
        if self.workspace.ready():
            line = escape_controls(shown_prompt(prompt))
            self._question("prompt", self._set_prompt, line, hint, shown=shown_prompt)

    def on_paste(self, event: events.Paste) -> None:
        """Textual's hook: what is pasted into the inspector is text, a prompt to accept or to drop, and never keys."""
        event.stop()
        text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if text.strip() and not self.small:
            self._ask_prompt(text, "pasted: enter makes it the prompt, esc drops it")

    def _set_prompt(self, line: str) -> None:
        prompt = typed_prompt(line)
        self.prompt_bar.show(prompt)
        self.workspace.set_prompt(prompt)

    def action_run_rerun(self) -> None:
        """See the key table."""
        self.front.open_model(again=self.workspace.session is not None)

    def action_run_open(self) -> None:
        """See the key table."""
        self.front.choose_model()

    def action_run_steer(self) -> None:
        """Open the steering study of the selected token."""
        session = self.workspace.session
        if self.workspace.ready() and session is not None:
            study = SteerScreen(self.workspace, session, self.tokens.token_id)

            def steer(edit: Intervention | None) -> None:
                if edit is not None:
                    self.workspace.history.method = study.state.method
                    self.tokens.selected = study.state.token_id
                    self.workspace.apply(edit, f"{study.said()}; {self.workspace.keymap.shown('mask.undo')} undoes")

            self.app.push_screen(study, steer)

    def action_run_dynamics(self) -> None:
        """See the key table."""
        if not self.workspace.ready():
            return
        options, first = self.workspace.options, self.dynamics is None
        if self.dynamics is None:
            reader = self.front.dynamics_reader(options)
            self.dynamics = DynamicsReader(self.workspace, reader, names=[options.model])
        self.app.push_screen(DynamicsScreen(self.dynamics))
        if first and options.model == DEMO:
            self.dynamics.start()  # what comes with the package costs nothing; anything else is read when asked for

    def action_run_sweep(self) -> None:
        """Open the pruning sweep."""
        if self.workspace.ready():
            self.app.push_screen(SweepScreen(self.workspace, self.sweep), self._prune_as_swept)

    def _prune_as_swept(self, edit: Intervention | None) -> None:
        if edit is not None:
            undo = self.workspace.keymap.shown("mask.undo")
            said = f"{self.sweep.said_of(len(edit.pruned))}; {undo} undoes"
            self.workspace.apply(edit, said, "that mask is in force already")

    def action_mask_refit(self) -> None:
        """Make h anew from the kept dimensions, at the least KL: a job of minutes."""
        start_refit(self.workspace)

    def action_run_generate(self) -> None:
        """Open the continuation of the prompt with and without the edit."""
        table = self.workspace.table
        if self.workspace.ready() and table is not None:
            screen = GenerateScreen(self.workspace, self.generation, table, self.dims, act=self.run_action)
            self.app.push_screen(screen)

    def action_run_cancel(self) -> None:
        """Cancel the running job."""
        self.workspace.cancel()

    # out

    def action_out_copy(self) -> None:
        """See the key table."""
        text = self.pane(self.focused_pane).copy_text()
        if text and self.workspace.ready():
            self.workspace.status.say(self.front.copy_text(text))

    def action_out_export(self) -> None:
        """Export the edit as JSON."""
        session = self.workspace.session
        if not self.workspace.ready() or session is None:
            return

        history = self.workspace.history

        def check(path: Path, replace_file: bool) -> None:
            check_intervention(path, replace=replace_file)

        def write(path: Path, replace_file: bool) -> None:
            self._exported = str(path)
            edit, prompt = history.intervention, history.prompt
            self._exporting = history, edit
            self.workspace.ask("export", lambda: session.write(path, edit, prompt, replace_file), self._accept_export)

        ask_where(self.app, "export the edit to", self._export_name, "a JSON manifest", check, write)

    @property
    def _export_name(self) -> str:
        """Where the edit was written last, or a name that says the model."""
        return self._exported or mask_name(self.workspace.options)

    def action_out_import(self) -> None:
        """Import an edit from JSON."""
        if self.workspace.ready():
            self._question("import an edit from", self.import_mask, self._export_name, "a JSON manifest", _needs_text)

    def import_mask(self, text: str) -> None:
        """Ask the engine to read and check a manifest; its edit comes into force as one undoable step."""
        session = self.workspace.session
        if session is not None:
            path = Path(os.path.expanduser(text.strip()))
            self.workspace.ask("import", lambda: session.load(path), self._accept_import)

    def _accept_export(self, answer: Answer) -> None:
        if answer.failure is not None:
            key = self.workspace.keymap.shown("out.export")
            advice = f"{key} asks again, with the path typed."
            self.workspace.fail("export failed", Failure(answer.failure.sentence), advice)
        elif isinstance(answer.value, Path):
            if self._exporting is not None:
                self._exporting[0].saved = self._exporting[1]
            self.show_status()
            self.workspace.status.say(f"written to {shown_path(answer.value)}", "good")

    def _accept_import(self, answer: Answer) -> None:
        if answer.failure is not None:
            self.workspace.fail("import failed", answer.failure)
        elif isinstance(answer.value, Intervention):
            self._import(answer.value)

    def _import(self, edit: Intervention) -> None:
        try:
            done = self.workspace.history.apply(edit)
        except TpeError as error:
            self.workspace.fail("import failed", Failure(str(error)))
            return
        self.workspace.history.saved = edit
        if done:
            self.workspace.changed("edit")
        self.workspace.status.say(f"imported: {len(edit.pruned)} pruned, {len(edit.steering)} steered", "good")

    def action_out_headless(self) -> None:
        """See the key table."""
        if self.workspace.ready() and self.workspace.session is not None:
            edit = self.workspace.history.intervention
            text = command_lines(self.workspace.options, self.workspace.history.prompt, edit, self._export_name)
            self.app.push_screen(TextScreen("Without a screen", text, self.front.copy_text))


def _needs_text(text: str) -> str | None:
    return None if text.strip() else "type a path, or esc leaves"
