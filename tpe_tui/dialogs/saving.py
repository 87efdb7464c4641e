"""Asking where to write: what can be refused is refused while the path stands there, and replacing is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import App

from tpe_core.errors import ExistsError, TpeError
from tpe_core.outputs import shown_path
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.question import Question

__all__ = ["NO_PATH", "ask_where", "typed_path"]

NO_PATH = "type a path, or esc leaves"

Checked = Callable[[Path, bool], object]
"""Raises `TpeError` where nothing can be written, `ExistsError` where False forbids to replace something."""


def typed_path(text: str) -> Path:
    """The path that a typed line means."""
    return Path(os.path.expanduser(text.strip()))


def ask_where(  # noqa: PLR0917 - a question with everything that follows from its answer
    app: App[Any],
    question: str,
    value: str,
    hint: str,
    check: Checked,
    write: Callable[[Path, bool], object],
    refusal: str = "",
) -> None:
    """Ask for a path; `write` gets it, and whether an earlier file may be replaced.

    Where `write` raises `TpeError` or `OSError` nothing is lost: it is asked again, with the path, with the `refusal`.
    """

    def problem(text: str) -> str | None:
        if not text.strip():
            return NO_PATH
        try:
            check(typed_path(text), True)
        except TpeError as error:
            return str(error)
        return None

    def answered(text: str | None) -> None:
        if text is None:
            return
        path = typed_path(text)

        def put(replace: bool) -> None:
            try:
                write(path, replace)
            except (TpeError, OSError) as error:
                again(text, f"nothing was written: {getattr(error, 'strerror', None) or error}")

        def replace_or_ask(key: str | None) -> None:
            if key == "y":
                put(True)
            else:
                again(text)

        try:
            check(path, False)
        except ExistsError as error:
            there = f"{shown_path(error.path)} exists."
            app.push_screen(
                Question("Replace it?", [there], {"y": "replaces it"}, "leaves it as it is"),
                replace_or_ask,
            )
        except TpeError:
            again(text)
        else:
            put(False)

    def again(text: str, why: str = "") -> None:
        ask_where(app, question, text.strip(), hint, check, write, why)

    app.push_screen(Ask(question, value, hint, problem, refusal=refusal), answered)
