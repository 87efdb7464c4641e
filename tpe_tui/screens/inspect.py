"""What the keys do: move, mark, prune, steer, search, ask, copy.

Each action of the key table is one method named after its id; the engine is only ever asked, never called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tpe_core.errors import TpeError
from tpe_core.intervention import METHODS, REPLACEMENTS, Intervention
from tpe_tui.format import escape_controls, number, shown_prompt, typed_prompt
from tpe_tui.headless import EXPORT_NAME, command_lines
from tpe_tui.keymap import bindings
from tpe_tui.messages import Answer, Failure
from tpe_tui.screens.bench import BenchScreen
from tpe_tui.screens.error import TextScreen
from tpe_tui.screens.help import HelpScreen
from tpe_tui.screens.prompts import Ask, Check
from tpe_tui.widgets.detail import Detail
from tpe_tui.widgets.dim_table import FILTER_HELP, parse_filter
from tpe_tui.widgets.lines import ListPane
from tpe_tui.widgets.token_bars import search_tokens

__all__ = ["InspectScreen", "parse_ratio", "parse_share", "stepped"]

STEPS_PER_DOUBLING = 4
FAR = 1 << 40


def parse_share(text: str) -> float | None:
    """0.3, 30% or 30 as 0.3; None where it is no share in [0, 1]. A number above 1 is a percentage."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    share = value / 100 if text.strip().endswith("%") or value > 1 else value
    return share if 0 <= share <= 1 else None


def parse_ratio(text: str) -> float | None:
    """A finite number above 0; None otherwise."""
    try:
        value = float(text.strip().lstrip("×x"))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def stepped(ratio: float, step: int) -> float:
    """`ratio` moved by `step` quarter doublings, kept on the grid of such steps so that 1 is met again."""
    place = STEPS_PER_DOUBLING * math.log2(ratio)
    start = round(place) if abs(place - round(place)) < 1e-6 else place
    return float(2 ** ((start + step) / STEPS_PER_DOUBLING))


