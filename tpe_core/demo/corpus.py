"""The demo text: docstrings of the standard library and of the packages tpe itself needs.

Text that every user already has, in their own installation, so the bundled model can be rebuilt and
measured without a network. It never imports what it reads: files are parsed with `ast`.

The split is by file, not by docstring: a file's path decides, so that a user's machine parses only
the held-out files (one in twenty), and a docstring found in both parts is dropped from training.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tpe_core.pauses import pause

__all__ = [
    "HELD_OUT_SHARE",
    "PACKAGES",
    "SourceFile",
    "docstrings",
    "fingerprint",
    "held_out",
    "held_out_sample",
    "source_code",
    "training",
]

PACKAGES: dict[str, str] = {
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface-hub",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "pandas": "pandas",
    "sympy": "sympy",
    "networkx": "networkx",
    "textual": "textual",
    "rich": "rich",
    "typer": "typer",
    "pydantic": "pydantic",
    "jinja2": "jinja2",
    "patsy": "patsy",
    "joblib": "joblib",
    "fsspec": "fsspec",
    "mpmath": "mpmath",
    "pygments": "pygments",
}
"""Import name to distribution name: tpe's dependencies and theirs, fixed so that the text does not follow extras."""

HELD_OUT_SHARE = 0.05
BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")  # of a statement, in the order of its fields
MIN_LENGTH = 80  # characters; shorter docstrings are mostly one formulaic line


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A Python file and its stable name, e.g. ``torch/nn/modules/linear.py`` or ``stdlib/json/decoder.py``."""

    name: str
    path: Path

    @property
    def order(self) -> bytes:
        """The hash that orders and splits files, the same on every machine."""
        return _hash(self.name.encode())

    @property
    def is_held_out(self) -> bool:
        """Whether the file's docstrings are kept from training."""
        return int.from_bytes(self.order, "big") < HELD_OUT_SHARE * 2**64


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8, person=b"tpe-demo").digest()


def _roots() -> list[tuple[str, Path]]:
    roots = [("stdlib", Path(sysconfig.get_paths()["stdlib"]))]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations or []) if spec else []:
            roots.append((name, Path(location)))
    return roots


def source_files() -> list[SourceFile]:
    """All Python files of the standard library and of `PACKAGES`, in hash order (so packages are mixed)."""
    files = []
    for name, root in _roots():
        for path in root.rglob("*.py"):
            pause()
            parts = path.relative_to(root).parts
            if name == "stdlib" and ("site-packages" in parts or "dist-packages" in parts):
                continue
            files.append(SourceFile("/".join((name, *parts)), path))
    return sorted(files, key=lambda file: (file.order, file.name))


def docstrings(file: SourceFile) -> list[str]:
    """Docstrings of a file's module, classes and functions, cleaned of indentation; empty where it does not parse."""
    pause()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's files
            tree = ast.parse(file.path.read_text(encoding="utf-8"))
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


def _unique(files: list[SourceFile], skip: set[str]) -> Iterator[str]:
    seen = set(skip)
    for file in files:
        for text in docstrings(file):
            if text not in seen:
                seen.add(text)
                yield text


def held_out() -> Iterator[str]:
    """Held-out docstrings, each once, file by file in hash order: the form of the training text."""
    yield from _unique([file for file in source_files() if file.is_held_out], set())


def held_out_sample() -> Iterator[str]:
    """Held-out docstrings in the order of their own hash, for detection.

    Any beginning of them is a sample of all packages. Neighbours in a file share their rare words, and alpha over
    whole files swings with the files it happens to meet (adjusted R2 of the bundled model at 32, 64, 128 Ki positions:
    .84, .86, .83 by file, .86, .88, .89 by docstring).
    """
    yield from sorted(held_out(), key=lambda text: _hash(text.encode("utf-8", "surrogatepass")))


def training() -> Iterator[str]:
    """Training docstrings, each once, without any that also occurs in a held-out file."""
    files = source_files()
    skip = set(_unique([file for file in files if file.is_held_out], set()))
    yield from _unique([file for file in files if not file.is_held_out], skip)


def source_code() -> Iterator[str]:
    """Source text of held-out standard-library files: code, so out of the docstrings' domain."""
    for file in source_files():
        if file.is_held_out and file.name.startswith("stdlib/"):
            try:
                yield file.path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue


def fingerprint() -> str:
    """Names the demo text by the versions it is read from, without reading it."""
    versions = [f"python {platform.python_version()}"]
    for distribution in PACKAGES.values():
        try:
            versions.append(f"{distribution} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{distribution} -")
    return hashlib.sha256(
        "\n".join(["docstrings 2", str(HELD_OUT_SHARE), str(MIN_LENGTH), *versions]).encode()
    ).hexdigest()
