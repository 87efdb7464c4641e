"""The language in which token sets are defined: terms joined by ``+`` (and) and ``-`` (without), from left to right.

A term is ``KIND:ARGUMENT``, ``=TEXT`` (one token), ``#ID``, ``marked``, or a definition in parentheses. An operator
stands between spaces, so that arguments can hold ``+`` and ``-``; an argument that holds an operator, or a parenthesis
that does not close, is put between quotes. Nothing here knows a vocabulary: `resolving` finds what a term names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from tpe_core.errors import TpeError
from tpe_core.printable import fit, printable_token

__all__ = [
    "FORMS",
    "Combined",
    "Definition",
    "Kind",
    "Term",
    "filter_definition",
    "named_definition",
    "parse_definition",
    "written",
]

Kind = Literal["regex", "script", "block", "lead-bytes", "file", "class", "near", "token", "id", "marked"]

FORMS: dict[str, str] = {
    "regex:PATTERN": "tokens whose text has a match of a regular expression",
    "script:Han": "tokens with a character of a Unicode script",
    "block:Cyrillic": "tokens with a character of a Unicode block",
    "lead-bytes:Han": "tokens that end inside a character which may become one of a script",
    "file:PATH": "tokens that a file lists: words or #ids, one a line, or a JSON or .npy list",
    "class:digits": "tokens of a class, never-seen being those that did not come in the text",
    "near:TOKEN:20": "the rows nearest to a token's by cosine, itself the first",
    "=TEXT": "the token with this text",
    "#17": "the token with this id",
    "marked": "the tokens marked in the inspector",
}
"""How a term is written, and what it names."""

PREFIXES: tuple[tuple[str, Kind], ...] = (
    ("regex:", "regex"),
    ("script:", "script"),
    ("block:", "block"),
    ("lead-bytes:", "lead-bytes"),
    ("file:", "file"),
    ("class:", "class"),
    ("near:", "near"),
    ("=", "token"),
    ("#", "id"),
)

NAMED = re.compile(r"\s*([^\W\d][\w -]*?)\s*=\s*(?=\S)(.*)", re.DOTALL)
OPERATOR = re.compile(r"\s+([+-])\s+(?=\S)")
WORD = re.compile(r"[^\s()]+")
DEEPEST = 50  # parentheses within each other


@dataclass(frozen=True, slots=True)
class Term:
    """One kind of tokens, and which of them."""

    kind: Kind
    argument: str


@dataclass(frozen=True, slots=True)
class Combined:
    """The tokens of `left` and of `right`, or those of `left` that are not of `right`."""

    operator: Literal["+", "-"]
    left: Definition
    right: Definition


Definition = Term | Combined


def named_definition(text: str) -> tuple[str, str]:
    """(name, definition) of ``NAME = DEFINITION``; the name is empty where only a definition is given."""
    found = NAMED.fullmatch(text)
    return (found[1], found[2].strip()) if found else ("", text.strip())


def parse_definition(text: str) -> Definition:
    """What a definition says. Raises `TpeError` where it cannot be read."""
    parser = _Parser(text)
    found = parser.expression(0)
    if parser.at < len(text):
        raise parser.error(f"{_shown(text[parser.at :].strip())} follows a term without a + or - between spaces")
    return found


def filter_definition(text: str) -> str:
    """The definition of what a filter of the token list shows: tokens that contain a text, whatever its case."""
    pattern = re.escape(text.replace("·", " ")).replace("\\ ", " ")
    quote = '"' if "'" in pattern else "'"
    return f"regex:{quote}(?i){pattern}{quote}"


def written(definition: Definition, marked: Collection[int] = ()) -> str:
    """A definition as text that means the same anywhere: `marked` tokens by their ids."""
    if isinstance(definition, Combined):
        left, right = written(definition.left, marked), written(definition.right, marked)
        if isinstance(definition.right, Combined):
            right = f"({right})"
        return f"{left} {definition.operator} {right}"
    if definition.kind == "marked":
        ids = " + ".join(f"#{token_id}" for token_id in sorted(marked))
        return f"({ids})" if len(marked) > 1 else ids
    prefix = next(prefix for prefix, kind in PREFIXES if kind == definition.kind)
    argument = definition.argument
    if OPERATOR.search(argument) or set(argument) & set("()") or argument[:1] in {"'", '"'}:
        quote = '"' if "'" in argument else "'"
        argument = f"{quote}{argument}{quote}"
    return prefix + argument


def _shown(text: str) -> str:
    return repr(fit(printable_token(text), 40))


class _Parser:
    """Reads a definition from `at` on."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def error(self, what: str) -> TpeError:
        return TpeError(f"the token set {_shown(self.text)} cannot be read: {what}.")

    def expression(self, depth: int) -> Definition:
        if depth > DEEPEST:
            raise self.error(f"it has more than {DEEPEST} parentheses within each other")
        left = self._term(depth)
        while operator := OPERATOR.match(self.text, self.at):
            self.at = operator.end()
            left = Combined("+" if operator[1] == "+" else "-", left, self._term(depth))
        self._skip_spaces()
        return left

    def _term(self, depth: int) -> Definition:
        self._skip_spaces()
        if self.text.startswith("(", self.at):
            self.at += 1
            inner = self.expression(depth + 1)
            if not self.text.startswith(")", self.at):
                raise self.error("a parenthesis is not closed")
            self.at += 1
            return inner
        for prefix, kind in PREFIXES:
            if self.text.startswith(prefix, self.at):
                self.at += len(prefix)
                argument = self._argument(kind, depth)
                if not argument:
                    raise self.error(f"nothing follows {prefix}")
                return Term(kind, argument)
        word = found[0] if (found := WORD.match(self.text, self.at)) else ""
        if word == "marked":
            self.at += len(word)
            return Term("marked", "")
        forms = ", ".join(FORMS)
        if not word:
            raise self.error(f"a term is missing: write one of {forms}")
        raise self.error(f"{_shown(word)} is no term: write one of {forms}")

    def _argument(self, kind: Kind, depth: int) -> str:
        """From here to an operator, to the parenthesis that closes the group, or to the end; or what quotes hold."""
        quote = self.text[self.at : self.at + 1]
        if quote in {"'", '"'} and quote:
            end = self.text.find(quote, self.at + 1)
            follows = self.text[end + 1 : end + 2]
            if end > self.at + 1 and (not follows or follows.isspace() or (follows == ")" and depth)):
                inside = self.text[self.at + 1 : end]
                self.at = end + 1
                return inside
        start, open_here = self.at, 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if not open_here and OPERATOR.match(self.text, self.at) and self.at > start:
                break
            if kind == "regex" and char == "\\":
                self.at += 1
            elif kind == "regex" and char == "(":
                open_here += 1
            elif char == ")" and open_here:
                open_here -= 1
            elif char == ")" and depth:
                break
            self.at += 1
        self.at = min(self.at, len(self.text))
        argument = self.text[start : self.at].rstrip()
        return argument if kind in {"regex", "token"} else argument.lstrip()

    def _skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
