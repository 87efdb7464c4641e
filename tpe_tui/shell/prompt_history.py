"""The prompts that were asked, kept across runs: at most `MOST`, in a file that only the user can read.

A broken or missing file is an empty history, never an error; another instance's prompts are kept, too.
"""

from __future__ import annotations

from pathlib import Path

from tpe_core.json_text import json_text, parse_json

__all__ = ["MOST", "PromptHistory"]

MOST = 200
LONGEST = 64 * 2**10  # characters; a longer prompt is not kept


class PromptHistory:
    """The file ``prompts.json`` of a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "prompts.json"
        self.problem = ""  # why the last prompt could not be kept, in a sentence

    def earlier(self) -> list[str]:
        """The prompts, the latest first, each once."""
        try:
            found = parse_json(self.path.read_bytes())["prompts"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        if not isinstance(found, list):
            return []
        texts = [text.encode("utf-8", "replace").decode() for text in found if isinstance(text, str) and text]
        return list(dict.fromkeys(texts))[:MOST]

    def add(self, *prompts: str) -> bool:
        """Put prompts in front, the last one first; False, with the reason in `problem`, where nothing can be kept."""
        from tpe_core.store import write_file

        new = [text.encode("utf-8", "replace").decode() for text in reversed(prompts) if text and len(text) <= LONGEST]
        before = self.earlier()
        kept = list(dict.fromkeys([*new, *before]))[:MOST]
        if kept == before:
            return True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(self.path, [json_text({"schema": 1, "prompts": kept}, 1).encode()], private=True)
        except OSError as error:
            self.problem = f"earlier prompts are not kept: {self.path} cannot be written ({error.strerror or error})."
            return False
        self.problem = ""
        return True
