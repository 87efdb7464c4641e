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
from tpe_tui.engine.messages import Answer, Failure, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.inspector.mask_actions import PruneBench
from tpe_tui.keymap import bindings
from tpe_tui.ratios import parse_ratio, stepped
from tpe_tui.steering.screen import SteerScreen

__all__ = ["InspectScreen", "parse_ratio", "parse_share", "stepped"]


def parse_share(text: str) -> float | None:
    """0.3, 30% or 30 as 0.3; None where it is no share in [0, 1]. A number above 1 is a percentage."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    share = value / 100 if text.strip().endswith("%") or value > 1 else value
    return share if 0 <= share <= 1 else None


class InspectScreen(PruneBench):
    """The inspector's one main screen."""

    BINDINGS = bindings()

    def __init__(self) -> None:
        """Nothing was exported yet."""
        super().__init__()
        self._exported = ""
        self._exporting: tuple[EditHistory, Intervention] | None = None
        self.dynamics: DynamicsReader | None = None

    def opened(self, session: Session) -> None:
        """What was read of another model's training is dropped."""
        before = self.inspector
        super().opened(session)
        if self.inspector is not before:
            self.dynamics = None
            self._exported = ""

    # mask

    def action_mask_toggle(self) -> None:
        """See the key table."""
        dims = self.dims.range_dims()
        ranged = self.dims.range_from is not None
        if not dims:
            self._ready()
            return
        replaced = self.inspector.intervention.replacement
        self._edit(lambda: self.inspector.toggle(dims))
        pruned, now = set(self.inspector.intervention.pruned), self.inspector.intervention.replacement
        also = "" if now == replaced else f"; the {replaced} was another mask's: {now} now"
        if ranged:
            self.dims.set_range(False)
            self.strip.say(f"toggled {len(dims)} dimensions: {len(pruned)} pruned{also}")
        else:
            self.strip.say(f"dim {dims[0]} {'pruned' if dims[0] in pruned else 'kept'}{also}")

    def action_mask_range(self) -> None:
        """See the key table."""
        if not self._ready():
            return
        if self.dims.range_from is not None:
            self.action_mask_toggle()
            return
        self.show_pane(1)
        self.dims.set_range(True)
        keys = self.tpe.keymap
        self.strip.say(f"range: move, then {keys.shown('mask.toggle')} toggles it, {keys.shown('app.escape')} drops it")

    def action_mask_bottom(self) -> None:
        """See the key table."""
        session = self.session
        if not self._ready() or session is None:
            return
        key = "slope" if self.dims.sort == "dim" else self.dims.sort

        def check(text: str) -> str | None:
            return None if parse_share(text) is not None else "a share lies between 0 and 1: try 0.3 or 30%"

        def prune(text: str) -> None:
            share = parse_share(text) or 0.0
            self._edit(
                lambda: self.inspector.prune_bottom(share, session.table, key), "", "that mask is in force already"
            )
            count = len(self.inspector.intervention.pruned)
            self.strip.say(f"pruned the {count} dimensions with the smallest |{key}|")

        self._question(f"prune the bottom share by |{key}|", prune, "30%", "0.3 or 30%; replaces the mask", check)

    def action_mask_invert(self) -> None:
        """See the key table."""
        self._edit(self.inspector.invert, "inverted: what was kept is pruned")

    def action_mask_clear(self) -> None:
        """See the key table."""
        undo = self.tpe.keymap.shown("mask.undo")
        self._edit(self.inspector.clear, f"cleared; {undo} brings it back", "nothing is edited")

    def action_mask_undo(self) -> None:
        """See the key table."""
        self._step_back_or_forth(self.inspector.undo, "undone", "nothing to undo")

    def action_mask_redo(self) -> None:
        """See the key table."""
        self._step_back_or_forth(self.inspector.redo, "redone", "nothing to redo")

    def _step_back_or_forth(self, step: Callable[[], bool], name: str, nothing: str) -> None:
        before = self.inspector.intervention
        self._edit(step, "", nothing)
        after = self.inspector.intervention
        if after is not before and self.session is not None:
            first, second = (after, before) if name == "undone" else (before, after)
            self.strip.say(f"{name}: {change_between(first, second, (self.table_drawn or self.session.table).tokens)}")

    def action_mask_replacement(self) -> None:
        """See the key table."""
        current = self.inspector.intervention.replacement
        ready = REPLACEMENTS.ready
        other = ready[(ready.index(current) + 1) % len(ready)] if current in ready else ready[0]
        meaning = REPLACEMENTS[other].they_become
        self._edit(lambda: self.inspector.set_replacement(other), f"pruned dimensions become {meaning}")

    # steer

    def _steer(self, choose: Callable[[float], float]) -> None:
        token_id = self.tokens.token_id
        if not self._ready() or token_id is None:
            return
        self.tokens.selected = token_id
        ratio = choose(self.inspector.intervention.ratio(token_id))
        text = self.table_drawn.tokens[token_id] if self.table_drawn else ""
        said = f"{text} ×{number(ratio)} by {self.inspector.method}" if ratio != 1 else f"{text} is not steered"
        self._edit(lambda: self.inspector.steer(token_id, ratio), said, f"{text} is not steered")

    def action_steer_up(self) -> None:
        """See the key table."""
        self._steer(lambda ratio: stepped(ratio, 1))

    def action_steer_down(self) -> None:
        """See the key table."""
        self._steer(lambda ratio: stepped(ratio, -1))

    def action_steer_reset(self) -> None:
        """See the key table."""
        self._steer(lambda _ratio: 1.0)

    def action_steer_exact(self) -> None:
        """See the key table."""
        token_id = self.tokens.token_id
        if not self._ready() or token_id is None or self.session is None:
            return
        self.tokens.selected = token_id
        ratio = self.inspector.intervention.ratio(token_id)

        def check(text: str) -> str | None:
            return (
                None if parse_ratio(text) is not None else "a ratio is a finite number above 0: 2 doubles, 0.5 halves"
            )

        def steer(text: str) -> None:
            self._steer(lambda _ratio: parse_ratio(text) or 1.0)

        question = f"ratio for {(self.table_drawn or self.session.table).tokens[token_id]}"
        self._question(question, steer, f"{ratio:.6g}", "2 doubles its mean probability, 1 stops steering", check)

    def action_steer_method(self) -> None:
        """See the key table."""
        if not self._ready():
            return
        self.inspector.method = METHODS[(METHODS.index(self.inspector.method) + 1) % len(METHODS)]
        edit, method = self.inspector.intervention, self.inspector.method
        moved = replace(edit, steering=tuple(replace(entry, method=method) for entry in edit.steering))
        said = f"steering by {method}"
        self._edit(lambda: self.inspector.apply(moved), said, said)

    def action_tokens_order(self) -> None:
        """See the key table."""
        self.tokens.by_base = not self.tokens.by_base
        self.tokens.rebuild()
        self.retitle()

    # run

    def action_run_prompt(self) -> None:
        """See the key table."""
        hint = self.session.prompt_hint if self.session is not None else ""
        self._ask_prompt(self.inspector.prompt, hint or "\\n is a new line, \\t a tab, \\\\ a backslash")

    def _ask_prompt(self, prompt: str, hint: str) -> None:
        if self._ready():
            line = escape_controls(shown_prompt(prompt))
            self._question("prompt", self._set_prompt, line, hint, shown=shown_prompt)

    def on_paste(self, event: events.Paste) -> None:
        """Textual's hook: what is pasted into the inspector is text, a prompt to accept or to drop, and never keys."""
        event.stop()
        text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if text.strip() and not self.small:
            self._ask_prompt(text, "pasted: enter makes it the prompt, esc drops it")

    def _set_prompt(self, line: str) -> None:
        self.inspector.prompt = typed_prompt(line)
        self.prompt_bar.show(self.inspector.prompt)
        self.changed()

    def action_run_rerun(self) -> None:
        """See the key table."""
        self.tpe.open_model(again=self.session is not None)

    def action_run_open(self) -> None:
        """See the key table."""
        self.tpe.choose_model()

    def action_run_steer(self) -> None:
        """See the key table."""
        session = self.session
        if self._ready() and session is not None:
            self.tpe.push_screen(SteerScreen(self, session))

    def action_run_dynamics(self) -> None:
        """See the key table."""
        if not self._ready():
            return
        options, first = self.tpe.options, self.dynamics is None
        if self.dynamics is None:
            reader = self.tpe.dynamics_reader(options)
            self.dynamics = DynamicsReader(self.tpe.host, self.strip, self.tpe.keymap, reader, names=[options.model])
        self.tpe.push_screen(DynamicsScreen(self.dynamics))
        if first and options.model == DEMO:
            self.dynamics.start()  # what comes with the package costs nothing; anything else is read when asked for

    def dynamics_update(self, message: JobUpdate | Answer) -> None:
        """A source was read on, or the data were written; whoever looks at them sees it."""
        if self.dynamics is None:
            return
        if isinstance(message, Answer):
            self.dynamics.answer(message)
        else:
            self.dynamics.update(message)
        for screen in self.tpe.screen_stack:
            if isinstance(screen, DynamicsScreen):
                screen.show()

    def action_run_cancel(self) -> None:
        """See the key table."""
        if self.stop_reading():
            return
        if self.strip.job is None and self.forecaster.preparing:
            self.forecaster.cancel()
            return
        if self.strip.job is None:
            self.strip.say(f"nothing is running; {self.tpe.keymap.shown('app.quit')} leaves")
            return
        self.tpe.host.cancel(self.strip.job)
        self.strip.cancelling()

    # out

    def action_out_copy(self) -> None:
        """See the key table."""
        text = self.pane(self.focused_pane).copy_text()
        if text and self._ready():
            self.strip.say(self.tpe.copy_text(text))

    def action_out_export(self) -> None:
        """See the key table."""
        session = self.session
        if not self._ready() or session is None:
            return

        inspector = self.inspector

        def check(path: Path, replace_file: bool) -> None:
            check_intervention(path, replace=replace_file)

        def write(path: Path, replace_file: bool) -> None:
            self._exported = str(path)
            edit, prompt = inspector.intervention, inspector.prompt
            self._exporting = inspector, edit
            self.ask("export", lambda: session.write(path, edit, prompt, replace_file))

        ask_where(self.tpe, "export the edit to", self._export_name, "a JSON manifest", check, write)

    @property
    def _export_name(self) -> str:
        """Where the edit was written last, or a name that says the model."""
        return self._exported or mask_name(self.tpe.options)

    def action_out_import(self) -> None:
        """See the key table."""
        if self._ready():
            self._question("import an edit from", self.import_mask, self._export_name, "a JSON manifest", _needs_text)

    def import_mask(self, text: str) -> None:
        """Ask the engine to read and check a manifest; its edit comes into force as one undoable step."""
        session = self.session
        if session is not None:
            path = Path(os.path.expanduser(text.strip()))
            self.ask("import", lambda: session.load(path))

    def accept(self, answer: Answer) -> None:
        """Files first, everything else as the frame does."""
        match (answer.kind, answer.value):
            case ("export", Path() as path) if answer.failure is None:
                if self._exporting is not None:
                    self._exporting[0].saved = self._exporting[1]
                self.show_status()
                self.strip.say(f"written to {shown_path(path)}", "good")
            case ("export", _) if answer.failure is not None:
                key = self.tpe.keymap.shown("out.export")
                self.fail("export failed", Failure(answer.failure.sentence), f"{key} asks again, with the path typed.")
            case ("import", Intervention() as edit) if answer.failure is None:
                self._import(edit)
            case _:
                super().accept(answer)

    def _import(self, edit: Intervention) -> None:
        try:
            done = self.inspector.apply(edit)
        except TpeError as error:
            self.fail("import failed", Failure(str(error)))
            return
        self.inspector.saved = edit
        if done:
            self.changed()
        self.strip.say(f"imported: {len(edit.pruned)} pruned, {len(edit.steering)} steered", "good")

    def action_out_headless(self) -> None:
        """See the key table."""
        if self._ready() and self.session is not None:
            edit = self.inspector.intervention
            text = command_lines(self.tpe.options, self.inspector.prompt, edit, self._export_name)
            self.tpe.push_screen(TextScreen("Without a screen", text, self.tpe.copy_text))


def _needs_text(text: str) -> str | None:
    return None if text.strip() else "type a path, or esc leaves"
