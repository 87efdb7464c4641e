"""The file of an intervention: written whole or not at all, read with every doubt, refused in one sentence."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.numpy import save_file

from tests.helpers.manifests import EDIT, HEAD, TOKENIZER, arrays_of, make
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import ManifestError
from tpe_core.manifest.manifest import (
    Manifest,
    PostRecord,
    check_fits,
    read_manifest,
    write_manifest,
)
from tpe_core.manifest.schema import EditArrays


@pytest.fixture
def path(tmp_path: Path) -> Path:
    manifest = make()
    return write_manifest(tmp_path / "edit.json", manifest, arrays_of(manifest))


def refused(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 500 + len(str(path))
    return text


def changed(path: Path, **fields: Any) -> Path:
    """The file with top-level (``a``) or nested (``a__b``) fields changed."""
    document = json.loads(path.read_text())
    for name, value in fields.items():
        *outer, last = name.split("__")
        at = document
        for part in outer:
            at = at[int(part) if part.isdigit() else part]
        at[last] = value
    path.write_text(json.dumps(document))
    return path


def test_what_is_written_comes_back(path: Path) -> None:
    manifest, arrays = read_manifest(path)
    assert manifest.intervention() == EDIT
    assert manifest.model_copy(update={"arrays": None}) == make()
    assert manifest.arrays is not None
    assert manifest.arrays.file == "edit.safetensors"
    expected = arrays_of(make())
    assert arrays.keys() == expected.keys() == {"replacement_values", "direction.least-squares", "direction.min-norm"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == np.float64
    assert sorted(file.name for file in path.parent.iterdir()) == ["edit.json", "edit.safetensors"]


def test_the_published_names(path: Path) -> None:
    document = json.loads(path.read_text())
    assert list(document) == [
        "schema", "kind", "pruned", "replacement", "steering", "made_on", "made_by", "measured", "self_test",
        "versions", "created", "arrays",
    ]  # fmt: skip
    assert (document["schema"], document["kind"]) == (2, "tpe.intervention")
    assert document["pruned"] == [1, 5]
    assert document["steering"][0] == {"token_id": 3, "token": "·the", "ratio": 0.5, "method": "min-norm"}
    assert document["created"] == "2026-01-02T03:04:05Z"
    assert document["made_on"]["post"] == {"kind": "identity", "scale": 1.0, "cap": None}
    assert list(document["measured"]) == ["text", "corpus_fingerprint", "positions", "prompt", "kl", "js", "texts"]
    assert list(document["measured"]["texts"][0]) == [
        "domain", "text", "positions", "kl", "js", "top1", "perplexity", "entropy", "base_perplexity", "base_entropy",
        "achieved",
    ]  # fmt: skip
    assert list(document["self_test"]) == ["task", "dtype", "prompts"]
    assert document["self_test"]["prompts"][0] == {
        "prompt": "a b", "top": [{"token_id": 3, "token": "·the", "logit": 1.5}], "steered": [],
    }  # fmt: skip


def test_an_edit_without_arrays_is_one_file(path: Path) -> None:
    plain = make(Intervention((1, 2), "zero"))
    write_manifest(path, plain, {})
    assert [file.name for file in path.parent.iterdir()] == ["edit.json"]  # the arrays of the edit before are gone
    assert read_manifest(path) == (plain, {})
    assert json.loads(path.read_text())["arrays"] is None
    assert make(Intervention((), "mean")).needed_arrays() == {}


def test_a_reconstruction_needs_its_matrix_and_constant() -> None:
    needed = make(Intervention((1, 3), "least-squares")).needed_arrays()
    width = make(Intervention((1, 3))).made_on.hidden_size
    assert needed == {"replacement_values": (2,), "reconstruction": (2, width - 2)}


@pytest.mark.parametrize("replacement", ["zero", "mean", "least-squares", "refit"])
def test_arrays_keep_their_names_in_the_file_and_are_read_back_by_what_they_mean(replacement: Any) -> None:
    edit = Intervention((1, 3), replacement, (Steering(3, 0.5, "min-norm"), Steering(4, 3.0, "bias")))
    arrays = arrays_of(make(edit))
    numbers = EditArrays.read(arrays)
    assert {name: id(array) for name, array in numbers.named().items()} == {name: id(a) for name, a in arrays.items()}
    assert numbers.directions.keys() == {"min-norm"}
    assert (numbers.values is None) == (replacement == "zero")
    assert (numbers.reconstruction is None) == (replacement in ("zero", "mean"))


WIDEST = 2**31 - 1
steerings = st.builds(
    Steering,
    st.integers(0, WIDEST - 1),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.just("bias"),
)
edits = st.builds(
    Intervention,
    st.frozensets(st.integers(0, WIDEST - 1), max_size=6).map(tuple),
    st.sampled_from(["zero", "mean"]),
    st.lists(steerings, max_size=4, unique_by=lambda entry: entry.token_id).map(tuple),
)


@given(edits, st.text(st.characters(exclude_categories=()), max_size=20))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_intervention_survives(tmp_path: Path, edit: Intervention, prompt: str) -> None:
    manifest = make(edit, prompt, width=WIDEST)
    again, _ = read_manifest(write_manifest(tmp_path / "edit.json", manifest, arrays_of(manifest)))
    assert again.intervention() == edit
    assert again.measured is not None
    assert again.measured.prompt == prompt.encode("utf-8", "replace").decode()


# Refusals


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.json"
    assert "does not exist" in refused(file)
    assert "is a folder" in refused(tmp_path)
    assert "not a regular file" in refused(Path("/dev/null"))
    for data, reason in {
        b"": "line 1, column 1",
        b'{\n "a": }': "line 2, column 7",
        b'{"kind": "tpe': "is not JSON (Unterminated string starting at line 1, column 10).",
        b"\xff{}": "not JSON that can be read",
        b"[1]": "holds [1] where an object",
        b'"\\u202e\\u001b"': "where an object",
        b"{}": "its kind is null",
        b'{"kind": "x"}': 'its kind is "x"',
        b'{"a": 1, "a": 2}': "the field 'a' occurs twice",
        b"[" * 100_000: "not JSON that can be read",
        b'{"kind": ' + b"9" * 5000 + b"}": "not JSON that can be read",
        b'{"kind": "tpe.intervention", "schema": 3}': "made by a newer tpe (schema 3, this one reads 2)",
        b'{"kind": "tpe.intervention", "schema": "\\ud800"}': 'its schema is "⟨U+D800⟩", not 2',
        b'{"kind": "tpe.intervention", "schema": 2, "created": "\\ud800"}': "not JSON that can be read",
    }.items():
        file.write_bytes(data)
        assert reason in refused(file), data[:50]
    monkeypatch.setattr("tpe_core.manifest.manifest.MAX_BYTES", 10)
    assert "too large" in refused(file)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("schema", 0, "schema is 0"),
        ("schema", True, "schema is true"),
        ("surprise", 1, "unknown field surprise"),
        ("made_on__surprise", 1, "unknown field made_on.surprise"),
        ("schema_version", 1, "unknown field schema_version"),
        ("pruned", [True], "pruned.0 is true"),
        ("pruned", [1.0], "pruned.0 is 1.0"),
        ("pruned", [-1], "pruned.0 is -1"),
        ("pruned", [2**31], "pruned.0 is 2147483648"),
        ("pruned", [1, 1], "pruned is [1, 1] (must list every dimension once, in ascending order)"),
        ("pruned", [5, 1], "ascending"),
        ("pruned", "12", 'pruned is "12"'),
        ("replacement", "median", 'replacement is "median"'),
        ("steering__0__ratio", 0, "steering.0.ratio is 0"),
        ("steering__0__ratio", float("inf"), "steering.0.ratio"),
        ("steering__0__ratio", float("nan"), "steering.0.ratio"),
        ("steering__0__ratio", True, "steering.0.ratio is true"),
        ("steering__0__ratio", "2", 'steering.0.ratio is "2"'),
        ("steering__0__method", "magic", "steering.0.method"),
        ("steering__0__token_id", 7, "must steer every token_id once"),
        ("made_on__hidden_size", 0, "made_on.hidden_size is 0"),
        ("made_on__head_sha256", "A" * 64, "made_on.head_sha256"),
        ("made_on", None, "made_on is null"),
        ("measured__kl", float("nan"), "measured.kl"),
        ("measured__texts__0__domain", "elsewhere", "measured.texts.0.domain"),
        ("measured__texts__0__top1", 1.5, "measured.texts.0.top1 is 1.5"),
        ("measured__texts", None, "measured.texts is null"),
        ("self_test__prompts", [], "self_test.prompts is []"),
        ("self_test__prompts__0__prompt", "x" * 2001, "self_test.prompts.0.prompt"),
        ("self_test__prompts__0__top", [], "self_test.prompts.0.top is []"),
        ("self_test__prompts__0__top__0__logit", float("nan"), "self_test.prompts.0.top.0.logit"),
        ("self_test__task", "guess", 'self_test.task is "guess"'),
        ("steering__0__token_id", 10, "it steers token id 10 of a head that has 10 rows"),
        ("pruned", [1, 6], "it prunes dimension 6 of a head that has 6"),
        ("created", "yesterday", 'created is "yesterday"'),
        ("created", "2026-01-02T03:04:05", "created"),
        ("created", "0001-01-01T00:00:00+23:00", "must be a date and time with its zone"),
        ("arrays__file", "../edit.safetensors", "must be the bare name"),
        ("arrays__file", "/etc/passwd", "must be the bare name"),
        ("arrays__file", "..", "must be the bare name"),
        ("arrays__file", "a\\b", "must be the bare name"),
        ("arrays__file", "\u202eedit", "must be the bare name"),
        ("arrays__file", "", "must be the bare name"),
        ("arrays__file", "missing.safetensors", "does not exist"),
        ("arrays__sha256", "0" * 64, "is not the file that the intervention was saved with"),
        ("arrays", None, "names no arrays file"),
        ("pruned", [1], "'replacement_values' in"),
        ("made_on__hidden_size", 7, "float64 [6], not float64 [7]"),
        ("replacement", "\x1b[2J" + "x" * 1000, 'replacement is "\\u001b[2J'),
    ],
)
def test_fields_that_are_wrong(path: Path, field: str, value: object, reason: str) -> None:
    assert reason in refused(changed(path, **{field: value}))


def test_every_field_is_needed(path: Path) -> None:
    whole = json.loads(path.read_text())
    for name in whole:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        assert name in refused(path), name


def test_a_byte_order_mark_is_read_over(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_manifest(path)[0].intervention() == EDIT


def test_measured_may_be_null(path: Path) -> None:
    assert read_manifest(changed(path, measured=None))[0].measured is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_must_be_finite(path: Path, value: float) -> None:
    import hashlib

    arrays = arrays_of(make())
    arrays["direction.min-norm"][2] = value
    beside = path.with_suffix(".safetensors")
    save_file(arrays, beside)
    changed(path, arrays__sha256=hashlib.sha256(beside.read_bytes()).hexdigest())
    assert "'direction.min-norm' in the arrays of" in refused(path)
    beside.write_bytes(b"nonsense")
    changed(path, arrays__sha256=hashlib.sha256(b"nonsense").hexdigest())
    assert "is no safetensors file" in refused(path)
    save_file({}, beside)
    changed(path, arrays__sha256=hashlib.sha256(beside.read_bytes()).hexdigest())
    assert "lack 'replacement_values'" in refused(path)


def test_a_changed_arrays_file_is_noticed(path: Path) -> None:
    beside = path.with_suffix(".safetensors")
    data = bytearray(beside.read_bytes())
    data[-1] ^= 1
    beside.write_bytes(data)
    assert "is not the file that the intervention was saved with" in refused(path)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_broken_bytes_never_do_worse_than_a_sentence(path: Path, data: st.DataObject) -> None:
    good = path.read_bytes()
    try:
        bad = bytearray(good)
        for _ in range(data.draw(st.integers(0, 4))):
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(bad)))
        path.write_bytes(bad[:cut] if data.draw(st.booleans()) else bad)
        sentence = "read"
        try:
            manifest, arrays = read_manifest(path)
            assert arrays.keys() == manifest.needed_arrays().keys()
            assert isinstance(manifest.intervention(), Intervention)
        except ManifestError as error:
            sentence = str(error)
        assert sentence
        assert sentence.isprintable()
    finally:
        path.write_bytes(good)


# Writing


def test_arrays_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    manifest, arrays = make(), arrays_of(make())
    for wrong, reason in [
        ({}, "lack 'replacement_values'"),
        (arrays | {"extra": np.zeros(1)}, "needs no array 'extra'"),
        (arrays | {"replacement_values": np.zeros(3)}, "float64 [3], not float64 [2]"),
        (arrays | {"replacement_values": np.zeros(2, dtype=np.float32)}, "float32 [2]"),
        (arrays | {"replacement_values": np.array([0, np.nan])}, "NaN or infinity"),
    ]:
        with pytest.raises(ManifestError, match=re.escape(reason)):
            write_manifest(tmp_path / "edit.json", manifest, wrong)
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_weights_are_never_overwritten(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({"w": np.zeros(3)}, weights)
    before = weights.read_bytes()
    with pytest.raises(ManifestError, match="is no file of tpe's"):
        write_manifest(tmp_path / "model.json", make(), arrays_of(make()))
    write_manifest(tmp_path / "model.json", make(Intervention((1,))), {})
    assert weights.read_bytes() == before
    with pytest.raises(ManifestError, match=r"ends in \.json"):
        write_manifest(weights, make(), arrays_of(make()))
    weights.write_bytes(b"not even safetensors")
    with pytest.raises(ManifestError, match="is no file of tpe's"):
        write_manifest(tmp_path / "model.json", make(), arrays_of(make()))


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_both_files_as_they_were(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fails_at: int
) -> None:
    real, calls = getattr(os, call), []

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    other = make(Intervention((0,), "mean", (Steering(7, 9.0),)))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        if (call, fails_at) == ("replace", 3):  # there are only two renames
            write_manifest(path, other, arrays_of(other))
            assert read_manifest(path)[0].intervention() == other.intervention()
            return
        with pytest.raises(ManifestError, match=r"cannot be written to .*\(No space left on device\): choose another"):
            write_manifest(path, other, arrays_of(other))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert read_manifest(path)[0].intervention() == EDIT


def test_a_failed_first_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.replace

    def fail(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise OSError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ManifestError, match="Permission denied"):
        write_manifest(tmp_path / "edit.json", make(), arrays_of(make()))
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for target, reason in [(tmp_path, "is a folder"), (tmp_path / "no" / "edit.json", "make it first")]:
        with pytest.raises(ManifestError, match=reason):
            write_manifest(target, make(Intervention((1,))), {})


@pytest.mark.parametrize("name", ["a:b.json", "\u202e.json", "a\udcff.json", "a\\b.json"])
def test_names_that_another_machine_would_refuse(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match="choose a plain file name") as caught:
        write_manifest(tmp_path / name, make(), arrays_of(make()))
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_records_are_strict_in_python_too() -> None:
    with pytest.raises(ValidationError):
        PostRecord(kind="identity", scale=True, cap=None)
    with pytest.raises(ValidationError):
        make().made_on.tied = False  # type: ignore[misc]


# Fitting


def fits(manifest: Manifest, **facts: Any) -> None:
    check_fits(
        manifest, **({"head_sha256": HEAD, "vocab_rows": 10, "hidden_size": 6, "tokenizer_sha256": TOKENIZER} | facts)
    )


def test_it_fits_the_head_it_was_made_on() -> None:
    fits(make())
    fits(make(), head_sha256="0" * 64, tokenizer_sha256="1" * 64, force=True)
    fits(make(Intervention((1,))), tokenizer_sha256="1" * 64)  # nothing is steered: no ids that could mean others


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"hidden_size": 8, "vocab_rows": 11}, "is for 6 dimensions (demo), but this head has 8"),
        ({"vocab_rows": 11, "head_sha256": "0" * 64}, "is for 10 vocabulary rows (demo), but this head has 11"),
        ({"head_sha256": "0" * 64, "tokenizer_sha256": "1" * 64}, "made for another head: demo (sha256 aaaa"),
        ({"tokenizer_sha256": "1" * 64}, "another tokenizer (sha256 bbbbbbbbbbbb, this one 111111111111)"),
    ],
)
def test_what_does_not_fit_names_both_values(facts: dict[str, Any], reason: str) -> None:
    with pytest.raises(ManifestError) as caught:
        fits(make(), **facts)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(": use it on the model it was made on.")


def test_a_models_name_cannot_turn_a_sentence_round() -> None:
    with pytest.raises(ManifestError, match="for another head: ⟨U\\+202E⟩demo"):
        fits(make(model="\u202edemo"), head_sha256="0" * 64)
