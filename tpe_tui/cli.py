"""The command line: `tpe [MODEL]` opens the inspector, subcommands run the same engine headless.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs it, so that
the inspector's first frame does not wait for torch.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tpe_core.errors import TpeError
from tpe_core.intervention import Intervention
from tpe_core.options import DEMO, RunOptions

if TYPE_CHECKING:
    from tpe_core.progress import Steps

__all__ = ["main"]

T = TypeVar("T")

OPEN = "inspect"  # the command that a bare `tpe [MODEL]` means
FAILED, INTERRUPTED = 1, 130
FLAGS = ("--debug", "--json", "--no-cache", "--offline", "--trust-remote-code")  # may stand before a command

app = typer.Typer(
    name="tpe",
    help="Inspect which dimensions of a language model's output embedding encode token probability.\n\n"
    "`tpe [MODEL]` opens the inspector; MODEL is a hub id, a local folder, or `demo` (the default, bundled).",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
demo = typer.Typer(help="The bundled model.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(demo, name="demo")

Model = Annotated[str, typer.Argument(help="Hub id, local folder, or demo.", show_default=True)]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU where there is one.")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16, float16; default: the checkpoint's on a GPU, float32 on a CPU.")
]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", help="A text file or folder, or - for stdin; repeatable. Default: built-in."),
]
Positions = Annotated[int, typer.Option(min=1, help="Next-token positions to average over.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Torch threads; on a shared machine fewer can be much faster.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write cached detections.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the hub; use what is in its local cache.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Read it first.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")]

POSITIONS = RunOptions().positions


@app.command(OPEN, help="Open the inspector (what `tpe [MODEL]` does); without a terminal, print the analysis.")
def open_inspector(
    model: Model = DEMO,
    mask: Annotated[Path | None, typer.Option(help="Open with a saved mask (JSON).")] = None,
    prompt: Annotated[str, typer.Option(help="The text whose next token is shown.")] = "",
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    text: Texts = None,
    positions: Positions = POSITIONS,
    seed: Seed = 0,
    threads: Threads = None,
    no_cache: NoCache = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Open the inspector, or print the analysis where there is no terminal to draw on."""
    options = _options(
        model, revision, device, dtype, text, positions, seed, threads, no_cache, offline, trust_remote_code
    )
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"
    if json_ and (mask is not None or prompt):
        raise typer.BadParameter("--json prints the analysis alone: leave out --mask and --prompt.")
    if json_ or not terminal or "-" in options.text:
        _print_analysis(options, json_, mask, prompt)
        return
    from tpe_tui.app import run_app

    raise typer.Exit(run_app(options, mask, prompt))


@app.command(help="Print the output head's report card: what it is, and whether the engine is right about it.")
def check(
    model: Model = DEMO,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    threads: Threads = None,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Load a model, measure its head, print the card; exit code 1 where it is unsupported."""
    from tpe_core.model import load_model
    from tpe_tui.report import print_check

    report = load_model(
        _options(model, revision, device, dtype, None, POSITIONS, 0, threads, True, offline, trust_remote_code)
    ).report
    if json_:
        _print_json(report.to_dict())
    else:
        print_check(report)
    if not report.supported:
        raise typer.Exit(FAILED)


@app.command(help="Print the fit, the components, the sparsity and the ranked dimensions.")
def analyze(
    model: Model = DEMO,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    text: Texts = None,
    positions: Positions = POSITIONS,
    seed: Seed = 0,
    threads: Threads = None,
    no_cache: NoCache = False,
    offline: Offline = False,
    trust_remote_code: Trust = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Run the analysis headless."""
    _print_analysis(
        _options(model, revision, device, dtype, text, positions, seed, threads, no_cache, offline, trust_remote_code),
        json_,
    )


@demo.command(help="Rebuild the bundled model from installed packages' docstrings; resumes where it was stopped.")
def train(
    out: Annotated[Path, typer.Option(help="Working folder; the model lands in its model/.")] = Path("tpe-demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer steps than the recipe's, for a try.")] = None,
    threads: Threads = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Train the bundled model's recipe."""
    import dataclasses

    from tpe_core.demo.recipe import Recipe
    from tpe_core.demo.train import train as train_demo
    from tpe_tui.report import print_training

    recipe = Recipe() if steps is None else dataclasses.replace(Recipe(), steps=steps)
    record = _run(train_demo(out, recipe, threads=threads))
    if json_:
        _print_json(record)
    else:
        print_training(record, out)


def _options(
    model: str,
    revision: str | None,
    device: str | None,
    dtype: str | None,
    text: list[str] | None,
    positions: int,
    seed: int,
    threads: int | None,
    no_cache: bool,
    offline: bool,
    trust_remote_code: bool,
) -> RunOptions:
    return RunOptions(
        model=model,
        revision=revision,
        device=device,
        dtype=dtype,
        text=tuple(text or ()),
        positions=positions,
        seed=seed,
        cache=not no_cache,
        offline=offline,
        trust_remote_code=trust_remote_code,
        threads=threads,
    )


def _print_analysis(options: RunOptions, as_json: bool, mask: Path | None = None, prompt: str = "") -> None:
    from tpe_core.live import open_session
    from tpe_tui.report import print_analysis, print_next_tokens

    session = _run(open_session(options))
    for warning in session.warnings:
        _say(warning)
    if as_json:
        _print_json(session.analysis.to_dict())
        return
    print_analysis(session.analysis)
    if mask is not None or prompt:
        edit = session.load(mask) if mask is not None else Intervention()
        print_next_tokens(session.evaluate(prompt or session.default_prompt, edit), session.table)


def _run(steps: Steps[T]) -> T:
    """Drive a job with its progress on stderr."""
    from tpe_tui.report import ProgressLine

    line = ProgressLine(sys.stderr)
    while True:
        try:
            line.show(next(steps))
        except StopIteration as stop:
            line.close()
            result: T = stop.value
            return result
        except BaseException:
            line.close()
            raise


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _say(sentence: str) -> None:
    from tpe_tui.format import escape_controls

    sys.stderr.write(f"tpe: {escape_controls(sentence)}\n")


def _arguments(arguments: list[str]) -> list[str]:
    """What typer is to parse: a bare `tpe [MODEL] [OPTIONS]` is the inspect command, and so is `tpe demo`."""
    at = next((i for i, word in enumerate(arguments) if word not in FLAGS), len(arguments))
    flags, rest = arguments[:at], arguments[at:]
    if rest[:1] in (["--help"], ["check"], ["analyze"], [OPEN]):
        return [*rest, *flags]
    if rest[:2] in (["demo", "train"], ["demo", "--help"]):
        return [*rest, *flags]
    return [OPEN, *arguments]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        if arguments[:1] == ["--version"]:
            import importlib.metadata

            sys.stdout.write(f"tpe {importlib.metadata.version('tpe-tui')}\n")
            code = 0
        else:
            code = app(_arguments(arguments), standalone_mode=False, prog_name="tpe")
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer turns the interrupt into an exit code
            _say("interrupted.")
    except TpeError as error:
        if debug:
            raise
        _say(str(error))
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        usage = getattr(error, "exit_code", None)  # typer's usage errors, whichever click they come from
        if usage is not None and hasattr(error, "format_message"):
            error.show()  # type: ignore[attr-defined]
            return int(usage)
        if debug:
            raise
        _say(f"unexpected {type(error).__name__}: {error}; run again with --debug and report it.")
        return FAILED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
