"""Import hygiene in fresh interpreters: the first frame waits for no torch, the engine knows no terminal."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import warnings
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tpe_core
from tpe_tui.cli.main import COMMANDS

ROOT = Path(tpe_core.__file__).parents[1]

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
        "tpe_core.snapshots",
        "tpe_core.cached_view",
        "tpe_core.edits.intervention",
        "tpe_core.printable",
        "tpe_tui.cli.main",
        "tpe_tui.app",
        "tpe_tui.engine.host",
    ],
)
def test_light_modules_stay_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_the_first_frame_waits_for_nothing_that_a_command_line_without_options_does_not_need() -> None:
    """Not for pydantic, by which typer converts options, nor for other commands, nor for screens that are not open."""
    frame = (
        "import tpe_tui.app, tpe_tui.cli.main as cli, sys\n"
        "cli.on_terminal = lambda: True\n"
        "tpe_tui.app.run_app = lambda *given, **named: print(sorted(sys.modules)) or 0\n"
        "assert cli.main(['demo']) == 0"
    )
    assert not loaded_by(frame) & set(HEAVY)
    done = subprocess.run([sys.executable, "-c", frame], capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(done.stdout)
    own = {name for name in loaded if name.startswith("tpe_tui.")}
    screens = {name for name in own if name.endswith(".screen")}
    assert screens == {"tpe_tui.inspector.screen", "tpe_tui.jobs.screen"}
    others = {
        f"tpe_tui.cli.{command.run.partition(':')[0]}" for command in COMMANDS.values() if isinstance(command.run, str)
    }
    assert others & own == {"tpe_tui.cli.sessions", "tpe_tui.cli.demo"}
    assert len(others) > 15


def test_a_kept_table_is_read_without_torch() -> None:
    read = (
        "from tpe_core.cached_view import read_view; from tpe_core.options import RunOptions; read_view(RunOptions())"
    )
    assert not loaded_by(read) & {"torch", "transformers", "scipy", "sklearn", "statsmodels"}


def test_the_engine_does_not_know_the_terminal() -> None:
    modules = ("tpe_core.session", "tpe_core.analysis", "tpe_core.manifest.manifest", "tpe_core.demo.train")
    assert not loaded_by(f"import {', '.join(modules)}") & {"tpe_tui", "textual", "rich", "typer"}


def imports_of(*packages: Path) -> dict[str, set[str]]:
    """Which modules of some packages each of them imports anywhere in its text, typing-only imports included."""
    files = {
        ".".join(file.relative_to(package.parent).with_suffix("").parts): file
        for package in packages
        for file in package.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): file for name, file in files.items()}
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = (module if file.name == "__init__.py" else module.rpartition(".")[0]).split(".")
                parts = [*above[: len(above) + 1 - node.level]] if node.level else []
                source = ".".join([*parts, *([node.module] if node.module else [])])
                names = {f"{source}.{alias.name}" for alias in node.names}
                imported |= (names & modules.keys()) or {source}
        graph[module] = (imported & modules.keys()) - {module}
    return graph


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = imports_of(*(ROOT / name for name in ("tpe_core", "tpe_tui", "tests")))
    assert {"tpe_tui.workspace", "tpe_tui.study"} < graph["tpe_tui.sweep.screen"]
    assert "tests.tui.fakes" in graph["tests.tui.conftest"], "relative imports count"
    assert graph["tpe_core.edits.edited_head"] > {"tpe_core.edits.basis", "tpe_core.edits.edit_numbers"}
    assert "tpe_core.hooks" in graph["tpe_core"], "typing-only imports count"
    TopologicalSorter(graph).prepare()


def test_no_test_module_imports_another() -> None:
    graph = imports_of(ROOT / "tests")
    lent = {(name, other) for name, others in graph.items() for other in others if ".test_" in other}
    assert {pair for pair in lent if ".test_" in pair[0]} == set()
    assert len([name for name in graph if ".test_" in name]) > 100


def test_a_circle_of_typing_only_imports_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "rooms"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("from rooms import second\n")
    for line in ("from rooms.first import name", "from .first import name", "from . import first"):
        (package / "second.py").write_text(f"if TYPE_CHECKING:\n    {line}\n")
        with pytest.raises(CycleError):
            TopologicalSorter(imports_of(package)).prepare()


def test_the_inspector_path_needs_no_statsmodels() -> None:
    assert not loaded_by("import tpe_core.session") & {"statsmodels", "pandas", "sklearn"}


def test_public_names_resolve() -> None:
    for name in tpe_core.__all__:
        assert getattr(tpe_core, name).__name__ in (name, "run")
    assert set(tpe_core._HOME_OF) == set(tpe_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tpe_core.nothing


@pytest.mark.parametrize(
    ("old", "new"), [("EditBasis", "EditStatistics"), ("Inspector", "EditHistory"), ("Pair", "PairedGeneration")]
)
def test_an_earlier_public_name_is_the_new_one_and_warns_with_it(old: str, new: str) -> None:
    assert old not in tpe_core.__all__
    with pytest.warns(DeprecationWarning, match=rf"^tpe_core\.{old} is now tpe_core\.{new}\.$"):
        assert getattr(tpe_core, old) is getattr(tpe_core, new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = getattr(tpe_core, new)
