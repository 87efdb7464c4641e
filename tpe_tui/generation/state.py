"""What the generate screen looks at: the pair as far as it is written, how it is drawn, and where one looks.

Pure values and their changes; the engine writes, the screens draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from tpe_core.errors import TpeError
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import GeneratedToken, Mailbox, PairedGeneration

__all__ = ["GENERATE", "PACES", "SAVE", "GenerateState", "drawn_text"]

GENERATE = "generate"  # of the job
SAVE = "generate-save"  # of the request
LENGTH = 200
PACES = (2.0, 5.0, 12.0, 30.0, math.inf)  # tokens a second; 12 can be read along


def drawn_text(decoding: Decoding) -> str:
    """How tokens are drawn, what changes nothing left out."""
    if decoding.temperature == 0:
        return "greedy"
    parts = [f"temperature {decoding.temperature:g}"]
    parts += [f"top-k {decoding.top_k}"] if decoding.top_k else []
    parts += [f"top-p {decoding.top_p:g}"] if decoding.top_p < 1 else []
    return ", ".join([*parts, f"seed {decoding.seed}"])


@dataclass(kw_only=True)
class GenerateState:
    """`at` is the step under the cursor, None where it follows the last one. `problem` is why nothing is written."""

    decoding: Decoding = field(default_factory=lambda: Decoding(LENGTH))
    pace: float = 12.0
    pair: PairedGeneration | None = None
    job: int | None = None
    prompt: str | None = None  # that the job continues, while nothing is written yet
    at: int | None = None
    by_base: bool = False  # the edited side is coloured by what the unedited head gives its tokens
    problem: str = ""
    saved: str = ""
    mailbox: Mailbox = field(default_factory=Mailbox)

    def begin(self, job: int, prompt: str, afresh: bool) -> None:
        """A job that continues a prompt is queued; `afresh` drops what was written."""
        self.job, self.prompt, self.problem, self.at = job, prompt, "", None
        if afresh:
            self.pair = None

    def grow(self, pair: object) -> bool:
        """Take what is written by now; whether anything is new."""
        if not isinstance(pair, PairedGeneration) or pair is self.pair:
            return False
        new = self.pair is None or pair.steps != self.pair.steps
        self.pair = pair
        return new

    @property
    def steps(self) -> int:
        """Steps written."""
        return 0 if self.pair is None else self.pair.steps

    @property
    def step(self) -> int:
        """The step looked at; -1 where nothing is written."""
        return self.steps - 1 if self.at is None else min(self.at, self.steps - 1)

    def move(self, steps: int) -> None:
        """Look at another step; beyond the last one, follow it."""
        to = max(0, self.step + steps)
        self.at = None if to >= self.steps - 1 else to

    def p(self, said: GeneratedToken) -> float:
        """The probability that a token is coloured by."""
        return said.p_base if self.by_base else said.p

    def with_setting(self, name: str, text: str) -> Decoding:
        """The decoding with one setting as it was typed. Raises `TpeError` where it is no such number."""
        whole = name not in ("temperature", "top_p")
        try:
            values: dict[str, Any] = {name: int(text) if whole else float(text)}
        except ValueError:
            label = name.replace("_", "-")
            raise TpeError(f"{label} is a {'whole ' if whole else ''}number, not {text.strip()!r}.") from None
        return replace(self.decoding, **values)

    def faster(self, by: int) -> None:
        """Another pace of the list."""
        self.pace = PACES[max(0, min(len(PACES) - 1, PACES.index(self.pace) + by))]

    @property
    def rate(self) -> float:
        """Tokens a second that come: the pace, or the engine's own where that is slower; NaN before the first."""
        if self.pair is None or not self.pair.steps or not self.pair.seconds:
            return math.nan
        return min(self.pace, self.pair.steps / self.pair.seconds)

    def further(self) -> Decoding:
        """The settings to go on with: as many tokens more where the length is reached."""
        reached = self.steps >= self.decoding.length
        return replace(self.decoding, length=self.steps + LENGTH) if reached else self.decoding