class InspectScreen(BenchScreen):
    """The inspector's one main screen."""

    BINDINGS = bindings()

    def __init__(self) -> None:
        """Nothing was searched yet."""
        super().__init__()
        self._query = ""
        self._hits: list[int] = []
        self._hit = 0
        self._searched = "dim"
        self._exported = EXPORT_NAME

    def _ready(self) -> bool:
        if self.session is None:
            self.strip.say(f"no model is open; {self.tpe.keymap.shown('run.rerun')} tries again", "warn")
        return self.session is not None

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

    def _question(
        self, question: str, then: Callable[[str], None], value: str = "", hint: str = "", check: Check | None = None
    ) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                then(text)

        self.tpe.push_screen(Ask(question, value, hint, check), answered)

    # move

    def _move(self, rows: int) -> None:
        pane = self.pane(self.focused_pane)
        if isinstance(pane, ListPane):
            pane.go(pane.cursor + rows)
        elif isinstance(pane, Detail):
            pane.go(rows)

    def _page(self) -> int:
        return max(1, self.pane(self.focused_pane).size.height - 1)

    def action_move_down(self) -> None:
        """See the key table."""
        self._move(1)

    def action_move_up(self) -> None:
        """See the key table."""
        self._move(-1)

    def action_move_half_down(self) -> None:
        """See the key table."""
        self._move(max(1, self._page() // 2))

    def action_move_half_up(self) -> None:
        """See the key table."""
        self._move(-max(1, self._page() // 2))

    def action_move_page_down(self) -> None:
        """See the key table."""
        self._move(self._page())

    def action_move_page_up(self) -> None:
        """See the key table."""
        self._move(-self._page())

    def action_move_first(self) -> None:
        """See the key table."""
        self._move(-FAR)

    def action_move_last(self) -> None:
        """See the key table."""
        self._move(FAR)

    # panes

    def action_pane_next(self) -> None:
        """See the key table."""
        self.show_pane(self.focused_pane % 4 + 1)

    def action_pane_previous(self) -> None:
        """See the key table."""
        self.show_pane((self.focused_pane - 2) % 4 + 1)

    def action_pane_dims(self) -> None:
        """See the key table."""
        self.show_pane(1)

    def action_pane_tokens(self) -> None:
        """See the key table."""
        self.show_pane(2)

    def action_pane_plot(self) -> None:
        """See the key table."""
        self.show_pane(3)

    def action_pane_detail(self) -> None:
        """See the key table."""
        self.show_pane(4)

    def action_pane_zoom(self) -> None:
        """See the key table."""
        self.zoomed = not self.zoomed
        self.show_pane(self.focused_pane)

    # find

    def action_find_search(self) -> None:
        """See the key table."""
        if not self._ready():
            return
        self._searched = self.subject
        if self._searched == "token":
            self._question("search the whole vocabulary", self._search, "", "any part of a token; n and N go on")
        else:
            self._question("search a dimension", self._search, "", "its number, or how it begins; n and N go on")

    def _search(self, text: str) -> None:
        if self.session is None:
            return
        table = self.session.table
        self._query = text
        if self._searched == "token":
            self._hits = search_tokens(table.tokens, table.surprisal, text) if text else []
        else:
            wanted = text.strip()
            found = [int(dim) for dim in self.dims.order if wanted and str(dim).startswith(wanted)]
            self._hits = sorted(found, key=lambda dim: str(dim) != wanted)
        self._hit = 0
        self._go_to_hit()

    def _go_to_hit(self) -> None:
        shown = escape_controls(self._query)
        if not self._hits:
            self.strip.say(f"nothing matches {shown!r}" if self._query else "nothing was searched yet", "warn")
            return
        self._hit %= len(self._hits)
        if self._searched == "token":
            self.show_pane(2)
            self.tokens.select(self._hits[self._hit])
        else:
            self.show_pane(1)
            self.dims.select(self._hits[self._hit])
        self.strip.say(f"match {self._hit + 1} of {len(self._hits)} for {shown!r}")

    def action_find_next(self) -> None:
        """See the key table."""
        self._hit += 1
        self._go_to_hit()

    def action_find_previous(self) -> None:
        """See the key table."""
        self._hit -= 1
        self._go_to_hit()

    def action_find_filter(self) -> None:
        """See the key table."""
        if not self._ready():
            return
        if self.subject == "token":
            self._question("show tokens that contain", self._filter_tokens, self.tokens.filter, "nothing shows all")
            return

        def check(text: str) -> str | None:
            fine = not text.strip() or parse_filter(text) is not None
            return None if fine else f"not understood; try {FILTER_HELP}"

        self._question(
            "show dimensions", self._filter_dims, self.dims.filter, f"{FILTER_HELP}; nothing shows all", check
        )

    def _filter_dims(self, text: str) -> None:
        self.dims.filter = text.strip()
        self.dims.rebuild()
        self.retitle()
        self.show_detail()

    def _filter_tokens(self, text: str) -> None:
        self.tokens.filter = text
        self.tokens.rebuild()
        self.retitle()

    def action_table_sort(self) -> None:
        """See the key table."""
        if self._ready():
            self.dims.next_sort()
            self.retitle()
            self.show_detail()

    def action_table_direction(self) -> None:
        """See the key table."""
        if self._ready():
            self.dims.descending = not self.dims.descending
            self.dims.rebuild()
            self.retitle()

    # mask

    def action_mask_toggle(self) -> None:
        """See the key table."""
        dims = self.dims.range_dims()
        ranged = self.dims.range_from is not None
        if not dims:
            self._ready()
            return
        self._edit(lambda: self.inspector.toggle(dims))
        pruned = set(self.inspector.intervention.pruned)
        if ranged:
            self.dims.set_range(False)
            self.strip.say(f"toggled {len(dims)} dimensions: {len(pruned)} pruned")
        else:
            self.strip.say(f"dim {dims[0]} {'pruned' if dims[0] in pruned else 'kept'}")

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
        self._edit(self.inspector.undo, "undone", "nothing to undo")

    def action_mask_redo(self) -> None:
        """See the key table."""
        self._edit(self.inspector.redo, "done again", "nothing to redo")

    def action_mask_replacement(self) -> None:
        """See the key table."""
        current = self.inspector.intervention.replacement
        other = REPLACEMENTS[(REPLACEMENTS.index(current) + 1) % len(REPLACEMENTS)]
        meaning = "0" if other == "zero" else "their mean over the text"
        self._edit(lambda: self.inspector.set_replacement(other), f"pruned dimensions become {meaning}")

    # steer

    def _steer(self, choose: Callable[[float], float]) -> None:
        token_id = self.tokens.token_id
        if not self._ready() or token_id is None:
            return
        self.tokens.selected = token_id
        ratio = choose(self.inspector.intervention.ratio(token_id))
        text = self.session.table.tokens[token_id] if self.session else ""
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

        question = f"ratio for {self.session.table.tokens[token_id]}"
        self._question(question, steer, f"{ratio:.6g}", "2 doubles its mean probability, 1 stops steering", check)

    def action_steer_method(self) -> None:
        """See the key table."""
        if not self._ready():
            return
        self.inspector.method = METHODS[(METHODS.index(self.inspector.method) + 1) % len(METHODS)]
        edit, method = self.inspector.intervention, self.inspector.method
        moved = Intervention(
            edit.pruned, edit.replacement, tuple(replace(entry, method=method) for entry in edit.steering)
        )
        said = f"steering by {method}"
        self._edit(lambda: self.inspector.apply(moved), said, said)

    def action_tokens_order(self) -> None:
        """See the key table."""
        self.tokens.by_base = not self.tokens.by_base
        self.tokens.rebuild()
        self.retitle()

    # plot

    def _turn(self, step: int) -> None:
        if not self._ready():
            return
        if 3 in self.visible_panes():
            self.plot.turn(step)
        else:
            self.show_pane(3)

    def action_plot_next(self) -> None:
        """See the key table."""
        self._turn(1)

    def action_plot_previous(self) -> None:
        """See the key table."""
        self._turn(-1)

    # run

    def action_run_prompt(self) -> None:
        """See the key table."""
        if self._ready():
            line = shown_prompt(self.inspector.prompt)
            self._question("prompt", self._set_prompt, line, "\\n is a new line, \\t a tab, \\\\ a backslash")

    def _set_prompt(self, line: str) -> None:
        self.inspector.prompt = typed_prompt(line)
        self.prompt_bar.show(self.inspector.prompt)
        self.tpe.remember()
        self.changed()

    def action_run_rerun(self) -> None:
        """See the key table."""
        self.tpe.open_model(again=self.session is not None)

    def action_run_cancel(self) -> None:
        """See the key table."""
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

        def export(text: str) -> None:
            path = Path(text.strip()).expanduser()
            edit, prompt = self.inspector.intervention, self.inspector.prompt
            self.ask("export", lambda: session.export(path, edit, prompt))

        self._question("export the edit to", export, self._exported, "a JSON manifest", _needs_text)

    def action_out_import(self) -> None:
        """See the key table."""
        if self._ready():
            self._question("import an edit from", self.import_mask, self._exported, "a JSON manifest", _needs_text)

    def import_mask(self, text: str) -> None:
        """Ask the engine to read and check a manifest; its edit comes into force as one undoable step."""
        session = self.session
        if session is not None:
            path = Path(text.strip()).expanduser()
            self.ask("import", lambda: session.load(path))

    def accept(self, answer: Answer) -> None:
        """Files first, everything else as the frame does."""
        match (answer.kind, answer.value):
            case ("export", Path() as path) if answer.failure is None:
                self._exported = str(path)
                self.strip.say(f"written to {path}", "good")
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
        if done:
            self.changed()
        self.strip.say(f"imported: {len(edit.pruned)} pruned, {len(edit.steering)} steered", "good")

    def action_out_headless(self) -> None:
        """See the key table."""
        if self._ready() and self.session is not None:
            edit = self.inspector.intervention
            tokens = {entry.token_id: self.session.table.tokens[entry.token_id] for entry in edit.steering}
            text = command_lines(self.tpe.options, self.inspector.prompt, edit, tokens, self._exported)
            self.tpe.push_screen(TextScreen("Without a screen", text, self.tpe.copy_text))

    # app

    def action_app_palette(self) -> None:
        """See the key table."""
        self.tpe.action_command_palette()

    def action_app_help(self) -> None:
        """See the key table."""
        self.tpe.push_screen(HelpScreen(self.tpe.keymap, self.tpe.keys_file.name))

    def action_app_escape(self) -> None:
        """See the key table."""
        if self.dims.range_from is not None:
            self.dims.set_range(False)
        elif self.zoomed:
            self.action_pane_zoom()
        elif self.subject == "token" and self.tokens.filter:
            self._filter_tokens("")
        elif self.dims.filter:
            self._filter_dims("")
        self.strip.say("")

    def action_app_quit(self) -> None:
        """See the key table."""
        self.tpe.leave()


def _needs_text(text: str) -> str | None:
    return None if text.strip() else "type a path, or esc leaves"
