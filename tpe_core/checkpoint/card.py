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

__all__ = ["CITATION", "base_model", "code", "edit_lines", "manifest_block", "measured_lines", "model_card"]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
SHOWN = 40  # dimensions and tokens listed

CITATION = (
    "## Citation\n\nThe edit's method: Cho, Sakai, Tanaka, Kato and Inoue, *Understanding Token Probability Encoding "
    "in Output Embeddings*, COLING 2025, arXiv 2406.01468. Made with tpe (Python package tpe-tui)."
)
"""A section that names the paper and this program."""


def model_card(model: LanguageModel, edit: ResolvedEdit, record: dict[str, Any], manifest: Manifest | None) -> str:
    """The text of README.md. `record` is the document of `tpe bake` without what is known only after writing."""
    name, form = printable_token(model.name), record["representation"]
    front = ["---", "library_name: transformers", "tags:", "- tpe"]
    if base := base_model(model):
        front.append(f"base_model: {base}")
    but = " (all but its final norm)" if form["constants"] in {"norm", "freed-column"} else ""
    gives = "the edited distribution" if form["exact"] else "the closest to the edited distribution that it can hold"
    adapter = ""
    if model.adapter is not None:
        named = code(printable_token(model.adapter.name))
        adapter = f" The original has the adapter {named} ({model.adapter.kind}) merged into its weights."
    parts = [
        "\n".join([*front, "---"]),
        f"# {code(name)} with an edited output head",
        f"Made by `tpe bake`. The model's body{but} and its input embedding are the original's, bit for bit; "
        f"`from_pretrained` alone gives {gives}.{adapter}",
        "## The edit\n\n" + "\n".join(f"- {line}" for line in edit_lines(model, edit)),
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
        if lines := measured_lines(manifest):
            parts.append("## Measured\n\n" + "\n".join(f"- {line}" for line in lines))
        parts.append(manifest_block(manifest))
    parts.append(CITATION)
    return "\n\n".join(parts) + "\n"


def base_model(model: LanguageModel) -> str:
    """The hub id that a model was loaded by; empty where it was a folder, a file or the bundled one."""
    is_id = HUB_ID.fullmatch(model.name) and model.name != DEMO and not Path(model.name).exists()
    return model.name if is_id else ""


def measured_lines(manifest: Manifest) -> list[str]:
    """What an edit cost and achieved on each text, as its manifest says: a line for each text."""
    lines = []
    for text in () if manifest.measured is None else manifest.measured.texts:
        figures = [f"KL {text.kl:.3g} nats"] if text.kl is not None else []
        if text.top1 is not None:
            figures.append(f"the most probable token stays at {text.top1:.1%} of the positions")
        if text.perplexity is not None and text.base_perplexity is not None:
            figures.append(f"perplexity {text.base_perplexity:.4g} becomes {text.perplexity:.4g}")
        ratios = [f"#{each.token_id} by {each.ratio:.3g}" for each in text.achieved[:SHOWN] if each.ratio is not None]
        if ratios:
            figures.append(f"mean probabilities multiplied: {', '.join(ratios)}")
        if figures:
            lines.append(f"{text.domain} text ({text.positions:,} positions): {'; '.join(figures)}")
    return lines


def manifest_block(manifest: Manifest) -> str:
    """A section with the manifest's JSON in a fence that nothing in it ends."""
    text = format_document(manifest.model_dump(mode="json", by_alias=True)).decode().rstrip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"## The intervention's manifest\n\n{fence}json\n{text}\n{fence}"


def edit_lines(model: LanguageModel, edit: ResolvedEdit) -> list[str]:
    """What is edited: a line for the pruned dimensions and one for each steered token, at most `SHOWN`."""
    intervention, lines = edit.intervention, []
    names = token_texts(model.tokenizer, model.head.vocab_rows)
    if edit.removed:
        dims = ", ".join(str(dim) for dim in edit.removed[:SHOWN])
        more = f" and {len(edit.removed) - SHOWN} more" if len(edit.removed) > SHOWN else ""
        lines.append(
            f"{len(edit.removed)} of {edit.hidden_size} dimensions pruned, replaced by "
            f"{intervention.replacement}: {dims}{more}"
        )
    for each in intervention.sets:
        how = intervention.how(each)
        lines.append(
            f"the {len(each):,} tokens of {code(printable_token(each.written))} steered as one to {how.ratio:g} times "
            f"their mean probability, by {how.method}"
        )
    singles = intervention.singles
    for entry in singles[:SHOWN]:
        lines.append(
            f"token {code(names[entry.token_id])} (#{entry.token_id}) steered to {entry.ratio:g} times its mean "
            f"probability, by {entry.method}"
        )
    if len(singles) > SHOWN:
        lines.append(f"{len(singles) - SHOWN} more tokens steered")
    return lines or ["none"]


def code(text: str) -> str:
    """Text as code in Markdown, whatever backticks it holds."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"
