"""The server of `tpe serve`: a page with a terminal, a WebSocket for each view, one engine and model behind them all.

Every view is an app in this process. Every request needs the token as the first part of its path; nothing is
answered without it. The terminal in the page is textual-serve's.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from tpe_core.errors import TpeError
from tpe_core.json_text import parse_json
from tpe_tui.browser.address import is_token
from tpe_tui.browser.driver import BrowserDriver

if TYPE_CHECKING:
    from tpe_tui.engine.shared import SharedEngine
    from tpe_tui.shell.engine_app import EngineApp

__all__ = ["BrowserServer"]

HERE = Path(__file__).parent
FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REFUSED = "This address has no valid token: open the one that tpe serve printed.\n"
HEARTBEAT_SECONDS = 15.0
LARGEST_MESSAGE = 2**22  # bytes, of what a browser sends: a long text that is pasted
MOST_WAITING = 2**23  # characters that a view may wait to draw, before its browser counts as gone
LEAVE_SECONDS = 5.0  # for a view to save and end
CLOSE_SECONDS = 0.5  # for what is left of connections, once every view has left

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
AppMaker = Callable[[], "EngineApp"]


class _Outbox:
    """What a view draws, sent as one message as soon as the browser takes it."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._waiting: list[str] = []
        self._size = 0
        self._changed = asyncio.Event()
        self.is_closed = False

    def write(self, text: str) -> None:
        """Queue what is drawn; a browser that takes nothing has no more of it."""
        if self.is_closed:
            return
        self._waiting.append(text)
        self._size += len(text)
        self.is_closed = self._size > MOST_WAITING
        self._changed.set()

    async def send(self) -> None:
        """Send until the browser is gone."""
        with suppress(ConnectionError):
            while not self.is_closed:
                await self._changed.wait()
                self._changed.clear()
                text, self._size = "".join(self._waiting), 0
                self._waiting.clear()
                await self._socket.send_bytes(text.encode("utf-8", "replace"))
        self.is_closed = True
        await self._socket.close()


class BrowserServer:
    """Serves views that `make_app` makes, on one shared `engine`, to whoever has the `token`.

    `complain` is told sentences for the person at the server's terminal.
    """

    def __init__(self, make_app: AppMaker, engine: SharedEngine, token: str, complain: Callable[[str], object]) -> None:
        self._make_app = make_app
        self._engine = engine
        self._token = token
        self._complain = complain
        self._apps: set[EngineApp] = set()
        self._streams = sys.stdout, sys.stderr

    def application(self) -> web.Application:
        """What answers requests."""
        application = web.Application(middlewares=[self._guard])
        for name in FILES:
            application.router.add_get(f"/{{token}}/{name}", self._file)
        application.router.add_get("/{token}/ws", self._view)
        application.router.add_get(r"/{token}/static/{path:[\w./-]+}", self._static)
        return application

    async def serve(self, host: str, port: int, announce: Callable[[int], object]) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP; `announce` is told the port. Raises `TpeError` where it cannot."""
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stopped.set)
        runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, host.strip("[]"), port)
            try:
                await site.start()
            except OSError as error:
                raise _not_listening(host, port, error) from None
            self._engine.start()
            announce(runner.addresses[0][1])
            await stopped.wait()
        finally:
            await self._end_views()
            await runner.cleanup()
            await asyncio.to_thread(self._engine.stop)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer only who has the token, whatever is asked for."""
        given = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
        if not is_token(given, self._token):
            return web.Response(status=403, text=REFUSED, headers=HEADERS)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return web.Response(status=403, text="This page is of another server.\n", headers=HEADERS)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """The page, its style and its script."""
        name, kind = FILES[request.path.split("/", 2)[2]]
        return web.Response(text=(HERE / name).read_text(encoding="utf-8"), content_type=kind, charset="utf-8")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        """A file of textual-serve's terminal: nothing comes from another server."""
        static = _static_folder()
        path = (static / request.match_info["path"]).resolve()
        if not (path.is_relative_to(static) and path.is_file()):
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _view(self, request: web.Request) -> web.StreamResponse:
        """Run an app for as long as its WebSocket is open."""
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=LARGEST_MESSAGE)
        await socket.prepare(request)
        outbox = _Outbox(socket)
        cells = _cells(request.query.get("width"), 80), _cells(request.query.get("height"), 24)
        app = self._make_app()
        app.driver_class = partial(BrowserDriver, send=outbox.write, cells=cells)  # type: ignore[assignment]
        self._apps.add(app)
        sending = asyncio.create_task(outbox.send())
        running = asyncio.create_task(self._run(app))
        running.add_done_callback(lambda _: asyncio.ensure_future(socket.close()))
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    with suppress(ValueError, TypeError, LookupError):  # what is no envelope means nothing
                        await _hear(app, socket, parse_json(message.data))
        finally:
            outbox.is_closed = True
            sending.cancel()
            await asyncio.shield(self._end(app, running))  # also where the connection's end ends this handler
        return socket

    async def _run(self, app: EngineApp) -> None:
        """Run an app to its end; a mistake of its own ends this view alone."""
        value = await app.run_async()
        if value is None:
            with suppress(Exception):
                app.save()
            self._complain("a view was stopped by a mistake of its own; the others go on.")
        for sentence in app.unsaved:
            self._complain(sentence)

    async def _end(self, app: EngineApp, running: asyncio.Task[None]) -> None:
        """Let an app save and leave, in time."""
        for _ in range(int(LEAVE_SECONDS / 0.05)):
            if running.done() or app.leave_soon(0):  # it may not have begun yet
                break
            await asyncio.sleep(0.05)
        await asyncio.wait([running], timeout=LEAVE_SECONDS)
        running.cancel()
        app.host.stop()
        self._apps.discard(app)
        if not self._apps:
            sys.stdout, sys.stderr = self._streams  # what apps that ran beside each other have left there

    async def _end_views(self) -> None:
        """Let every view leave; their sockets close with them."""
        for app in list(self._apps):
            app.leave_soon(0)
        for _ in range(int(LEAVE_SECONDS / 0.05)):
            if not self._apps:
                return
            await asyncio.sleep(0.05)


def _static_folder() -> Path:
    """Where textual-serve keeps its terminal."""
    import textual_serve

    return (Path(textual_serve.__file__).parent / "static").resolve()


async def _hear(app: EngineApp, socket: web.WebSocketResponse, envelope: list[object]) -> None:
    """Hand what the browser said to the app."""
    driver = app._driver
    match envelope:
        case ["ping", sent]:
            await socket.send_json(["pong", sent])
        case _ if not isinstance(driver, BrowserDriver):
            return  # the app has not begun
        case ["stdin", str(text)]:
            driver.feed(text)
        case ["resize", {"width": int(width), "height": int(height)}]:
            driver.resize(width, height)
        case ["focus" | "blur" as name]:
            driver.focus(name == "focus")


def _cells(given: str | None, otherwise: int) -> int:
    return int(given) if given is not None and given.isdecimal() and 0 < int(given) <= 1000 else otherwise


def _not_listening(host: str, port: int, error: OSError) -> TpeError:
    """Why nothing can listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return TpeError(f"port {port} of {host} is taken: give another --port, or --port 0 for any that is free.")
    if error.errno == errno.EACCES:
        return TpeError(f"port {port} needs rights that you have not: give a --port from 1024 on.")
    return TpeError(f"nothing can listen at {host}, port {port} ({error.strerror or error}): give another --host.")
