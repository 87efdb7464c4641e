"""Tensors of weight files: only their own bytes are read, and broken files are told from sound ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tpe_core.dynamics.suite.weight_files import LocalFiles, UnusableError, open_weights
from tpe_core.progress import Steps, run

TENSORS = {
    "a.weight": torch.randn(6, 4),
    "b.weight": torch.randn(3, 5).bfloat16(),
    "c.bias": torch.randn(2, dtype=torch.float64),
    "mask": torch.ones(4, dtype=torch.bool),
    "empty": torch.empty(0, 3),
}


class Counting(LocalFiles):
    """Remembers what was read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read: list[tuple[str, int, int]] = []

    def part(self, name: str, start: int, stop: int) -> Steps[bytearray]:
        self.read.append((name, start, stop))
        return (yield from super().part(name, start, stop))


def folder_of(tmp_path: Path, tensors: dict[str, Tensor] = TENSORS) -> Path:
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_only_the_header_and_the_tensor_are_read(tmp_path: Path) -> None:
    files = Counting(folder_of(tmp_path))
    weights = run(open_weights(files))
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    assert sum(stop - start for _, start, stop in files.read) == 8 + header
    for name, tensor in TENSORS.items():
        if name == "mask":
            continue
        files.read.clear()
        found = run(weights.tensor(name))
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)
        assert sum(stop - start for _, start, stop in files.read) == tensor.nbytes
    with pytest.raises(UnusableError, match="stored as BOOL"):
        run(weights.tensor("mask"))


def test_of_shards_only_the_one_is_opened(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a.weight"]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": TENSORS["b.weight"]}, tmp_path / "model-00002-of-00002.safetensors")
    index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    files = Counting(tmp_path)
    assert torch.equal(run(run(open_weights(files)).tensor("b")), TENSORS["b.weight"])
    assert {name for name, *_ in files.read} == {"model.safetensors.index.json", "model-00002-of-00002.safetensors"}
    index["c"] = "model-00002-of-00002.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(UnusableError, match="lacks the tensor c"):
        run(run(open_weights(LocalFiles(tmp_path))).tensor("c"))
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(UnusableError, match=r"model-00001-of-00002\.safetensors is missing"):
        run(open_weights(LocalFiles(tmp_path)))


@pytest.mark.parametrize("old", [False, True])
def test_pickles(tmp_path: Path, old: bool) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    weights = run(open_weights(LocalFiles(tmp_path)))
    assert set(weights.files) == set(TENSORS)
    assert torch.equal(run(weights.tensor("b.weight")), TENSORS["b.weight"])


def test_no_code_of_a_pickle_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnusableError, match=r"pytorch_model\.bin is broken"):
        run(open_weights(LocalFiles(tmp_path)))
    assert not (tmp_path / "ran").exists()


def cut(data: bytes) -> bytes:
    return data[:-10]


def longer_header(data: bytes) -> bytes:
    return (10**9).to_bytes(8, "little") + data[8:]


def no_json(data: bytes) -> bytes:
    return data[:8] + b"?" + data[9:]


def other_shape(data: bytes) -> bytes:
    return data.replace(b"[6,4]", b"[6,5]")


def nothing(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "it ends at byte"),
        (longer_header, "its header would be 1,000,000,000 bytes long"),
        (no_json, "model.safetensors is broken"),
        (other_shape, r"the shape of a\.weight does not go with its bytes"),
        (nothing, "it has 0 bytes"),
    ],
)
def test_broken_files_are_told(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    path = folder_of(tmp_path) / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnusableError, match=says) as caught:
        run(open_weights(LocalFiles(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="it has no weights"):
        run(open_weights(LocalFiles(tmp_path)))


def test_a_fingerprint_changes_with_the_weights_alone(tmp_path: Path) -> None:
    first = LocalFiles(folder_of(tmp_path)).fingerprint
    (tmp_path / "optimizer.pt").write_bytes(b"x")
    assert LocalFiles(tmp_path).fingerprint == first
    folder_of(tmp_path, {**TENSORS, "d": torch.zeros(1)})
    assert LocalFiles(tmp_path).fingerprint != first
