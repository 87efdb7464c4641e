"""What commands that measure an edit share: the cache, and the texts that the edit is judged on.

Nothing here loads a model; what goes wrong with the cache or the texts is said on stderr.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpe_tui.cli.console import drive, say

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis
    from tpe_core.detection.samples import Samples
    from tpe_core.options import RunOptions
    from tpe_core.store import Store

__all__ = ["open_store", "read_texts"]


def open_store(options: RunOptions) -> Store | None:
    """The cache; None where it is off."""
    from tpe_core.store import Store

    return Store(on_problem=say) if options.cache else None


def read_texts(analysis: Analysis, options: RunOptions, ood: Sequence[str] | None, store: Store | None) -> Samples:
    """The local, held-out and out-of-domain (`ood`: files or folders) samples of a command line's model.

    Says the warnings of the analysis and of the samples. Raises `CorpusError` where a text is too short.
    """
    from tpe_core.detection.samples import read_samples

    steps = read_samples(
        analysis.model, analysis.detection.sample, analysis.source, tuple(ood or ()),
        size=options.sample, seed=options.seed, store=store,
    )  # fmt: skip
    samples = drive(steps)
    for warning in (*analysis.warnings, *samples.warnings):
        say(warning)
    return samples
