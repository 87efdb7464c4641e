"""Whether the tour was seen, across runs: a small file in the state folder."""

from __future__ import annotations

from pathlib import Path

from tpe_core.json_text import json_text

__all__ = ["TourSeen"]


class TourSeen:
    """The file ``tour.json`` of a folder: where it is there, whatever it holds, the tour was seen."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tour.json"

    @property
    def is_seen(self) -> bool:
        """Whether the tour was seen."""
        return self.path.exists()

    def remember(self) -> bool:
        """It is seen; whether that could be kept. Where it cannot be, the tour is no use at every start either."""
        from tpe_core.store import write_file

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(self.path, [json_text({"schema": 1, "seen": True}, 1).encode()])
        except OSError:
            return False
        return True
