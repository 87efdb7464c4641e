"""A GGUF file as tpe has transformers read it: what `gguf` and transformers find in it by themselves, sooner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import modeling_gguf_pytorch_utils as theirs

from tests.helpers.gguf_models import GgufModel, save_gguf
from tpe_core.models import gguf_reading
from tpe_core.models.gguf_reading import GgufReading

LISTS: dict[str, list[Any]] = {
    "strings": ["a", "", "größer", "日本語", "x" * 300, "\x00\n"],
    "one": ["alone"],
    "whole": [1, -2, 3],
    "decimal": [0.5, -1.25],
    "yes or no": [True, False, True],
    "lists": [["a", "b"], ["c"]],
    "lists of numbers": [[1, 2], [3, 4]],
}


@pytest.fixture(params=[gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG], ids=["little", "big"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with every kind of value, in one order of bytes or the other."""
    writer = gguf.GGUFWriter(tmp_path / "values.gguf", "llama", endianess=request.param)
    for name, values in LISTS.items():
        writer.add_array(name, values)
    writer.add_key_value("bytes", [1, 2, 255], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8)
    writer.add_key_value("long", [2**40, 1], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT64)
    writer.add_string("text", "one")
    writer.add_uint32("number", 7)
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "values.gguf"


@pytest.mark.parametrize("parts", [2, gguf_reading.PARTS])
def test_every_value_is_what_gguf_reads(file: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(gguf_reading, "PARTS", parts)
    plain = gguf.GGUFReader(file)
    with GgufReading().shared():
        assert gguf.GGUFReader is not type(plain)
        ours = gguf.GGUFReader(file)
    assert list(ours.fields) == list(plain.fields)
    assert set(LISTS) < set(ours.fields)
    for name, field in plain.fields.items():
        found = ours.fields[name]
        assert (found.offset, found.name, found.types, list(found.data)) == (
            field.offset, field.name, field.types, list(field.data)
        )  # fmt: skip
        assert [(part.dtype, part.tolist()) for part in found.parts] == [
            (part.dtype, part.tolist()) for part in field.parts
        ]
        assert found.contents() == field.contents()
    (tensor,), (same,) = ours.tensors, plain.tensors
    assert (tensor.name, tensor.data_offset) == (same.name, same.data_offset)
    np.testing.assert_array_equal(tensor.data, same.data)


def test_every_value_is_parsed_as_transformers_does(file: Path) -> None:
    parse = theirs._gguf_parse_value
    for field in gguf.GGUFReader(file).fields.values():
        for at in field.data:
            if field.types[:2] != [gguf.GGUFValueType.ARRAY] * 2:  # lists of lists are none of its kinds
                assert gguf_reading._parsed(parse, field.parts[at], field.types) == parse(field.parts[at], field.types)


def test_transformers_makes_the_same_of_it_and_has_its_own_functions_back(tmp_path: Path) -> None:
    made: GgufModel = save_gguf(tmp_path, "Q8_0")

    def opened() -> tuple[dict[str, Any], dict[str, int], dict[str, Any]]:
        at = {"pretrained_model_name_or_path": made.file.parent, "gguf_file": made.file.name}
        model = AutoModelForCausalLM.from_pretrained(**at)
        return (
            AutoConfig.from_pretrained(**at).to_dict(),
            AutoTokenizer.from_pretrained(**at).get_vocab(),
            model.state_dict(),
        )

    def functions() -> tuple[Any, ...]:
        header = gguf_reading._header_reader()
        return gguf.GGUFReader, gguf.get_tensor_name_map, theirs.tqdm, theirs._gguf_parse_value, header._mapped

    own = functions()
    config, vocabulary, weights = opened()
    with GgufReading().shared():
        assert not set(functions()) & set(own), "this version of the libraries has other names: nothing is faster"
        again = opened()
    assert functions() == own
    assert (again[0], again[1]) == (config, vocabulary)
    assert list(again[2]) == list(weights)
    for name, values in weights.items():
        np.testing.assert_array_equal(again[2][name].numpy(), values.numpy())


def test_a_name_that_a_version_lacks_is_none_to_replace() -> None:
    class Module:
        there = 1

    def more(number: int) -> int:
        return number + 1

    with gguf_reading._replaced(Module, "there", more), gguf_reading._replaced(Module, "not_there", more):
        assert Module.there == 2
        assert not hasattr(Module, "not_there")
    assert Module.there == 1
