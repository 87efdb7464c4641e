"""Saved interventions that somebody broke: one sentence each, nothing written, nothing hostile in a terminal."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.helpers.manifests import arrays_of, make
from tests.helpers.tiny_models import WIDTH
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import ManifestError
from tpe_core.hooks import apply
from tpe_core.manifest.difference import difference
from tpe_core.manifest.manifest import read_edit, write_manifest
from tpe_tui.cli.difference_tables import print_difference
from tpe_tui.cli.main import main
from tpe_tui.cli.manifest_tables import print_manifest

EDIT = Intervention((1, 2, 5), "mean", (Steering(7, 2.0), Steering(3, 0.5, "min-norm"), Steering(4, 9.0, "bias")))

hostile_text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.sampled_from([
        "\x1b[2J\x1b]0;owned\x07", "\u202egnol", "[/foo]", "{0}", "%s", "../../etc/passwd", "\ud800", "\x00",
        "\n\n", "\x9b31m", "a" * 5000, "\u0301" * 3000, "👩‍👩‍👧", "𝒳" * 300, "",
    ]),
)  # fmt: skip
numbers = st.one_of(
    st.integers(-5, 12), st.floats(), st.sampled_from([2**31, 2**31 - 1, 2**63, -(2**63), 10**40, 1e308, 5e-324, -0.0])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, hostile_text)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text, inner, max_size=3), max_leaves=8
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file that fits no model, and its arrays."""
    manifest = make(EDIT)
    return write_manifest(tmp_path_factory.mktemp("good") / "edit.json", manifest, arrays_of(manifest))


@pytest.fixture
def path(good: Path, tmp_path: Path) -> Path:
    for file in good.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / good.name


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a document something could be changed."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*at, name))


def holder(document: Any, place: tuple[Any, ...]) -> Any:
    for step in place[:-1]:
        document = document[step]
    return document


def mutate(document: Any, data: st.DataObject) -> Any:
    """The document with one thing replaced, removed or added."""
    whole = {"": document}
    place = ("", *data.draw(st.sampled_from(list(places(document)))))
    owner, name = holder(whole, place), place[-1]
    match data.draw(st.sampled_from(["replace", "remove", "add", "repeat"])):
        case "remove" if len(place) > 1:
            del owner[name]
        case "add" if isinstance(owner[name], dict):
            owner[name][data.draw(hostile_text)] = data.draw(values)
        case "add" if isinstance(owner[name], list):
            owner[name].append(data.draw(values))
        case "repeat" if isinstance(owner[name], list) and owner[name]:
            owner[name] = owner[name] * data.draw(st.integers(2, 50))
        case _:
            owner[name] = data.draw(values)
    return whole[""]


