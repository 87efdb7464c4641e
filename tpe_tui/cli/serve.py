"""`tpe serve`: the inspector in a browser, from one process with one loaded model."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.errors import TpeError
from tpe_core.options import DEMO
from tpe_tui.browser.address import LOOPBACK, check_host, is_loopback, new_token, shown_address
from tpe_tui.cli.console import print_lines, say
from tpe_tui.cli.options import LOADING, READING, Model, run_options, takes

if TYPE_CHECKING:
    from tpe_core.options import RunOptions
    from tpe_tui.browser.server import BrowserServer

__all__ = ["serve"]

PORT = 8000
NEEDED = ("aiohttp", "textual_serve")


@takes(LOADING | READING | {"debug"})
def serve(
    context: typer.Context,
    model: Model = DEMO,
    host: Annotated[str, typer.Option(help="The address to listen at; other machines need --allow-remote.")] = LOOPBACK,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes any that is free.")
    ] = PORT,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Listen at a --host that other machines reach, over plain HTTP."),
    ] = False,
    theme: Annotated[
        str | None, typer.Option(help="The colours: dark, light, ansi; default: $TPE_THEME, else dark.")
    ] = None,
) -> None:
    """Serve the inspector to browsers, until Ctrl-C.

    The address that is printed holds a random token; without it nothing is answered. Every page is a view of its own:
    its prompt, edits and session. All views share one engine, which loads each model once; their jobs take turns.
    """
    options = run_options(context)
    if allow_remote and is_loopback(host):
        raise typer.BadParameter("--allow-remote is for a --host that other machines reach: give one, or leave it out.")
    check_host(host, allow_remote)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise TpeError("tpe serve needs textual-serve, which is not installed: `pip install 'tpe-tui[serve]'`.")
    os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "truecolor")  # a browser has all colours, whatever this terminal has
    import asyncio

    token = new_token()
    server = _server(options, theme, token)

    def announce(taken: int) -> None:
        print_lines(
            [
                shown_address(host, taken, token),
                "Open this address in a browser. Whoever has it uses tpe as you. Ctrl-C ends all views.",
            ]
        )
        if not is_loopback(host):
            say(f"listening at {host} over plain HTTP: who reads the traffic has the token. ssh -L is safer.")

    asyncio.run(server.serve(host, port, announce))


def _server(options: RunOptions, theme: str | None, token: str) -> BrowserServer:
    """A server of views on one shared engine. Raises `TpeError` where there is no such theme."""
    from tpe_tui.app import TpeApp
    from tpe_tui.browser.server import BrowserServer
    from tpe_tui.engine.shared import SharedEngine, SharedModels
    from tpe_tui.shell.responsive import stay_responsive
    from tpe_tui.shell.theme import theme_of

    stay_responsive()
    engine, models, colours = SharedEngine(), SharedModels(options), theme_of(theme, os.environ)

    def make_app() -> TpeApp:
        app = TpeApp(options, opener=models.open, engine=engine.view, offers_tour=True)
        app.suit(False, False, colours)
        return app

    return BrowserServer(make_app, engine, token, say)
