"""A tiny analysed model, and what the parts of its report measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.analysis import analyze
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.report.material import Material
from tpe_core.report.recipes import RECIPES, Measured


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("reported")
    (folder / "text.txt").write_text(text(3, 9000))
    (folder / "other.txt").write_text(text(8, 6000))
    return RunOptions(model=str(save_tiny(folder / "model")), text=(str(folder / "text.txt"),), positions=2000)


@pytest.fixture(scope="session")
def other(options: RunOptions) -> str:
    """Text of another domain."""
    return str(Path(options.model).parent / "other.txt")


@pytest.fixture(scope="session")
def material(options: RunOptions, other: str) -> Material:
    return Material(analysis=run(analyze(options)), options=options, ood=(other,), prompts=32)


@pytest.fixture(scope="session")
def measured(material: Material) -> Callable[[str], Measured]:
    """What a part measures, once a session."""
    kept: dict[str, Measured] = {}

    def measure(name: str) -> Measured:
        if name not in kept:
            kept[name] = run(RECIPES[name].measure(material))
        return kept[name]

    return measure
