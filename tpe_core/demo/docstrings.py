"""Docstrings of Python files, which are parsed and never imported.

Run as a program, by its path, it takes a JSON list of paths on its input and writes a line for each: a JSON list of the
docstrings. So it imports nothing but the standard library, and starts in the time that takes.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MIN_LENGTH", "docstrings"]

BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")  # of a statement, in the order of its fields
MIN_LENGTH = 80  # characters; shorter docstrings are mostly one formulaic line


def docstrings(path: Path) -> list[str]:
    """Docstrings of a file's module, classes and functions, cleaned of indentation; empty where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's files
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    documented = []
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) >= MIN_LENGTH:
                documented.append(text)
    return documented


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and its statements in the order of `ast.walk`, which also visits the ten times as many expressions."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        for field in BLOCKS:
            waiting.extend(getattr(node, field, ()))
        yield node


if __name__ == "__main__":
    for name in json.load(sys.stdin):
        sys.stdout.write(json.dumps(docstrings(Path(name)), allow_nan=False) + "\n")
        sys.stdout.flush()
