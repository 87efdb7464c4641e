"""The generate screen's keys: where the inspector has the same action, it is the inspector's key, remapped or not."""

from __future__ import annotations

from tpe_tui.study import COMMON_KEYS, FAR

__all__ = ["ALSO", "FOOTER", "KEYS"]

KEYS: tuple[tuple[str, str, str], ...] = (
    ("mask.toggle", "prune", "prune or restore the dimension, from the next token on"),
    ("enter", "pause", "stop, or go on where it stopped"),
    ("run.rerun", "again", "write it again from the beginning"),
    ("N", "next_seed", "write it with the next seed: other random numbers"),
    ("run.cancel", "stop", "stop; what is written stays"),
    ("+", "pace(1)", "faster"),
    ("-", "pace(-1)", "slower"),
    ("plot.next", "look(1)", "look at the next token"),
    ("plot.previous", "look(-1)", "look at the token before"),
    ("n", "difference", "look at the first difference"),
    ("app.escape", "back", "follow the text again; then back to the inspector; writing goes on"),
    ("b", "colour", "colour the edited text by its own probability, or by the unedited head's"),
    ("run.prompt", "inspector('run_prompt')", "type another prompt"),
    (
        "T",
        "set('temperature','0 always takes the most probable token, 1 draws as the model says')",
        "temperature",
    ),
    (
        "P",
        "set('top_p','a share: 0.9 leaves the most probable tokens that make up 90 %; 1 leaves all')",
        "top-p",
    ),
    ("K", "set('top_k','leaves so many of the most probable tokens; 0 leaves all')", "top-k"),
    ("S", "set('seed','of the random numbers; both sides draw with the same')", "seed"),
    ("L", "set('length','tokens at most; the context may hold fewer')", "length"),
    ("move.down", "dims(1)", "next dimension"),
    ("move.up", "dims(-1)", "previous dimension"),
    ("move.half_down", "page(0.5)", "half a page down"),
    ("move.half_up", "page(-0.5)", "half a page up"),
    ("move.first", f"dims({-FAR})", "first dimension"),
    ("move.last", f"dims({FAR})", "last dimension"),
    ("table.sort", "inspector('table_sort')", "next sort key"),
    ("mask.bottom", "inspector('mask_bottom')", "prune the bottom share by the current sort key"),
    ("mask.clear", "inspector('mask_clear')", "clear every edit"),
    ("mask.undo", "inspector('mask_undo')", "undo"),
    ("mask.redo", "inspector('mask_redo')", "redo"),
    ("mask.replacement", "inspector('mask_replacement')", "what a pruned dimension becomes"),
    ("out.copy", "copy", "copy both texts"),
    ("out.export", "save", "save both texts, as text and as JSON"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command line that writes this"),
    ("app.help", "help", "these keys"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("run.generate", "leave"), ("q", "leave"), ("move.page_down", "page(1)"), ("move.page_up", "page(-1)"))
FOOTER = (
    ("prune", "Prune"), ("pause", "Stop"), ("again", "Again"), ("next_seed", "Seed"),
    ("save", "Save"), ("help", "Keys"), ("back", "Back"),
)  # fmt: skip
