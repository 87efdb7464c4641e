"""Options as plain values: one name where several may stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpe_core.corpus.sources import text_source
from tpe_core.dynamics.suite.checkpoints import open_suite
from tpe_core.errors import CorpusError, TpeError
from tpe_core.generation.generation import text_prompts
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.results import PruningRequest


def test_one_name_alone_is_a_name_and_not_its_characters(tmp_path: Path) -> None:
    """Wherever Python takes names: of texts, prompts, orders, replacements, checkpoints."""
    text = tmp_path / "some.txt"
    text.write_text("Return the number of items.")
    assert RunOptions(text=str(text)) == RunOptions(text=[text]) == RunOptions(text=(str(text),))  # type: ignore[arg-type]
    assert text_source(str(text)) == text_source([text])
    assert PruningRequest(orders="slope", replacements="mean") == PruningRequest(  # type: ignore[arg-type]
        orders=("slope",), replacements=("mean",)
    )
    model = load_model(RunOptions())
    assert text_prompts(model, "the list of") == text_prompts(model, ["the list of"])
    with pytest.raises(TpeError) as one:
        run(open_suite(str(tmp_path), RunOptions(), "step*"))
    with pytest.raises(TpeError) as several:
        run(open_suite(str(tmp_path), RunOptions(), ["step*"]))
    assert str(one.value) == str(several.value)


def test_a_file_in_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.txt").write_text("Return the number of items.")
    (tmp_path / "other.sock").symlink_to("/proc/1/cwd")
    bad = tmp_path / "bad.txt"
    bad.write_text("Return the number of items.")
    stat = Path.stat

    def refusing(self: Path, **options: bool) -> object:
        if self.suffix in {".sock"} or self == bad:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    with pytest.raises(CorpusError, match=r"the text at .*bad\.txt cannot be read \(Permission denied\)"):
        text_source([tmp_path])
    bad.unlink()
    assert text_source([tmp_path]).label.endswith("good.txt")
