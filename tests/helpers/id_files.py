"""Files of token ids as other programs write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["save_megatron"]

CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}


def save_megatron(stem: Path, documents: Sequence[Sequence[Sequence[int]]], dtype: str = "int32") -> Path:
    """Write ``stem.bin`` and ``stem.idx`` of documents of sequences of ids, field by field; the former's path."""
    sequences = [sequence for document in documents for sequence in document]
    item = np.dtype(dtype).itemsize
    with stem.with_suffix(".bin").open("wb") as stream:
        for sequence in sequences:
            stream.write(np.array(sequence, dtype).tobytes())
    with stem.with_suffix(".idx").open("wb") as stream:
        stream.write(b"MMIDIDX\x00\x00")
        stream.write(struct.pack("<Q", 1))
        stream.write(struct.pack("<B", CODES[dtype]))
        stream.write(struct.pack("<Q", len(sequences)))
        stream.write(struct.pack("<Q", len(documents) + 1))
        for sequence in sequences:
            stream.write(struct.pack("<i", len(sequence)))
        offset = 0
        for sequence in sequences:
            stream.write(struct.pack("<q", offset))
            offset += item * len(sequence)
        count = 0
        stream.write(struct.pack("<q", count))
        for document in documents:
            count += len(document)
            stream.write(struct.pack("<q", count))
    return stem.with_suffix(".bin")
