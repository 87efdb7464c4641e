"""Deferred imports: a module that is imported on first use, so that the screen is drawn before."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Deferred"]


class Deferred:
    """Stands for the module `name`: ``np = Deferred("numpy")``. Type checkers are shown the real import."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """Import the module, and keep what was asked for."""
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value
