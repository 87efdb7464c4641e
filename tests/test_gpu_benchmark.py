"""The GPU benchmark runs without one, on a tiny model: what it prints there is no result."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu


def test_it_runs_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--shapes", "tiny", "--dtype", "float32", "--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CPU, torch ")
    rows = [line for line in lines if line.startswith("gpu: tiny: ")]
    assert len(rows) == 5
    assert "detection / forward with logits, 256 positions" in rows[0]
    assert all(" ms " in row for row in (rows[0], rows[1], rows[3], rows[4]))


@pytest.mark.parametrize("shape", gpu.SHAPES)
def test_shapes_are_those_of_the_real_models(shape: str) -> None:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(gpu.config(shape))
    billions = {"gpt2": 0.124, "gpt2-xl": 1.56, "pythia-2.8b": 2.78, "gpt-j": 6.05, "llama-3-8b": 8.03, "tiny": 0.0001}
    assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(
        billions[shape], rel=0.02, abs=1e-4
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main([])
    assert "torch finds no GPU here" in capsys.readouterr().err
