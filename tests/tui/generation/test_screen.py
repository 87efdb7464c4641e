"""The generate screen under a pilot: writing, toggling meanwhile, stopping, going on, settings, saving."""

from __future__ import annotations

import json
import math
import shlex
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, lines, type_line, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import Controls, PairedGeneration, PairRequest
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_tui.app import TpeApp
from tpe_tui.command_line import generate_lines
from tpe_tui.dialogs.error import ErrorScreen, TextScreen
from tpe_tui.generation.screen import GenerateScreen
from tpe_tui.generation.text_pane import StepPane
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.token_text import CHANGED, DIFFERS

SIZES = [(80, 24), (160, 48)]
LENGTH = 30


def screen_of(app: TpeApp) -> GenerateScreen:
    found = next(screen for screen in app.screen_stack if isinstance(screen, GenerateScreen))
    assert isinstance(found, GenerateScreen)
    return found


async def written(app: TpeApp, pilot: Pilot[int]) -> PairedGeneration:
    """Wait for the end of the job."""
    await until(pilot, lambda: app.inspector.runs.generation.job is None)
    pair = app.inspector.runs.generation.pair
    assert pair is not None
    return pair


async def opened(app: TpeApp, pilot: Pilot[int], length: int = LENGTH) -> PairedGeneration:
    """Open the screen and let it write `length` tokens."""
    app.inspector.runs.generation.decoding = Decoding(length)
    await pilot.press("a")
    return await written(app, pilot)


def expected(session: FakeSession, decoding: Decoding, edit: Intervention) -> PairedGeneration:
    return run(session.generate(PairRequest(session.default_prompt, decoding), lambda: Controls(edit)))


class Steps:
    """Lets a fake take so many steps, and then waits."""

    def __init__(self, session: FakeSession, first: int) -> None:
        self.allowed = threading.Semaphore(first)
        self.taken = 0
        session.pair_step = self.step

    def step(self) -> None:
        assert self.allowed.acquire(timeout=20)
        self.taken += 1

    def more(self, count: int) -> None:
        for _ in range(count):
            self.allowed.release()


@pytest.mark.parametrize("size", SIZES)
async def test_both_texts_and_where_they_part(start: Start, size: tuple[int, int]) -> None:
    session = FakeSession()
    async with start(session, size=size) as (app, pilot):
        pair = await opened(app, pilot)
        screen = screen_of(app)
        assert pair == expected(session, Decoding(LENGTH), Intervention())
        assert "no difference yet" in lines(screen.status)[0]
        assert lines(screen.base) == lines(screen.edited)
        assert session.default_prompt in lines(screen.base)[0]
        shown = "".join("".join(lines(screen.base)).split())
        assert "".join(pair.base.text.split())[:60] in shown
        await pilot.press("space", "r")
        pair = await written(app, pilot)
        dim = screen.dims.dim
        assert dim is not None
        assert pair == expected(session, Decoding(LENGTH), Intervention((dim,)))
        at = pair.first_difference
        assert at is not None
        assert f"differs at token {at + 1}" in lines(screen.status)[0]
        for pane in (screen.base, screen.edited):
            assert "".join(lines(pane)).count(DIFFERS) == 1
        assert (screen.base.region.y == screen.edited.region.y) == (size[0] == 160), "beside each other where that fits"
        await pilot.press("n")
        step = "\n".join(lines(screen.steps))
        assert pair.base.tokens[at].text.strip() in step
        assert pair.edited.tokens[at].text.strip() in step
        assert f"unedited {100 * pair.edited.tokens[at].p_base:.2f}%" in step
        assert f"KL {pair.edited.tokens[at].kl:.3f}" in step


