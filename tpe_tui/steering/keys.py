"""The keys of the steering study: from this table come its bindings, its footer and its help.

What the inspector has a key for keeps that key here, remapped or not.
"""

from __future__ import annotations

from tpe_tui.study import COMMON_KEYS

__all__ = ["ALSO", "FOOTER", "KEYS"]

KEYS: tuple[tuple[str, str, str], ...] = (
    ("find.search", "search", "choose a token of the vocabulary"),
    ("steer.up", "slide(1)", "ask for more, by a step of 2^¼ (l, → as well)"),
    ("steer.down", "slide(-1)", "ask for less (h, ← as well)"),
    ("steer.exact", "exact", "an exact ratio, or a mean probability: 2 or 1%"),
    ("c", "calibrate", "ask so that the ratio is achieved, on the local text"),
    ("steer.reset", "reset", "ratio 1: not steered"),
    ("steer.method", "method", "next method, for every token"),
    ("a", "add", "add the token to the set, or take it out of it"),
    ("move.down", "turn(1)", "next token of the set (tab as well)"),
    ("move.up", "turn(-1)", "previous token of the set"),
    ("enter", "apply", "steer so in the inspector, as one step to undo, and go back"),
    ("run.rerun", "start", "read the texts, where that was cancelled"),
    ("run.cancel", "cancel", "cancel reading the texts"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command line that measures this"),
    ("app.help", "help", "these keys"),
    ("app.escape", "leave", "back to the inspector; nothing is changed"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (
    ("plot.next", "slide(1)"), ("plot.previous", "slide(-1)"), ("pane.next", "turn(1)"), ("pane.previous", "turn(-1)"),
    ("run.steer", "leave"), ("q", "leave"),
)  # fmt: skip
FOOTER = (
    ("apply", "Apply"), ("search", "Token"), ("slide(1)", "More"), ("slide(-1)", "Less"), ("method", "Method"),
    ("calibrate", "Calibrate"), ("add", "Add"), ("help", "Keys"), ("leave", "Back"),
)  # fmt: skip
