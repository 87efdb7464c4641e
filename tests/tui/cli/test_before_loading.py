"""What can be refused before a model is loaded is: a missing or broken file is no reason to wait for minutes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpe_core import analysis
from tpe_core.models import loading
from tpe_tui.cli.main import main

WITH_TEXT = {
    "inspect": ["inspect", "demo"],
    "analyze": ["analyze", "demo"],
    "steer": ["steer", "demo", "--token", "the"],
    "prune": ["prune", "demo"],
}
STEER, PRUNE = WITH_TEXT["steer"], WITH_TEXT["prune"]

REFUSED = {
    **{f"{name}, no such text": ([*words, "--text", "no.txt"], "no.txt") for name, words in WITH_TEXT.items()},
    **{f"{name}, an empty text": ([*words, "--text", "empty.txt"], "empty.txt") for name, words in WITH_TEXT.items()},
    "steer, no such other text": ([*STEER, "--ood", "no.txt"], "no.txt"),
    "prune, no such other text": ([*PRUNE, "--ood", "no.txt"], "no.txt"),
    "inspect, no such mask": (["inspect", "demo", "--mask", "no.json"], "no.json"),
    "inspect, a broken mask": (["inspect", "demo", "--mask", "broken.json"], "broken.json"),
    "generate, no such edit": (["generate", "demo", "--intervention", "no.json"], "no.json"),
    "bake, no such edit": (["bake", "no.json", "demo", "--out", "out"], "no.json"),
    "eval, no such edit": (["eval", "no.json", "demo", "--tasks", "arc_easy"], "no.json"),
    "kl, no such text": (["kl", "demo", "demo", "--text", "no.txt"], "no.txt"),
    "transfer, no such edit": (["transfer", "no.json", "demo"], "no.json"),
    "train-on, no such edit": (["train-on", "demo", "--mask", "no.json"], "no.json"),
    "train-on, an unknown scenario": (["train-on", "demo", "--mask", "no.json", "--scenario", "slow"], "slow"),
    "train-on, no chats": (["train-on", "demo", "--mask", "no.json", "--scenario", "instructions"], "--instructions"),
    "prune, an unknown order": ([*PRUNE, "--order", "fastest"], "fastest"),
    "prune, an impossible share": ([*PRUNE, "--fractions", "1.5"], "1.5"),
    "steer, an impossible ratio": ([*STEER, "--ratio", "-2"], "-2"),
    "steer, an unknown method": ([*STEER, "--method", "magic"], "magic"),
    "steer, an impossible target": ([*STEER, "--target", "2"], "2"),
}


@pytest.mark.parametrize(("words", "named"), REFUSED.values(), ids=REFUSED)
def test_what_needs_no_model_is_refused_before_one_is_loaded(
    words: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def loaded(*_: object) -> object:
        raise AssertionError("a model was loaded first")

    monkeypatch.setattr(loading, "load_steps", loaded)
    monkeypatch.setattr(analysis, "load_steps", loaded)
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("broken.json").write_text('{"schema": 1, "pruned": "all"}')
    assert main(words) in (1, 2)
    said = capsys.readouterr().err
    assert named in said
    assert "loaded first" not in said
    assert "Traceback" not in said
