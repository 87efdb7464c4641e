"""One registration adds an order, a replacement, a plot or a subcommand: help, completion and the screens show it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tests.tui.helpers import Start, lines, until
from tpe_core.corpus.domains import DOMAINS, UNSEEN
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS, Replacement
from tpe_core.errors import ManifestError, TpeError
from tpe_core.export.formats import FORMATS, Format, export, planned
from tpe_core.export.plan import Exported, Request, Verdict
from tpe_core.manifest.schema import DOMAIN_NAMES, MeasuredText
from tpe_core.metrics import AVERAGED, METRICS
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Progress, Steps, run
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.orders import ORDERS, Order
from tpe_core.pruning.pruned_head import fold
from tpe_core.pruning.results import Cost, PruningRequest
from tpe_core.registry import Registry
from tpe_core.session import LiveSession
from tpe_core.snapshots import EncodingTable
from tpe_tui.cli.main import COMMANDS, Command, main
from tpe_tui.inspector.plot_pane import PLOTS, PlotKind
from tpe_tui.widgets.canvas import Series
from tpe_tui.widgets.curve_style import mark_of
from tpe_tui.widgets.line_widget import Line

DOCS = Path(__file__).parents[2] / "docs"

Read = Callable[..., str]


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Read:
    """What a command line prints on stdout, as one line."""

    def printed(*words: str) -> str:
        monkeypatch.setenv("COLUMNS", "100")
        assert main(list(words)) == 0
        return " ".join(capsys.readouterr().out.split())

    return printed


@pytest.fixture
def complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The words that bash is offered at the end of a line."""

    def offered(line: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_TPE_COMPLETE", "complete_bash")
            patch.setenv("COMP_WORDS", line)
            patch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
            with pytest.raises(SystemExit):
                main([])
        return capsys.readouterr().out.split()

    return offered


def last_first(evidence: Evidence) -> np.ndarray:
    """A saliency that removes the last dimension first."""
    return -np.arange(evidence.analysis.model.head.hidden_size, dtype=float)


LAST_FIRST = Order(name="last-first", about="the last dimension goes first", saliency=last_first)


def test_an_order_is_measured_by_its_saliency(session: LiveSession) -> None:
    request = PruningRequest(orders=("last-first",), replacements=("zero",), reference=False, fractions=(0.0, 0.5))
    with ORDERS.registered(LAST_FIRST):
        (curve,) = run(session.sweep(request)).curves
    width = session.table.info.hidden_size
    assert curve.dims == tuple(reversed(range(width)))
    assert curve.mean("heldout", "kl")[1] > 0
    with pytest.raises(TpeError, match="unknown order 'last-first'"):
        run(session.sweep(request))


def test_an_order_is_in_the_help_and_in_completion(read: Read, complete: Callable[[str], list[str]]) -> None:
    with ORDERS.registered(LAST_FIRST):
        assert "component or last-first; repeatable" in read("prune", "--help")
        assert complete("tpe prune --order la") == ["last-first"]
    assert "last-first" not in read("prune", "--help")
    assert complete("tpe prune --order la") == []


async def test_an_order_is_chosen_and_drawn_on_the_sweep_screen(start: Start) -> None:
    with ORDERS.registered(LAST_FIRST):
        mark, _ = mark_of("last-first")
        assert mark not in {mark_of(name)[0] for name in ORDERS if name != "last-first"}
        async with start(size=(160, 48)) as (app, pilot):
            await pilot.press("w", "O", "k")
            await pilot.pause()
            listed = str(app.screen.query_one("#orders-list").render())
            assert f"▸[ ] {mark} last-first     the last dimension goes first" in listed
            await pilot.press("space", "enter", "r")
            await until(
                pilot,
                lambda: app.inspector.runs.sweep.job is None and app.inspector.runs.sweep.curve("last-first"),
            )
            table = lines(app.screen.query_one("CurveTable"))  # type: ignore[arg-type]
            assert any(row.startswith(f" {mark} last-first ") for row in table)


def documented(heading: str) -> list[tuple[str, str]]:
    """(name, about) of every row of the table under a heading of the page on the command line."""
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    part = page.partition(f"### {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", part, re.MULTILINE)
    return [(name, about.replace(r"\|", "|")) for name, about in rows]


def test_the_documentation_lists_every_order() -> None:
    assert documented("Orders") == [(order.name, order.about) for order in ORDERS.values()]


DOUBLE_MEAN = Replacement(
    name="double-mean",
    about="twice their means",
    they_become="twice their mean",
    it_becomes="becomes twice its mean",
    fill=lambda mean: 2 * mean,
)
PRUNED = (1, 4, 9)


def test_a_replacement_is_an_edit_with_its_own_distribution_and_file(session: LiveSession, tmp_path: Path) -> None:
    prompt, head, detection = session.default_prompt, session.analysis.model.head, session.analysis.detection
    means = detection.mean_hidden[list(PRUNED)]
    with REPLACEMENTS.registered(DOUBLE_MEAN):
        edit = Intervention(PRUNED, "double-mean")
        doubled = session.evaluate(prompt, edit)
        np.testing.assert_allclose(session.resolved(edit).constant, 2 * means)
        moved = fold(head, PRUNED, "double-mean", detection).constant - fold(head, PRUNED, "mean", detection).constant
        np.testing.assert_allclose(moved.numpy(), head.columns[list(PRUNED)].double().T.numpy() @ means, atol=1e-5)
        loaded = session.load(session.export(tmp_path / "mask.json", edit, prompt))
        assert session.evaluate(prompt, loaded).kl == pytest.approx(doubled.kl, abs=1e-9)
        assert session.resolved(loaded).constant.tolist() == session.resolved(edit).constant.tolist()
        run(session.prepare_forecast())
        assert session.forecast(edit).kl > 0
    assert doubled.kl != pytest.approx(session.evaluate(prompt, Intervention(PRUNED, "mean")).kl, rel=1e-6)
    with pytest.raises(ManifestError, match="input should be 'zero', 'mean', 'least-squares' or 'refit'"):
        session.load(tmp_path / "mask.json")


def test_a_replacement_is_swept(session: LiveSession) -> None:
    request = PruningRequest(orders=("slope",), replacements=("double-mean", "mean"), reference=False, fractions=(0.5,))
    with REPLACEMENTS.registered(DOUBLE_MEAN):
        assert PruningRequest().replacements == ("zero", "mean", "least-squares", "double-mean")
        result = run(session.sweep(request))
    double, mean = (result.curve("slope", name) for name in request.replacements)
    assert double is not None
    assert mean is not None
    assert double.mean("heldout", "kl")[0] > mean.mean("heldout", "kl")[0] > 0
    assert PruningRequest().replacements == ("zero", "mean", "least-squares")


def test_a_replacement_is_in_the_help_and_in_completion(read: Read, complete: Callable[[str], list[str]]) -> None:
    with REPLACEMENTS.registered(DOUBLE_MEAN):
        help_page = read("prune", "--help")
        assert "zero, mean, least-squares, double-mean, refit or distill (fitted at every point), rotate" in help_page
        assert complete("tpe prune --replace zero,do") == ["zero,double-mean"]
    assert "double-mean" not in read("prune", "--help")
    assert complete("tpe prune --replace do") == []


async def test_a_replacement_is_chosen_in_the_inspector_and_on_the_sweep_screen(start: Start) -> None:
    with REPLACEMENTS.registered(DOUBLE_MEAN):
        async with start(size=(160, 48)) as (app, pilot):
            await pilot.press("m", "m", "m")
            assert app.workspace.history.intervention.replacement == "double-mean"
            assert "pruned dimensions become twice their mean" in lines(app.inspector.strip)[0]
            await pilot.press("w", "r")
            await until(pilot, lambda: app.inspector.runs.sweep.job is None and app.inspector.runs.sweep.result)
            await pilot.press("m", "m", "m")
            assert app.inspector.runs.sweep.replacement == "double-mean"
            await pilot.pause()
            shown = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
            assert "removed becomes twice its mean" in shown
            await pilot.press("enter")
            assert app.workspace.history.intervention.replacement == "double-mean"
            assert app.workspace.history.intervention.pruned


def test_the_documentation_lists_every_replacement() -> None:
    assert documented("Replacements") == [(each.name, each.about) for each in REPLACEMENTS.values()]


def test_a_format_is_in_the_help_and_in_completion_and_is_written(
    read: Read, complete: Callable[[str], list[str]], session: LiveSession, tmp_path: Path
) -> None:
    def judge(model: LanguageModel, edit: ResolvedEdit) -> Verdict:
        return Verdict(format="nothing", holding="exactly", how="as nothing")

    def write(request: Request, verdict: Verdict) -> Steps[Exported]:
        yield Progress("write nothing", 0)
        return Exported(
            format="nothing", path=request.out, size=0, model="", revision=None, verdict=verdict, lost="", checked="",
            facts={},
        )  # fmt: skip

    nothing = Format(name="nothing", about="no file at all", check=lambda *_: None, judge=judge, write=write)
    edit = session.resolved(Intervention((1,)))
    request = Request(model=session.analysis.model, edit=edit, out=tmp_path)
    with FORMATS.registered(nothing):
        assert "nothing: no file at all" in read("bake", "--help")
        assert complete("tpe bake --to no") == ["nothing"]
        assert run(export(request, "nothing")).path == tmp_path
        assert planned(request.model, edit, "peft").instead[-1] == "nothing"
    assert "no file at all" not in read("bake", "--help")
    assert complete("tpe bake --to no") == []


def test_the_documentation_lists_every_format() -> None:
    assert documented("Formats") == [(each.name, each.about) for each in FORMATS.values()]


def diagonal(table: EncodingTable, pruned: np.ndarray) -> tuple[list[Series], str, str, Line]:
    """As many points as dimensions."""
    at = np.arange(len(pruned), dtype=float)
    return [Series(at, at, kind="dots", role="bar")], "across", "up", [("a diagonal", "bar")]


async def test_a_plot_has_a_tab_and_is_drawn(start: Start) -> None:
    with PLOTS.registered(PlotKind("diagonal", diagonal)):
        async with start(size=(160, 48)) as (app, pilot):
            plot = app.inspector.plot
            await pilot.press("3", "h")
            await pilot.pause()
            tabs, legend, *canvas = lines(plot)
            assert "[diagonal]" in tabs
            assert "a diagonal" in legend
            assert any("⠀" <= char <= "⣿" for row in canvas for char in row.strip())
            assert plot.copy_text().startswith("across\tup\n0.0\t0.0\n1.0\t1.0\n")
    async with start() as (app, pilot):
        await pilot.press("3")
        assert "diagonal" not in lines(app.inspector.plot)[0]
        assert app.inspector.plot.name_shown == "slopes"


def greet(name: str = "world") -> None:
    """Print one line."""
    print(f"hello {name}")


def test_a_subcommand_runs_and_is_in_the_help_and_in_completion(
    read: Read, complete: Callable[[str], list[str]]
) -> None:
    with COMMANDS.registered(Command(name="greet", about="Say hello.", run=greet)):
        assert "greet Say hello." in read("--help")
        assert read("greet", "--name", "you") == "hello you"
        assert complete("tpe gr") == ["greet"]
        assert complete("tpe greet --na") == ["--name"]
    assert "Say hello." not in read("--help")
    assert complete("tpe gr") == []


def test_texts_and_metrics_are_those_of_files_and_of_documents() -> None:
    assert tuple(DOMAINS) == DOMAIN_NAMES
    assert UNSEEN == ("heldout", "ood")
    recorded = {
        "domain",
        "text",
        "positions",
        "achieved",
        "achieved_by_set",
        *METRICS,
        "base_perplexity",
        "base_entropy",
    }
    assert set(MeasuredText.model_fields) == recorded
    assert {field.name for field in fields(Cost)} == set(AVERAGED) == {*METRICS, "nll"} - {"perplexity"}
    assert all(len(metric.short) <= len(metric.label) for metric in METRICS.values())
    assert [domain.adjective for domain in DOMAINS.values()] == ["local", "held-out", "out-of-domain"]


def test_a_name_is_registered_once_and_only_for_its_block() -> None:
    table: Registry[Order] = Registry("order", LAST_FIRST)
    with pytest.raises(ValueError, match="'last-first' is registered already"):
        table.register(LAST_FIRST)
    other = Order(name="other", about="", saliency=last_first)
    with pytest.raises(KeyError, match="out of the block"), table.registered(other):
        raise KeyError("out of the block")
    assert list(table) == ["last-first"]
    with pytest.raises(TpeError, match="unknown order 'other': choose one of last-first"):
        table.choose("other")


MIDDLE_KEY = """    Action("find.middle", "ctrl+g", "the dimension in the middle", "Find"),
"""
MIDDLE_ACTION = '''    def find_middle(self) -> None:
        """Go to the dimension in the middle."""
        self.frame.dims.go(self.frame.dims.n_rows // 2)

'''
PRESSED = """
import asyncio
import sys
from pathlib import Path

sys.path.append(sys.argv[1])
from tests.tui.fakes import FakeSession, opening
import tpe_tui
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.palette import TpeCommands

assert Path(tpe_tui.__file__).is_relative_to(Path(__file__).parent)


async def press() -> None:
    app = TpeApp(
        RunOptions(), state_dir=Path("state"), opener=opening(FakeSession()), keys_file=Path("keys"), lister=list
    )
    async with app.run_test(size=(120, 200)) as pilot:
        while app.workspace.session is None:
            await pilot.pause(0.01)
        await pilot.press("ctrl+g")
        print("cursor", app.inspector.dims.cursor, "of", app.inspector.dims.n_rows)
        print("palette", [hit.text for hit in [hit async for hit in TpeCommands(app.screen).discover()]])
        await pilot.press("?")
        await pilot.pause()
        table = app.screen.query_one("#help-table")
        drawn = [strip.text for strip in table.render_lines(table.size.region)]
        print("help", [line.strip() for line in drawn if "in the middle" in line])
    app.host.stop()


asyncio.run(press())
"""


def test_a_key_with_its_action_is_a_line_in_one_file_and_a_method_in_another(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    shutil.copytree(root / "tpe_tui", tmp_path / "tpe_tui", ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, more in (
        ("keymap.py", '    Action("find.filter",', MIDDLE_KEY),
        ("inspector/browse_actions.py", "    def find_filter(self)", MIDDLE_ACTION),
    ):
        file = tmp_path / "tpe_tui" / name
        text = file.read_text()
        assert text.count(before) == 1
        file.write_text(text.replace(before, more + before))
    (tmp_path / "press.py").write_text(PRESSED)
    words = [sys.executable, "press.py", str(root)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    cursor, palette, listed = done.stdout.splitlines()
    assert cursor == "cursor 32 of 64"
    assert "Find: the dimension in the middle  [^g]" in palette
    assert "^g" in listed
    assert "the dimension in the middle" in listed
