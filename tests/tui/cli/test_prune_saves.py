"""What `tpe prune --save` says of a mask that was drawn, and `tpe diff` of what was baked of one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tpe_tui.cli.main import main

SMALL = ["--positions", "600", "--no-cache", "--threads", "1", "--fractions", "0.25", "--replace", "zero"]


@pytest.mark.parametrize(("order", "draws"), [("random", "3"), ("random", "1"), ("slope", "3")])
def test_a_mask_that_was_drawn_says_which_draw_it_is_and_what_it_costs(
    given: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str, draws: str
) -> None:
    model, texts = given
    file = tmp_path / "mask.json"
    words = ["prune", model, "--order", order, "--seeds", draws, *SMALL, *texts, "--save", str(file), "--json"]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().err.split())
    saved = json.loads(file.read_text())
    told = re.search(r"the mask is the first draw's, at a held- ?out KL of ([0-9.]+);", said)
    if (order, draws) == ("random", "3"):
        assert saved["made_by"].endswith("order random, draw 1 of 3, seed 0")
        assert told is not None
        kept = [float(kl) for kl in re.findall(r'"kl": ([0-9.e-]+)', json.dumps(saved["measured"]))]
        assert told[1] in {f"{kl:.4f}" for kl in kept}
    else:
        assert saved["made_by"].endswith(f"order {order}")
        assert told is None


def test_diff_takes_what_bake_made(
    given: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, texts = given
    file, folder = tmp_path / "mask.json", tmp_path / "baked"
    assert main(["prune", model, "--order", "slope", *SMALL, *texts, "--save", str(file)]) == 0
    assert main(["bake", str(file), model, "--out", str(folder)]) == 0
    capsys.readouterr()
    assert main(["diff", str(file), str(folder), "--json"]) == 0
    found = capsys.readouterr().out
    assert main(["diff", str(file), str(folder / "intervention.json"), "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert {**json.loads(found), "b": ""} == {**other, "b": ""}
