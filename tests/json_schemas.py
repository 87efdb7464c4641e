"""Write the JSON Schemas of the `--json` documents anew: ``python -m tests.json_schemas``.

A schema is what the documents of `tests.helpers.json_documents` have in common, with the meaning of every name from
`tests.helpers.json_meanings`. It is closed: a name that a command begins to print fails the test that holds the
documents against it, until this has been run and the name been given a meaning.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.helpers.json_documents import DOCUMENTS, document, written
from tests.helpers.json_meanings import ABSENT, KEYED, MEANINGS
from tpe_core.store import write_file

FOLDER = Path(__file__).parents[1] / "tpe_tui" / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def meaning(path: str) -> str:
    """What a name means: said for its whole path, for the end of it, or for the name alone. Raises KeyError."""
    parts = path.split(".")
    for first in range(len(parts)):
        text = MEANINGS.get(".".join(parts[first:]))
        if text is not None:
            return text
    raise KeyError(f"{path} has no meaning: give it one in tests/helpers/json_meanings.py")


def schema_of(values: Iterable[Any], path: str) -> dict[str, Any]:
    """The schema of all `values` that stand at a path."""
    there = [value for value in values if value is not None]
    objects = [value for value in there if isinstance(value, dict)]
    lists = [value for value in there if isinstance(value, list)]
    types = {_leaf(value) for value in there if not isinstance(value, (dict, list))}
    name = path.rpartition(".")[2]
    if "number" in types:
        types = (types - {"integer"}) | {"null"}  # a figure that is not there is null
    if len(there) < len(list(values)):
        types |= {"null"} | ({ABSENT.get(name, "number")} if not there else set())
    schema: dict[str, Any] = {}
    if objects:
        types.add("object")
        schema |= _keyed(objects, path) if {name, path} & KEYED else _object(objects, path)
    if lists:
        types.add("array")
        items = [item for value in lists for item in value]
        if items:
            schema["items"] = schema_of(items, path)
    return {"type": sorted(types)[0] if len(types) == 1 else sorted(types), **schema}


def _leaf(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", str: "string"}[type(value)]


def _keyed(objects: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """An object whose names are data, such as fractions or the parts of a model."""
    values = [value for each in objects for value in each.values()]
    return {"additionalProperties": schema_of(values, f"{path}.*") if values else True}


def _object(objects: list[dict[str, Any]], path: str) -> dict[str, Any]:
    names = list(dict.fromkeys(name for each in objects for name in each))
    properties = {}
    for name in names:
        below = f"{path}.{name}"
        values = [each[name] for each in objects if name in each]
        properties[name] = {"description": meaning(below), **schema_of(values, below)}
    return {
        "properties": properties,
        "required": [name for name in names if all(name in each for each in objects)],
        "additionalProperties": False,
    }


def schemas(documents: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """The schema of every command's documents."""
    return {
        name: {"$schema": DRAFT, "title": f"tpe {name} --json", **schema_of(values, name)}
        for name, values in documents.items()
    }


def main() -> None:
    """Print every document in a folder of its own, and write the schemas."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("CACHE", "STATE", "CONFIG"):
            os.environ[f"XDG_{name}_HOME"] = f"{folder}/{name.lower()}"
        os.chdir(folder)
        names = written(Path(folder))
        documents = {name: [document(line, names) for line in lines] for name, lines in DOCUMENTS.items()}
    for name, schema in schemas(documents).items():
        write_file(FOLDER / f"{name}.schema.json", [f"{json.dumps(schema, indent=1)}\n".encode()])


if __name__ == "__main__":
    main()
