"""Import hygiene in fresh interpreters: the first frame waits for no torch, the engine knows no terminal."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "numpy",
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "statsmodels",
    "pandas",
    "pydantic",
    "huggingface_hub",
    "tokenizers",
)


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "tpe_core",
        "tpe_core.edit_history",
        "tpe_core.edits.intervention",
        "tpe_core.printable",
        "tpe_tui.cli.main",
        "tpe_tui.app",
        "tpe_tui.engine.host",
    ],
)
def test_light_modules_stay_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


@pytest.mark.parametrize(
    "module", ["tpe_core.session", "tpe_core.analysis", "tpe_core.manifest.manifest", "tpe_core.demo.train"]
)
def test_the_engine_does_not_know_the_terminal(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"tpe_tui", "textual", "rich", "typer"}


def test_the_inspector_path_needs_no_statsmodels() -> None:
    assert not loaded_by("import tpe_core.session") & {"statsmodels", "pandas", "sklearn"}


def test_public_names_resolve() -> None:
    import tpe_core

    for name in tpe_core.__all__:
        assert getattr(tpe_core, name).__name__ in (name, "run")
    assert set(tpe_core._HOME_OF) == set(tpe_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tpe_core.nothing
