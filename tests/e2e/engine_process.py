"""The engine in a process of its own: `export` writes two manifests, `load` reads them; both print what they do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession, open_session

PRUNED = 24  # dimensions, the largest slopes first
RATIO = 3.0


def record(session: LiveSession, path: Path, edit: Intervention) -> dict[str, Any]:
    base, now = session.probabilities(session.default_prompt, edit)
    return {
        "path": str(path),
        "pruned": list(edit.pruned),
        "steered": [entry.token_id for entry in edit.steering],
        "base": base.tolist(),
        "now": now.tolist(),
    }


def main(task: str, folder: Path, positions: int) -> None:
    session = run(open_session(RunOptions(positions=positions)))
    answer = {}
    for replacement in REPLACEMENTS.ready:
        path = folder / f"{replacement}.json"
        if task == "export":
            likely = int(session.evaluate(session.default_prompt, Intervention()).ids[3])
            edit = Intervention(tuple(session.table.order()[:PRUNED].tolist()), replacement).steer(likely, RATIO)
            session.export(path, edit, session.default_prompt)
        else:
            edit = session.load(path)
        answer[replacement] = record(session, path, edit)
    sys.stdout.write(json.dumps(answer))
