"""Files of older schemas go on being read, newer ones are refused, and the published JSON Schema is the records'."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tpe_core
from tests.helpers.manifests import EDIT, arrays_of, make
from tpe_core.errors import ManifestError
from tpe_core.manifest.io import format_document
from tpe_core.manifest.manifest import SCHEMA, json_schema, published_schema, read_edit, read_manifest, write_manifest
from tpe_core.manifest.migration import OLDEST, STEPS

SCHEMA_1 = """{
  "schema": 1,
  "kind": "tpe.intervention",
  "pruned": [1, 5],
  "replacement": "mean",
  "steering": [{"token_id": 3, "token": "·the", "ratio": 0.5, "method": "min-norm"}],
  "made_on": {
    "model": "demo", "revision": null, "head_sha256": "%(a)s", "vocab_rows": 10, "hidden_size": 6,
    "tokenizer_sha256": "%(b)s", "post": {"kind": "identity", "scale": 1.0, "cap": null}, "tied": true
  },
  "measured": {
    "text": "docs", "corpus_fingerprint": "%(c)s", "positions": 100, "prompt": "The cat", "kl": 0.25, "js": null
  },
  "versions": {"tpe": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
  "created": "2026-01-02T03:04:05Z",
  "arrays": {"file": "old.safetensors", "sha256": "%(arrays)s"}
}
"""  # as the first version of tpe wrote it


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of schema 1 with its arrays."""
    beside = tmp_path / "old.safetensors"
    arrays = {"replacement_values": np.array([0.25, -2.0]), "direction.min-norm": np.linspace(0, 1, 6)}
    save_file(arrays, beside, metadata={"kind": "tpe.intervention"})
    hashes = {name: name * 64 for name in "abc"} | {"arrays": hashlib.sha256(beside.read_bytes()).hexdigest()}
    (tmp_path / "old.json").write_text(SCHEMA_1 % hashes)
    return tmp_path / "old.json"


def test_a_file_of_schema_1_is_read_and_says_nothing_that_it_never_said(old: Path) -> None:
    before = old.read_bytes()
    manifest, edit = read_edit(old)
    assert manifest.schema_version == SCHEMA == 2
    assert manifest.measured is not None
    assert (manifest.measured.kl, manifest.measured.texts) == (0.25, ())
    assert (manifest.made_by, manifest.self_test) == (None, None)
    np.testing.assert_array_equal(edit.constant, [0.25, -2.0])
    np.testing.assert_allclose(edit.rows[3], np.log(0.5) * np.linspace(0, 1, 6), rtol=0)
    assert old.read_bytes() == before  # reading never rewrites
    again = write_manifest(old.with_name("new.json"), manifest, read_manifest(old)[1])
    assert json.loads(again.read_text())["schema"] == SCHEMA
    assert read_edit(again)[1].intervention == edit.intervention


@pytest.mark.parametrize("name", list(json.loads(SCHEMA_1 % dict.fromkeys(("a", "b", "c", "arrays"), ""))))
def test_an_old_file_must_still_be_whole(old: Path, name: str) -> None:
    document = json.loads(old.read_text())
    del document[name]
    old.write_text(json.dumps(document))
    with pytest.raises(ManifestError, match=name):
        read_manifest(old)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"surprise": 1}, "unknown field surprise"),
        ({"measured": [1]}, r"measured is \[1\]"),
        ({"measured": None, "pruned": [5, 1]}, "ascending"),
        ({"created": float("nan")}, "created"),
        ({"schema": 0}, "its schema is 0"),
        ({"schema": -1}, "its schema is -1"),
        ({"schema": True}, "its schema is true"),
        ({"schema": 1.0}, "its schema is 1.0"),
        ({"schema": 10**30}, r"newer tpe \(schema 1000"),
    ],
)
def test_an_old_file_is_checked_like_a_new_one(old: Path, changes: dict[str, Any], reason: str) -> None:
    old.write_text(json.dumps(json.loads(old.read_text()) | changes))
    with pytest.raises(ManifestError, match=reason):
        read_manifest(old)


