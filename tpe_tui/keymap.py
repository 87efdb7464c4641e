"""One table of actions: from it come the key bindings, the footer, the help screen, the palette and remapping.

It holds no behaviour; an action's id with its dot as an underscore names the method that a screen runs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import MappingProxyType

from textual.binding import Binding, BindingType

from tpe_tui.terminal_keys import character_of, key_name, lost_as, meant

__all__ = [
    "ACTIONS",
    "BY_ID",
    "COUNTED",
    "FOOTER",
    "Action",
    "Keymap",
    "app_bindings",
    "bindings",
    "default_keys_file",
    "load_keymap",
]


@dataclass(frozen=True, slots=True)
class Action:
    """Something a key does. `keys` are comma-separated; `label` is what the footer calls it.

    `counted` says what a number that is typed before it counts; it is empty where none is taken.
    """

    id: str
    keys: str
    help: str
    group: str
    _: KW_ONLY
    label: str = ""
    headless: str = ""
    counted: str = ""

    @property
    def method(self) -> str:
        """The name of the screen's action."""
        return self.id.replace(".", "_")


ACTIONS: tuple[Action, ...] = (
    Action("move.down", "j,down", "next row", "Move", counted="rows"),
    Action("move.up", "k,up", "previous row", "Move", counted="rows"),
    Action("move.half_down", "ctrl+d", "half a page down", "Move", counted="half pages"),
    Action("move.half_up", "ctrl+u", "half a page up", "Move", counted="half pages"),
    Action("move.page_down", "pagedown", "a page down", "Move", counted="pages"),
    Action("move.page_up", "pageup", "a page up", "Move", counted="pages"),
    Action("move.first", "g,home", "first row", "Move", counted="the row to go to"),
    Action("move.last", "G,end", "last row", "Move", counted="the row to go to"),
    Action("pane.next", "tab", "next pane", "Panes", label="Pane"),
    Action("pane.previous", "shift+tab", "previous pane", "Panes"),
    Action("pane.dims", "1", "dimensions", "Panes"),
    Action("pane.tokens", "2", "next token", "Panes"),
    Action("pane.plot", "3", "plot", "Panes"),
    Action("pane.detail", "4", "detail of the dimension or token under the cursor", "Panes"),
    Action(
        "pane.prompt", "5", "the prompt's tokens: h and l choose at which one pane 2 looks; again closes them", "Panes"
    ),
    Action(
        "prompt.colour", "K", "mark the prompt's tokens by the edit's KL, or by their surprisal", "Panes", label="Mark"
    ),
    Action(
        "prompt.continue", "R", "a few tokens after the prompt, base and now, in two lines; again closes them", "Panes"
    ),
    Action("pane.zoom", "z", "one pane over the whole screen, and back", "Panes", label="Zoom"),
    Action("find.search", "/", "search: a dimension, or any token of the vocabulary", "Find", label="Search"),
    Action("find.next", "n", "next match", "Find", counted="matches"),
    Action("find.previous", "N", "previous match", "Find", counted="matches"),
    Action("find.filter", "f", "show only some rows: pruned, kept, 10-50, text", "Find", label="Filter"),
    Action("bookmark.toggle", "*", "bookmark the dimension, or remove its bookmark", "Find"),
    Action(
        "bookmark.next", ".", "next bookmarked dimension; the filter bookmarked lists them", "Find", counted="bookmarks"
    ),
    Action("table.sort", "s", "next sort key", "Find", label="Sort", headless="tpe analyze"),
    Action("table.direction", "S", "reverse the order", "Find"),
    Action(
        "mask.toggle",
        "space",
        "prune or restore the dimension, or the marked range",
        "Mask",
        label="Prune",
        counted="dimensions from the cursor down",
    ),
    Action(
        "mask.range", "v", "mark a range; move; again (or space) toggles it, escape drops it", "Mask", label="Range"
    ),
    Action("mask.bottom", "t", "prune the bottom share by the current sort key", "Mask", label="Bottom"),
    Action("mask.invert", "i", "invert: prune exactly what is kept now", "Mask"),
    Action("mask.clear", "c", "clear every edit, pruned and steered", "Mask"),
    Action("mask.undo", "u", "undo", "Mask", label="Undo", counted="steps"),
    Action("mask.redo", "U", "redo", "Mask", counted="steps"),
    Action("mask.replacement", "m", "pruned dimensions become zero, their mean, or a guess from the kept", "Mask"),
    Action(
        "mask.refit",
        "M",
        "refit: make h anew from the kept dimensions, at the least KL (takes minutes)",
        "Mask",
        label="",
        headless="tpe prune --replace refit",
    ),
    Action("steer.up", "]", "steer the selected token up by a step of 2^¼", "Steer", label="More", counted="steps"),
    Action("steer.down", "[", "steer it down by a step", "Steer", label="Less", counted="steps"),
    Action("steer.exact", "=", "steer it to an exact ratio", "Steer", label="Ratio"),
    Action("steer.reset", "0", "stop steering it", "Steer", label="Reset"),
    Action("steer.method", "d", "next steering method", "Steer"),
    Action("steer.mark", "B", "mark the selected token for a set, or unmark it", "Steer"),
    Action(
        "steer.set",
        "W",
        "steer a set of tokens as one: the marked ones, those of the list's filter, a script, a pattern",
        "Steer",
        label="Set",
        headless="tpe steer --set DEFINITION",
    ),
    Action("tokens.order", "b", "order tokens by base or by now", "Steer", label="Order"),
    Action(
        "plot.previous",
        "h,left",
        "previous plot; in the prompt's tokens the one before",
        "Plot",
        label="Previous",
        counted="plots",
    ),
    Action(
        "plot.next",
        "l,right",
        "next plot; in the prompt's tokens the next one",
        "Plot",
        label="Next",
        headless="tpe analyze",
        counted="plots",
    ),
    Action("run.prompt", "p", "type another prompt", "Run", label="Prompt", headless="tpe --prompt TEXT"),
    Action("prompt.list", "L", "several prompts in a list: what the edit does after each", "Run", label="Prompts"),
    Action(
        "run.chat",
        "P",
        "wrap the prompt in the model's chat template, or unwrap it",
        "Run",
        label="",
        headless="tpe --chat",
    ),
    Action(
        "run.rerun",
        "r",
        "run the detection again, or try again to open the model",
        "Run",
        label="Rerun",
        headless="tpe analyze --no-cache",
    ),
    Action(
        "run.open",
        "o",
        "open another model: a cached one, a hub id, a folder or a GGUF file",
        "Run",
        label="Open",
        headless="tpe MODEL",
    ),
    Action(
        "run.sweep", "w", "pruning sweep: what removing dimensions costs", "Run", label="Sweep", headless="tpe prune"
    ),
    Action(
        "run.steer",
        "T",
        "steering study of the selected token: asked, achieved, what it costs",
        "Run",
        label="Study",
        headless="tpe steer",
    ),
    Action(
        "run.dynamics",
        "D",
        "training dynamics: when the encoding came, when the parameters did",
        "Run",
        label="Dynamics",
        headless="tpe dynamics",
    ),
    Action(
        "run.fit",
        "F",
        "the fit: every figure explained, every token in it",
        "Run",
        label="Fit",
        headless="tpe analyze",
    ),
    Action(
        "run.edits", "V", "the edits: every step and named edit with what it does, and a notebook", "Run", label="Edits"
    ),
    Action(
        "run.generate",
        "a",
        "continue the prompt with and without the edit, side by side",
        "Run",
        label="Write",
        headless="tpe generate",
    ),
    Action("run.cancel", "x,ctrl+c", "cancel the running job", "Run"),
    Action("run.jobs", "J", "the jobs: what runs, what is queued, what each came to", "Run", label="Jobs"),
    Action("out.copy", "y", "copy the row, to the clipboard and to a file", "Out", label="Copy"),
    Action("out.export", "e", "export the edit as JSON", "Out", label="Export"),
    Action("out.import", "I", "import an edit from JSON", "Out", label="", headless="tpe --mask FILE"),
    Action("out.headless", "H", "show the command line that gives this view", "Out"),
    Action("app.card", "C", "the output head's report card", "App", label="", headless="tpe check"),
    Action("app.palette", "ctrl+p", "every action by name", "App"),
    Action("app.count", ":", "begin a number: how far, or how often, the next key acts (:3u)", "App"),
    Action("app.help", "?", "this help", "App", label="Help"),
    Action("app.tour", "A", "a tour of three steps; again goes on", "App"),
    Action("app.escape", "escape", "drop the range, the filter, the zoom; close the prompt's tokens, the tour", "App"),
    Action("app.redraw", "ctrl+l", "paint the whole screen again", "App"),
    Action("app.suspend", "ctrl+z", "stop and give the terminal back to the shell; its fg goes on", "App"),
    Action("app.quit", "q,ctrl+q", "leave", "App", label="Quit"),
)

