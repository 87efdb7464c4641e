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
    assert len(rows) == 7
    assert "detection / forward with logits, 256 positions" in rows[0]
    assert "head product, float32 operands / forward" in rows[3]
    assert all(" ms " in row for row in (rows[0], rows[1], rows[3], rows[5], rows[6]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_product_that_is_not_there_is_said_to_be_missing(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--shapes", "tiny", "--dtype", dtype, "--quick"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "bfloat16 or float16 operands" in line)
    assert f"none in {dtype} on cpu" in row
    assert " ms " not in row


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
