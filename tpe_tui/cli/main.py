"""The command line: `tpe [MODEL]` opens the inspector, subcommands run the same engine headless.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs it, so that
the inspector's first frame does not wait for torch.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tpe_core.edits.intervention import Intervention
from tpe_core.errors import FAILED, INTERRUPTED, USAGE, TpeError
from tpe_core.options import DEMO, RunOptions
from tpe_core.outputs import shown_path
from tpe_core.registry import Registry
from tpe_core.streams import OutputError, check_arguments, with_standard_streams
from tpe_tui.cli.command_group import OPEN, CommandGroup, first_word
from tpe_tui.cli.completion import one_of
from tpe_tui.cli.console import drive, load, no_terminal, on_terminal, say, warn_if_busy
from tpe_tui.cli.conversion import LeanCommand
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Chat, Model, run_options, takes
from tpe_tui.cli.sessions import SessionName, is_given, session_options
from tpe_tui.cli.table_output import facts_of, print_json, rows_of

__all__ = ["COMMANDS", "THEME_NAMES", "Command", "command_line", "main"]

THEME_NAMES = ("dark", "light", "ansi")
"""What `--theme` takes: the names of `tpe_tui.shell.theme.THEMES`, which the help does not wait for."""


OF_MODEL = ("revision", "adapter", "task", "gguf_file", "vocabulary")
"""The options that are about one model: with them, no list of models is shown first."""


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        sys.stdout.write(f"tpe {version('tpe-tui')}\n")
        raise typer.Exit


def tpe(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """Hold what stands before any command."""


@takes(LOADING | READING | OUTPUT, rows_of("dimensions"))
def open_inspector(
    context: typer.Context,
    model: Model = DEMO,
    mask: Annotated[Path | None, typer.Option(help="Open with a saved mask (JSON).")] = None,
    prompt: Annotated[str, typer.Option(help="The text whose next token is shown.")] = "",
    chat: Chat = False,
    session: SessionName = None,
    ascii_only: Annotated[
        bool | None,
        typer.Option(
            "--ascii/--no-ascii", help="Draw in ASCII, or not; default: as the locale says.", show_default=False
        ),
    ] = None,
    theme: Annotated[
        str | None,
        typer.Option(
            autocompletion=one_of(*THEME_NAMES),
            help="The inspector's colours; default: $TPE_THEME, else as the terminal says of its background.",
            show_default=False,
        ),
    ] = None,
    *,
    json_: bool,
) -> None:
    """Open the inspector, or print the analysis where there is no terminal to draw on."""
    options = run_options(context)
    if json_ and (mask is not None or prompt or chat):
        raise typer.BadParameter("--json prints the analysis alone: leave out --mask, --prompt and --chat.")
    if session is not None:
        if json_ or not on_terminal():
            raise typer.BadParameter("--session is of the inspector, which needs a terminal: leave it out.")
        options = session_options(context, session, options)
    if mask is not None:
        from tpe_core.manifest.manifest import read_manifest

        read_manifest(mask)  # what can be refused before the model is loaded
    if not (json_ or on_terminal() or "-" in options.text):
        say(f"{no_terminal()}; this is the analysis.")
    if json_ or not on_terminal() or "-" in options.text:
        _print_analysis(options, json_, mask, prompt, chat)
        return
    from tpe_tui.app import run_app

    names_model = any(is_given(context, name) for name in ("model", *OF_MODEL))
    code = run_app(
        options, mask, prompt, ascii_only=ascii_only, chat=chat, session_name=session, theme=theme,
        asks_model=not (names_model or mask is not None or prompt or chat or session is not None),
    )  # fmt: skip
    raise typer.Exit(code)


@takes(LOADING | {"text", "text_field"} | OUTPUT, facts_of)
def check(
    context: typer.Context,
    model: Model = DEMO,
    precision: Annotated[
        bool, typer.Option("--precision", help="Measure what it costs that logits are computed in the model's dtype.")
    ] = False,
    positions: Annotated[
        int | None, typer.Option(min=1, help="Predicted positions to measure --precision at.  [default: 1024]")
    ] = None,
    *,
    json_: bool,
) -> None:
    """Load a model, measure its head, print the card; exit code 1 where it is unsupported."""
    from tpe_tui.cli.tables import print_check

    options = run_options(context)
    if not precision and (positions is not None or options.text or options.text_field is not None):
        raise typer.BadParameter("--text, --text-field and --positions are for --precision: add it, or leave them out.")
    loaded = load(options, reads_text=precision or options.vocabulary is None)
    card = loaded.card()
    if precision and loaded.report.supported:
        from tpe_core.corpus.sources import text_source
        from tpe_core.detection.precision import POSITIONS, head_precision

        source = text_source(options.text, text_field=options.text_field, offline=options.offline)
        card["precision"] = drive(head_precision(loaded, source, positions or POSITIONS)).to_dict()
    if json_:
        print_json(card)
    else:
        print_check(card)
    if not loaded.report.supported:
        raise typer.Exit(FAILED)


@takes(LOADING | READING | OUTPUT, rows_of("dimensions"))
def analyze(
    context: typer.Context,
    model: Model = DEMO,
    *,
    json_: bool,
) -> None:
    """Run the analysis headless."""
    _print_analysis(run_options(context), json_)


def _print_analysis(
    options: RunOptions, as_json: bool, mask: Path | None = None, prompt: str = "", chat: bool = False
) -> None:
    from tpe_core.session import open_session
    from tpe_tui.cli.tables import print_analysis, print_next_tokens

    session = drive(open_session(options))
    for warning in session.warnings:
        say(warning)
    warn_if_busy(session.table.info.device)
    drive(session.keep_view())  # so that the inspector shows it at once
    if as_json:
        print_json(session.analysis.to_dict())
        return
    print_analysis(session.analysis)
    if mask is not None or prompt or chat:
        edit = session.load(mask) if mask is not None else Intervention()
        prompt = prompt or session.default_prompt
        print_next_tokens(session.evaluate(session.chat_prompt(prompt) if chat else prompt, edit), session.table)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A subcommand: what is typed, the line that describes it in the help, and the function with its options.

    A function of another module is named, as ``module:function`` of this package, and imported with its command.
    """

    name: str
    about: str
    run: Callable[..., None] | str
    is_hidden: bool = False  # whether the help and completion leave it out

    @property
    def function(self) -> Callable[..., None]:
        """What the command runs; its parameters are its options."""
        if not isinstance(self.run, str):
            return self.run
        module, _, name = self.run.partition(":")
        found: Callable[..., None] = getattr(importlib.import_module(f"tpe_tui.cli.{module}"), name)
        return found


