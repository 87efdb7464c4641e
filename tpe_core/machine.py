"""What tpe finds on a machine, for a bug report: packages, torch, cores, GPUs, memory and folders.

Nothing that could name a person or a host is in it: of paths, the home folder is ``~`` and the user's name USER.
"""

from __future__ import annotations

import getpass
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tpe_core.busy import busy_notice, cores
from tpe_core.errors import reason_of
from tpe_core.outputs import shown_path
from tpe_core.progress import size_text

__all__ = [
    "EXTRAS",
    "Finding",
    "Verdict",
    "folder_finding",
    "hub_findings",
    "package_findings",
    "private_path",
    "python_value",
    "torch_findings",
]

Verdict = Literal["ok", "look", "broken"]
"""Nothing to do; something that may hurt; something that stops tpe from working."""

EXTRAS = ("gguf", "adapters", "texts", "llamacpp", "eval", "quantize", "plots", "serve")
"""The extras that a user installs; the others are for who works on tpe."""

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
LOW_DISK = 2e9  # bytes free from which a folder is worth a look
LOW_MEMORY = 2e9
REASON = 200  # characters of what a library says
PATIENCE = 0.5  # seconds that a folder's size may take to add up
WAIT = 2.0  # seconds for the GPU's driver to answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report; `advice` says what to do about a `verdict` that is not ok."""

    section: str
    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""


def private_path(path: Path | str) -> str:
    """A path with ``~`` for the home folder and USER for a part that is the user's name."""
    shown = shown_path(Path(path))
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        return shown
    return re.sub(rf"(?<=/){re.escape(user)}(?=/|$)", "USER", shown) if user else shown


def package_findings(distribution: str = "tpe-tui") -> Iterator[Finding]:
    """A finding for each package that `distribution` requires, then for each of `EXTRAS`."""
    from importlib import metadata

    try:
        from packaging.requirements import Requirement

        declared = [Requirement(text) for text in metadata.requires(distribution) or ()]
    except ImportError as error:  # of packaging, or where the distribution is not found
        name = distribution if isinstance(error, metadata.PackageNotFoundError) else "packaging"
        advice = f"install it: pip install {name}"
        yield Finding(section="packages", name=name, value="not installed", verdict="broken", advice=advice)
        return
    for extra in ("", *EXTRAS):
        for requirement in declared:
            marker = requirement.marker
            if (extra and marker is None) or (marker is not None and not marker.evaluate({"extra": extra})):
                continue
            if extra and marker is not None and marker.evaluate({"extra": ""}):
                continue
            section = f"extra {extra}" if extra else "packages"
            install = f"pip install '{distribution}[{extra}]'" if extra else f"pip install '{distribution}'"
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                if extra:
                    yield Finding(section=section, name=requirement.name, value=f"not installed: {install}")
                else:
                    yield Finding(
                        section=section, name=requirement.name, value="not installed", verdict="broken", advice=install
                    )
                continue
            fits = requirement.specifier.contains(version, prereleases=True)
            yield Finding(
                section=section,
                name=requirement.name,
                value=version,
                verdict="ok" if fits else "look" if extra else "broken",
                advice="" if fits else f"tpe needs {requirement.specifier}: {install}",
            )


def torch_findings() -> Iterator[Finding]:
    """Torch's version, threads and cores, GPUs and free memory; one line alone where torch cannot be imported."""
    try:
        import torch

        from tpe_core.models.threads import core_quota
    except Exception as error:  # whatever its native code or a broken installation raises
        reason = reason_of(error, REASON)
        advice = "install it anew: pip install --force-reinstall torch"
        yield Finding(section="torch", name="torch", value=f"not usable: {reason}", verdict="broken", advice=advice)
        return
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    yield Finding(section="torch", name="torch", value=f"{torch.__version__}, {built}")
    quota = core_quota()
    limit = "" if math.isinf(quota) else f", of which {quota:g} cores' time is allowed"
    busy = busy_notice("cpu")
    yield Finding(
        section="torch",
        name="threads",
        value=f"{torch.get_num_threads()} on {cores()} cores{limit}",
        verdict="look" if busy else "ok",
        advice=busy,
    )
    yield from _gpus()
    yield _memory()