def test_there_is_a_step_from_every_older_schema() -> None:
    assert sorted(STEPS) == list(range(OLDEST, SCHEMA))


def test_the_shipped_schema_is_what_the_records_imply() -> None:
    """Where it is not: write ``tpe_core.manifest.io.format_document(json_schema())`` to the file."""
    assert published_schema().encode() == format_document(json_schema())
    assert (Path(tpe_core.__file__).parent / "manifest" / "intervention.schema.json").is_file()


def test_the_schema_says_what_a_file_holds(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "edit.json", make(), arrays_of(make()))
    document, schema = json.loads(path.read_text()), json.loads(published_schema())
    assert conforms(document, schema, schema)
    for broken in (
        document | {"surprise": 1},
        {name: value for name, value in document.items() if name != "self_test"},
        document | {"schema": 1},
        document | {"replacement": "median"},
        document | {"pruned": [1, 1]},
        document | {"pruned": [1.5]},
        document | {"made_on": document["made_on"] | {"head_sha256": "x"}},
        document | {"steering": [document["steering"][0] | {"ratio": 0}]},
    ):
        assert not conforms(broken, schema, schema)


TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip
RULES: dict[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, asked: value == asked,
    "enum": lambda value, asked: value in asked,
    "required": lambda value, asked: value.keys() >= set(asked),
    "uniqueItems": lambda value, asked: len(set(map(str, value))) == len(value),
    "pattern": lambda value, asked: re.search(asked, value) is not None,
    "minItems": lambda value, asked: len(value) >= asked,
    "maxItems": lambda value, asked: len(value) <= asked,
    "maxLength": lambda value, asked: len(value) <= asked,
    "minimum": lambda value, asked: value >= asked,
    "maximum": lambda value, asked: value <= asked,
    "exclusiveMinimum": lambda value, asked: value > asked,
    "exclusiveMaximum": lambda value, asked: value < asked,
}
NOTES = {"title", "description", "default", "$defs", "$schema", "$id", "type"}


def conforms(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """A validator of the part of JSON Schema that the published one uses; an unknown keyword is an error."""
    kind = rule.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    known = rule.get("properties", {})
    nested: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda asked: conforms(value, root["$defs"][asked.rpartition("/")[2]], root),
        "anyOf": lambda asked: any(conforms(value, option, root) for option in asked),
        "items": lambda asked: all(conforms(entry, asked, root) for entry in value),
        "properties": lambda asked: all(conforms(value[name], asked[name], root) for name in asked if name in value),
        "additionalProperties": lambda asked: all(
            asked is not False and conforms(of, asked, root) for name, of in value.items() if name not in known
        ),
    }
    return all(
        nested[word](asked) if word in nested else RULES[word](value, asked)
        for word, asked in rule.items()
        if word not in NOTES
    )


def test_the_edit_of_a_file_is_that_of_its_arrays(tmp_path: Path) -> None:
    arrays = arrays_of(make())
    manifest, edit = read_edit(write_manifest(tmp_path / "edit.json", make(), arrays))
    assert manifest.arrays is not None
    assert edit.intervention.origin == manifest.arrays.sha256
    assert edit.intervention.steering == EDIT.steering
    assert (edit.removed, edit.hidden_size, edit.fold, edit.biases) == ((1, 5), 6, None, {})
    np.testing.assert_array_equal(edit.constant, arrays["replacement_values"])
    np.testing.assert_array_equal(edit.rows[7], np.log(2.0) * arrays["direction.least-squares"])
    np.testing.assert_array_equal(edit.rows[3], np.log(0.5) * arrays["direction.min-norm"])
    arrays["direction.min-norm"][:] = 1e308
    huge = make().model_copy(update={"steering": (make().steering[0].model_copy(update={"ratio": 1e-300}),)})
    del arrays["direction.least-squares"]
    with pytest.raises(ManifestError, match="moves token id 3 infinitely far"):
        read_edit(write_manifest(tmp_path / "edit.json", huge, arrays))