COMMANDS: Registry[Command] = Registry(
    "command",
    Command(
        name=OPEN,
        about="Open the inspector (what `tpe [MODEL]` does); without a terminal, print the analysis.",
        run=open_inspector,
    ),
    Command(
        name="check",
        about="Print the output head's report card: what it is, and whether the engine is right about it.",
        run=check,
    ),
    Command(
        name="analyze", about="Print the fit, the components, the sparsity and the ranked dimensions.", run=analyze
    ),
    Command(
        name="dynamics",
        about="Measure when a training run's output embedding learned token frequencies, and print it.",
        run="dynamics:dynamics",
    ),
    Command(
        name="steer",
        about="Steer tokens and print asked and achieved ratios, on three texts, with what they cost.",
        run="steer:steer",
    ),
    Command(
        name="prune",
        about="Prune dimensions in several orders and print what it costs, or the most that a budget allows.",
        run="prune:prune",
    ),
    Command(
        name="generate",
        about="Continue a prompt with a model and with its edit, on the same random numbers.",
        run="generate:generate",
    ),
    Command(
        name="bake",
        about="Bake a saved intervention into a Hugging Face folder, verified after loading it back.",
        run="bake:bake",
    ),
    Command(name="apply", about="The former name of `tpe bake`.", run="bake:bake", is_hidden=True),
    Command(
        name="eval",
        about="Run lm-evaluation-harness tasks on a model, unedited and under a saved edit.",
        run="eval:evaluate",
    ),
    Command(
        name="transfer",
        about="Print what a saved mask costs on another revision or fine-tune of the same width.",
        run="transfer:transfer",
    ),
    Command(
        name="train-on",
        about="Train on from an edited and from the unedited model, and print whether the edit stays sound.",
        run="train_on:train_on",
    ),
    Command(
        name="vocabulary",
        about="Choose the rows of a draft head for speculative decoding, and print what they hold on three texts.",
        run="vocabulary:vocabulary",
    ),
    Command(
        name="kl",
        about="Compare two models of one tokenizer exactly: KL, flips, perplexity, and which tokens carry it.",
        run="kl:kl",
    ),
    Command(
        name="compare",
        about="Put models side by side: how well, how sparsely and where each encodes token probability.",
        run="compare:compare",
    ),
    Command(
        name="sparsity",
        about="Show which choices of a model and its training decide how sparse the encoding is; train such a grid.",
        run="sparsity:sparsity",
    ),
    Command(
        name="report",
        about="Write every figure of the paper for a model into a folder: a page, pictures, and the data behind them.",
        run="report:report",
    ),
    Command(
        name="atlas",
        about="List the tokens that are worst fitted, never seen, barely trained, unreachable or entangled.",
        run="atlas:atlas",
    ),
    Command(
        name="show",
        about="Print a saved intervention as a person reads it; --on MODEL runs its self-test there.",
        run="manifest:show",
    ),
    Command(name="diff", about="Compare two saved interventions, A and B.", run="manifest:diff"),
    Command(
        name="schema",
        about="Print the JSON Schema of saved interventions, or of a command's --json document.",
        run="manifest:schema",
    ),
    Command(
        name="doctor",
        about="Print what tpe finds on this machine, for a bug report, and what to do where something hurts.",
        run="doctor:doctor",
    ),
    Command(name="cache", about="List what is stored on this machine, or prune it.", run="cache:cache"),
    Command(
        name="sessions",
        about="List the inspector's sessions, open one (also tpe --session NAME), print its notes, or delete one.",
        run="sessions:sessions",
    ),
    Command(
        name="serve",
        about="Serve the inspector to browsers on this machine, at an address with a random token.",
        run="serve:serve",
    ),
    Command(
        name="keys",
        about="Print every key with the name that keys.toml has for it, and what is wrong in keys.toml.",
        run="keys:keys",
    ),
    Command(
        name="demo train",
        about="Rebuild the bundled model from installed packages' docstrings; resumes where it was stopped.",
        run="demo:train",
    ),
)
"""The subcommands in the order of the help, a new one is one entry; a name of two words lies in one of `GROUPS`."""

