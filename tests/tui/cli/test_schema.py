"""`tpe schema`: every `--json` document follows the JSON Schema that is published for it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.helpers.json_documents import DOCUMENTS, document, written
from tests.json_schemas import meaning, schema_of
from tpe_core.errors import USAGE
from tpe_tui.cli.main import COMMANDS, main
from tpe_tui.cli.manifest import document_names, document_schema

WITHOUT = {"inspect", "schema", "eval", "demo train", "serve", "apply"}
"""`tpe inspect` prints what `tpe analyze` does; a harness and a training run print what they measured, in hours."""


def schema(command: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(document_schema(command))
    return read


def test_every_command_with_a_document_has_a_schema() -> None:
    with_json = {each.name for each in COMMANDS.values() if "json_" in inspect.signature(each.function).parameters}
    assert set(document_names()) == with_json - WITHOUT == set(DOCUMENTS)


@pytest.mark.parametrize("command", document_names())
def test_a_schema_is_one_and_says_what_every_name_means(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(command))
    assert main(["schema", command]) == 0
    assert json.loads(capsys.readouterr().out) == schema(command)

    def described(part: dict[str, Any], path: str) -> None:
        for name, below in part.get("properties", {}).items():
            assert below["description"] == meaning(f"{path}.{name}")
            described(below, f"{path}.{name}")
        described(part["items"], path) if "items" in part else None
        further = part.get("additionalProperties")
        described(further, f"{path}.*") if isinstance(further, dict) else None

    described(schema(command), command)


def test_a_command_without_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "serve"]) == USAGE
    assert "choose one of analyze, atlas" in " ".join(capsys.readouterr().err.split())


def test_a_name_that_is_not_in_a_schema_fails() -> None:
    with pytest.raises(jsonschema.ValidationError, match="further"):
        jsonschema.validate({"folder": "x", "sessions": [], "further": 1}, schema("sessions"))
    with pytest.raises(KeyError, match="has no meaning"):
        schema_of([{"no_such_name": 1}], "analyze")


@pytest.mark.slow
def test_every_document_follows_its_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.delenv("TPE_CACHE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    names = written(tmp_path)
    for command, lines in DOCUMENTS.items():
        for line in lines:
            jsonschema.validate(document(line, names), schema(command))
