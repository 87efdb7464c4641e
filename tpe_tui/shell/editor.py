"""A text given to the user's own editor and taken back; every failure is a sentence."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from textual.app import SuspendNotSupported

from tpe_core.errors import TpeError

__all__ = ["edited", "editor_command"]

VARIABLES = ("VISUAL", "EDITOR")


def editor_command(environment: Mapping[str, str]) -> list[str]:
    """The words of the user's editor. Raises `TpeError` where none is set, or what is set cannot be read."""
    for name in VARIABLES:
        line = environment.get(name, "").strip()
        if not line:
            continue
        try:
            return shlex.split(line)
        except ValueError as error:
            raise TpeError(f"{name} is no command line ({error}): {line}. Correct it.") from None
    raise TpeError("no editor is set: set VISUAL or EDITOR before tpe starts, for example EDITOR=nano.")


def edited(text: str, suspended: Callable[[], AbstractContextManager[None]], environment: Mapping[str, str]) -> str:
    """`text` as the user left it in an editor, which has the terminal while `suspended` is entered.

    The text is in a file that nobody else can read and that is gone afterwards. A line break at its end that an
    editor adds is taken off. Raises `TpeError` where there is no editor, or it fails.
    """
    command = editor_command(environment)
    try:
        descriptor, name = tempfile.mkstemp(prefix="tpe-prompt-", suffix=".txt")
    except OSError as error:
        raise TpeError(f"no file could be made for the editor ({error.strerror}): make room, or set TMPDIR.") from None
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "replace"))
        with suspended():
            _run([*command, name], environment)
        back = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except SuspendNotSupported:
        raise TpeError("this terminal cannot be given to an editor: type the prompt here.") from None
    except UnicodeDecodeError:
        raise TpeError("what the editor wrote is not UTF-8 text: the prompt is as it was.") from None
    except OSError as error:
        raise TpeError(f"the editor's file could not be used ({error.strerror}): the prompt is as it was.") from None
    finally:
        with suppress(OSError):
            path.unlink()
    return back.removesuffix("\n") if not text.endswith("\n") else back


def _run(words: list[str], environment: Mapping[str, str]) -> None:
    """Run an editor in the terminal to its end. The interrupt key is the editor's alone meanwhile."""
    screen = sys.stdout.fileno()
    try:
        process = subprocess.Popen(words, stdout=screen, stderr=screen, env=dict(environment))  # noqa: S603
    except OSError as error:
        raise TpeError(
            f"the editor {words[0]!r} could not be started ({error.strerror}): set VISUAL or EDITOR to one that is "
            "there."
        ) from None
    before = None
    with suppress(ValueError):  # not in the main thread
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = process.wait()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
    if code:
        ended = f"by signal {-code}" if code < 0 else f"with code {code}"
        raise TpeError(f"the editor {words[0]!r} ended {ended}: the prompt is as it was.")
