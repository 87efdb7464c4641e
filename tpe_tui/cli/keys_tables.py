"""The whole key table: the inspector's groups, the study screens, and what is to be said of the user's keys.toml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpe_core.outputs import shown_path
from tpe_tui.cells import fit
from tpe_tui.cli.paragraphs import report_width, wrapped
from tpe_tui.comparison.screen import ComparisonScreen
from tpe_tui.dynamics.experiment_screen import ExperimentScreen
from tpe_tui.dynamics.screen import DynamicsScreen
from tpe_tui.edits.screen import EditsScreen
from tpe_tui.fit.screen import FitScreen
from tpe_tui.generation.screen import GenerateScreen
from tpe_tui.jobs.screen import JobsScreen
from tpe_tui.keymap import BY_ID, Keymap, load_keymap
from tpe_tui.prompts.screen import PromptsScreen
from tpe_tui.steering.screen import SteerScreen
from tpe_tui.study import Key, StudyScreen
from tpe_tui.sweep.screen import SweepScreen
from tpe_tui.terminal_keys import character_of, swallowed

__all__ = ["STUDIES", "KeyRow", "KeyTable", "key_table", "report"]

SCREENS: dict[str, type[StudyScreen]] = {
    "Pruning sweep": SweepScreen,
    "Steering study": SteerScreen,
    "Generation": GenerateScreen,
    "Training dynamics": DynamicsScreen,
    "Experiment": ExperimentScreen,
    "Comparison": ComparisonScreen,
    "Fit": FitScreen,
    "Edits": EditsScreen,
    "Jobs": JobsScreen,
    "Prompts": PromptsScreen,
}
"""The screens that lie over the inspector, by title."""

STUDIES: dict[str, Sequence[Key]] = {title: screen.KEYS for title, screen in SCREENS.items()}
"""Their key tables."""

KEY_CELLS, ID_CELLS = 16, 18


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRow:
    """A line of the table; `id` is empty where keys.toml cannot change the key."""

    keys: tuple[str, ...]
    id: str
    help: str
    counted: str  # what a number that is typed before the key counts; empty where it takes none
    is_changed: bool  # by keys.toml

    @property
    def line(self) -> str:
        """What the key does, and what a number before it counts."""
        return f"{self.help} [a number: {self.counted}]" if self.counted else self.help


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyTable:
    """Every key by group, those of the inspector first; `problems` and `notes` are sentences about keys.toml."""

    file: Path
    is_found: bool
    inspector: dict[str, list[KeyRow]]
    studies: dict[str, list[KeyRow]]
    problems: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {
            "file": shown_path(self.file),
            "found": self.is_found,
            "inspector": {name: [asdict(row) for row in rows] for name, rows in self.inspector.items()},
            "studies": {name: [asdict(row) for row in rows] for name, rows in self.studies.items()},
            "problems": self.problems,
            "notes": self.notes,
        }


def key_table(file: Path) -> KeyTable:
    """Every key with those of `file` (keys.toml) in force."""
    keymap = load_keymap(file)
    studies = {
        name: [_row(keymap, key, about, _counted(screen, action)) for key, action, about in screen.KEYS]
        for name, screen in SCREENS.items()
    }
    return KeyTable(
        file=file,
        is_found=file.exists(),
        inspector={
            name: [_row(keymap, action.id, action.help, action.counted) for action in actions]
            for name, actions in keymap.groups().items()
        },
        studies=studies,
        problems=[*keymap.problems, *_conflicts(keymap)],
        notes=[
            f"{keymap.places[name]}: {key}, which runs {name}, {kept}."
            for name, keys in keymap.overrides.items()
            for key in keys.split(",")
            if key not in BY_ID[name].keys.split(",") and (kept := swallowed(key))
        ],
    )


def _counted(screen: type[StudyScreen], action: str) -> str:
    """What a number before a key of a screen counts."""
    return "" if screen.counted_action(action, 2) is None else "steps"


def _row(keymap: Keymap, key: str, about: str, counted: str) -> KeyRow:
    known = key in BY_ID
    return KeyRow(
        keys=keymap.keys(key) if known else (key,),
        id=key if known else "",
        help=about,
        counted=counted,
        is_changed=key in keymap.overrides,
    )


def _conflicts(keymap: Keymap) -> Iterator[str]:
    """A sentence for each key of the user that does something else on a study screen, where it cannot be changed."""
    for title, keys in STUDIES.items():
        own = {key: about for key, _, about in keys if key not in BY_ID}
        for name in (key for key, _, _ in keys if key in keymap.overrides):
            for key in keymap.keys(name):
                about = own.get(key) or own.get(character_of(key))
                if about:
                    yield f"{keymap.places[name]}: {key} runs {name}, but in {title} it is: {about}."


def report(table: KeyTable) -> list[str]:
    """The table as lines for a terminal."""
    width = report_width()
    lines: list[str] = []
    for title, rows in table.inspector.items():
        lines += [title, *_lines(rows, width), ""]
    for title, rows in table.studies.items():
        lines += [f"{title} (a screen over the inspector)", *_lines(rows, width), ""]
    shown = shown_path(table.file)
    if not table.is_found:
        lines += wrapped(f"No keys of your own: {shown} is not there.", width)
    elif any(row.is_changed for rows in table.inspector.values() for row in rows):
        lines += wrapped(f"* changed by {shown}", width)
    else:
        lines += wrapped(f"{shown} changes nothing.", width)
    for sentence in (*table.problems, *table.notes):
        lines += wrapped(sentence, width, "  ")
    return lines


def _lines(rows: Sequence[KeyRow], width: int) -> Iterator[str]:
    for row in rows:
        mark = "*" if row.is_changed else " "
        left = f"{mark} {fit(' '.join(row.keys), KEY_CELLS)} {fit(row.id, ID_CELLS)} "
        first, *more = wrapped(row.line, width - len(left))
        yield left + first
        yield from (" " * len(left) + line for line in more)