GROUPS = {"demo": "The bundled model."}


def _needed(words: Sequence[str]) -> list[Command]:
    """The commands that a command line can mean; making all the others takes a tenth of a second."""
    first = first_word(words)
    if first is None or first.startswith("-"):  # the help names them all
        return list(COMMANDS.values())
    return [command for command in COMMANDS.values() if command.name.split(" ")[0] in (OPEN, first)]


def command_line(words: Sequence[str] | None = None) -> typer.Typer:
    """The program with every command of `COMMANDS`, or with those that the words of a command line can mean."""
    app = typer.Typer(
        name="tpe",
        cls=CommandGroup,
        help="Inspect which dimensions of a language model's output embedding encode token probability.\n\n"
        "`tpe [MODEL]` opens the inspector; MODEL is a hub id, a local folder, a GGUF file, or `demo` (the default, "
        "bundled).",
        no_args_is_help=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(tpe)
    groups = {
        name: typer.Typer(cls=CommandGroup, help=about, rich_markup_mode=None, no_args_is_help=True)
        for name, about in GROUPS.items()
    }
    for command in COMMANDS.values() if words is None else _needed(words):
        group, _, name = command.name.rpartition(" ")
        add = (groups[group] if group else app).command
        add(name, cls=LeanCommand, help=command.about, hidden=command.is_hidden)(command.function)
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(20_000, 10, 10)  # less often than at 700: what torch imports stays
    if "_TPE_COMPLETE" not in os.environ:
        return with_standard_streams(lambda: _run(arguments), say)
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"  # a shell asks for completions: one to a line, however long its help is
    try:
        return with_standard_streams(lambda: _run(arguments), say)
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        check_arguments(arguments)
    except TpeError as error:
        say(str(error))
        return USAGE
    try:
        needed = None if "_TPE_COMPLETE" in os.environ else arguments
        code = command_line(needed)(arguments, standalone_mode=False, prog_name="tpe")
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer turns the interrupt into an exit code
            say("interrupted.")
    except OutputError:
        raise
    except TpeError as error:
        if debug:
            raise
        say(str(error))
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted.")
        return INTERRUPTED
    except Exception as error:
        usage = getattr(error, "exit_code", None)  # typer's usage errors, whichever click they come from
        if usage is not None and hasattr(error, "format_message"):
            error.show()  # type: ignore[attr-defined]
            return int(usage)
        if debug:
            raise
        if isinstance(error, OSError) and error.strerror:  # a disk that is full, a folder that is read-only
            where = f"{shown_path(Path(error.filename))}: " if isinstance(error.filename, str) else ""
            say(f"{where}{error.strerror}; what was being written there is not, run it again once that is mended.")
            return FAILED
        say(f"unexpected {type(error).__name__}: {error}; run again with --debug and report it.")
        return FAILED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
