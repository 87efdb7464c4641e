"""Named entries of one concept, in one table: who asks for the names sees everything that was registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TypeVar

from tpe_core.errors import TpeError

__all__ = ["Named", "Registry"]


class Named(Protocol):
    """What can be registered."""

    @property
    def name(self) -> str:
        """The name under which it is found."""
        ...


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T]):
    """Entries by name, in the order in which they were registered.

    A registry is filled by the modules that define its entries, while they are imported. `registered` adds an entry
    for the time of a block only.
    """

    def __init__(self, concept: str, *entries: T) -> None:
        """A table of `concept` (a noun for error sentences) with these entries."""
        self.concept = concept
        self._entries: dict[str, T] = {}
        for entry in entries:
            self.register(entry)

    def register(self, entry: T) -> T:
        """Add an entry and return it. Raises ValueError where its name is taken."""
        if entry.name in self._entries:
            raise ValueError(f"the {self.concept} {entry.name!r} is registered already.")
        self._entries[entry.name] = entry
        return entry

    @contextmanager
    def registered(self, entry: T) -> Iterator[T]:
        """Add an entry for the time of a block. Raises ValueError where its name is taken."""
        self.register(entry)
        try:
            yield entry
        finally:
            del self._entries[entry.name]

    def choose(self, name: str) -> T:
        """The entry of that name. Raises `TpeError`, with the names there are, where there is none."""
        if name not in self._entries:
            raise TpeError(f"unknown {self.concept} {name!r}: choose one of {', '.join(self._entries)}.")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
