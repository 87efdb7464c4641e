"""Asking what to read: a path where there is nothing is refused while it stands there."""

from __future__ import annotations

from tpe_core.outputs import shown_path
from tpe_tui.dialogs.saving import NO_PATH, typed_path

__all__ = ["nothing_there"]


def nothing_there(text: str) -> str | None:
    """Why nothing can be read at a typed path, or None: the check of a question for one."""
    if not text.strip():
        return NO_PATH
    path = typed_path(text)
    try:
        path.stat()
    except FileNotFoundError:
        return f"{shown_path(path)} does not exist: check the path"
    except (OSError, ValueError) as error:  # a name that is too long, a null byte, a folder nobody may look into
        return f"{shown_path(path)} cannot be read: {getattr(error, 'strerror', None) or error}"
    return None
