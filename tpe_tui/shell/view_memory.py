"""The view that a session restores, and the file in which versions before sessions kept one for each model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpe_core.json_text import parse_json

__all__ = ["SavedView", "ViewMemory", "default_state_dir", "saved_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """A prompt and what is shown of a model. Values are checked by whoever uses them; -1 is no dimension or token."""

    prompt: str = ""
    sort: str = "slope"
    descending: bool = True
    plot: str = "slopes"
    method: str = "least-squares"
    replacement: str = "zero"
    pane: int = 1  # that has the focus
    right: int = 2  # that has the right place, where only two fit
    zoomed: bool = False
    dim: int = -1  # under the cursor
    range_from: int = -1  # where a marked range begins
    dims_filter: str = ""
    token: int = -1  # that is selected
    by_base: bool = False  # the order of tokens
    tokens_filter: str = ""
    prompts: tuple[str, ...] = ()  # the list of several
    continued: bool = False  # whether the prompt's continuation is on screen
    bookmarks: tuple[int, ...] = ()  # dimensions
    marked: tuple[int, ...] = ()  # tokens, for a set


def saved_view(entry: Mapping[str, Any]) -> SavedView:
    """The view that a file holds; the default of every value that is missing or of another type."""
    defaults = asdict(SavedView())
    kept = {key: value for key, value in entry.items() if key in defaults and type(value) is type(defaults[key])}
    prompts = entry.get("prompts")
    if isinstance(prompts, list | tuple):
        kept["prompts"] = tuple(each for each in prompts if isinstance(each, str))
    for name in ("bookmarks", "marked"):
        if isinstance(numbers := entry.get(name), list | tuple):
            kept[name] = tuple(each for each in numbers if type(each) is int)
    return SavedView(**{key: _plain(value) for key, value in kept.items()})


def default_state_dir() -> Path:
    """The user's state folder for tpe."""
    from platformdirs import user_state_dir

    return Path(user_state_dir("tpe"))


class ViewMemory:
    """The file ``inspector.json`` of a folder. It is read where a model has no session yet, and never written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "inspector.json"
        self.set_aside = ""  # a sentence, where what was there could not be read

    def recall(self, model: str) -> SavedView:
        """What is remembered of a model; defaults where nothing usable is."""
        entry = self._read().get(model)
        return saved_view(entry) if isinstance(entry, dict) else SavedView()

    def _read(self) -> dict[str, object]:
        try:
            models = parse_json(self.path.read_bytes())["models"]
            if not isinstance(models, dict):
                raise TypeError("its models are no object")
        except OSError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            aside = self.path.with_name("inspector.broken.json")
            with suppress(OSError):
                self.path.replace(aside)
                self.set_aside = (
                    f"{self.path} could not be read ({error}) and is now {aside.name}: nothing is restored."
                )
            return {}
        return models


def _plain(value: Any) -> Any:
    """A value that can be written to a terminal and to a file: half a surrogate pair cannot."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
