"""The README shows the truth: its Python runs, its pictures exist, its keys are the key table's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tpe_tui.keymap import ACTIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert float(capsys.readouterr().out.split()[0]) > 0.8
    assert len(json.loads((tmp_path / "mask.json").read_text())["pruned"]) == 77
    assert json.loads((tmp_path / "edited" / "config.json").read_text())["tie_word_embeddings"] is False


def test_pictures_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_keys_named_are_the_key_tables() -> None:
    (table,) = re.findall(r"\| move \|.*?\n\n", README, re.DOTALL)
    known = {key for action in ACTIONS for key in action.keys.split(",")}
    known |= {{"slash": "/", "question_mark": "?"}.get(key, key) for key in known}
    for cell in re.findall(r"`([^`]+)`", table):
        for key in re.sub(r"(\d)-(\d)", r"\1 \2", cell).split():
            assert key in known, key


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README
