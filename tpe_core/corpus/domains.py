"""The texts that an edit is judged on: one table with the names of files and documents, and labels for people."""

from __future__ import annotations

from dataclasses import dataclass

from tpe_core.registry import Registry

__all__ = ["DOMAINS", "UNSEEN", "Domain"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """One kind of text."""

    name: str  # in JSON documents and saved interventions
    label: str
    short: str  # in narrow columns
    is_detected: bool = False  # whether detection itself read it

    @property
    def adjective(self) -> str:
        """The label before a noun."""
        return self.label.replace(" ", "-")


DOMAINS: Registry[Domain] = Registry(
    "text",
    Domain(name="local", label="local", short="local", is_detected=True),
    Domain(name="heldout", label="held-out", short="held-out"),
    Domain(name="ood", label="out of domain", short="ood"),
)
"""``local`` is the detecting text itself, ``heldout`` its part that detection never sees, ``ood`` another kind."""

UNSEEN = tuple(domain.name for domain in DOMAINS.values() if not domain.is_detected)
"""Those that detection never saw: what pruning is judged on."""
