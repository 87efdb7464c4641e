"""What of a record is its text: the named field, else the field that a data set's text usually stands in, or a chat.

It knows records as plain values; `tpe_core.corpus.formats` reads them out of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tpe_core.errors import CorpusError

__all__ = ["CHATS", "TEXT", "FieldChoice", "Messages", "kind_of_value"]

TEXT = "text"
"""The field that is read where none is named and a record has it."""

CHATS = ("messages", "conversations")
"""Fields of chat records, looked for after `TEXT`."""

STRING, CHAT, NOTHING = "string", "chat", "nothing"
SHOWN = 12  # fields listed in a sentence
SPEAKERS = {"human": "user", "gpt": "assistant"}  # how records with from and value call the roles

Messages = list[dict[str, str]]
"""A chat: who says what, each message a mapping of ``role`` and ``content``."""


def kind_of_value(value: Any) -> str:
    """What a field holds, in a word: ``string``, ``chat``, ``nothing``, or what it is instead."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return STRING
    if messages_of(value) is not None:
        return CHAT
    if isinstance(value, bool):
        return "true or false"
    names = ((int | float, "number"), (list | tuple, "list"), (Mapping, "record"), (bytes, "bytes"))
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def messages_of(value: Any) -> Messages | None:
    """The messages of a chat record, whose items have role and content, or from and value; None for anything else."""
    if not isinstance(value, list) or not value:
        return None
    messages = []
    for item in value:
        if not isinstance(item, Mapping):
            return None
        role, content = (
            (item.get("role"), item.get("content")) if "role" in item else (item.get("from"), item.get("value"))
        )
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        messages.append({"role": SPEAKERS.get(role, role), "content": content})
    return messages


def listed(fields: Mapping[str, str]) -> str:
    """The fields of a record and what they hold, for a sentence."""
    names = [f"{name} ({kind})" for name, kind in list(fields.items())[:SHOWN]]
    more = [f"{len(fields) - SHOWN} more"] if len(fields) > SHOWN else []
    return ", ".join([*names, *more]) or "none"


@dataclass(slots=True)
class FieldChoice:
    """Which field of a file's records is read: `wanted`, else chosen by what the first record has."""

    name: str  # of the file
    wanted: str | None
    render: Callable[[Messages], str] | None  # how a chat becomes text
    chosen: str | None = field(default=None, init=False)

    def choose(self, fields: Mapping[str, str], place: str) -> str:
        """The field to read of records with these fields (and what they hold): kept from then on.

        `wanted`; else ``text``; else ``messages`` or ``conversations`` that hold a chat; else the only field that holds
        a string. Raises `CorpusError` where there is none.
        """
        if self.wanted is not None:
            if self.wanted not in fields:
                raise CorpusError(f"{place} of {self.name} has no field {self.wanted}; it has: {listed(fields)}.")
            self.chosen = self.wanted
            return self.chosen
        strings = [name for name, kind in fields.items() if kind == STRING]
        if fields.get(TEXT) in {STRING, NOTHING}:
            self.chosen = TEXT
        elif chats := [name for name in CHATS if fields.get(name) == CHAT]:
            self.chosen = chats[0]
        elif len(strings) == 1:
            self.chosen = strings[0]
        else:
            many = f"{len(strings)} fields hold strings" if strings else "no field holds a string"
            raise CorpusError(
                f"in {place} of {self.name} {many} and none is called {TEXT}: name one with --text-field; "
                f"it has: {listed(fields)}."
            )
        return self.chosen

    def text(self, record: Any, place: str) -> str:
        """A record's text: a string by itself, a chat, or the chosen field; empty where that is null.

        Line ends become ``\\n``, halves of a character (lone surrogates) U+FFFD. Raises `CorpusError` with the place.
        """
        if isinstance(record, Mapping):
            name = self.chosen
            if name is None:
                name = self.choose({str(key): kind_of_value(value) for key, value in record.items()}, place)
            if name not in record:
                fields = {str(key): kind_of_value(value) for key, value in record.items()}
                raise CorpusError(f"{place} of {self.name} has no field {name}; it has: {listed(fields)}.")
            value = record[name]
            what = f"the field {name} in {place} of {self.name}"
        else:
            value, what = record, f"{place} of {self.name}"
            if self.wanted is not None:
                raise CorpusError(
                    f"{what} is a {kind_of_value(value)}, without a field {self.wanted}: leave --text-field out."
                )
        if value is None:
            return ""
        if isinstance(value, str):
            return whole(value)
        messages = messages_of(value)
        if messages is None:
            raise CorpusError(f"{what} holds no text but a {kind_of_value(value)}: name a field with --text-field.")
        if self.render is None:
            raise CorpusError(f"{what} is a chat, and no model's chat template is there to write it as text.")
        try:
            return whole(self.render(messages))
        except CorpusError as error:
            raise CorpusError(f"{what} is a chat, {error}") from None


def whole(text: str) -> str:
    """A record's string as a text file would have it."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def names_of(columns: Sequence[str]) -> str | None:
    """A column's name that occurs twice, if one does."""
    return next((name for at, name in enumerate(columns) if name in columns[:at]), None)
