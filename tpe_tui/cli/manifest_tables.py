"""How a saved intervention reads in a terminal: what it does, to which model, at which cost, and its self-test.

All text in a file may be hostile: every line is stripped of what a terminal would obey, and cut to its column.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tpe_core.corpus.domains import DOMAINS
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_tui.cells import escape_controls, fit, four_decimals, number, percent
from tpe_tui.cli.console import line

if TYPE_CHECKING:
    from tpe_core.export.artefact import Artefact
    from tpe_core.manifest.manifest import Manifest
    from tpe_core.manifest.self_test import Mismatch

__all__ = ["dims_text", "figure", "print_artefact", "print_manifest", "print_mismatches", "row", "safe"]

LABEL = 12  # cells of the column of labels
LONGEST = 200  # characters of a text from a file that are looked at
TABLE = "  "  # what tables are set in by
HASH = 12  # characters of a hash printed; --json has all 64
CELL = 22  # cells of a token and its logit
STEERED = 20  # tokens printed; --json has them all


def _width() -> int:
    return max(60, min(120, shutil.get_terminal_size((100, 24)).columns))


def safe(text: str, width: int = 60) -> str:
    """Text of a file, no wider than `width` cells and nothing a terminal obeys."""
    return fit(escape_controls(text[:LONGEST]), width).rstrip()


def row(label: str, text: str) -> None:
    """A label and its text, wrapped under itself."""
    for at, part in enumerate(textwrap.wrap(text, _width() - LABEL, break_on_hyphens=False) or [""]):
        line(f"{'' if at else label:<{LABEL}}{part}")


def dims_text(dims: Sequence[int]) -> str:
    """Dimensions in ascending order, runs of three or more as ``3-7``."""
    parts: list[str] = []
    at = 0
    while at < len(dims):
        end = at
        while end + 1 < len(dims) and dims[end + 1] == dims[end] + 1:
            end += 1
        if end - at >= 2:
            parts.append(f"{dims[at]}-{dims[end]}")
        else:
            parts += [str(dim) for dim in dims[at : end + 1]]
        at = end + 1
    return ", ".join(parts)


def print_artefact(artefact: Artefact) -> None:
    """What holds the edit, where that is not the intervention's own file."""
    if artefact.kind:
        row("stored as", f"{safe(artefact.kind, 20)}: {safe(artefact.form, 200)}")
    if artefact.checked:
        row("  checked", safe(artefact.checked, 200))


def print_manifest(path: Path, manifest: Manifest) -> None:
    """Everything that the file says, in the order of: what, to which model, measured how, self-test, files."""
    made = manifest.made_on
    line(str(path))
    if not manifest.pruned and not manifest.methods:
        row("edit", "none: nothing is pruned and nothing is steered")
    if manifest.pruned:
        count, width = len(manifest.pruned), made.hidden_size
        row("pruned", f"{count:,} of {width:,} dimensions ({count / width:z.1%}), replaced by {_replaced(manifest)}")
        row("", dims_text(manifest.pruned))
    _print_steering(manifest)
    revision = "" if made.revision is None else f", revision {safe(made.revision)}"
    numbers = (("scale", made.post.scale), ("cap", made.post.cap))
    post = safe(made.post.kind, 20) + "".join(f", {name} {value:g}" for name, value in numbers if value is not None)
    row("made on", f"{safe(made.model)}{revision}")
    row("  head", f"{made.vocab_rows:,} tokens x {made.hidden_size:,} dimensions, {_tied(made.tied)}, {post}")
    hashes = {"head": made.head_sha256, "tokenizer": made.tokenizer_sha256}
    hashes |= {} if made.file_sha256 is None else {"file": made.file_sha256}
    row("  sha256", ", ".join(f"{name} {value[:HASH]}" for name, value in hashes.items()))
    versions = ", ".join(f"{safe(name, 20)} {safe(value, 30)}" for name, value in manifest.versions.items())
    by = "" if manifest.made_by is None else f"{safe(manifest.made_by, 100)}; "
    row("made by", f"{by}{_moment(manifest.created)}; {versions}")
    _print_measured(manifest)
    _print_self_test(manifest)
    if manifest.arrays is not None:
        row("arrays", f"{manifest.arrays.file}, sha256 {manifest.arrays.sha256[:HASH]}")


def _replaced(manifest: Manifest) -> str:
    return REPLACEMENTS[manifest.replacement].about


def _tied(tied: bool) -> str:
    return "tied to the input embedding" if tied else "untied"


def _moment(created: str) -> str:
    return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M} UTC"


