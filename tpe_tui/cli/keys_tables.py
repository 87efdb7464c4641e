"""The whole key table: the inspector's groups, the study screens, and what is to be said of the user's keys.toml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpe_core.outputs import shown_path
from tpe_tui.cells import fit
from tpe_tui.cli.paragraphs import report_width, wrapped
from tpe_tui.comparison import screen as comparison
from tpe_tui.dynamics import screen as dynamics
from tpe_tui.edits import screen as edits_screen
from tpe_tui.fit import screen as fit_screen
from tpe_tui.generation import keys as generation
from tpe_tui.jobs import screen as jobs
from tpe_tui.keymap import BY_ID, Keymap, load_keymap
from tpe_tui.prompts import screen as prompts
from tpe_tui.steering import keys as steering
from tpe_tui.study import Key
from tpe_tui.sweep import screen as sweep
from tpe_tui.terminal_keys import character_of, swallowed

__all__ = ["STUDIES", "KeyRow", "KeyTable", "key_table", "report"]

STUDIES: dict[str, Sequence[Key]] = {
    "Pruning sweep": sweep.KEYS,
    "Steering study": steering.KEYS,
    "Generation": generation.KEYS,
    "Training dynamics": dynamics.KEYS,
    "Comparison": comparison.KEYS,
    "Fit": fit_screen.KEYS,
    "Edits": edits_screen.KEYS,
    "Jobs": jobs.KEYS,
    "Prompts": prompts.KEYS,
}
"""The key tables of the screens that lie over the inspector, by title."""

KEY_CELLS, ID_CELLS = 16, 18


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRow:
    """A line of the table; `id` is empty where keys.toml cannot change the key."""

    keys: tuple[str, ...]
    id: str
    help: str
    is_changed: bool  # by keys.toml


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
    studies = {name: [_row(keymap, key, about) for key, _, about in keys] for name, keys in STUDIES.items()}
    return KeyTable(
        file=file,
        is_found=file.exists(),
        inspector={
            name: [_row(keymap, action.id, action.help) for action in actions]
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


def _row(keymap: Keymap, key: str, about: str) -> KeyRow:
    known = key in BY_ID
    return KeyRow(
        keys=keymap.keys(key) if known else (key,),
        id=key if known else "",
        help=about,
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
        first, *more = wrapped(row.help, width - len(left))
        yield left + first
        yield from (" " * len(left) + line for line in more)
