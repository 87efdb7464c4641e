"""The demo text: docstrings of the standard library and of the packages tpe itself needs.

Text that every user already has, in their own installation, so the bundled model can be rebuilt and
measured without a network. It never imports what it reads: files are parsed with `ast`.

The split is by file, not by docstring: a file's path decides, so that a user's machine parses only
the held-out files (one in twenty), and a docstring found in both parts is dropped from training.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tpe_core.demo.docstrings import MIN_LENGTH
from tpe_core.demo.parsing import parsed
from tpe_core.pauses import pause

__all__ = [
    "HELD_OUT_SHARE",
    "PACKAGES",
    "SourceFile",
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
STDLIB = "stdlib"
FOREIGN = {"site-packages", "dist-packages"}  # folders of the standard library's that hold other packages


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


def _standard_library() -> tuple[str, Path]:
    return STDLIB, Path(sysconfig.get_paths()["stdlib"])


def _roots() -> list[tuple[str, Path]]:
    roots = [_standard_library()]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations or []) if spec else []:
            roots.append((name, Path(location)))
    return roots


def source_files(roots: Sequence[tuple[str, Path]] | None = None) -> list[SourceFile]:
    """All Python files of the standard library and of `PACKAGES`, in hash order (so packages are mixed).

    `roots` are other folders, each with the name that its files' names begin with.
    """
    files = []
    for name, root in _roots() if roots is None else roots:
        for folder, inner, names in os.walk(root):
            pause()
            if name == STDLIB:
                inner[:] = [each for each in inner if each not in FOREIGN]
            here = Path(folder)
            parts = (name, *here.relative_to(root).parts)
            files += [SourceFile("/".join((*parts, each)), here / each) for each in names if each.endswith(".py")]
    return sorted(files, key=lambda file: (file.order, file.name))


def _unique(files: Sequence[SourceFile], skip: set[str]) -> Iterator[str]:
    seen = set(skip)
    for documented in parsed([file.path for file in files]):
        for text in documented:
            if text not in seen:
                seen.add(text)
                yield text


@lru_cache(maxsize=1)
def _held_out(files: tuple[SourceFile, ...]) -> tuple[str, ...]:
    """Docstrings of held-out files, each once: a few megabytes, that every job reads and that take seconds to parse."""
    return tuple(_unique(files, set()))


def held_out() -> tuple[str, ...]:
    """Held-out docstrings, each once, file by file in hash order: the form of the training text."""
    return _held_out(tuple(file for file in source_files() if file.is_held_out))


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
    skip = set(_held_out(tuple(file for file in files if file.is_held_out)))
    yield from _unique([file for file in files if not file.is_held_out], skip)


def source_code() -> Iterator[str]:
    """Source text of held-out standard-library files: code, so out of the docstrings' domain."""
    for file in source_files([_standard_library()]):
        if file.is_held_out:
            try:
                yield file.path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue


@lru_cache(maxsize=1)
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
