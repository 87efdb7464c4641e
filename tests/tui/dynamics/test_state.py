"""What the dynamics screen knows: quantities in order, the cursor, marks that differ, sources that come and go."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.tui.trajectories import STEPS, FakeReader, flawed, trajectory
from tpe_core.dynamics.recorded import is_log
from tpe_core.dynamics.trajectory import Point
from tpe_core.options import RunOptions
from tpe_core.progress import Progress
from tpe_tui.command_line import dynamics_lines
from tpe_tui.dynamics.explanation import facts
from tpe_tui.dynamics.reader import Report, gather
from tpe_tui.dynamics.state import FAMILIES, SHAPES, DynamicsState, Source, quantity
from tpe_tui.engine.host import read_dynamics


def state(*found) -> DynamicsState:
    made = DynamicsState()
    for each in found or (trajectory(),):
        made.add([each.source])[0].grow(each)
    made.selected = 0
    return made


def test_quantities_stand_in_families_and_layers_in_their_own_order() -> None:
    keys = [found.key for found in state().quantities]
    assert keys[:3] == ["r2_adjusted", "r2", "r2_heldout_vocab"]
    assert keys[3:8] == [f"convergence.{name}" for name in ("all", "embedding", "mlp", "layer 2", "layer 10")]
    families = [quantity(key).family.key for key in keys]
    assert families == sorted(families, key=[*FAMILIES].index)
    labels = [found.label for found in state().quantities]
    assert len(set(labels)) == len(labels)
    assert {"adj R²", "distance layer 10", "travel all", "change mlp", "loss", "r of component 1"} <= set(labels)


def test_the_question_is_drawn_first_and_a_run_without_an_end_shows_its_way() -> None:
    assert state().drawn == {"r2_adjusted", "convergence.all"}
    assert state(trajectory("a.jsonl", live=True)).drawn == {"r2_adjusted", "travel.all"}
    assert DynamicsState().drawn == frozenset()


def test_the_cursor_walks_over_the_steps_of_all_sources_and_stays_with_the_last() -> None:
    made = state(trajectory("a", (0, 4, 16)), trajectory("b", (0, 8)))
    assert made.steps == (0, 4, 8, 16)
    assert made.at == 16
    made.sources[0].grow(trajectory("a", (0, 4, 16, 32)))
    assert made.at == 32, "it follows a run that grows"
    made.move(-2)
    assert made.at == 8
    made.sources[0].grow(trajectory("a", (0, 4, 16, 32, 64)))
    assert made.at == 8, "it stays where it was put"
    a, b = made.sources
    assert made.value(a, "r2_adjusted") == pytest.approx(0.9 * 4 / 24), "the checkpoint before, where there is none"
    assert made.value(b, "r2_adjusted") == pytest.approx(0.9 * 8 / 28)
    made.move(1 << 20)
    assert (made.step, made.at) == (None, 64)
    made.move(-(1 << 20))
    assert made.at == 0
    made.go(30)
    assert made.at == 32
    assert math.isnan(made.value(a, "no such figure"))


def test_before_a_source_begins_it_has_no_value() -> None:
    made = state(trajectory("a", (0, 4)), trajectory("late", (2, 8)))
    made.go(0)
    assert math.isnan(made.value(made.sources[1], "r2"))


def test_a_hidden_source_has_no_say_in_the_steps() -> None:
    made = state(trajectory("a", (0, 4)), trajectory("b", (0, 1000)))
    made.turn(1)
    assert not made.hide()
    assert made.steps == (0, 4)
    assert made.hide()
    assert made.steps == (0, 4, 1000)


def test_no_two_curves_have_the_same_mark() -> None:
    made = state(*(trajectory(f"run{number}") for number in range(len(SHAPES))))
    for row in ("r2", "convergence.mlp", "convergence.layer 10", "loss"):
        made.pick(row)
        assert made.toggle()
    marks = made.marks()
    assert len(marks) == 6 * len(SHAPES)
    assert len({glyph for glyph, _ in marks.values()}) == len(marks)
    assert marks["run0", "r2_adjusted"][0] == "●"
    assert marks["run1", "convergence.all"][0] == "△"
    assert marks["run0", "convergence.mlp"][0] == "m"
    assert marks["run1", "convergence.mlp"][0] == "M"
    assert marks["run0", "convergence.layer 10"][0] == "1"


def test_curves_without_a_mark_left_are_not_drawn() -> None:
    groups = {f"layer {number}": 0.5 for number in range(40)}
    made = state(*(replace(trajectory(name), points=(Point(name="x", step=1, convergence=groups),)) for name in "ab"))
    made.pick("convergence.layer 3")
    before = made.drawn
    assert not made.toggle_family()
    assert made.drawn == before
    assert made.toggle()
    assert made.drawn == {"convergence.layer 3"}


def test_a_family_is_drawn_and_hidden_at_once_and_looked_at_then() -> None:
    made = state()
    assert (made.focus, made.beside) == ("encoding", "convergence")
    made.pick("change.mlp")
    assert (made.focus, made.beside) == ("encoding", "convergence"), "nothing of it is drawn"
    assert made.toggle_family()
    assert {key for key in made.drawn if key.startswith("change.")} == {f"change.{g}" for g in (
        "all", "embedding", "mlp", "layer 2", "layer 10")}  # fmt: skip
    assert (made.focus, made.beside) == ("change", "change")
    made.pick("r2_adjusted")
    assert (made.focus, made.beside) == ("encoding", "change")
    made.pick("change.all")
    made.toggle_family()
    assert (made.focus, made.beside) == ("convergence", "convergence")


def test_rows_go_round() -> None:
    made = state()
    keys = [found.key for found in made.quantities]
    made.move_row(-1)
    assert made.row == keys[-1]
    made.move_row(2)
    assert made.row == keys[1]
    empty = DynamicsState()
    empty.move_row(1)
    empty.move(1)
    empty.turn(1)
    assert (empty.at, empty.hide(), empty.next_halfway(), empty.drop()) == (None, False, "", None)


def test_half_way_steps_in_turn() -> None:
    made = state()
    half = trajectory().halfway()
    assert half["encoding"] is not None
    assert half["parameters"] is not None
    assert half["encoding"] < half["parameters"]
    assert made.next_halfway() == f"encoding half-way at step {half['encoding']}"
    assert made.at == half["encoding"]
    assert made.next_halfway().startswith("parameters")
    assert made.at == half["parameters"]
    assert made.next_halfway().startswith("encoding")


def test_sources_come_and_go() -> None:
    made = DynamicsState()
    made.add(["a", "b", "a"])
    assert [source.name for source in made.sources] == ["a", "b"]
    made.add(str(number) for number in range(20))
    assert len(made.sources) == len(SHAPES)
    assert made.full
    made.hidden = frozenset({made.sources[made.selected].name})
    dropped = made.drop()
    assert dropped is not None
    assert dropped.name not in {source.name for source in made.sources}
    assert not made.hidden
    assert not made.full
    assert [is_log(name) for name in ("a.jsonl", "A.JSONL", "a.json", "jsonl")] == [True, True, False, False]


def test_names_are_as_short_as_they_differ() -> None:
    made = DynamicsState()
    names = ["/runs/one/log.jsonl", "/runs/two/log.jsonl", "demo", "org/model/", "/x/one/log.jsonl"]
    made.add(names)
    assert [made.short(source) for source in made.sources] == [
        "runs/one/log.jsonl", "two/log.jsonl", "demo", "model", "x/one/log.jsonl"
    ]  # fmt: skip


def test_the_facts_name_what_is_not_drawn() -> None:
    text = facts(state(flawed()).sources[0])
    for said in (
        "step32: model.safetensors is cut short", "main-old: no step in its name", "step128 has the content of step256",
        "step128 has the weights of step256.", "17 of the vocabulary", "add-one smoothing",
    ):  # fmt: skip
        assert said in text
    assert "not read yet" in facts(Source(name="x", problem="there is nothing called x."))


def test_command_lines_are_quoted_and_logs_are_followed() -> None:
    text = dynamics_lines(["my runs/a", "b.jsonl"], ["--counts", "c d.npy"])
    assert "tpe dynamics 'my runs/a' --counts 'c d.npy'\n" in text
    assert "tpe dynamics b.jsonl\n" in text
    assert "tpe dynamics --follow b.jsonl\n" in text
    assert text.endswith("tpe dynamics 'my runs/a' b.jsonl --counts 'c d.npy' --screen")


def reports(names: list[str], reader) -> list[Report]:
    return [step.partial for step in gather(names, reader) if isinstance(step, Progress) and step.partial is not None]


def test_one_broken_source_does_not_cost_the_others() -> None:
    reader = FakeReader()
    found = reports(["nothing", "demo"], reader)
    assert [(each.name, each.status) for each in found if each.status != "reading"] == [
        ("nothing", "failed"), ("demo", "done")
    ]  # fmt: skip
    assert "there is nothing called nothing" in found[1].failure.sentence
    last = found[-1].trajectory
    assert last is not None
    assert len(last.points) == len(STEPS)


def test_logs_come_last_and_in_turns_and_closing_closes_them() -> None:
    reader = FakeReader()
    steps = gather(["a.jsonl", "demo", "b.jsonl"], reader)
    order = []
    for step in steps:
        if isinstance(step.partial, Report):
            order.append((step.partial.name, step.partial.status))
        if len(order) > len(STEPS) + 8:
            break
    names = [name for name, _ in order]
    assert names[: len(STEPS) + 2] == ["demo"] * (len(STEPS) + 2)
    assert names[len(STEPS) + 2 :][:4] == ["a.jsonl", "b.jsonl", "a.jsonl", "b.jsonl"]
    assert order[-1][1] == "following"
    steps.close()
    assert sorted(reader.closed) == ["a.jsonl", "b.jsonl", "demo"]


def test_the_bundled_model_is_read_without_torch_and_at_once() -> None:
    found = reports(["demo"], read_dynamics(RunOptions()))
    assert [each.status for each in found] == ["done"]
    assert found[0].trajectory.halfway()["encoding"] < found[0].trajectory.halfway()["parameters"] / 50
