"""The bytes that a terminal sends, as the text that Textual's parser reads: whatever they are, it can be read."""

from __future__ import annotations

import re

__all__ = ["InputDecoder", "PlainPaste"]

X10 = re.compile(rb"\x1b\[M([\x20-\xff])([\x21-\xff])([\x21-\xff])", re.DOTALL)
X10_BEGUN = re.compile(rb"\x1b\[M.{0,2}\Z", re.DOTALL)
X10_BEGINNINGS = (b"\x1b[", b"\x1b")
CONTROLS = dict.fromkeys(range(128, 160), "�")
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"
PASTED_LENGTH, PASTED_KINDS = 48, 12
RELEASED, MOVED_OR_WHEEL = 3, 32 | 64


class InputDecoder:
    """Decodes UTF-8 as it arrives; a byte that is none is the Latin-1 character that a terminal without UTF-8 means.

    A mouse report of the oldest kind (three bytes, whatever they are) becomes one in digits, which Textual reads.
    """

    def __init__(self) -> None:
        self._held = b""  # an X10 report that is not complete
        self._rest = b""  # a character that is not complete
        self._tail = b""  # what was given out already and may begin a report

    @property
    def is_waiting(self) -> bool:
        """Whether bytes are held back until more arrive."""
        return bool(self._held or self._rest)

    def decode(self, data: bytes) -> str:
        """The text of `data`, but for what is not complete yet."""
        given = len(self._tail)
        joined = X10.sub(_in_digits, self._tail + self._held + data)
        begun = X10_BEGUN.search(joined)
        end = begun.start() if begun else len(joined)
        ready, self._held = joined[given:end], joined[max(given, end) :]
        if end >= given:
            self._tail = next((beginning for beginning in X10_BEGINNINGS if joined[:end].endswith(beginning)), b"")
        return self._text(ready)

    def flush(self) -> str:
        """What is held back, when nothing follows: an incomplete mouse report is dropped."""
        self._held = self._tail = b""
        return self._text(b"", final=True)

    def _text(self, data: bytes, final: bool = False) -> str:
        data, self._rest = self._rest + data, b""
        parts: list[str] = []
        while data:
            try:
                parts.append(data.decode("utf-8"))
                break
            except UnicodeDecodeError as error:
                parts.append(data[: error.start].decode("utf-8"))
                if error.end == len(data) and "unexpected end" in error.reason and not final:
                    self._rest = data[error.start :]
                    break
                parts.append(data[error.start : error.end].decode("latin-1").translate(CONTROLS))
                data = data[error.end :]
        return "".join(parts)


def _in_digits(report: re.Match[bytes]) -> bytes:
    """An X10 mouse report as an SGR one."""
    button, column, row = (group[0] - 32 for group in report.groups())
    released = button & RELEASED == RELEASED and not button & MOVED_OR_WHEEL
    return b"\x1b[<%d;%d;%d%s" % (button & ~RELEASED if released else button, column, row, b"m" if released else b"M")


class PlainPaste:
    """Tells text that was pasted into a terminal without bracketed paste from keys, by all that arrives at once.

    So much text in one read, of several lines and so many different characters, is no one's typing: no key of it acts.
    One line, with or without its end, stays keys: in a dialog they are text anyway, and a script may mean them.
    """

    def __init__(self) -> None:
        self._bracketed = False  # inside a bracketed paste, whose text Textual puts together
        self._tail = ""

    def looks_pasted(self, text: str) -> bool:
        """Whether `text`, all that was read at once, is to be taken for a paste."""
        seen = self._tail + text
        begun, ended = seen.rfind(PASTE_BEGINS), seen.rfind(PASTE_ENDS)
        if begun != ended:
            self._bracketed = begun > ended
        self._tail = seen[-len(PASTE_BEGINS) :]
        printable = all(char.isprintable() or char in "\r\n\t" for char in text)
        several = "\r" in text.rstrip() or "\n" in text.rstrip()
        enough = several and len(text) >= PASTED_LENGTH and len({*text}) >= PASTED_KINDS
        return not self._bracketed and printable and enough
