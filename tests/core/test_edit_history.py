"""The inspector's state: undo, redo, and edits that cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpe_core.edit_history import MAX_UNDO, EditHistory
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import TpeError


def inspector() -> EditHistory:
    return EditHistory(hidden_size=8, vocab_rows=20)


def test_every_edit_is_one_step_of_undo() -> None:
    state = inspector()
    edits = [
        lambda: state.toggle([3]), lambda: state.toggle([1, 3]), lambda: state.invert(), lambda: state.steer(4, 2.0),
        lambda: state.set_replacement("mean"), lambda: state.clear(),
    ]  # fmt: skip
    seen = [state.intervention]
    for edit in edits:
        assert edit()
        seen.append(state.intervention)
    assert seen[2].pruned == (1,)
    assert seen[3].pruned == (0, 2, 3, 4, 5, 6, 7)
    assert seen[-1] == Intervention(replacement="mean")
    for wanted in reversed(seen[:-1]):
        assert state.undo()
        assert state.intervention == wanted
    assert not state.undo()
    for wanted in seen[1:]:
        assert state.redo()
        assert state.intervention == wanted
    assert not state.redo()
    assert state.undo_depth == (6, 0)


def test_a_change_that_changes_nothing_is_no_step() -> None:
    state = inspector()
    assert not state.clear()
    assert not state.steer(3, 1.0)
    assert state.undo_depth == (0, 0)


def test_no_edit_takes_a_refit_to_another_mask() -> None:
    refit = Intervention((1, 3), "refit", origin="a" * 64)
    table = SimpleNamespace(order=lambda key, descending: [5, 1, 3, 0, 2, 4, 6, 7])
    for change in (
        lambda state: state.toggle([2]), lambda state: state.invert(),
        lambda state: state.prune_bottom(0.5, table),
    ):  # fmt: skip
        state = inspector()
        state.apply(refit)
        assert change(state)
        assert state.intervention.pruned != refit.pruned
        assert state.intervention.replacement == "least-squares"
        assert state.undo()
        assert state.intervention == refit
    assert state.steer(4, 2.0)
    assert (state.intervention.pruned, state.intervention.replacement) == (refit.pruned, "refit")
    assert refit.only([3, 1]) == refit


def test_a_new_edit_ends_redo() -> None:
    state = inspector()
    state.toggle([1])
    state.undo()
    state.toggle([2])
    assert not state.redo()
    assert state.intervention.pruned == (2,)


def test_history_is_bounded() -> None:
    state = inspector()
    for i in range(MAX_UNDO + 50):
        state.toggle([i % 8])
    assert state.undo_depth == (MAX_UNDO - 1, 0)


def test_what_does_not_exist_is_refused_and_nothing_changes() -> None:
    state = inspector()
    with pytest.raises(TpeError, match="dimension 8 does not exist"):
        state.toggle([8])
    with pytest.raises(TpeError, match="token id 20 does not exist"):
        state.steer(20, 2.0)
    with pytest.raises(TpeError, match="finite number above 0, not -1"):
        state.steer(2, -1.0)
    with pytest.raises(TpeError, match="finite number above 0, not inf"):
        state.steer(2, float("inf"))
    assert state.undo_depth == (0, 0)


def test_interventions_refuse_nonsense() -> None:
    with pytest.raises(TpeError, match="steered twice"):
        Intervention(steering=(Steering(1, 2.0), Steering(1, 3.0)))
    with pytest.raises(TpeError, match="unknown replacement 'noise'"):
        Intervention(replacement="noise")  # type: ignore[arg-type]
    with pytest.raises(TpeError, match=r"uniform Omega .* divides by slopes near 0"):
        Steering(1, 2.0, "uniform")  # type: ignore[arg-type]
    with pytest.raises(TpeError, match="unknown steering method 'magic'"):
        Steering(1, 2.0, "magic")  # type: ignore[arg-type]
    with pytest.raises(TpeError, match="cannot be negative"):
        Intervention((-1,))


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
def test_toggling_twice_is_the_identity(first: list[int], second: list[int]) -> None:
    start = Intervention(tuple(first))
    assert start.toggle(second).toggle(second) == start
    assert start.invert(31).invert(31) == start
    assert start.prune(second).restore(second).pruned == tuple(sorted(set(first) - set(second)))
    assert list(start.pruned) == sorted(set(first))


def test_going_to_a_step_keeps_those_before_and_behind_it() -> None:
    history = EditHistory(hidden_size=8, vocab_rows=10)
    for dim in range(3):
        history.toggle([dim])
    assert [step.pruned for step in history.steps] == [(), (0,), (0, 1), (0, 1, 2)]
    assert history.go_to(1)
    assert (history.intervention.pruned, history.position, history.undo_depth) == ((0,), 1, (1, 2))
    assert not history.go_to(1)
    assert history.redo()
    assert history.go_to(3)
    assert history.intervention.pruned == (0, 1, 2)
    for missing in (-1, 4):
        with pytest.raises(TpeError, match=f"no step {missing}: there are 4, counted from 0"):
            history.go_to(missing)


def restored(at: int = 2) -> tuple[EditHistory, tuple[Intervention, ...]]:
    """A history of four steps with that of an index held back."""
    steps = tuple(Intervention(tuple(range(count)), "mean") for count in range(4))
    history = EditHistory(hidden_size=8, vocab_rows=10)
    history.restore(steps, at, hold_back=True)
    return history, steps


def test_what_is_held_back_comes_with_undo_and_all_that_could_be_redone() -> None:
    history, steps = restored()
    assert history.intervention == Intervention(replacement="mean")
    assert (history.held_back, history.is_unsaved, history.undo_depth) == (steps[2], False, (3, 0))
    assert (history.steps, history.position) == ((*steps[:3], Intervention(replacement="mean")), 3)
    assert not history.redo()
    assert history.undo()
    assert (history.intervention, history.held_back, history.is_unsaved) == (steps[2], None, True)
    assert history.redo()
    assert history.intervention == steps[3]
    again = EditHistory(hidden_size=8, vocab_rows=10)
    again.restore(history.all_steps, history.at)
    assert (again.steps, again.undo_depth, again.intervention) == (steps, (3, 0), steps[3])


def test_undo_and_redo_are_each_others_inverse_where_an_edit_was_held_back() -> None:
    history, steps = restored(at=3)
    before = history.intervention, history.steps, history.position
    assert history.undo()
    assert history.intervention == steps[3]
    assert history.redo()
    assert (history.intervention, history.steps, history.position) == before
    assert not history.redo()
    history, steps = restored(at=3)
    assert [history.go_to(1), history.go_to(4)] == [True, True], "every step that was listed stays"
    assert (history.intervention, history.steps) == (before[0], before[1])


def test_an_edit_made_instead_of_what_is_held_back_stands_above_it() -> None:
    history, steps = restored()
    assert history.toggle([7])
    assert history.intervention == Intervention((7,), "mean")
    assert [history.undo(), history.undo()] == [True, True]
    assert history.intervention == steps[2]
    history, steps = restored()
    assert not history.go_to(3)
    assert history.go_to(1)
    assert (history.intervention, history.undo_depth) == (steps[1], (1, 2))


def test_nothing_is_held_back_where_nothing_was_edited() -> None:
    history, steps = restored(at=0)
    assert (history.held_back, history.intervention, history.undo_depth) == (None, steps[0], (0, 3))


@pytest.mark.parametrize(
    ("steps", "at"), [((), 0), ((Intervention(),), 1), ((Intervention(),), -1), ((Intervention((8,)),), 0)]
)
def test_a_history_that_does_not_fit_changes_nothing(steps: tuple[Intervention, ...], at: int) -> None:
    history = EditHistory(hidden_size=8, vocab_rows=10)
    history.toggle([3])
    with pytest.raises(TpeError):
        history.restore(steps, at)
    assert (history.intervention.pruned, history.undo_depth) == ((3,), (1, 0))
