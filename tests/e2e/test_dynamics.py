"""Training dynamics in a terminal: a run watched while it grows and when it dies, the bundled model's, the data out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Run
from tests.e2e.opening import opened
from tests.e2e.terminal import Terminal
from tpe_core.dynamics.probe_log import LogWriter

Open = Callable[..., Terminal]

START = {"frequencies": "9,000 tokens of a text, add-one smoothing", "fingerprint": "f", "tokens": 9000, "unseen": 2,
         "rows": 16, "total": 64}  # fmt: skip


def log_point(writer: LogWriter, step: int, r2: float) -> None:
    clock = {"probe_seconds": 0.5, "training_seconds": 100.0 + step}
    travel = {"all": step / 64, "mlp": step / 50}
    writer.write({"kind": "point", "name": f"step{step}", "step": step, "r2_adjusted": r2, "travel": travel, **clock})


def marks(term: Terminal) -> int:
    """How many marks of the encoding are on the plot; the table has one more, outside its axis."""
    return sum(line[8:].count("●") for line in term.screen().splitlines() if "│" in line or "┤" in line)


def drawn(term: Terminal, count: int) -> None:
    """Wait until there are so many: the plot is painted apart from the table."""
    term.until(lambda: marks(term) == count, f"{count} marks are drawn")


def test_a_run_is_watched_while_it_grows_and_when_it_dies(terminal: Open, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    term = terminal()
    term.start(f"tpe dynamics --follow {path}")
    term.wait("The run has logged nothing yet")
    writer = LogWriter(path, START, 0)
    log_point(writer, 0, 0.0)
    log_point(writer, 1, 0.0625)
    term.wait(r"step 1 .*● run\.jsonl followed…")
    term.wait(r"adj R².*● +0\.0625")
    term.wait("against 9,000 tokens of a text")
    drawn(term, 2)
    log_point(writer, 2, 0.125)
    log_point(writer, 4, 0.5)
    term.wait(r"adj R².*● +0\.5000")
    drawn(term, 4)
    term.keys("h")  # from now on the cursor is where it was put
    term.wait(r"^ step 2 ")
    log_point(writer, 8, 0.75)
    term.wait(r"adj R².*● +0\.1250 +0\.7500")
    term.wait("5 checkpoints")
    term.wait("x cancel")
    term.resize(160, 48)
    term.wait("distance from the first weights")
    term.wait(r"travel all +○ +0\.0312 +0\.1250")
    drawn(term, 5)
    term.resize(80, 24)
    writer.close()  # without an end: as if it had been killed
    term.wait("the run died after step 8 of 64")
    term.wait(r"adj R².*● +0\.1250 +0\.7500")
    term.wait_without("x cancel")
    term.keys("q")
    assert term.exit_code() == 0
    term.assert_clean()


def test_following_stops_on_request_and_goes_on(terminal: Open, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, START, 0)
    log_point(writer, 0, 0.0)
    term = terminal()
    term.start(f"tpe dynamics --follow {path}")
    term.wait("followed…")
    term.keys("x")
    term.wait("stopped: what is read stays; r reads on")
    log_point(writer, 1, 0.25)
    term.keys("r")
    term.wait(r"adj R².*● +0\.2500")
    writer.write({"kind": "end", "step": 1, "reason": "finished", "probe_seconds": 0.5, "training_seconds": 200.0})
    writer.close()
    term.wait("2 checkpoints read")
    term.keys("C-q")
    assert term.exit_code() == 0
    term.assert_clean()


def test_without_a_terminal_a_run_is_lines(tpe: Callable[..., Run], tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, START, 0)
    log_point(writer, 0, 0.0)
    log_point(writer, 1, 0.25)
    writer.write({"kind": "end", "step": 1, "reason": "finished", "probe_seconds": 0.5, "training_seconds": 200.0})
    writer.close()
    done = tpe("dynamics", "--follow", str(path))
    assert done.returncode == 0, done.stderr
    assert "0.250" in done.stdout
    assert "\x1b" not in done.stdout
    refused = tpe("dynamics", "--screen", "demo")
    assert refused.returncode == 2
    assert "needs a terminal" in refused.stderr


def test_the_bundled_models_dynamics_need_no_model_and_come_out_as_printed(
    terminal: Open, tpe: Callable[..., Run], tmp_path: Path
) -> None:
    printed = tpe("dynamics", "demo", "--json")
    assert printed.returncode == 0, printed.stderr
    document = json.loads(printed.stdout)
    half = document["halfway_step"]
    term = terminal()
    term.start("tpe dynamics demo --screen")
    term.wait(f"half-way R² · all +{half['encoding']:,} · {half['parameters']:,}")
    term.wait("25 checkpoints read")
    term.keys("n")
    term.wait(f"encoding half-way at step {half['encoding']}")
    point = next(each for each in document["checkpoints"] if each["step"] == half["encoding"])
    term.wait(rf"adj R².*{point['r2_adjusted']:.4f}")
    term.keys("y")
    term.wait("linear steps")
    path = tmp_path / "data.json"
    term.keys("e")
    term.answer("export the data to", str(path))
    term.wait("written to")
    assert json.loads(path.read_text()) == document
    term.keys("o")
    term.wait("add a source")
    term.type(str(tmp_path / "nowhere"))
    term.keys("Enter")
    term.wait(r"▲ nowhere failed")
    assert "Traceback" not in term.screen()
    term.keys("q")
    assert term.exit_code() == 0, "what could be read was read"
    term.assert_clean()


@pytest.mark.slow
def test_it_opens_in_the_inspector_and_goes_back(terminal: Open) -> None:
    term = terminal()
    opened(term)
    term.keys("D")
    term.wait("distance to the final weights")
    term.wait("25 checkpoints read")
    term.keys("Escape")
    term.wait("Next token")
    term.keys("q")
    assert term.exit_code() == 0
    term.assert_clean()
