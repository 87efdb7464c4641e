"""What the study screens share: a key table and what follows from it, the bars, the sentence for a small terminal.

A study lies over the inspector and looks at one question; it is closed with the edit that it proposes, or with None.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from tpe_core.edits.intervention import Intervention
from tpe_tui.dialogs.dialog import ClosesOnce
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.keymap import BY_ID
from tpe_tui.shell.sized import NeedsRoom
from tpe_tui.sizes import short_name
from tpe_tui.widgets.bars import Field, Footer, StatusBar
from tpe_tui.widgets.job_strip import JobStrip
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.workspace import Change, Workspace

if TYPE_CHECKING:
    from tpe_tui.shell.engine_app import EngineApp

__all__ = ["COMMON_KEYS", "FAR", "WIDE", "Key", "ListStudy", "StudyScreen", "bindings", "list_keys"]

FAR = 1 << 40  # steps that lead to either end of whatever a study lists
STEPS = re.compile(r"(\w+)\((-?[\d.]+)\)")  # an action that goes some steps
WIDE = 120  # cells from which two plots fit beside each other

Key = tuple[str, str, str]
"""(key, or the id of the action that has it in the inspector; the study's action; help)."""


COMMON_KEYS: tuple[Key, ...] = (
    ("run.jobs", "jobs", "the jobs: what runs, what is queued, what each came to"),
    ("app.count", "count", "begin a number: how far the next key moves (12j)"),
)
"""What every study has beside its own keys."""


def list_keys(what: str) -> tuple[Key, ...]:
    """The keys that move in a list of one kind of thing, for the actions of `ListStudy`."""
    return (
        ("move.down", "move(1)", f"next {what}"),
        ("move.up", "move(-1)", f"previous {what}"),
        ("move.half_down", "page(0.5)", "half a page down"),
        ("move.half_up", "page(-0.5)", "half a page up"),
        ("move.page_down", "page(1)", "a page down"),
        ("move.page_up", "page(-1)", "a page up"),
        ("move.first", f"move({-FAR})", f"first {what}"),
        ("move.last", f"move({FAR})", f"last {what}"),
    )


def bindings(keys: Sequence[Key], also: Sequence[tuple[str, str]] = ()) -> list[BindingType]:
    """The bindings of a key table and of what does the same; a key that the inspector has is remapped with it."""
    found: list[BindingType] = []
    for key, action, *_ in (*keys, *also):
        known = BY_ID.get(key)
        shown, name = (key, None) if known is None else (known.keys, known.id)
        found.append(Binding(shown, action, show=False, id=name))
    return found


class StudyScreen(NeedsRoom, ClosesOnce, Screen[Intervention | None]):
    """A bar, the panes of `compose_panes`, the job strip, a footer; it shows every change of the workspace.

    A subclass gives `NAME`, `KEYS`, `FOOTER` and ``BINDINGS = bindings(KEYS)``, and says `fields` and `show`.
    """

    NAME: ClassVar[str]  # in the status bar, and what its keys belong to
    KEYS: ClassVar[Sequence[Key]]
    FOOTER: ClassVar[Sequence[tuple[str, str]]]  # (action, label)
    NOTES: ClassVar[Sequence[str]] = ()  # below the keys in the help
    SHOWN: ClassVar[dict[str, str]] = {"enter": "⏎"}
    COUNTED: ClassVar[frozenset[str]] = frozenset()  # actions whose steps a number multiplies
    OF_MODEL: ClassVar[bool] = True  # whether it has no subject any more once another model is open

    def __init__(self, workspace: Workspace) -> None:
        """Build the bars."""
        super().__init__()
        self.workspace = workspace
        self.status = StatusBar()
        self.footer = Footer()
        self.strip = JobStrip(workspace.status, workspace.keymap.shown("run.cancel"))

    @property
    def frame(self) -> EngineApp:
        """The app, whichever it is: its keys, its engine, its clipboard."""
        return cast("EngineApp", self.app)

    @property
    def subject(self) -> str:
        """What is studied, for the status bar: the model."""
        return short_name(self.workspace.options.model)

    @property
    def wide(self) -> bool:
        """Whether two plots fit beside each other."""
        return self.size.width >= WIDE

    def compose(self) -> ComposeResult:
        """A bar, the panes, two bars; and the sentence for a terminal that is too small."""
        yield self.status
        yield from self.compose_panes()
        yield self.strip
        yield self.footer
        yield Static(id="small", markup=False)

    def compose_panes(self) -> ComposeResult:
        """What lies between the bars."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Follow the workspace; Textual runs the study's own handler as well."""
        self.frame.changed.subscribe(self, self._workspace_changed)

    def _workspace_changed(self, change: Change) -> None:
        if not self.is_open:
            return
        if change == "status":
            self.strip.repaint()
        else:
            self.follow(change)

    def follow(self, change: Change) -> None:
        """Show a change of the workspace."""
        self.show()

    def say(self, text: str, role: str = "row") -> None:
        """Say a sentence in the strip."""
        self.workspace.status.say(text, role)

    def on_resize(self) -> None:
        """Another size can be another layout."""
        self.measure(self.frame.keymap.shown)
        self.show()

    def on_paste(self, event: events.Paste) -> None:
        """Textual's hook: what is pasted is text and never keys, and a study has no place for text."""
        event.stop()
        self.say("what was pasted is text, not keys: nothing was done with it")

    def waits(self, job: int) -> str:
        """What a job of the study waits for, a sentence; empty where it runs."""
        ahead = self.workspace.jobs.ahead_of(job)
        behind = self.workspace.jobs.active[ahead - 1].name if ahead else ""
        return f"Queued behind {behind}; {self.key('run.jobs')} lists the jobs." if ahead else ""

    def key(self, key: str) -> str:
        """A key of the table as people write it."""
        return self.frame.keymap.shown(key) if key in BY_ID else (key if self.frame.ascii else self.SHOWN.get(key, key))

    def show(self) -> None:
        """Everything, as it is now; a subclass shows its panes and calls `show_bars`."""
        raise NotImplementedError

    def show_bars(self, fields: Sequence[Field], labels: dict[str, str] | None = None) -> None:
        """The three bars: `fields` behind the study's name and its subject, `labels` instead of the footer's own."""
        self.strip.repaint()
        self.status.show((Field(self.NAME, 0, "title"), Field(self.subject, 3), *fields))
        keys, labels = {action: key for key, action, _ in self.KEYS}, labels or {}
        self.footer.show(tuple((name, self.key(keys[name]), labels.get(name, label)) for name, label in self.FOOTER))

    def headless(self) -> str:
        """The command lines that measure what is shown."""
        raise NotImplementedError

    # keys

    def action_headless(self) -> None:
        """The command line."""
        self.frame.push_screen(TextScreen("Without a screen", self.headless(), self.frame.copy_text))

    def action_jobs(self) -> None:
        """The list of jobs."""
        self.frame.show_jobs()

    def action_count(self) -> None:
        """Begin a number."""
        self.frame.counts.begin()

    @classmethod
    def counted_action(cls, action: str, count: int) -> str | None:
        """An action whose steps a number multiplies, with as many; None for any other, also one that goes to an end."""
        found = STEPS.fullmatch(action)
        if found is None or found[1] not in cls.COUNTED:
            return None
        steps = ast.literal_eval(found[2])
        return None if abs(steps) >= FAR else f"{found[1]}({count * steps})"

    def action_help(self) -> None:
        """The keys."""
        keys = [f"{self.key(key):<6} {help}" for key, _, help in self.KEYS]
        number = "A number typed first lets a key that moves or steps go so many steps: 12j."
        notes = (*self.NOTES, *([number] if self.COUNTED else []))
        text = "\n".join([*keys, *([""] if notes else []), *notes])
        self.frame.push_screen(TextScreen(f"Keys of the {self.NAME.lower()}", text, self.frame.copy_text))

    def action_leave(self) -> None:
        """Back to the inspector."""
        self.dismiss(None)

    @on(Footer.Pressed)
    async def _footer_pressed(self, event: Footer.Pressed) -> None:
        event.stop()
        await self.run_action(event.action_id)


class ListStudy(StudyScreen):
    """A study of one list, `listed`, in which the keys of `list_keys` move."""

    @property
    def listed(self) -> ListPane:
        """The list."""
        raise NotImplementedError

    def action_move(self, rows: int) -> None:
        """Move by rows."""
        self.listed.go(self.listed.cursor + rows)

    def action_page(self, pages: float) -> None:
        """Move by a part of a page."""
        self.action_move(int(pages * self.listed.page) or (1 if pages > 0 else -1))