def _print_steering(manifest: Manifest) -> None:
    _print_sets(manifest)
    if not manifest.steering:
        return
    texts = manifest.measured.texts if manifest.measured is not None else ()
    achieved = {text.domain: {each.token_id: each.ratio for each in text.achieved} for text in texts if text.achieved}
    widths = {domain: len(DOMAINS[domain].label) + 2 for domain in achieved}
    heads = "".join(f"{DOMAINS[domain].label:>{width}}" for domain, width in widths.items())
    row("steered", "asked and achieved: what the mean probability is multiplied by" if achieved else "")
    line(f"{TABLE}{'token':<14}{'id':>7}{'asked':>8}{heads}  method")
    for entry in manifest.steering[:STEERED]:
        token = fit(safe(entry.token, 13), 14)
        ratios = "".join(
            f"{figure('ratio', found.get(entry.token_id)):>{widths[domain]}}" for domain, found in achieved.items()
        )
        line(f"{TABLE}{token}{entry.token_id:>7}{number(entry.ratio):>8}{ratios}  {entry.method}")
    if len(manifest.steering) > STEERED:
        line(f"{TABLE}... {len(manifest.steering) - STEERED:,} more with --json")


def _print_sets(manifest: Manifest) -> None:
    if not manifest.sets:
        return
    texts = manifest.measured.texts if manifest.measured is not None else ()
    achieved = {text.domain: {one.name: one.ratio for one in text.achieved_by_set} for text in texts}
    achieved = {domain: found for domain, found in achieved.items() if found}
    widths = {domain: len(DOMAINS[domain].label) + 2 for domain in achieved}
    heads = "".join(f"{DOMAINS[domain].label:>{width}}" for domain, width in widths.items())
    row("sets", "steered as one: asked, and achieved by their whole mean probability" if achieved else "")
    line(f"{TABLE}{'set':<22}{'tokens':>8}{'asked':>8}{heads}  method")
    for each in manifest.sets:
        ratios = "".join(
            f"{figure('ratio', found.get(each.name)):>{widths[domain]}}" for domain, found in achieved.items()
        )
        name = fit(safe(each.name, 21), 22)
        line(f"{TABLE}{name}{len(each.token_ids):>8,}{number(each.ratio):>8}{ratios}  {each.method}")
        if each.definition != each.name:
            line(f"{TABLE}  {safe(each.definition, 90)}")


def _print_measured(manifest: Manifest) -> None:
    measured = manifest.measured
    if measured is None:
        row("measured", "nothing")
        return
    row("measured", f"made with {measured.positions:,} positions of {safe(measured.text)}; KL, JS, entropy in nats")
    row("", f"after {safe(measured.prompt)!r}: KL {figure('kl', measured.kl)}, JS {figure('js', measured.js)}")
    for text in measured.texts:
        row("", f"{DOMAINS[text.domain].label}: {text.positions:,} positions of {safe(text.text)}")
    if measured.texts:
        line(f"{TABLE}{'text':<15}{'KL':>9}{'JS':>9}{'top-1':>8}{'perplexity (base)':>19}{'entropy (base)':>16}")
    for text in measured.texts:
        divergences = f"{figure('kl', text.kl):>9}{figure('js', text.js):>9}{figure('top1', text.top1):>8}"
        perplexity = _beside("perplexity", text.perplexity, text.base_perplexity)
        entropy = _beside("entropy", text.entropy, text.base_entropy)
        line(f"{TABLE}{DOMAINS[text.domain].label:<15}{divergences}{perplexity:>19}{entropy:>16}")


def _beside(name: str, value: float | None, base: float | None) -> str:
    return figure(name, value) + ("" if base is None else f" ({figure(name, base)})")


def figure(name: str, value: float | None) -> str:
    """A figure by its name, a dash where there is none."""
    if value is None:
        return "-"
    if name == "top1":
        return percent(value)
    return four_decimals(value) if name in ("kl", "js") else number(value)


def _print_self_test(manifest: Manifest) -> None:
    test = manifest.self_test
    if test is None:
        row("self-test", "none")
        return
    row("self-test", f"logits of the edited model ({safe(test.task)}, {safe(test.dtype, 20)}) after")
    across = (_width() - LABEL) // CELL
    for each in test.prompts:
        row("", repr(safe(each.prompt, _width() - LABEL - 4)))
        entries = (*each.top, *each.steered)[:STEERED]
        cells = [f"  {fit(safe(entry.token, 11), 11)}{number(entry.logit):>8} " for entry in entries]
        for at in range(0, len(cells), across):
            line(f"{'':<{LABEL}}{''.join(cells[at : at + across])}")


def print_mismatches(path: Path, model: str, manifest: Manifest, mismatches: Sequence[Mismatch]) -> None:
    """Whether a model reproduces the self-test under the edit; each logit that is not the recorded one."""
    prompts = 0 if manifest.self_test is None else len(manifest.self_test.prompts)
    line()
    if not prompts:
        line(f"{path} has no self-test to run on {model}: it was saved by an older tpe")
        return
    verdict = "reproduced" if not mismatches else f"{len(mismatches):,} logits differ"
    line(f"self-test on {model}: {prompts} prompts, {verdict}")
    for mismatch in mismatches[:STEERED]:
        line(f"  {mismatch}")
