"""A detection's memory beyond the model's own: bounded by chunks of positions, whatever the vocabulary and the text."""

from __future__ import annotations

import sys

import pytest

from benchmarks.memory import WIDE_BUDGET, wide_extra

BLOCKS = 17  # 4,352 positions: the sample of hidden states is full and has been merged; the benchmark takes 20,224


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_a_large_vocabulary_takes_little_beside_its_weights() -> None:
    weights, extra = wide_extra(BLOCKS)
    assert 1_900 < weights < 2_300  # MiB: one float32 copy of W and no other
    assert 64 < extra < WIDE_BUDGET  # the two buffers of logits at least; all of them would take 5 GB
    print(f"V = 256,000, d = 2,048, {BLOCKS * 256:,} positions: {extra:.0f} MiB beside {weights:.0f} MiB of W")
