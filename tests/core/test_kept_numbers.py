"""Numbers of refits and imported files: what is kept comes back the same, for that head and that origin alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.reconstruction import Reconstruction
from tpe_core.kept_numbers import are_kept, keep_numbers, kept_numbers
from tpe_core.store import Store, StoreWarning
from tpe_core.stored import stored_entries

D, PRUNED = 6, (1, 4)
HEAD, ORIGIN = "a" * 64, "b" * 64


@pytest.fixture
def measured() -> EditStatistics:
    rng = np.random.default_rng(0)
    return EditStatistics(slope=rng.normal(size=D), detection=cast("Any", None), mean_hidden=rng.normal(size=D))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def refit() -> Reconstruction:
    rng = np.random.default_rng(1)
    kept = tuple(dim for dim in range(D) if dim not in PRUNED)
    return Reconstruction(
        removed=PRUNED, kept=kept, fold=rng.normal(size=(D, len(kept))), constant=rng.normal(size=D), is_refit=True
    )


def test_a_refit_comes_back_to_the_last_digit(measured: EditStatistics, store: Store) -> None:
    basis = measured.overridden({}, rebuilt=refit())
    assert not are_kept(HEAD, ORIGIN, store)
    assert keep_numbers(store, HEAD, ORIGIN, basis, of="demo")
    assert are_kept(HEAD, ORIGIN, store)
    back = kept_numbers(store, HEAD, ORIGIN, measured)
    assert back is not None
    edit = Intervention(PRUNED, "refit", (), ORIGIN)
    now, before = back.resolve(edit), basis.resolve(edit)
    np.testing.assert_array_equal(now.constant, before.constant)
    np.testing.assert_array_equal(now.fold, before.fold)
    assert [(entry.kind, entry.of) for entry in stored_entries(store.root)] == [("numbers of an edit", "demo")]


def test_directions_and_values_of_a_file_come_back(measured: EditStatistics, store: Store) -> None:
    direction, values = np.arange(D, dtype=np.float64), np.array([7.0, -7.0])
    basis = measured.overridden({"min-norm": direction}, dims=PRUNED, values=values)
    keep_numbers(store, HEAD, ORIGIN, basis)
    back = kept_numbers(store, HEAD, ORIGIN, measured)
    assert back is not None
    edit = Intervention(PRUNED, "mean", (), ORIGIN).steer(3, 2.0, "min-norm")
    now = back.resolve(edit)
    np.testing.assert_array_equal(now.constant, values)
    np.testing.assert_allclose(now.rows[3], np.log(2.0) * direction)


def test_another_heads_and_another_origins_numbers_are_not_taken(measured: EditStatistics, store: Store) -> None:
    keep_numbers(store, HEAD, ORIGIN, measured.overridden({}, rebuilt=refit()))
    assert kept_numbers(store, "c" * 64, ORIGIN, measured) is None
    assert kept_numbers(store, HEAD, "c" * 64, measured) is None
    assert not are_kept("c" * 64, ORIGIN, store)


def test_a_damaged_entry_is_none(measured: EditStatistics, store: Store) -> None:
    keep_numbers(store, HEAD, ORIGIN, measured.overridden({}, rebuilt=refit()))
    (entry,) = store.root.glob("*.tpe")
    entry.write_bytes(entry.read_bytes()[:-8])
    with pytest.warns(StoreWarning, match="is damaged"):
        assert kept_numbers(store, HEAD, ORIGIN, measured) is None
    assert not are_kept(HEAD, ORIGIN, store)