EVERYWHERE = ("app.redraw", "app.suspend")
"""The actions that work on every screen and in every question."""

BY_ID: Mapping[str, Action] = MappingProxyType({action.id: action for action in ACTIONS})

COUNTED = frozenset(action.method for action in ACTIONS if action.counted)
"""The methods that take a number."""

FOOTER: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("mask.toggle", "mask.bottom", "table.sort", "find.search", "app.help", "app.quit"),
        2: ("steer.up", "steer.down", "steer.exact", "find.search", "app.help", "app.quit"),
        3: ("plot.previous", "plot.next", "pane.zoom", "pane.next", "app.help", "app.quit"),
        4: ("out.copy", "pane.zoom", "pane.next", "run.prompt", "app.help", "app.quit"),
        5: ("plot.previous", "plot.next", "prompt.colour", "run.prompt", "app.help", "app.quit"),
    }
)
"""The at most six actions that the footer names, by focused pane."""

LOST = re.compile(r"alt\+|ctrl\+(enter|left_square_bracket|[hijm[])$")
LONGEST = 500  # lines of a file in which the line of a problem is looked for
NAMES = {"space": "space", "escape": "esc", "shift+tab": "S-tab", "pagedown": "pgdn", "pageup": "pgup"}
ARROWS = {"down": "↓", "up": "↑", "left": "←", "right": "→"}


