"""A checkpoint's loss on a text, and how far its mean prediction is from the frequencies of single tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tpe_core.corpus.corpus import TextSource, tokenizer_fingerprint
from tpe_core.detection.detection import detect
from tpe_core.detection.reading import corpus_spec
from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.suite.checkpoints import Checkpoint
from tpe_core.dynamics.suite.head_reader import whole
from tpe_core.dynamics.suite.weight_files import UnusableError
from tpe_core.errors import ModelError, NumericalError
from tpe_core.models.loading import load_steps
from tpe_core.options import RunOptions
from tpe_core.progress import Steps

__all__ = ["TextLoss"]


@dataclass(frozen=True)
class TextLoss:
    """Measures checkpoints on the first positions of a text, with one tokenizer for all of them."""

    source: TextSource
    tokenizer: Any
    options: RunOptions  # device, dtype, task, and how many positions

    @cached_property
    def key(self) -> str:
        """Cache key: sha256 (hex) of text, tokenizer, positions, dtype and task."""
        wanted = self.options
        facts = [self.source.fingerprint(), tokenizer_fingerprint(self.tokenizer)]
        return " ".join([*facts, str(wanted.positions), str(wanted.dtype), str(wanted.task)])

    def measure(self, checkpoint: Checkpoint, frequencies: Frequencies) -> Steps[tuple[float, float]]:
        """(loss in nats a token, KL(unigram || mean prediction) in nats): a job that runs the whole model.

        Raises `UnusableError` where this checkpoint cannot be run.
        """
        files = yield from whole(checkpoint.files)
        try:
            with _with_tokenizer(files.folder, self.tokenizer) as folder:
                model = yield from load_steps(replace(self.options, model=str(folder), revision=None))
                corpus = yield from corpus_spec(self.source, model, self.options.positions, part="all").corpus()
                detection = yield from detect(model, corpus, sample_size=0)
        except (ModelError, NumericalError) as error:
            raise UnusableError(str(error).rstrip(".")) from error
        unigram = frequencies.frequency
        kl = float(unigram @ (np.log(unigram) - detection.log_alpha[: len(unigram)]))
        return detection.loss, kl


@contextmanager
def _with_tokenizer(folder: Path, tokenizer: Any) -> Iterator[Path]:
    """A folder of links to a checkpoint's files with the run's tokenizer beside them."""
    with tempfile.TemporaryDirectory(prefix="tpe-") as name:
        linked = Path(name)
        tokenizer.save_pretrained(linked)
        for path in folder.iterdir():
            if path.is_file() and not (linked / path.name).exists():
                (linked / path.name).symlink_to(path.resolve())
        yield linked
