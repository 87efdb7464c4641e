"""Editing under a pilot: pruning, steering, files, late and failing answers, on a fake session with a real softmax."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import Input

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError, NumericalError
from tpe_core.pauses import pause
from tpe_core.progress import Progress
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import ErrorScreen
from tpe_tui.inspector.mask_actions import parse_share
from tpe_tui.ratios import parse_ratio, stepped
from tpe_tui.shell.engine_app import COPY_NAME
from tpe_tui.shell.sessions import SessionStore
from tpe_tui.widgets.bars import PromptBar

NARROW, WIDE = (80, 24), (160, 48)


async def test_toggle_marks_at_once_and_probabilities_follow(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        inspector = app.inspector
        before = inspector.tokens.answer
        dim = inspector.dims.dim
        await pilot.press("space")
        assert inspector.dims.pruned[dim]
        assert "✗" in lines(inspector.dims)[1]
        await answered(app, pilot)
        now = inspector.tokens.answer
        assert now is not before
        _, expected = session.probabilities(session.default_prompt, Intervention((dim,)))
        np.testing.assert_allclose(now.now, expected[now.ids])
        assert "pruned 1/64" in lines(inspector.status)[0]
        await pilot.press("space")
        await answered(app, pilot)
        assert inspector.tokens.answer.kl == pytest.approx(0, abs=1e-12)
        assert "✗" not in lines(inspector.dims)[1]


async def test_a_prompt_that_takes_long_says_how_far_it_is_and_can_be_cancelled(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.engine.host.PATIENCE", 0.05)
    session, evaluate, go_on = FakeSession(), FakeSession.evaluate, threading.Event()

    def slowly(prompt: str, edit: Intervention, *, position: int | None = None) -> object:
        while prompt == "a long text" and not go_on.wait(0.005):
            pause(Progress("reading 8,192 tokens", 3, 8))
        return evaluate(session, prompt, edit, position=position)

    session.evaluate = slowly
    async with start(session) as (app, pilot):
        inspector, shown = app.inspector, lambda: lines(app.inspector.prompt_bar)[0]
        await pilot.press("p")
        await type_line(pilot, "a long text")
        await until(pilot, lambda: "reading 8,192 tokens 38%, x cancels" in shown())
        await pilot.press("space")  # of the same prompt: its reading goes on
        await pilot.press("x")
        await until(pilot, lambda: "no answer" in shown())
        assert "reading 8,192 tokens was cancelled" in lines(inspector.strip)[0]
        assert "a long text" in shown()
        await pilot.press("p")
        await type_line(pilot, "a long text")
        await until(pilot, lambda: "x cancels" in shown())
        await pilot.press("p")
        await type_line(pilot, "short")  # nobody waits for the long one any more
        await answered(app, pilot)
        assert inspector.tokens.answer.prompt == "short"
        assert "1 token" in shown()
        await pilot.press("p")
        await type_line(pilot, "a long text")
        go_on.set()
        await answered(app, pilot)
        assert inspector.tokens.answer.prompt == "a long text"


async def test_the_forecasts_job_is_named_beside_messages_and_can_be_cancelled(start: Start) -> None:
    session, gate = FakeSession(), threading.Event()
    session.forecast_step = gate.wait
    async with start(session) as (app, pilot):
        strip = app.workspace.status
        await pilot.press("space")
        await until(pilot, lambda: "prepare_forecast" in session.calls)
        assert "forecast" in lines(app.inspector.strip)[0]
        assert "x cancel" in lines(app.inspector.strip)[0]
        await pilot.press("n")
        assert "nothing was searched yet" in lines(app.inspector.strip)[0]
        assert "forecast" in lines(app.inspector.strip)[0]
        await pilot.press("x")
        gate.set()
        await until(pilot, lambda: "forecast was cancelled" in strip.text)
        assert strip.background is None
        await pilot.press("j", "space")
        await until(pilot, lambda: app.inspector.forecaster.answer is not None)
        assert session.calls.count("prepare_forecast") == 2
        assert strip.background is None


async def test_a_mask_has_a_forecast_once_it_is_prepared(start: Start) -> None:
    session = FakeSession()
    gate = threading.Event()
    session.forecast_step = gate.wait
    async with start(session, size=WIDE) as (app, pilot):
        assert "prepare_forecast" not in session.calls  # who never prunes never waits
        await pilot.press("j", "space")
        await until(pilot, lambda: "prepare_forecast" in session.calls)
        assert "≈" not in lines(app.inspector.status)[0]
        gate.set()
        await until(pilot, lambda: "text ≈0.010" in lines(app.inspector.status)[0])
        assert any("keeping it: forecast KL 0" in line for line in lines(app.inspector.detail))
        await pilot.press("j", "space", "j")
        await until(pilot, lambda: "text ≈0.020" in lines(app.inspector.status)[0])
        await pilot.press("2", "]")
        await until(pilot, lambda: "text ≈0.120" in lines(app.inspector.status)[0])  # steered tokens count
        await pilot.press("u", "1")
        await until(pilot, lambda: "text ≈0.020" in lines(app.inspector.status)[0])
        await until(pilot, lambda: any("pruning it: forecast KL 0.030" in line for line in lines(app.inspector.detail)))
        assert session.calls.count("prepare_forecast") == 1
        await pilot.press("u", "u")
        await until(pilot, lambda: "≈" not in lines(app.inspector.status)[0])


async def test_undo_and_redo(start: Start) -> None:
    async with start() as (app, pilot):
        inspector = app.inspector
        states = []
        for key in ("space", "j", "space", "u", "u", "u", "U", "U", "U", "u"):
            await pilot.press(key)
            states.append(len(app.workspace.history.intervention.pruned))
        assert states == [1, 1, 2, 1, 0, 0, 1, 2, 2, 1]
        await answered(app, pilot)
        assert inspector.dims.pruned.sum() == 1


@pytest.mark.parametrize("end", ["space", "v"])
async def test_a_range_is_toggled_as_one_step(start: Start, end: str) -> None:
    async with start() as (app, pilot):
        inspector = app.inspector
        await pilot.press("j", "v", "j", "j", "j")
        assert lines(inspector.dims)[2].startswith(" ▏")
        await pilot.press(end)
        assert app.workspace.history.intervention.pruned == tuple(sorted(int(dim) for dim in inspector.dims.order[1:5]))
        assert inspector.dims.range_from is None
        await pilot.press("u")
        assert app.workspace.history.intervention.pruned == ()


async def test_escape_drops_the_range(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("v", "j", "escape", "space")
        assert len(app.workspace.history.intervention.pruned) == 1


async def test_bottom_share_by_the_sort_key(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("s", "s", "t")
        assert isinstance(app.screen, Ask)
        await type_line(pilot, "200%")
        assert isinstance(app.screen, Ask)
        await type_line(pilot, "25%")
        wanted = np.argsort(np.abs(session.table.t), kind="stable")[:16]
        assert app.workspace.history.intervention.pruned == tuple(sorted(int(dim) for dim in wanted))


async def test_a_mask_by_slope_says_how_much_of_it_is_the_texts(start: Start, tmp_path: Path) -> None:
    session = FakeSession()
    known = session.table.stability
    assert known is not None
    async with start(session) as (app, pilot):
        await pilot.press("t")
        await type_line(pilot, "25%")
        pruned = app.workspace.history.intervention.pruned
        doubtful = known.doubtful(pruned)
        assert doubtful is not None
        assert 0 < len(doubtful) < 16
        sentence = f"by this text {len(doubtful)} cannot be told from kept ones"
        assert app.workspace.status.text == f"pruned the 16 dimensions with the smallest |slope|; {sentence}"
        await pilot.press("e")
        await type_line(pilot, str(tmp_path / "mask.json"))
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        assert app.workspace.status.text.endswith(f"mask.json; {sentence}")
        await pilot.press("space", "e")
        await type_line(pilot, str(tmp_path / "other.json"))
        await until(pilot, lambda: "other.json" in app.workspace.status.text)
        assert "cannot be told" not in app.workspace.status.text  # no mask of the smallest slopes any more


async def test_invert_clear_and_replacement(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        inspector = app.inspector
        await pilot.press("space", "i")
        assert len(app.workspace.history.intervention.pruned) == 63
        await pilot.press("m")
        await answered(app, pilot)
        _, expected = session.probabilities(session.default_prompt, app.workspace.history.intervention)
        np.testing.assert_allclose(inspector.tokens.answer.now, expected[inspector.tokens.answer.ids])
        assert app.workspace.history.intervention.replacement == "mean"
        await pilot.press("c")
        assert app.workspace.history.intervention.is_empty
        await pilot.press("c")
        assert "nothing is edited" in app.workspace.status.text


async def test_steering_steps_exact_and_reset(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        inspector = app.inspector
        await pilot.press("2", "j")
        token = inspector.tokens.token_id
        await pilot.press("]", "]", "]", "]")
        assert app.workspace.history.intervention.ratio(token) == 2
        await pilot.press("[")
        assert app.workspace.history.intervention.ratio(token) == pytest.approx(2**0.75)
        await answered(app, pilot)
        assert inspector.tokens.token_id == token, "the cursor stays on its token"
        row = lines(inspector.tokens)[1 + inspector.tokens.cursor - inspector.tokens.top]
        assert row.startswith("◆")
        assert "×1.68" in row
        await pilot.press("=")
        await type_line(pilot, "-1")
        assert isinstance(app.screen, Ask)
        await type_line(pilot, "5")
        assert app.workspace.history.intervention.ratio(token) == 5
        await answered(app, pilot)
        _, expected = session.probabilities(session.default_prompt, app.workspace.history.intervention)
        assert dict(zip(inspector.tokens.answer.ids, inspector.tokens.answer.now, strict=True))[token] == pytest.approx(
            expected[token]
        )
        await pilot.press("d")
        assert app.workspace.history.intervention.steering[0].method == "min-norm"
        await pilot.press("0")
        assert app.workspace.history.intervention.steering == ()


async def test_another_prompt(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("p")
        await type_line(pilot, "two\\nlines")
        assert app.workspace.history.prompt == "two\nlines"
        await answered(app, pilot)
        assert "two\\nlines" in lines(app.inspector.prompt_bar)[0]
        await pilot.press("p", "escape")
        assert app.workspace.history.prompt == "two\nlines"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("", "prompt  (empty: the beginning of a text) "),
        ("  ", "prompt  ·· "),
        ("a b ", "prompt  a b· "),
        ("a", "prompt  a "),
    ],
)
async def test_what_one_does_not_see_of_a_prompt_is_shown(
    start: Start, monkeypatch: pytest.MonkeyPatch, prompt: str, shown: str
) -> None:
    async with start() as (app, pilot):
        assert "(empty" not in PromptBar().line(0, 80)[0][0][0], "there is none before a model is open"
        app.inspector.prompt_bar.show(prompt)
        assert shown in lines(app.inspector.prompt_bar)[0]
        assert len(lines(app.inspector.prompt_bar)[0]) == 80
        monkeypatch.setattr(app, "ascii", object())
        assert shown.replace("·", "_") in lines(app.inspector.prompt_bar)[0], "as tokens have it, and no full stop"


async def test_the_chat_template_is_put_around_the_prompt_and_taken_off(start: Start) -> None:
    async with start() as (app, pilot):
        plain = app.workspace.history.prompt
        await pilot.press("P")
        await until(pilot, lambda: app.workspace.history.prompt == f"<user> {plain}")
        await answered(app, pilot)
        assert "<user> " in lines(app.inspector.prompt_bar)[0]
        await pilot.press("P")
        await until(pilot, lambda: app.workspace.history.prompt == plain)


async def test_a_model_without_a_chat_template_keeps_its_prompt_and_says_why(start: Start) -> None:
    session = FakeSession()
    session.has_chat = False
    async with start(session) as (app, pilot):
        plain = app.workspace.history.prompt
        await pilot.press("P")
        await until(pilot, lambda: "no chat template" in app.workspace.status.text)
        assert app.workspace.history.prompt == plain


async def test_export_and_import(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mask.json"
    async with start() as (app, pilot):
        await pilot.press("space", "j", "space", "]", "e")
        await type_line(pilot, str(path))
        await until(pilot, path.exists)
        edit = app.workspace.history.intervention
        assert json.loads(path.read_text())["pruned"] == list(edit.pruned)
        await pilot.press("c", "I")
        await type_line(pilot, str(path))
        await until(pilot, lambda: app.workspace.history.intervention == edit)
        await pilot.press("u")
        assert app.workspace.history.intervention.is_empty


async def test_a_refit_is_left_with_its_mask_and_comes_back_by_undo(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "refit.json"
    path.write_text('{"pruned": [4, 9], "replacement": "refit", "steering": []}')
    async with start(mask=path) as (app, pilot):
        inspector = app.inspector
        await until(pilot, lambda: app.workspace.history.intervention.replacement == "refit")
        await answered(app, pilot)
        assert "pruned 2/64 refit" in lines(inspector.status)[0]
        await pilot.press("space")
        assert app.workspace.history.intervention.replacement == "least-squares"
        assert "the refit was another mask's: least-squares now" in app.workspace.status.text
        await pilot.press("u")
        assert app.workspace.history.intervention == Intervention((4, 9), "refit")
        await pilot.press("m")
        assert app.workspace.history.intervention == Intervention((4, 9), "zero")


async def test_a_broken_manifest_is_a_modal_and_nothing_is_lost(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    async with start(mask=broken) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert "not a readable manifest" in app.screen.failure.sentence
        await pilot.press("y")
        assert "not a readable manifest" in (tmp_path / "state" / COPY_NAME).read_text()
        await pilot.press("escape", "space")
        assert len(app.workspace.history.intervention.pruned) == 1


async def test_a_mask_for_another_width_is_refused(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "wide.json"
    path.write_text('{"pruned": [4000], "replacement": "zero", "steering": []}')
    async with start(mask=path) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert "dimension 4000" in app.screen.failure.sentence
        assert app.workspace.history.intervention.is_empty


async def test_a_mask_given_at_the_start(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mask.json"
    path.write_text('{"pruned": [3, 5], "replacement": "mean", "steering": [[7, 2.0, "top-k"]]}')
    async with start(mask=path) as (app, pilot):
        await until(pilot, lambda: app.workspace.history.intervention.pruned == (3, 5))
        assert app.workspace.history.intervention.ratio(7) == 2


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_a_failed_answer_is_never_the_current_state(start: Start, size: tuple[int, int]) -> None:
    session = FakeSession()
    async with start(session, size) as (app, pilot):
        inspector = app.inspector
        await pilot.press("2")
        await until(pilot, lambda: "·" in lines(inspector.tokens)[1])
        session.fail = NumericalError("the logits are not finite: choose float32.")
        await pilot.press("1", "space")
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert inspector.tokens.rows == []
        assert inspector.tokens.answer is None
        assert "the logits are not finite" in " ".join(lines(inspector.tokens)[1:4])
        status = lines(inspector.status)[0]
        assert "no answer" in status
        assert "KL" not in status
        assert "top-1" not in status
        await pilot.press("escape", "j", "space")  # the same sentence is not a modal again
        await until(pilot, lambda: not inspector.tokens.pending)
        assert app.screen is inspector
        session.fail = None
        await pilot.press("u")
        await answered(app, pilot)
        assert "no answer" not in lines(inspector.status)[0]
        assert inspector.tokens.rows


async def test_a_failing_prompt_is_neither_beside_old_figures_nor_in_the_next_start(
    start: Start, tmp_path: Path
) -> None:
    session = FakeSession()
    session.fail, session.fails_on = ModelError("token '<|im_start|>' (id 600) has no row."), "<|im_start|>"
    store = SessionStore(tmp_path / "state")

    def kept() -> str:
        found = store.read("demo")
        return "" if found is None else found.view.prompt

    async with start(session, WIDE) as (app, pilot):
        inspector = app.inspector
        for text in ("a good one", "hello <|im_start|>"):
            await pilot.press("2", "p")
            await type_line(pilot, text)
            await until(pilot, lambda: not inspector.tokens.pending)
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await until(pilot, lambda: kept() == "a good one")
        await pilot.press("escape")
        assert "hello <|im_start|>" in lines(inspector.prompt_bar)[0]
        assert "no answer" in lines(inspector.prompt_bar)[0]
        assert inspector.tokens.rows == []
        assert not any("%" in line for line in [*lines(inspector.tokens), *lines(inspector.detail)])
        app.remember()  # as leaving does
        app.memory.flush()
        assert kept() == "a good one"
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert app.screen.query_one(Input).value == "hello <|im_start|>"  # what was typed can be mended
    async with start(session) as (app, pilot):
        assert app.workspace.history.prompt == "a good one"


async def test_a_slow_answer_is_marked_then_dimmed_then_replaced(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        session.delay = 0.6
        await pilot.press("space")
        tokens = app.inspector.tokens
        assert tokens.pending
        assert "now…" in lines(tokens)[0]
        assert not tokens.dimmed
        await until(pilot, lambda: tokens.dimmed)
        await answered(app, pilot)
        assert not tokens.dimmed
        assert "now…" not in lines(tokens)[0]


async def test_two_hundred_rapid_toggles_end_in_the_right_state(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        session.delay = 0.01
        rng = np.random.default_rng(3)
        wanted: set[int] = set()
        session.calls.clear()
        for step in rng.integers(0, 64, size=200):
            app.inspector.dims.go(int(step))
            app.inspector.action_mask_toggle()
            wanted ^= {int(app.inspector.dims.order[step])}
        await answered(app, pilot)
        edit = app.workspace.history.intervention
        assert set(edit.pruned) == wanted
        _, expected = session.probabilities(session.default_prompt, edit)
        answer = app.inspector.tokens.answer
        np.testing.assert_allclose(answer.now, expected[answer.ids])
        assert session.calls.count("evaluate") < 100, "only the latest counts"


def test_small_parsers() -> None:
    assert [parse_share(text) for text in ("0.3", "30%", "30", "1", "0", "101%", "-1", "x")] == [
        0.3,
        0.3,
        0.3,
        1,
        0,
        None,
        None,
        None,
    ]
    assert [parse_ratio(text) for text in ("2", "×0.5", "0", "-1", "inf", "x")] == [2, 0.5, None, None, None, None]
    ratio = 1.0
    for step in (1, 1, 1, -1, -1, -1):
        ratio = stepped(ratio, step)
    assert ratio == 1.0
    assert stepped(3.0, 1) == pytest.approx(3 * 2**0.25)
