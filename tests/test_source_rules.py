"""Rules of the house that no linter knows, held over the source of both packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tpe_core
import tpe_tui

PACKAGES = [Path(package.__file__ or "").parent for package in (tpe_core, tpe_tui)]
MOST_POSITIONAL = 4


def _name(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def positional_fields(node: ast.ClassDef) -> list[str] | None:
    """The fields of a dataclass that its constructor takes by position; None for another class."""
    decorator = next((entry for entry in node.decorator_list if _name(entry) == "dataclass"), None)
    if decorator is None:
        return None
    if isinstance(decorator, ast.Call) and any(
        keyword.arg == "kw_only" and ast.unparse(keyword.value) == "True" for keyword in decorator.keywords
    ):
        return []
    fields: list[str] = []
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or "ClassVar" in ast.unparse(statement.annotation):
            continue
        if ast.unparse(statement.annotation) == "KW_ONLY":
            break
        fields.append(ast.unparse(statement.target))
    return fields


def dataclasses_of(source: str) -> dict[str, list[str]]:
    found = {
        node.name: positional_fields(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)
    }
    return {name: fields for name, fields in found.items() if fields is not None}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_dataclasses_take_at_most_four_fields_by_position(package: Path) -> None:
    files = sorted(package.rglob("*.py"))
    known = {(file, name): fields for file in files for name, fields in dataclasses_of(file.read_text()).items()}
    assert len(known) > 10
    offenders = [
        f"{file.relative_to(package.parent)}: {name} takes {', '.join(fields)} by position"
        for (file, name), fields in known.items()
        if len(fields) > MOST_POSITIONAL
    ]
    assert not offenders, "\n".join(offenders)


def test_positional_fields_are_counted_up_to_the_mark_and_by_the_decorator() -> None:
    body = "\n a: int\n b: int = 2\n limit: ClassVar[int] = 3\n _: KW_ONLY\n c: int = 4"
    assert dataclasses_of(f"@dataclass\nclass A:{body}") == {"A": ["a", "b"]}
    assert dataclasses_of(f"@dataclasses.dataclass(frozen=True)\nclass A:{body}") == {"A": ["a", "b"]}
    assert dataclasses_of(f"@dataclass(kw_only=True)\nclass A:{body}") == {"A": []}
    assert dataclasses_of(f"class A:{body}") == {}
