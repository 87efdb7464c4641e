"""The notebook: what is noted, what is not noted twice, and files that others can read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ExistsError, TpeError
from tpe_core.notebook import MOST, Note, Notebook, check_notebook_file, write_notebook

EDIT = Intervention((3, 14), "mean").steer(7, 2.0)


def note(edit: Intervention = EDIT, *, prompt: str = "Return the", model: str = "demo", kl: float = 0.25) -> Note:
    return Note(time=1e9, model=model, prompt=prompt, edit=edit, change="prune 2 dims", kl=kl, js=0.06, top_base="·a",
                top_now="·b")  # fmt: skip


def test_the_same_edit_after_the_same_prompt_is_noted_once_in_a_row() -> None:
    book = Notebook()
    assert [book.record(each) for each in (note(), note(kl=0.5), note(prompt="x"), note(), note(model="other"))] == [
        True, False, True, True, True,
    ]  # fmt: skip
    assert len(book.notes) == 4
    assert book.last_edit("demo") == EDIT
    assert book.last_edit("unknown").is_empty


def test_a_long_run_keeps_its_last_notes() -> None:
    book = Notebook()
    for dim in range(MOST + 5):
        book.record(note(Intervention((dim,))))
    assert len(book.notes) == MOST
    assert book.notes[0].edit.pruned == (5,)


def test_the_json_holds_every_edit_whole(tmp_path: Path) -> None:
    book = Notebook()
    book.record(note())
    book.record(note(Intervention(), kl=math.nan))
    written = write_notebook(book, tmp_path / "book.json", replace=False)
    document = json.loads(written.read_text(), parse_constant=pytest.fail)
    first, second = document["notes"]
    assert (document["kind"], document["schema"]) == ("tpe.notebook", 1)
    assert first["edit"]["pruned"] == [3, 14]
    assert first["edit"]["replacement"] == "mean"
    assert (first["edit"]["steering"][0]["token_id"], first["edit"]["steering"][0]["ratio"]) == (7, 2.0)
    assert (first["kl"], first["top_base"], first["top_now"], first["prompt"]) == (0.25, "·a", "·b", "Return the")
    assert second["kl"] is None


def test_the_markdown_is_one_table_a_model_whatever_stands_in_a_prompt(tmp_path: Path) -> None:
    book = Notebook()
    book.record(note(prompt="a|b\n`c` <b> \\| \ud800"))
    book.record(note(model="other"))
    text = write_notebook(book, tmp_path / "book.md", replace=False).read_text()
    rows = [line for line in text.splitlines() if line.startswith("| 2001")]
    assert text.count("\n## ") == 2
    assert len(rows) == 2
    for row in rows:
        assert len(row.replace("\\\\", "").replace("\\|", "").split("|")) == 10
    assert "·a → ·b" in rows[0]
    assert "<b>" not in text
    assert "\\`c\\`" in rows[0]


def test_a_file_of_another_kind_is_never_replaced_and_an_earlier_one_only_if_asked(tmp_path: Path) -> None:
    book = Notebook()
    for name in ("book.md", "book.json"):
        write_notebook(book, tmp_path / name, replace=False)
        with pytest.raises(ExistsError):
            write_notebook(book, tmp_path / name, replace=False)
        write_notebook(book, tmp_path / name, replace=True)
    (tmp_path / "README.md").write_text("# mine\n")
    (tmp_path / "mask.json").write_text('{"kind": "tpe.intervention"}')
    for name in ("README.md", "mask.json"):
        with pytest.raises(TpeError, match="is not a notebook"):
            check_notebook_file(tmp_path / name, replace=True)
    with pytest.raises(TpeError, match=r"neither Markdown nor JSON: end the name in \.md or \.json"):
        check_notebook_file(tmp_path / "book.txt", replace=False)
