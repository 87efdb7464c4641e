"""Generating in a terminal: a dimension is toggled while the text is written, it stops, goes on and is saved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import WIDTH, Run
from tests.e2e.opening import opened
from tests.e2e.terminal import Terminal


@pytest.mark.slow
def test_a_text_is_written_edited_stopped_and_saved(
    terminal: Callable[..., Terminal], tpe: Callable[..., Run], tmp_path: Path
) -> None:
    term = terminal(160, 48)
    opened(term)
    term.keys("a")
    term.wait("Base · as the model is")
    term.wait("no difference yet")
    count = int(term.wait(r"Token \d+ of (\d+) · follows the text")[1])
    term.until(lambda: int(term.wait(r"Token \d+ of (\d+)")[1]) > count + 5, "the text grows")
    term.keys("Space")
    term.wait("Edited · 1 dimension pruned")
    toggled = int(term.wait(r"Token \d+ of (\d+)")[1])
    term.until(lambda: int(term.wait(r"Token \d+ of (\d+)")[1]) > toggled + 3, "it is written under the edit")
    term.keys("x")
    stopped = int(term.wait(r"stopped after (\d+) tokens")[1])
    assert not re.search(
        r"generate \d+/200 .* x cancel", term.screen()
    )  # the mask's forecast may be prepared meanwhile
    term.keys("Enter")
    term.wait(r"generate \d+/200 .* x cancel")
    term.until(lambda: int(term.wait(r"Token \d+ of (\d+)")[1]) > stopped, "it goes on")
    term.keys("Enter")
    total = int(term.wait(r"stopped after (\d+) tokens")[1])
    assert total > stopped
    term.keys("e")
    term.answer("save the texts to", str(tmp_path / "texts.json"))
    term.wait(r"written to .*texts\.json and texts\.txt")
    document = json.loads((tmp_path / "texts.json").read_text())
    assert len(document["edited"]["tokens"]) == total
    first, second = document["edits"]
    assert (first["step"], first["pruned"], len(second["pruned"])) == (0, [], 1)
    assert count < second["step"] <= toggled + 2 < stopped
    assert all(said["kl"] == 0 for said in document["edited"]["tokens"][: second["step"]])
    assert any(said["kl"] > 0 for said in document["edited"]["tokens"][second["step"] :])
    assert document["first_difference"] is None or document["first_difference"] >= second["step"]

    term.keys("Escape")
    term.wait(f"pruned 1/{WIDTH}")
    term.keys("a")
    term.wait(rf"Token {total} of {total}")
    term.keys("Escape")
    term.wait(f"pruned 1/{WIDTH}")
    term.keys("q")
    term.wait("is in no file")
    term.keys("y")
    assert term.exit_code() == 0
    term.assert_clean()

    words = ("--prompt", document["prompt"], "--length", str(total), "--json")
    done = tpe("generate", "demo", *words)
    assert done.returncode == 0, done.stderr
    base = json.loads(done.stdout)["base"]
    assert base["text"] == document["base"]["text"], "the command line draws the same"
