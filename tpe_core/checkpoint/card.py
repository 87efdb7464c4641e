"""The model card of a checkpoint with an edit in its weights: what was edited, how it is stored, what was verified.

Texts of models and tokens are hostile: they are printed, never interpreted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tpe_core.edits.edit import ResolvedEdit
from tpe_core.manifest.io import format_document
from tpe_core.manifest.schema import Manifest
from tpe_core.models.model import LanguageModel
from tpe_core.options import DEMO
from tpe_core.printable import printable_token, token_texts

__all__ = ["model_card"]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
SHOWN = 40  # dimensions and tokens listed


def model_card(model: LanguageModel, edit: ResolvedEdit, record: dict[str, Any], manifest: Manifest | None) -> str:
    """The text of README.md. `record` is the document of `tpe bake` without what is known only after writing."""
    name, form = printable_token(model.name), record["representation"]
    front = ["---", "library_name: transformers", "tags:", "- tpe"]
    if HUB_ID.fullmatch(model.name) and model.name != DEMO and not Path(model.name).is_dir():
        front.append(f"base_model: {model.name}")
    but = " (all but its final norm)" if form["constants"] in {"norm", "freed-column"} else ""
    gives = "the edited distribution" if form["exact"] else "the closest to the edited distribution that it can hold"
    adapter = ""
    if model.adapter is not None:
        named = _code(printable_token(model.adapter.name))
        adapter = f" The original has the adapter {named} ({model.adapter.kind}) merged into its weights."
    parts = [
        "\n".join([*front, "---"]),
        f"# {_code(name)} with an edited output head",
        f"Made by `tpe bake`. The model's body{but} and its input embedding are the original's, bit for bit; "
        f"`from_pretrained` alone gives {gives}.{adapter}",
        "## The edit\n\n" + "\n".join(f"- {line}" for line in _edit_lines(model, edit)),
        "## How it is stored\n\n" + f"{form['text'][:1].upper()}{form['text'][1:]}. Weights are {record['dtype']}.",
    ]
    if (loss := record["loss"]) is not None:
        parts.append(
            "This architecture cannot hold the edit's constants exactly. Over "
            f"{loss['positions']:,} positions of the detecting text the stored distribution is {loss['kl']:.3g} nats "
            f"(KL) from the edited one; leaving the constants out costs {loss['kl_dropped']:.3g}, the "
            f"direction closest to a constant {loss['kl_guess']:.3g}."
        )
    verified = record["verified"]
    tested = ", the manifest's self-test included" if verified["self_test"] else ""
    parts.append(
        "## Verified\n\n"
        f"Loaded back and compared over {verified['positions']:,} positions{tested}: its logits are within "
        f"{verified['model_error']:.2g} of the {'edited model' if loss is None else 'weights that were meant'}'s."
    )
    if manifest is not None:
        text = format_document(manifest.model_dump(mode="json", by_alias=True)).decode().rstrip()
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        parts.append(f"## The intervention's manifest\n\n{fence}json\n{text}\n{fence}")
    return "\n\n".join(parts) + "\n"


def _edit_lines(model: LanguageModel, edit: ResolvedEdit) -> list[str]:
    intervention, lines = edit.intervention, []
    names = token_texts(model.tokenizer, model.head.vocab_rows)
    if edit.removed:
        dims = ", ".join(str(dim) for dim in edit.removed[:SHOWN])
        more = f" and {len(edit.removed) - SHOWN} more" if len(edit.removed) > SHOWN else ""
        lines.append(
            f"{len(edit.removed)} of {edit.hidden_size} dimensions pruned, replaced by "
            f"{intervention.replacement}: {dims}{more}"
        )
    for entry in intervention.steering[:SHOWN]:
        lines.append(
            f"token {_code(names[entry.token_id])} (#{entry.token_id}) steered to {entry.ratio:g} times its mean "
            f"probability, by {entry.method}"
        )
    if len(intervention.steering) > SHOWN:
        lines.append(f"{len(intervention.steering) - SHOWN} more tokens steered")
    return lines or ["none"]


def _code(text: str) -> str:
    """Text as code in Markdown, whatever backticks it holds."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"
