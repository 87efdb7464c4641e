"""What the parts of a report are measured on: one analysed model, its texts, and how a command names them."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields

from tpe_core.analysis import Analysis
from tpe_core.detection.samples import Samples, read_samples
from tpe_core.options import RunOptions
from tpe_core.progress import Steps
from tpe_core.report.settings import PROMPTS
from tpe_core.store import Store

__all__ = ["Material", "command_words"]

FLAGS = {"cache": "--no-cache", "offline": "--offline", "trust_remote_code": "--trust-remote-code"}
QUIET = ("model", "sample", "cache", "refresh", "offline", "threads")  # change no number, or have no option


def command_words(options: RunOptions) -> list[str]:
    """The words of a command line after the command's name that lead to `options`; what has its default is left out."""
    words, defaults = [options.model], RunOptions()
    for field in fields(RunOptions):
        value = getattr(options, field.name)
        if field.name in QUIET or value == getattr(defaults, field.name):
            continue
        option = FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")
        values = value if isinstance(value, tuple) else (value,)
        words += [option] if value is True else [word for each in values for word in (option, str(each))]
    return words


@dataclass(kw_only=True)
class Material:
    """An analysis, how it was asked for, and what else a report is given. The texts are read once, when first asked."""

    analysis: Analysis
    options: RunOptions
    store: Store | None = None
    ood: tuple[str, ...] = ()  # files or folders of out-of-domain text
    dynamics: tuple[str, ...] = ()  # trajectories: files of `tpe dynamics`, logs of probes, or ``demo``
    experiments: tuple[str, ...] = ()  # folders of `tpe train-on`, `tpe sparsity` and `tpe demo train`
    prompts: int = PROMPTS  # that text is sampled after
    _samples: Samples | None = None
    _print: str = ""

    def samples(self) -> Steps[Samples]:
        """The hidden states that edits are judged on: a job."""
        if self._samples is None:
            self._samples = yield from read_samples(
                self.analysis.model, self.analysis.detection.sample, self.analysis.source, self.ood,
                size=self.options.sample, seed=self.options.seed, store=self.store,
            )  # fmt: skip
        return self._samples

    def fingerprint(self) -> Steps[str]:
        """What every measurement depends on beside its own settings: a job, which reads the texts."""
        if not self._print:
            samples = yield from self.samples()
            digest = hashlib.sha256(
                f"{self.analysis.model.fingerprint} {self.analysis.corpus_fingerprint} "
                f"{self.analysis.detection.positions} {self.options.seed}".encode()
            )
            for name, sample in samples.items():
                digest.update(name.encode())
                digest.update(sample.hidden.tobytes())
                digest.update(sample.next_ids.tobytes())
            self._print = digest.hexdigest()
        return self._print

    def command(self, name: str, *more: str, judged: bool = False) -> str:
        """A command line that measures the same model on the same text; `judged` on the same other texts as well."""
        ood: Sequence[str] = self.ood if judged else ()
        words = ["tpe", name, *command_words(self.options), *more]
        return shlex.join([*words, *(word for path in ood for word in ("--ood", path)), "--json"])
