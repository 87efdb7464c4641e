"""The docstrings of the public names: what goes in, what comes out, and an example that runs on the bundled model."""

from __future__ import annotations

import ast
import doctest
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpe_core
from tests.helpers.tiny_models import text

FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def examples_of(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(getattr(tpe_core, name)) or "", name)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tpe_core.LiveSession:
    words = tmp_path_factory.mktemp("words") / "words.txt"
    words.write_text(text(1, 6000))
    options = tpe_core.RunOptions("demo", text=(str(words),), positions=1000, sample=200, cache=False)
    return tpe_core.run(tpe_core.open_session(options))


@pytest.mark.parametrize("name", tpe_core.__all__)
def test_the_example_of_a_public_name_gives_what_it_shows(
    name: str, live: tpe_core.LiveSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"np": np, "Path": Path, "tpe": tpe_core, "live": live}
    names |= {"analysis": live.analysis, "model": live.analysis.model}
    examples = examples_of(name)
    assert examples, "it has none"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(
        doctest.DocTest(examples, names, name, None, None, None), out=said.append
    )
    assert not said, "".join(said)


@pytest.mark.parametrize("name", tpe_core.__all__)
def test_the_example_of_a_public_name_uses_it_and_only_public_names(name: str) -> None:
    used: set[str] = set()
    for example in examples_of(name):
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tpe":
                used.add(node.attr)
    assert used <= set(tpe_core.__all__)
    assert name in used or inspect.isclass(getattr(tpe_core, name)), "a function's example calls it"


@pytest.mark.parametrize("name", [name for name in tpe_core.__all__ if not inspect.isclass(getattr(tpe_core, name))])
def test_arguments_that_a_docstring_lists_are_those_of_the_function(name: str) -> None:
    function = getattr(tpe_core, name)
    lines = inspect.getdoc(function).splitlines()
    if "Args:" not in lines:
        pytest.skip("its sentences name the arguments")
    listed = []
    for line in lines[lines.index("Args:") + 1 :]:
        if not line.startswith("    "):
            break
        listed.append(line.strip().partition(":")[0])
    assert listed == list(inspect.signature(function).parameters)
