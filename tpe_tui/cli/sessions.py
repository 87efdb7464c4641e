"""`tpe sessions`: the inspector's sessions on this machine, opening one, its notebook, and removing one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_tui.cli.completion import one_of
from tpe_tui.cli.console import no_terminal, on_terminal, print_lines
from tpe_tui.cli.options import OUTPUT, takes
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from tpe_tui.shell.sessions import SessionStore

__all__ = ["SessionName", "complete_session", "is_given", "session_options", "sessions"]

LIST, OPEN, NOTES, DELETE = "list", "open", "notes", "delete"
ACTIONS = (LIST, OPEN, NOTES, DELETE)


def complete_session(incomplete: str) -> list[str]:
    """The names of sessions that begin so."""
    from tpe_tui.shell.sessions import SessionStore

    return [name for name in SessionStore().names() if name.startswith(incomplete)]


SessionName = Annotated[
    str | None,
    typer.Option(
        "--session",
        help="Open or begin a session of this name: its model, view and edit; default: one named from the model.",
        autocompletion=complete_session,
    ),
]


@takes(OUTPUT, rows_of("sessions", "notes"))
def sessions(
    action: Annotated[
        str,
        typer.Argument(
            help="list the sessions; open one; print its notes; delete one.", autocompletion=one_of(*ACTIONS)
        ),
    ] = LIST,
    name: Annotated[
        str | None, typer.Argument(help="Of open, notes and delete: which one.", autocompletion=complete_session)
    ] = None,
    *,
    json_: bool,
) -> None:
    """List the inspector's sessions, the last saved first; open one, print what was tried in it, or delete one."""
    from tpe_tui.cli.sessions_tables import listed, listing, listing_document
    from tpe_tui.shell.sessions import SessionError, SessionStore

    if action not in ACTIONS:
        raise typer.BadParameter(f"{action!r} is neither {', '.join(ACTIONS[:-1])} nor {DELETE}.")
    if (name is None) != (action == LIST):
        raise typer.BadParameter(f"{LIST} takes no name." if name else f"{action} takes the name of a session.")
    if json_ and action not in (LIST, NOTES):
        raise typer.BadParameter(f"--json is of `tpe sessions {LIST}` and `tpe sessions {NOTES}`.")
    store = SessionStore()
    if name is None:
        found = listed(store)
        if json_:
            print_json(listing_document(store, found))
        else:
            print_lines(listing(store, found))
        return
    if action == DELETE:
        store.delete(name)
        print_lines([f"The session {name} is removed."])
        return
    if action == NOTES:
        print_notes(store, name, as_json=json_)
        return
    session = store.read(name)
    if session is None:
        raise SessionError(f"there is no session {name}: tpe sessions lists them, tpe --session {name} begins it.")
    if store.is_open(name):
        raise SessionError(f"the session {name} is open in {store.holder(name)}: leave it there first.")
    open_session(session.options, name)


def print_notes(store: SessionStore, name: str, *, as_json: bool) -> None:
    """Print every edit that was tried in a session, with what it did, as Markdown or JSON. Raises `SessionError`."""
    from tpe_core.notebook import notebook_document, notebook_markdown
    from tpe_tui.shell.sessions import SessionError

    notes = store.read_notes(name)
    if not notes:
        there = (
            "has no notes yet: an edit is noted once its answer is seen" if name in store.names() else "is not there"
        )
        raise SessionError(f"the session {name} {there}; tpe sessions lists them.")
    if as_json:
        print_json(notebook_document(notes))
    else:
        print_lines(notebook_markdown(notes).splitlines())


def open_session(options: RunOptions, name: str) -> None:
    """Open the inspector with a session. Raises `TpeError` where there is no terminal to draw on."""
    if not on_terminal():
        raise TpeError(f"{no_terminal()}.")
    from tpe_tui.app import run_app

    raise typer.Exit(run_app(options, session_name=name))


def session_options(context: typer.Context, name: str, options: RunOptions) -> RunOptions:
    """The options of a session, but for those that the command line gives; `options` where it is a new one.

    Raises `SessionError` where the session is of another model than the command line.
    """
    from tpe_tui.shell.sessions import KEPT_OPTIONS, BrokenSessionError, SessionError, SessionStore, same_model

    try:
        found = SessionStore().read(name)
    except BrokenSessionError:  # the inspector says so and goes on without it
        return options
    if found is None:
        return options
    given = {each for each in KEPT_OPTIONS if is_given(context, each)}
    whole = replace(options, **{each: getattr(found.options, each) for each in KEPT_OPTIONS if each not in given})
    if not same_model(whole, found.options):
        raise SessionError(
            f"the session {name} is of {_model_words(found.options)}, not of {_model_words(whole)}: "
            "leave the model out, or give another --session."
        )
    return whole


def is_given(context: typer.Context, parameter: str) -> bool:
    """Whether the command line, or the environment, gives a parameter."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _model_words(options: RunOptions) -> str:
    parts = [options.model, options.revision, options.adapter, options.gguf_file]
    return " ".join(part for part in parts if part)
