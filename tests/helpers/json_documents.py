"""The `--json` document of every command for a tiny model: what the published JSON Schemas are held against."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.notebook import Note
from tpe_core.options import RunOptions
from tpe_tui.cli.main import main
from tpe_tui.shell.sessions import SavedEdit, SavedSession, SessionStore

__all__ = ["DOCUMENTS", "document", "written"]

READ = ("--positions", "400", "--no-cache", "--text", "TEXT")
FURTHER = (*READ, "--ood", "OTHER_TEXT")
TRAINED = ("--variant", "kept", "--variant", "random", "--steps", "1", "--batch", "1", "--evaluate", "128")

DOCUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "check": (("check", "MODEL"), ("check", "MODEL", "--precision", "--positions", "400", "--text", "TEXT")),
    "analyze": (("analyze", "MODEL", "--positions", "400", "--text", "TEXT"),),  # kept, for the list of the cache
    "steer": (
        ("steer", "MODEL", "--token", "#7", "--ratio", "2", *FURTHER, "--save", "edit.json"),
        ("steer", "MODEL", "--set", "few = #7 + #9", "--token", "#8", "--together", "--calibrate", *FURTHER),
        ("steer", "MODEL", "--token", "#7", "--dose", *FURTHER),
        ("steer", "MODEL", "--token", "#7", "--few-shot", *FURTHER),
    ),
    "prune": (
        ("prune", "MODEL", "--fractions", "0.25", "--order", "slope", "--save", "mask.json", *FURTHER),
        ("prune", "MODEL", "--order", "slope", "--budget", "0.2", *FURTHER),
    ),
    "train-on": (
        ("train-on", "MODEL", "--mask", "mask.json", "--mask", "edit.json", "--out", "runs", *TRAINED, *FURTHER),
        (
            "train-on",
            "MODEL",
            "--mask",
            "mask.json",
            "--out",
            "lora",
            "--lora",
            "2",
            "--seeds",
            "1",
            *TRAINED,
            *FURTHER,
        ),
    ),
    "dynamics": (("dynamics", "demo"),),
    "generate": (("generate", "MODEL", "--prompt", "alpha", "--length", "3", "--intervention", "edit.json"),),
    "bake": (("bake", "mask.json", "MODEL", "--out", "baked", *READ),),
    "transfer": (("transfer", "mask.json", "MODEL", *FURTHER),),
    "vocabulary": (("vocabulary", "MODEL", "--keep", "40", *FURTHER),),
    "kl": (("kl", "MODEL", "OTHER", *READ),),
    "sparsity": (("sparsity",), ("sparsity", "--with", "MODEL", *READ)),
    "compare": (("compare", "MODEL", "OTHER", "--budget", "0.1", *READ),),
    "atlas": (("atlas", "MODEL", "--top", "3", *READ), ("atlas", "MODEL", "--mask", "mask.json", "--top", "3", *READ)),
    "report": (("report", "MODEL", "--only", "fit,slopes,dynamics", "--out", "report", *READ),),
    "show": (("show", "mask.json", "--on", "MODEL"), ("show", "edit.json")),
    "diff": (("diff", "mask.json", "edit.json"),),
    "doctor": (("doctor",),),
    "cache": (("cache",), ("cache", "prune", "--older-than", "1d", "--dry-run")),
    "sessions": (("sessions",), ("sessions", "notes", "heads")),
    "keys": (("keys",),),
}
"""The lines that print each command's document; MODEL, OTHER, TEXT and OTHER_TEXT are what `written` writes."""


def written(folder: Path) -> dict[str, str]:
    """Two models that share a tokenizer, and two texts, by the names that the lines have for them; and a session."""
    (folder / "text.txt").write_text(text(1, 6000))
    (folder / "other.txt").write_text(text(2, 6000))
    save_tiny(folder / "model")
    save_tiny(folder / "other", "llama")
    store, kept = SessionStore(), Intervention((3, 14), "mean", (Steering(7, 2.0),))
    edit = SavedEdit(steps=(Intervention(), kept), at=1, changed=1.0)
    store.write(SavedSession(name="heads", options=RunOptions("some/model"), edit=edit, written=1.0))
    note = Note(
        time=1.0, model="some/model", prompt="a", edit=kept, kl=0.1, js=0.01, change="", top_base="b", top_now="c"
    )
    store.append_notes("heads", [note])
    names = {"MODEL": "model", "OTHER": "other", "TEXT": "text.txt", "OTHER_TEXT": "other.txt"}
    return {name: str(folder / each) for name, each in names.items()}


def document(line: tuple[str, ...], names: Mapping[str, str]) -> Any:
    """What a line prints as JSON, run in the working folder. Raises AssertionError where it fails."""
    out, err = io.StringIO(), io.StringIO()
    words = [names.get(word, word) for word in line]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*words, "--json"])
    assert code == 0, f"tpe {' '.join(words)}: {code}: {err.getvalue()[-2000:]}"
    return json.loads(out.getvalue())