async def test_a_toggle_while_it_is_written_holds_from_the_next_token_on(start: Start) -> None:
    session = FakeSession()
    steps = Steps(session, 6)
    async with start(session, size=(160, 48)) as (app, pilot):
        app.inspector.runs.generation.decoding = Decoding(LENGTH)
        await pilot.press("a")
        await until(pilot, lambda: app.inspector.runs.generation.steps == 6)
        before = app.inspector.runs.generation.pair
        await pilot.press("space")
        dim = screen_of(app).dims.dim
        assert dim is not None
        assert app.workspace.history.intervention.pruned == (dim,)
        steps.more(9)
        await until(pilot, lambda: app.inspector.runs.generation.steps == 15)
        await pilot.press("u")
        steps.more(40)
        pair = await written(app, pilot)
        # The step that waits has not read the edit yet.
        assert pair.edits == ((0, Intervention()), (6, Intervention((dim,))), (15, Intervention()))
        assert before is not None
        assert pair.edited.tokens[:6] == before.edited.tokens
        assert [said.kl > 0 for said in pair.edited.tokens] == [6 <= step < 15 for step in range(LENGTH)]
        assert pair.base == expected(FakeSession(), Decoding(LENGTH), Intervention()).base
        assert "".join(lines(screen_of(app).edited)).count(CHANGED) == 2
        assert CHANGED not in "".join(lines(screen_of(app).base))
        assert "✗" not in "".join(lines(screen_of(app).dims))


async def test_it_stops_within_a_token_and_goes_on_as_if_it_had_not(start: Start) -> None:
    session = FakeSession()
    steps = Steps(session, 5)
    async with start(session) as (app, pilot):
        app.inspector.runs.generation.decoding = Decoding(LENGTH)
        await pilot.press("space", "a")
        await until(pilot, lambda: app.inspector.runs.generation.steps == 5)
        assert "Stop" in lines(screen_of(app).footer)[0]
        await pilot.press("enter")
        steps.more(1)
        pair = await written(app, pilot)
        assert pair.steps == 5
        assert steps.taken == 6, "the token under way is the last"
        assert "stopped after 5 tokens" in app.workspace.status.text
        assert "Go on" in lines(screen_of(app).footer)[0]
        steps.more(400)
        await pilot.press("enter")
        pair = await written(app, pilot)
        edit = app.workspace.history.intervention
        whole = expected(FakeSession(), Decoding(LENGTH), edit)
        assert (pair.base, pair.edited, pair.edits) == (whole.base, whole.edited, whole.edits)
        assert "done: 30 tokens" in app.workspace.status.text
        await pilot.press("enter")
        pair = await written(app, pilot)
        assert pair.steps == LENGTH + 200, "beyond the length it goes on for as many more"
        assert pair.edited.tokens[:LENGTH] == whole.edited.tokens