def outcome(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence that a file is refused with, or ``""`` where it is one: then it must also print safely."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    try:
        manifest, edit = read_edit(path)
    except ManifestError as error:
        sentence = str(error)
    else:
        sentence = ""
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    if sentence:
        assert sentence.isprintable()
        assert 10 < len(sentence) < 600 + 2 * len(str(path))
        return sentence
    assert isinstance(edit, ResolvedEdit)
    assert all(np.isfinite(row).all() for row in (edit.constant, *edit.rows.values()))
    capsys.readouterr()
    print_manifest(path, manifest)
    found = difference((manifest, edit), (manifest, edit))
    assert found.same_edit
    print_difference((path, path), found)
    json.dumps(found.to_dict(), allow_nan=False)
    shown = capsys.readouterr().out
    assert not {unicodedata.category(char) for char in shown if char != "\n"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert max(map(len, shown.splitlines())) < 400
    return ""


quiet = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.data())
@quiet
def test_changed_documents(path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    document = json.loads(path.read_text())
    changed = document
    for _ in range(data.draw(st.integers(1, 3))):
        changed = mutate(changed, data)
    original = path.read_bytes()
    path.write_text(json.dumps(changed))
    try:
        outcome(path, capsys)
    finally:
        path.write_bytes(original)


def test_a_field_named_by_a_heap_of_marks_is_cut(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Marks take no cells, so that a cut by cells alone let all of them through."""
    path.write_text(json.dumps({**json.loads(path.read_text()), "\u0301" * 3000: 1}))
    assert "unknown field ◌" in outcome(path, capsys)


@given(st.binary(max_size=300))
@example(b"\xff\xfe{\x00}\x00")
@example(b'{"kind": "tpe.intervention", "schema": 2, "pruned": ' + b"[" * 5000)
@example(b'{"kind": "tpe.intervention", "schema": 2, "pruned": [' + b"1e999," * 99 + b"1]}")
@quiet
def test_any_bytes(path: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    original = path.read_bytes()
    path.write_bytes(data)
    try:
        assert outcome(path, capsys)
    finally:
        path.write_bytes(original)


arrays = st.dictionaries(
    st.sampled_from(["replacement_values", "direction.least-squares", "direction.min-norm", "reconstruction", "x"]),
    st.tuples(
        st.lists(st.integers(0, 7), max_size=3), st.sampled_from(["float64", "float32", "int64", "float16", "bool"]),
        st.sampled_from([0.0, 1.0, np.nan, np.inf, 1e308]),
    ),
    max_size=4,
)  # fmt: skip


@given(arrays, st.one_of(st.none(), st.integers(0, 400)), st.binary(max_size=80))
@quiet
def test_arrays_with_the_right_hash(
    path: Path, capsys: pytest.CaptureFixture[str], held: dict[str, Any], cut: int | None, tail: bytes
) -> None:
    beside, document = path.with_suffix(".safetensors"), json.loads(path.read_text())
    before = {file: file.read_bytes() for file in (path, beside)}
    with np.errstate(over="ignore", invalid="ignore"):
        data = save({name: np.full(shape, value).astype(kind) for name, (shape, kind, value) in held.items()})
    data = data[:cut] + tail
    beside.write_bytes(data)
    document["arrays"]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(document))
    try:
        outcome(path, capsys)
    finally:
        for file, content in before.items():
            file.write_bytes(content)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=200))
@quiet
def test_arrays_whose_header_lies(path: Path, capsys: pytest.CaptureFixture[str], length: int, header: bytes) -> None:
    beside, document = path.with_suffix(".safetensors"), json.loads(path.read_text())
    before = {file: file.read_bytes() for file in (path, beside)}
    data = length.to_bytes(8, "little") + header
    beside.write_bytes(data)
    document["arrays"]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(document))
    try:
        assert outcome(path, capsys)
    finally:
        for file, content in before.items():
            file.write_bytes(content)


BROKEN = {
    "broken": lambda text: text.replace("{", "(", 1),
    "truncated": lambda text: text[: len(text) // 2],
    "hostile": lambda text: text.replace('"mean"', '"\\u001b[2J\\u202e"'),
    "huge": lambda text: text + " " * (64 * 2**20),
    "wrong hash": lambda text: text.replace('"sha256": "', '"sha256": "0', 1).replace('0"', '"', 1),
    "wrong arrays": lambda text: text.replace('"hidden_size": 6', '"hidden_size": 7'),
    "future": lambda text: text.replace('"schema": 2', '"schema": 3'),
    "another kind": lambda text: text.replace("tpe.intervention", "tpe.analysis"),
    "another head": lambda text: text,
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_command_says_one_sentence_and_no_model_is_touched(
    path: Path, name: str, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(BROKEN[name](path.read_text()))
    model = tiny("gpt2")
    before = model.logits(model.example_inputs())
    with pytest.raises(ManifestError) as caught, apply(model, path):
        raise AssertionError("it was applied")
    assert "\n" not in str(caught.value)
    assert (model.logits(model.example_inputs()) == before).all()
    if name == "another head":
        assert f"is for 6 dimensions (demo), but this head has {WIDTH}" in str(caught.value)
        return
    capsys.readouterr()
    for command in (["show", str(path)], ["show", str(path), "--json"], ["diff", str(path), str(path), "--json"]):
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("tpe: ")
        assert err.strip().isprintable()