def _gpus() -> Iterator[Finding]:
    import torch

    driver = _driver()
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        for index in range(count):
            free, total = torch.cuda.mem_get_info(index)
            value = f"{torch.cuda.get_device_name(index)}, {size_text(free)} of {size_text(total)} free"
            yield Finding(section="torch", name=f"GPU {index}", value=value + (f", driver {driver}" if driver else ""))
    except Exception as error:  # a driver that does not answer
        reason = reason_of(error, REASON)
        yield Finding(
            section="torch", name="GPU", value=f"not usable: {reason}", verdict="look", advice="--device cpu goes on."
        )
        return
    if not count and driver:
        advice = f"torch {torch.__version__} does not see it: install a torch that is built for it."
        yield Finding(section="torch", name="GPU", value=f"driver {driver}, unused", verdict="look", advice=advice)
    elif not count:
        metal = torch.backends.mps.is_available()
        yield Finding(section="torch", name="GPU", value="Apple's (mps); tpe uses the CPU" if metal else "none")


def _driver() -> str:
    """The version of NVIDIA's driver; empty where there is none that answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip().partition("\n")[0]


def _memory() -> Finding:
    try:
        import torch

        from tpe_core.models.footprint import available_bytes

        free = available_bytes(torch.device("cpu"))
    except Exception as error:  # whatever a broken installation raises
        reason = reason_of(error, REASON)
        return Finding(section="torch", name="memory", value=f"not known: {reason}", verdict="look")
    low = free < LOW_MEMORY
    return Finding(
        section="torch",
        name="memory",
        value=f"{size_text(free)} free",
        verdict="look" if low else "ok",
        advice="close other programs, or choose a small model." if low else "",
    )


def folder_finding(name: str, folder: Path, advice: str) -> Finding:
    """Where a folder of tpe's is, its size, whether it can be written, and the free disk; `advice` where it cannot."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        free = 0
    is_writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    size = _size(folder) if folder.is_dir() else "not there yet"
    low = free < LOW_DISK
    return Finding(
        section="folders",
        name=name,
        value=f"{private_path(folder)}: {size}, {'' if is_writable else 'not '}writable, {size_text(free)} free",
        verdict="ok" if is_writable and not low else "look",
        advice="" if is_writable and not low else advice,
    )


def _size(folder: Path) -> str:
    """The bytes in a folder, for people: at least so many where counting takes long."""
    total, until = 0, time.monotonic() + PATIENCE
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
        if time.monotonic() > until:
            return f"over {size_text(total)}"
    return size_text(total)


def hub_findings() -> Iterator[Finding]:
    """The hub's local cache, and the variables that keep tpe from asking the hub."""
    try:
        from huggingface_hub import constants

        from tpe_core.models.hub import cached_ids

        models = len(cached_ids())
    except Exception as error:  # whatever a broken installation raises
        reason = reason_of(error, REASON)
        yield Finding(section="folders", name="hub cache", value=f"cannot be read: {reason}", verdict="look")
    else:
        found = folder_finding("hub cache", Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder with room.")
        value = f"{found.value}, {models:,} {'model' if models == 1 else 'models'}"
        yield Finding(section="folders", name="hub cache", value=value, verdict=found.verdict, advice=found.advice)
    said = [f"{name}={os.environ[name]:.8}" for name in OFFLINE if os.environ.get(name)]
    said += ["HF_ENDPOINT is set"] if os.environ.get("HF_ENDPOINT") else []
    on = any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in OFFLINE)
    yield Finding(
        section="folders",
        name="offline",
        value=", ".join(said) or "no variable is set",
        verdict="look" if on else "ok",
        advice="only cached models open; unset it to ask the hub." if on else "",
    )


def python_value() -> str:
    """Python's version, its kind and its place."""
    return f"{sys.version.split()[0]} ({sys.implementation.name}), {private_path(sys.prefix)}"