async def test_settings_are_typed_checked_and_written_anew(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await opened(app, pilot)
        for key, text, name, value in (
            ("T", "0", "temperature", 0.0),
            ("P", "0.9", "top_p", 0.9),
            ("K", "40", "top_k", 40),
            ("S", "12", "seed", 12),
            ("L", "17", "length", 17),
        ):
            await pilot.press(key)
            await type_line(pilot, text)
            pair = await written(app, pilot)
            assert getattr(pair.decoding, name) == value
        assert pair.steps == 17
        assert "greedy" in lines(screen_of(app).status)[0]
        for key, text, said in (("T", "-1", "not -1.0"), ("K", "few", "top-k is a whole number, not 'few'")):
            await pilot.press(key)
            await type_line(pilot, text)
            assert said in str(app.screen.query_one("#ask-hint").render())
            await pilot.press("escape")
        assert app.inspector.runs.generation.decoding == Decoding(
            17, seed=12, temperature=0.0, top_p=0.9, stop=True, top_k=40
        )
        await pilot.press("N")
        assert (await written(app, pilot)).decoding.seed == 13
        await pilot.press("p")
        app.screen.query_one(Input).value = "another prompt"
        await pilot.press("enter")
        await until(
            pilot,
            lambda: (
                app.inspector.runs.generation.pair and app.inspector.runs.generation.pair.prompt == "another prompt"
            ),
        )
        assert "another prompt" in lines(screen_of(app).base)[0]
        calls = session.calls.count("generate")
        await pilot.press("escape", "a")
        await pilot.pause()
        assert session.calls.count("generate") == calls, "what is written is shown again"


async def test_the_pace_reaches_the_engine_at_once(start: Start) -> None:
    async with start() as (app, pilot):
        await opened(app, pilot)
        state = app.inspector.runs.generation
        assert state.mailbox().pace == 12
        await pilot.press("plus", "plus", "plus")
        assert state.mailbox().pace == float("inf")
        assert "as fast as it can" in app.workspace.status.text
        await pilot.press(*["minus"] * 9)
        assert state.mailbox().pace == 2


async def test_looking_back_and_leaving(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        await pilot.press("space")
        pair = await opened(app, pilot)
        screen, state = screen_of(app), app.inspector.runs.generation
        assert "follows the text" in str(screen.steps.border_title)
        await pilot.press("h", "h", "l", "h")
        assert state.step == LENGTH - 3
        title = f"Token {LENGTH - 2} of {LENGTH}"
        assert title in str(screen.steps.border_title)
        here = [text for y in range(30) for text, role in screen.edited.line(y, 60)[0] if role == "here"]
        assert "".join(here).strip() == pair.edited.tokens[LENGTH - 3].text.strip()
        await pilot.press("escape")
        assert state.at is None
        assert app.screen is screen
        await pilot.click(screen.steps, offset=(12 + 4, 4))
        assert state.step == 4
        first = len(session.default_prompt) + 2 + pair.base.tokens[0].text.count(" ")
        await pilot.click(screen.base, offset=(first, 1))
        assert state.step == 0
        steps = Steps(session, 3)
        await pilot.press("escape", "r")
        await until(pilot, lambda: state.steps == 3)
        await pilot.press("escape")
        assert isinstance(app.screen, InspectScreen)
        steps.more(2)
        await until(pilot, lambda: state.steps == 5)
        assert app.workspace.is_busy, "it is written on though nobody looks"
        await pilot.press("a")
        assert screen_of(app).state.steps == 5
        await pilot.press("x")
        steps.more(1)
        await until(pilot, lambda: state.job is None)
        assert state.steps < LENGTH
        assert app.workspace.status.text.startswith("stopped after")


async def test_colours_are_by_either_head(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        await pilot.press("space")
        pair = await opened(app, pilot)
        screen, state = screen_of(app), app.inspector.runs.generation
        assert [state.p(said) for said in pair.edited.tokens] == [said.p for said in pair.edited.tokens]
        before = [screen.edited.line(y, 60) for y in range(30)]
        await pilot.press("b")
        assert [state.p(said) for said in pair.edited.tokens] == [said.p_base for said in pair.edited.tokens]
        assert [screen.edited.line(y, 60) for y in range(30)] != before
        assert "by unedited p" in "".join(lines(screen.steps))


async def test_saving_copying_and_the_command_line(start: Start, tmp_path: Path) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        pair = await opened(app, pilot)
        await pilot.press("e")
        await type_line(pilot, str(tmp_path / "out.json"))
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        document = json.loads((tmp_path / "out.json").read_text())
        assert document["model"] == "demo"
        assert document["first_difference"] == pair.first_difference
        assert document["edited"]["text"] == pair.edited.text
        assert [one["p"] for one in document["base"]["tokens"]] == [said.p for said in pair.base.tokens]
        text = (tmp_path / "out.txt").read_text()
        assert text.count(DIFFERS) == 2
        assert f"first difference: token {pair.first_difference + 1}" in text
        await pilot.press("y")
        assert "sent to the terminal's clipboard" in app.workspace.status.text
        await pilot.press("e")
        await type_line(pilot, str(tmp_path / "no" / "out"))
        assert "does not exist; make it first" in str(app.screen.query_one("#ask-hint", Static).render())
        await pilot.press("escape", "H")
        assert isinstance(app.screen, TextScreen)
    options = RunOptions(model="some/model", dtype="bfloat16", seed=3, positions=5)
    said = generate_lines(
        options, "it's", Intervention((1,)), Decoding(9, seed=4, temperature=0.5, top_p=0.9, top_k=3)
    ).splitlines()
    words = "tpe generate some/model --dtype bfloat16 --prompt X --intervention tpe-mask-model.json"
    words += " --length 9 --temperature 0.5"
    wanted = [*words.replace("X", "it's").split(), "--top-k", "3", "--top-p", "0.9", "--seed", "4"]
    assert shlex.split(said[-1]) == wanted
    exact = generate_lines(
        options, "x", Intervention(), Decoding(2_000_000, seed=20261122, temperature=0.123456789, top_p=0.12345678)
    )
    assert exact.endswith("--length 2000000 --temperature 0.123456789 --top-p 0.12345678 --seed 20261122")


async def test_the_command_line_has_the_length_written_and_says_that_the_edit_changed(start: Start) -> None:
    async with start(FakeSession(), size=(160, 48)) as (app, pilot):
        await opened(app, pilot, 7)
        app.inspector.runs.generation.decoding = Decoding(99)  # asked for since, not written
        said = screen_of(app).headless()
        assert "--length 7 " in said + " "
        assert "the edit has changed" not in said
        await pilot.press("space")
        assert "the edit has changed" in screen_of(app).headless()


async def test_failures_are_said_and_lose_nothing(start: Start) -> None:
    session = FakeSession()
    session.pair_fail = TpeError("demo is a masked model and continues no text: generate with a causal one.")
    async with start(session) as (app, pilot):
        await pilot.press("a")
        await until(pilot, lambda: app.inspector.runs.generation.problem)
        assert "continues no text" in "".join(lines(screen_of(app).base)) + app.inspector.runs.generation.problem
        assert "generating failed; r tries again" in app.workspace.status.text
        assert app.screen is screen_of(app)
        session.pair_fail = None
        await pilot.press("r")
        assert (await written(app, pilot)).finished
        count = app.inspector.runs.generation.steps
        session.pair_fail = RuntimeError("out of memory")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert app.inspector.runs.generation.steps == count
        await pilot.press("escape")
        assert app.screen is screen_of(app)


async def test_a_job_that_runs_is_not_disturbed(start: Start) -> None:
    session, going = FakeSession(), threading.Event()
    session.sweep_step = lambda: going.wait(20)
    async with start(session) as (app, pilot):
        await pilot.press("w", "r", "escape", "a")
        assert "Queued behind pruning sweep; J lists the jobs." in " ".join(lines(screen_of(app).base))
        going.set()
        await until(pilot, lambda: app.inspector.runs.sweep.job is None)
        assert (await written(app, pilot)).finished


async def test_ends_are_shown(start: Start) -> None:
    session = FakeSession()
    whole = expected(session, Decoding(LENGTH), Intervention())
    session.ends = frozenset({whole.base.tokens[8].token_id})
    async with start(session, size=(160, 48)) as (app, pilot):
        pair = await opened(app, pilot)
        screen = screen_of(app)
        assert pair.base.ended
        count = len(pair.base.tokens)
        assert count <= 9
        assert f"ended at {count}" in str(screen.base.border_title)
        assert lines(screen.base)[0].rstrip().endswith("∎") or "∎" in "".join(lines(screen.base))
        await pilot.press("enter")
        assert "both texts have ended" in app.workspace.status.text


async def test_a_step_whose_divergence_is_infinite_is_a_full_bar_and_no_empty_one(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        pair = await opened(app, pilot)
        tokens = [
            replace(said, kl=math.inf if step == 3 else 0.5 * (step == 5))
            for step, said in enumerate(pair.edited.tokens)
        ]
        state = app.inspector.runs.generation
        for shown in (tokens, [replace(said, kl=math.inf if step == 3 else 0.0) for step, said in enumerate(tokens)]):
            state.pair = replace(pair, edited=replace(pair.edited, tokens=tuple(shown)))
            pane = screen_of(app).query_one(StepPane)
            text = "".join(part for part, _ in pane._curve(0, 160))[12:]
            assert text[3] == "█"
            assert text[4] == "·"
