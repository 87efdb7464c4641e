"""What is restored at the next start: prompt, sorting, plot, method and replacement, by model.

A broken or missing file is an empty memory, never an error; nothing about an intervention is kept here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tpe_core.json_text import json_text, parse_json

__all__ = ["SavedView", "ViewMemory", "default_state_dir"]

MAX_MODELS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """One model's view. Values are checked by whoever uses them."""

    prompt: str = ""
    sort: str = "slope"
    descending: bool = True
    plot: str = "slopes"
    method: str = "least-squares"
    replacement: str = "zero"


def default_state_dir() -> Path:
    """The user's state folder for tpe."""
    from platformdirs import user_state_dir

    return Path(user_state_dir("tpe"))


class ViewMemory:
    """The file ``inspector.json`` of a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "inspector.json"
        self.problem = ""  # why the last view could not be kept, in a sentence
        self.set_aside = ""  # a sentence, where what was there could not be read

    def recall(self, model: str) -> SavedView:
        """What is remembered of a model; defaults where nothing usable is."""
        entry = self._read().get(model)
        if not isinstance(entry, dict):
            return SavedView()
        defaults = asdict(SavedView())
        kept = {key: value for key, value in entry.items() if key in defaults and type(value) is type(defaults[key])}
        return SavedView(**{key: _plain(value) for key, value in kept.items()})

    def remember(self, model: str, view: SavedView) -> bool:
        """Write atomically; False, with the reason in `problem`, where the folder or the disk refuses."""
        from tpe_core.store import write_file

        models = {name: entry for name, entry in self._read().items() if name != model}
        models[model] = {field.name: getattr(view, field.name) for field in fields(view)}
        kept = dict(list(models.items())[-MAX_MODELS:])
        document = json_text({"schema": 1, "models": kept}, 1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path, [document.encode()])
        except OSError as error:
            self.problem = (
                f"prompt and view are not kept for the next start: {self.path} cannot be written "
                f"({error.strerror or error}); make room there, or set XDG_STATE_HOME to another folder."
            )
            return False
        self.problem = ""
        return True

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
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
