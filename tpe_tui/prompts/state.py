"""The prompts of the list and what is known of them, as values that outlive the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tpe_core.edits.intervention import Intervention
from tpe_core.prompt_files import MOST_PROMPTS
from tpe_core.snapshots import PromptCost

__all__ = ["PromptList"]


@dataclass(kw_only=True)
class PromptList:
    """Prompts, each once, in the order in which they came; figures are of one edit, earlier ones are kept beside."""

    prompts: list[str] = field(default_factory=list)
    cursor: int = 0
    by_kl: bool = False  # the order in which they are shown: the largest KL first
    saved: str = ""  # where they were written to last
    read_from: str = ""  # the path of a file that could not be read
    _costs: dict[str, PromptCost] = field(default_factory=dict)

    @property
    def shown(self) -> list[str]:
        """The prompts in the order in which they are shown; those without a figure last."""
        if not self.by_kl:
            return list(self.prompts)
        return sorted(self.prompts, key=lambda prompt: -self._kl(prompt))

    def _kl(self, prompt: str) -> float:
        cost = self._costs.get(prompt)
        return -1.0 if cost is None or cost.problem else cost.kl

    def add(self, prompts: Iterable[str]) -> int:
        """Add what is not there yet, up to `MOST_PROMPTS`; how many were added."""
        before = len(self.prompts)
        self.prompts = list(dict.fromkeys([*self.prompts, *prompts]))[: max(before, MOST_PROMPTS)]
        return len(self.prompts) - before

    def delete(self, prompt: str) -> None:
        """Take a prompt out of the list."""
        self.prompts = [text for text in self.prompts if text != prompt]
        self._costs.pop(prompt, None)

    def learn(self, costs: Iterable[PromptCost]) -> None:
        """Take in figures."""
        self._costs.update({cost.prompt: cost for cost in costs})

    def forget(self) -> None:
        """Figures of another model are no figures."""
        self._costs.clear()

    def cost(self, prompt: str) -> PromptCost | None:
        """The last figures of a prompt, whatever edit they are of."""
        return self._costs.get(prompt)

    def lacking(self, edit: Intervention, seen: Sequence[str]) -> list[str]:
        """The prompts without figures under an edit, those that are `seen` first."""

        def lacks(prompt: str) -> bool:
            cost = self._costs.get(prompt)
            return cost is None or cost.intervention != edit

        return [prompt for prompt in dict.fromkeys([*seen, *self.prompts]) if lacks(prompt)]

    def summary(self, edit: Intervention) -> tuple[int, int, float, float]:
        """(prompts with figures under an edit, with another top-1, mean KL, largest KL), nats."""
        known = [
            cost
            for prompt in self.prompts
            if (cost := self._costs.get(prompt)) is not None and cost.intervention == edit and not cost.problem
        ]
        kl = [cost.kl for cost in known]
        return len(known), sum(cost.top1_changed for cost in known), sum(kl) / max(1, len(kl)), max(kl, default=0.0)
