"""Two saved interventions compared, and what `tpe show`, `tpe diff` and `tpe schema` print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.manifests import EDIT, THE, arrays_of, make
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.manifest.difference import Difference, Figure, Pair, SteeringPair, difference
from tpe_core.manifest.manifest import Manifest, MeasuredText, published_schema, read_edit, write_manifest
from tpe_tui.cli.main import main
from tpe_tui.cli.manifest_tables import dims_text


def saved(path: Path, manifest: Manifest, **arrays: Any) -> Path:
    return write_manifest(path, manifest, arrays_of(manifest) | arrays)


def compared(tmp_path: Path, a: Manifest, b: Manifest, **arrays: Any) -> Difference:
    return difference(read_edit(saved(tmp_path / "a.json", a)), read_edit(saved(tmp_path / "b.json", b, **arrays)))


def on_texts(manifest: Manifest, **figures: Any) -> Manifest:
    texts = (MeasuredText(**({"domain": "heldout", "text": "docs", "positions": 50} | figures)),)
    return manifest.model_copy(update={"measured": manifest.measured.model_copy(update={"texts": texts})})


def test_a_file_and_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, make(), make())
    assert found.same_edit
    assert (found.only_a, found.only_b, found.both) == ((), (), (1, 5))
    assert (found.constant, found.rows, found.facts) == (0.0, 0.0, ())
    assert all(figure.a == figure.b and figure.same_text for figure in found.figures)
    assert [(figure.where, figure.name) for figure in found.figures] == [
        ("prompt", "kl"), ("heldout", "kl"), ("heldout", "top1"),
    ]  # fmt: skip
    assert found.next_tokens == (Pair("a b", THE, THE),)


def test_dimensions_replacement_and_steering(tmp_path: Path) -> None:
    other = make(Intervention((0, 5, 4), "zero", (Steering(3, 0.5, "bias"), Steering(8, 3.0))))
    found = compared(tmp_path, make(), other)
    assert not found.same_edit
    assert (found.only_a, found.only_b, found.both) == ((1,), (0, 4), (5,))
    assert found.replacement == Pair("replacement", "mean", "zero")
    assert (found.constant, found.rows) == (None, None)  # nothing comparable: other replacements, no token alike
    assert found.steering == (
        SteeringPair(token_id=3, token=THE, a=0.5, b=0.5, method_a="min-norm", method_b="bias"),
        SteeringPair(token_id=7, token=THE, a=2.0, b=1.0, method_a="least-squares", method_b=None),
        SteeringPair(token_id=8, token=THE, a=1.0, b=3.0, method_a=None, method_b="least-squares"),
    )
    assert not any(pair.same for pair in found.steering)


def test_the_same_dimensions_with_other_numbers_are_another_edit(tmp_path: Path) -> None:
    values = arrays_of(make())["replacement_values"] + [0.0, 0.75]
    found = compared(tmp_path, make(), make(), replacement_values=values)
    assert not found.same_edit
    assert found.constant == pytest.approx(0.75)
    moved = arrays_of(make())["direction.min-norm"].copy()
    moved[2] += 2.0
    found = compared(tmp_path, make(), make(), **{"direction.min-norm": moved})
    assert (found.same_edit, found.constant) == (False, 0.0)
    assert found.rows == pytest.approx(2.0 * np.log(2.0))
    huge = np.full(6, 1.7e308)
    assert compared(tmp_path, make(), make(), **{"direction.min-norm": -huge}).rows > 1e308  # and JSON can say it
    values = {"reconstruction": np.ones((2, 4)), "replacement_values": np.zeros(2)}
    a = make(Intervention((1, 5), "least-squares"))
    first = read_edit(write_manifest(tmp_path / "a.json", a, values))
    values["reconstruction"][1, 3] = 4.0
    second = read_edit(write_manifest(tmp_path / "b.json", a, values))
    assert difference(first, second).constant == 3.0


def test_only_the_shared_dimensions_constants_are_compared(tmp_path: Path) -> None:
    a, b = make(Intervention((1, 2, 5), "mean")), make(Intervention((2, 4, 5), "mean"))
    first = saved(tmp_path / "a.json", a, replacement_values=np.array([9.0, 1.0, 2.0]))
    second = saved(tmp_path / "b.json", b, replacement_values=np.array([1.5, -9.0, 2.25]))
    assert difference(read_edit(first), read_edit(second)).constant == 0.5
    wide = make(Intervention((2, 5), "mean"), width=100)
    assert not compared(tmp_path, make(Intervention((2, 5), "mean")), wide).same_edit


def test_figures_side_by_side(tmp_path: Path) -> None:
    a = on_texts(make(), kl=0.5, perplexity=20.0, base_perplexity=14.0, achieved=({"token_id": 7, "ratio": 1.5},))
    b = on_texts(make(), kl=0.25, base_perplexity=14.0, achieved=({"token_id": 3, "ratio": None},))
    figures = compared(tmp_path, a, b).figures[1:]
    assert figures == (
        Figure(where="heldout", name="kl", a=0.5, b=0.25, same_text=True),
        Figure(where="heldout", name="perplexity", a=20.0, b=None, same_text=True),
        Figure(where="heldout", name="ratio of #7", a=1.5, b=None, same_text=True),
    )
    for other in ({"base_perplexity": 15.0}, {"positions": 51}, {"text": "code"}):
        assert not compared(tmp_path, a, on_texts(make(), kl=0.25, **other)).figures[1].same_text
    assert not compared(tmp_path, make(), make(prompt="The dog")).figures[0].same_text
    nothing = make().model_copy(update={"measured": None, "self_test": None})
    found = compared(tmp_path, make(), nothing)
    assert all(figure.b is None for figure in found.figures)
    assert found.next_tokens == ()
    assert found.same_edit  # that a file says less changes no logit
    assert {pair.name for pair in found.facts} == {"text", "corpus", "positions"}


def test_what_they_were_made_on(tmp_path: Path) -> None:
    found = compared(tmp_path, make(), make(model="other"))
    assert found.facts == (Pair("model", "demo", "other"),)
    newer = make().model_copy(update={"versions": {"tpe": "1", "torch": "1", "transformers": "2"}, "made_by": None})
    assert compared(tmp_path, make(), newer).facts == (
        Pair("made by", "a test", None), Pair("version of tpe", "0", "1"),
    )  # fmt: skip


# Commands


@pytest.mark.parametrize(
    ("dims", "shown"), [((), ""), ((3,), "3"), ((1, 2), "1, 2"), ((0, 1, 2, 5, 7, 8, 9, 10), "0-2, 5, 7-10")]
)
def test_runs_of_dimensions(dims: tuple[int, ...], shown: str) -> None:
    assert dims_text(dims) == shown


def test_diff_prints_both_and_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(Intervention((0, 1, 5), "mean", (Steering(7, 3.0),)))
    a, b = saved(tmp_path / "a.json", make()), saved(tmp_path / "b.json", on_texts(other, kl=0.75))
    assert main(["diff", str(a), str(b), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": 1, "a": str(a), "b": str(b)} | difference(read_edit(a), read_edit(b)).to_dict()
    assert document["dimensions"] == {"only_a": [], "only_b": [0], "both": [1, 5]}
    assert document["steering"][1] == {
        "token_id": 7, "token": THE, "a": 2.0, "b": 3.0, "method_a": "least-squares", "method_b": "least-squares",
    }  # fmt: skip
    assert main(["diff", str(a), str(b)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "pruned      2 dimensions in A, 3 in B, 2 of them in both" in lines
    assert "only in B   0" in lines
    assert not any(line.startswith("only in A") for line in lines)
    assert "held-out: KL                0.5000                0.7500                +0.2500" in lines
    assert "·the             #7         2.000 x least-squares 3.000 x least-squares differs" in lines
    assert main(["diff", str(a), str(a)]) == 0
    assert "edit        the same in both" in capsys.readouterr().out
    assert main(["diff", str(a), str(tmp_path / "none.json")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_show_prints_what_the_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    manifest = on_texts(make(), kl=0.5, top1=0.75, perplexity=20.0, base_perplexity=14.0,
                        achieved=({"token_id": 7, "ratio": 1.5},))  # fmt: skip
    path = saved(tmp_path / "a.json", manifest)
    assert main(["show", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    for line in (
        "pruned      2 of 6 dimensions (33.3%), replaced by their means",
        "            1, 5",
        "  token              id   asked  held-out  method",
        "  ·the                7   2.000     1.500  least-squares",
        "  ·the                3   0.500         -  min-norm",
        "made on     demo",
        "made by     a test; 2026-01-02 03:04 UTC; tpe 0, torch 1, transformers 2",
        "            after 'The cat': KL 0.2500, JS -",
        "  held-out          0.5000        -   75.0%      20.00 (14.00)               -",
        "              ·the          1.500",
    ):
        assert line in lines
    assert main(["show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())
    plain = make(Intervention()).model_copy(update={"measured": None, "self_test": None, "made_by": None})
    assert main(["show", str(write_manifest(tmp_path / "b.json", plain, {}))]) == 0
    shown = capsys.readouterr().out
    assert "nothing is pruned and nothing is steered" in shown
    assert "self-test   none" in shown


def test_schema_prints_the_published_file(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["schema"], ["schema", "--json"]):
        assert main(words) == 0
        assert capsys.readouterr().out == published_schema()
    assert json.loads(published_schema())["properties"]["schema"]["const"] == 2


def test_reading_files_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = saved(tmp_path / "a.json", make(EDIT))
    words = repr(["diff", str(path), str(path)])
    code = (
        f"import sys; from tpe_tui.cli.main import main; assert main({words}) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
