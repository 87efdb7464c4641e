"""What is kept of an analysis for the next start is what the analysis says, or nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpe_core.cached_view import CachedView, keep_answer, read_view
from tpe_core.edits.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession
from tpe_core.store import Store, default_root


@pytest.fixture
def kept(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> CachedView:
    """What is read of a session on a tiny model, in a cache of this test's own."""
    monkeypatch.setattr(session, "options", replace(session.options, cache=True))
    run(session.keep_view())
    view = read_view(session.options)
    assert view is not None
    return view


def test_a_kept_view_is_the_analysis(session: LiveSession, kept: CachedView) -> None:
    assert kept.identity == session.identity
    assert kept.head_sha256 == session.head_sha256
    assert kept.default_prompt == session.default_prompt
    assert kept.card["vocab_rows"] == session.card["vocab_rows"]
    for field in fields(kept.table):
        ours, theirs = getattr(kept.table, field.name), getattr(session.table, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        elif field.name == "tokens":
            assert list(ours) == list(theirs)
        elif field.name == "stability":
            assert ours is None
        else:
            np.testing.assert_equal(ours, theirs)
    for dim in range(len(kept.table.slope)):
        assert kept.dimension(dim) == session.dimension(dim)


def test_the_unedited_side_of_an_answer_is_kept_beside_it(session: LiveSession, kept: CachedView) -> None:
    assert kept.answer is None
    prompt = session.default_prompt
    session.keep_answer(session.evaluate(prompt, Intervention((0, 1))))
    view = read_view(session.options)
    assert view is not None
    assert view.answer is not None
    plain = session.evaluate(prompt, Intervention())
    assert view.answer.prompt == prompt
    assert view.answer.intervention.is_empty
    assert view.answer.prompt_tokens == plain.prompt_tokens
    assert view.answer.entropy_base == view.answer.entropy_now == plain.entropy_base
    both = np.intersect1d(view.answer.ids, plain.ids)
    assert len(both) >= min(10, len(plain.ids))
    for token_id in both.tolist():
        ours = view.answer.base[view.answer.ids == token_id]
        np.testing.assert_allclose(ours, plain.base[plain.ids == token_id], rtol=1e-6)
    assert (np.diff(view.answer.base) <= 0).all()
    keep_answer(session.options, "another analysis", plain)
    assert read_view(session.options).answer is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "other",
    [{"positions": 7}, {"seed": 5}, {"dtype": "bfloat16"}, {"refresh": True}, {"cache": False}, {"text": ("-",)},
     {"model": "another"}, {"revision": "step1"}],
)  # fmt: skip
def test_other_options_have_a_view_of_their_own_or_none(
    session: LiveSession, kept: CachedView, other: dict[str, Any]
) -> None:
    assert kept.table.positions
    assert read_view(replace(session.options, **other)) is None


@pytest.mark.parametrize("same", [{"threads": 1}, {"offline": True}, {"trust_remote_code": True}])
def test_options_that_change_no_figure_show_the_same_view(
    session: LiveSession, kept: CachedView, same: dict[str, Any]
) -> None:
    again = read_view(replace(session.options, **same))
    assert again is not None
    assert again.identity == kept.identity


def test_a_view_that_is_there_is_not_written_again(session: LiveSession, kept: CachedView) -> None:
    before = {path: path.stat().st_mtime_ns for path in default_root().iterdir()}
    assert before
    (path,) = before
    written = path.read_bytes()
    path.write_bytes(written[:-5])
    assert read_view(session.options) is None, "a damaged one is absent"
    run(session.keep_view())
    assert path.read_bytes()[-100:] == written[-100:]
    run(session.keep_view())
    again = read_view(session.options)
    assert again is not None
    first = again.made
    run(session.keep_view())
    assert read_view(session.options).made == first  # type: ignore[union-attr]


@pytest.mark.parametrize("spoil", ["tokens", "outlier", "slope", "schema", "info", "made"])
def test_a_view_of_another_layout_is_absent(session: LiveSession, kept: CachedView, spoil: str) -> None:
    (path,) = default_root().iterdir()
    entry = Store().load(path.stem)
    assert entry is not None
    arrays, meta = entry
    if spoil in meta:
        meta[spoil] = "odd"
    elif spoil == "slope":
        arrays[spoil] = arrays[spoil][:-1]
    else:
        del arrays[spoil]
    Store().save(path.stem, arrays, meta)
    assert kept.table is not None
    assert read_view(session.options) is None


def test_a_text_is_known_wherever_the_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpe_core.cached_view import _key

    (tmp_path / "text.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    relative, absolute = RunOptions(text=("text.txt",)), RunOptions(text=(str(tmp_path / "text.txt"),))
    assert _key(relative) == _key(absolute)
    monkeypatch.chdir("/")
    assert _key(relative) != _key(absolute)
