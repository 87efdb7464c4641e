"""Token sets in the inspector: marking, defining, steering one with the keys of a token, undo and what is shown."""

from __future__ import annotations

import re

from textual.widgets import Input

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.edits.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_core.steering.results import DoseRequest
from tpe_core.token_sets.definition import filter_definition, parse_definition
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.command_line import steer_lines
from tpe_tui.dialogs.ask import Ask
from tpe_tui.edit_words import change_between, compared, edit_sizes


async def test_marked_tokens_become_a_set_that_is_steered_by_the_keys_of_a_token(start: Start) -> None:
    async with start(FakeSession()) as (app, pilot):
        tokens, history = app.inspector.tokens, app.workspace.history
        await pilot.press("2", "B", "j", "B")
        marked = tuple(sorted(tokens.marked))
        assert len(marked) == 2
        assert sum(line.startswith(" *") for line in lines(tokens)) == 2
        await pilot.press("W")
        assert app.screen.query_one(Input).value == "marked"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Ask) and app.screen.query_one(Input).value == "0.01")
        await type_line(pilot, "0.5")
        (some,) = history.intervention.sets
        assert some == TokenSet(f"#{marked[0]} + #{marked[1]}", marked)
        assert {history.intervention.ratio(token_id) for token_id in marked} == {0.5}
        await answered(app, pilot)
        assert tokens.token_id in marked
        await pilot.press("[", "[", "[", "[")
        assert {history.intervention.ratio(token_id) for token_id in marked} == {0.25}
        assert history.intervention.sets == (some,)
        await pilot.press("0")
        assert history.intervention == Intervention()
        await pilot.press(*"uuuuu", "u")
        assert history.intervention == Intervention()
        await pilot.press("U")
        assert history.intervention.sets == (some,)


async def test_the_filter_is_offered_as_a_set_and_what_is_wrong_is_said(start: Start) -> None:
    async with start(FakeSession()) as (app, pilot):
        app.inspector.tokens.filter_by("·th")
        await pilot.press("2", "W")
        assert app.screen.query_one(Input).value == filter_definition("·th") == "regex:'(?i) th'"
        await type_line(pilot, "nonsense")
        assert isinstance(app.screen, Ask), "a definition that cannot be read keeps the question open"
        await type_line(pilot, "script:Han")
        await until(pilot, lambda: "no token of this vocabulary" in app.workspace.status.text)
        assert app.workspace.history.intervention == Intervention()


async def test_the_tokens_of_a_set_are_not_all_pinned_above_the_list(start: Start) -> None:
    async with start(FakeSession()) as (app, pilot):
        many = TokenSet("#100 to #400", tuple(range(100, 400)))
        app.workspace.edit(lambda: app.workspace.history.steer_set(many, 2.0))
        await answered(app, pilot)
        assert app.inspector.tokens.in_sets == frozenset(many.token_ids)
        app.workspace.edit(lambda: app.workspace.history.steer(5, 3.0))
        await answered(app, pilot)
        pinned = {row.token_id for row in app.inspector.tokens.rows if row.pinned}
        assert not pinned & set(many.token_ids)


def test_edits_with_sets_in_words_and_as_a_command() -> None:
    some = TokenSet("script:Han - #4", (1, 2, 3), "Chinese")
    tokens = [f"t{i}" for i in range(10)]
    edit = Intervention().steer(7, 2.0).steer_set(some, 0.01)
    assert edit_sizes(edit) == "1 steered, set of 3 steered"
    assert change_between(Intervention().steer(7, 2.0), edit, tokens) == "steer Chinese ×0.010"
    assert change_between(edit, Intervention().steer(7, 2.0), tokens) == "stop steering Chinese"
    lines_of = compared(("A", edit, None), ("B", edit.steer_set(some, 0.5), None), tokens).splitlines()
    assert "set Chinese (3 tokens): ×0.010 by least-squares | ×0.500 by least-squares" in lines_of
    assert sum(line.startswith("t") for line in lines_of) == 1
    command = steer_lines(RunOptions(), DoseRequest(2, "least-squares", Intervention().steer_set(some, 0.01)))
    assert re.search(r"tpe steer .*--set 'Chinese = script:Han - #4' --ratio 0\.01", command)


def test_the_definition_of_a_filter_can_be_read_whatever_it_holds() -> None:
    for text in ("a + b", "it's", '"', "(", "a.b", " x", "\\"):
        found = parse_definition(filter_definition(text))
        assert re.search(found.argument, f"x{text.upper()}y")


async def test_a_steered_set_comes_back_after_the_process_died(start: Start) -> None:
    some = TokenSet("script:Han - #5", (20, 30, 40), "Chinese")
    async with start(FakeSession()) as (app, pilot):
        app.workspace.edit(lambda: app.workspace.history.steer_set(some, 0.25))
        await answered(app, pilot)
        edit = app.workspace.history.intervention
        app.workspace.history.named["mine"] = edit
        app.remember()
        app.memory.close()  # nothing is saved from here on, as if it were killed
    async with start(FakeSession()) as (app, pilot):
        assert app.workspace.history.intervention.is_empty
        assert "set of 3 steered" in lines(app.inspector.strip)[0]
        await pilot.press("u")
        assert app.workspace.history.intervention == edit
        assert app.workspace.history.intervention.sets == (some,)
        assert app.workspace.history.named == {"mine": edit}