def bindings() -> list[BindingType]:
    """The table as Textual bindings, each with its id so that a user can remap it."""
    return [
        Binding(action.keys, action.method, action.help, show=False, id=action.id)
        for action in ACTIONS
        if action.id not in EVERYWHERE
    ]


def app_bindings() -> list[BindingType]:
    """Those of the table that no screen takes away, not even one that asks for text."""
    return [
        Binding(action.keys, action.method, action.help, show=False, id=action.id, priority=True)
        for action in map(BY_ID.__getitem__, EVERYWHERE)
    ]


@dataclass(frozen=True)
class Keymap:
    """The keys in force: the table's, but for what the user changed; `problems` are sentences to show.

    `places` are the file and the line on which the user changed an action.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    def keys(self, action_id: str) -> tuple[str, ...]:
        """Every key of an action, in Textual's names."""
        return tuple(self.overrides.get(action_id, BY_ID[action_id].keys).split(","))

    def shown(self, action_id: str, every: bool = False) -> str:
        """The first key of an action as people write it, or all of them."""
        names = NAMES | ARROWS
        keys = [names.get(key) or character_of(key) or key.replace("ctrl+", "^") for key in self.keys(action_id)]
        return " ".join(keys) if every else keys[0]

    def groups(self) -> dict[str, list[Action]]:
        """The actions by group, in the table's order."""
        groups: dict[str, list[Action]] = {}
        for action in ACTIONS:
            groups.setdefault(action.group, []).append(action)
        return groups


def default_keys_file() -> Path:
    """Where a user's own keys are looked for."""
    from platformdirs import user_config_dir

    return Path(user_config_dir("tpe")) / "keys.toml"


def load_keymap(path: Path) -> Keymap:
    """The keymap with a user's file applied: ``mask.toggle = "d"`` or a list of keys.

    No file is no change. What cannot be used is left out and said in `Keymap.problems`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        return Keymap()
    except (OSError, ValueError, RecursionError) as error:
        return Keymap(problems=(f"{path} was not used: {error}. Correct it, or remove it.",))
    overrides: dict[str, str] = {}
    problems: list[tuple[str, str]] = []  # (action's id in the file, what is wrong)
    for name, value in _flatten(document):
        keys = [value] if isinstance(value, str) else value
        if name not in BY_ID:
            problems.append((name, f"no action is called {name!r}; the help screen and `tpe keys` list the ids."))
        elif not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key.strip() for key in keys):
            problems.append((name, f"{name} must be a key or a list of keys, not {value!r}."))
        elif lost := [key for key in keys if LOST.search(key)]:
            said = f"{lost[0]} does not reach a program in every terminal{lost_as(lost[0])}; give {name} another key."
            problems.append((name, said))
        else:
            known = [(key.strip(), key_name(key.strip())) for key in keys]
            wrong = [key for key, found in known if found is None]
            usable = list(dict.fromkeys(found for _, found in known if found is not None))
            keeps = "" if usable else f"; {name} keeps {Keymap().shown(name, every=True)}"
            problems.extend((name, f"{key!r} is no key that a terminal sends{meant(key)}{keeps}.") for key in wrong)
            twice = {key: other for other, them in overrides.items() for key in them.split(",") if key in usable}
            for key, other in twice.items():
                usable.remove(key)
                problems.append((name, f"{key} runs {other} already and cannot run {name}, too."))
            if usable:
                overrides[name] = ",".join(usable)
    taken = {key: name for name, keys in overrides.items() for key in keys.split(",")}
    for action in ACTIONS:
        for key in action.keys.split(",") if action.id not in overrides else ():
            if (key_name(key) or key) in taken:
                other = taken[key_name(key) or key]
                problems.append((other, f"{key} now runs {other} and no longer {action.id}."))
    lines = _lines(text)
    places = {
        name: f"{path.name}, line {lines[name]}" if name in lines else path.name for name, _ in _flatten(document)
    }
    return Keymap(overrides, tuple(f"{places[name]}: {said}" for name, said in problems), places)


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _lines(text: str) -> dict[str, int]:
    """The line of a keys file on which the value of each name begins; none for a file of very many lines."""
    lines, found, begins = text.split("\n"), dict[str, int](), 1
    for end in range(1, len(lines) + 1) if len(lines) <= LONGEST else ():
        try:
            names = [name for name, _ in _flatten(tomllib.loads("\n".join(lines[:end])))]
        except (ValueError, RecursionError):
            continue  # a value of several lines is not complete
        found.update((name, begins) for name in names if name not in found)
        begins = end + 1
    return found
