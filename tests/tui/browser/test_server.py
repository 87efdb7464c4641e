"""The server of `tpe serve` over real sockets: nothing without the token, a view for each socket, one engine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from pathlib import Path

import pyte
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer

from tests.tui.fakes import FakeSession
from tpe_core.options import RunOptions
from tpe_core.progress import Progress
from tpe_tui.app import TpeApp
from tpe_tui.browser.server import BrowserServer
from tpe_tui.engine.shared import SharedEngine, SharedModels

TOKEN = "the-right-token"
PATHS = ["", "ws", "page.js", "page.css", "static/js/textual.js", "static/css/xterm.css", "nothing"]


class Served:
    """A server on fake sessions, with what was loaded and what its views were."""

    def __init__(self, folder: Path) -> None:
        self.loaded = 0
        self.apps: list[TpeApp] = []
        self.said: list[str] = []
        self.engine = SharedEngine()
        self.models = SharedModels(RunOptions(), self._open, copy)
        self.folder = folder
        self.server = BrowserServer(self._make_app, self.engine, TOKEN, self.said.append)
        self.client = TestClient(TestServer(self.server.application()))

    def _open(self, options: RunOptions):
        self.loaded += 1
        yield Progress("loading", 0, 1)
        return FakeSession()

    def _make_app(self) -> TpeApp:
        app = TpeApp(
            RunOptions(), opener=self.models.open, engine=self.engine.view, view_reader=lambda options: None,
            state_dir=self.folder / "state", keys_file=self.folder / "keys.toml", lister=list,
        )  # fmt: skip
        self.apps.append(app)
        return app


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    served.engine.start()
    async with served.client:
        yield served
    served.engine.stop()


class View:
    """One socket with the screen that it draws."""

    def __init__(self, socket) -> None:
        self.socket = socket
        self.screen = pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    async def until(self, what: Callable[[str], object], seconds: float = 20.0) -> str:
        async with asyncio.timeout(seconds):
            while not what(self.text):
                message = await self.socket.receive()
                assert message.type == WSMsgType.BINARY, (message, self.text)
                self.stream.feed(message.data)
        return self.text

    async def press(self, text: str) -> None:
        await self.socket.send_json(["stdin", text])


@asynccontextmanager
async def view(served: Served) -> AsyncIterator[View]:
    async with served.client.ws_connect(f"/{TOKEN}/ws?width=80&height=24") as socket:
        yield View(socket)


def pruned(count: int) -> Callable[[str], bool]:
    return lambda text: f"pruned {count}/" in text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["-", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "%00", "..", f"x/{TOKEN}"])
async def test_without_the_token_nothing_is_answered_whatever_is_asked_for(
    served: Served, path: str, token: str
) -> None:
    for address in (f"/{token}/{path}", f"/{path}?token={TOKEN}"):
        answer = await served.client.get(address)
        assert answer.status == 403
        assert await answer.text() == "This address has no valid token: open the one that tpe serve printed.\n"
    assert not served.apps


async def test_a_socket_without_the_token_is_refused_and_starts_no_view(served: Served) -> None:
    for path in ("/ws", "/wrong/ws", f"/{TOKEN}x/ws", f"/ws?token={TOKEN}"):
        with pytest.raises(WSServerHandshakeError) as refused:
            await served.client.ws_connect(path)
        assert refused.value.status == 403
    assert not served.apps


async def test_a_page_of_another_server_cannot_open_a_view_even_with_the_token(served: Served) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await served.client.ws_connect(f"/{TOKEN}/ws", headers={"Origin": "http://example.org"})
    assert refused.value.status == 403
    assert not served.apps


async def test_the_page_and_all_that_it_names_come_from_this_server(served: Served) -> None:
    answer = await served.client.get(f"/{TOKEN}/")
    page = await answer.text()
    assert answer.status == 200
    assert "://" not in page
    for name in ("page.css", "page.js", "static/js/textual.js", "static/css/xterm.css"):
        assert f'"{name}"' in page
        assert (await served.client.get(f"/{TOKEN}/{name}")).status == 200
    style = await (await served.client.get(f"/{TOKEN}/page.css")).text()
    for font in (
        "static/fonts/RobotoMono-VariableFont_wght.ttf",
        "static/fonts/RobotoMono-Italic-VariableFont_wght.ttf",
    ):
        assert font in style
        assert (await served.client.get(f"/{TOKEN}/{font}")).status == 200


@pytest.mark.parametrize("path", ["static/../server.py", "static/%2e%2e/server.py", "static/js", "static//etc/passwd"])
async def test_no_other_file_is_served(served: Served, path: str) -> None:
    assert (await served.client.get(f"/{TOKEN}/{path}")).status == 404


async def test_a_view_opens_toggles_and_shows_the_change(served: Served) -> None:
    async with view(served) as page:
        await page.until(pruned(0))
        await page.press(" ")
        await page.until(pruned(1))


async def test_two_views_load_the_model_once_and_have_edits_of_their_own(served: Served) -> None:
    async with view(served) as one, view(served) as other:
        await one.until(pruned(0))
        await other.until(pruned(0))
        await one.press(" ")
        await one.until(pruned(1))
        await other.press("j ")
        await other.until(pruned(1))
        edits = [app.workspace.history.intervention.pruned for app in served.apps]
    assert served.loaded == 1
    assert len(edits) == 2
    assert edits[0] != edits[1]


async def test_another_size_of_the_window_is_drawn(served: Served) -> None:
    async with view(served) as page:
        await page.until(pruned(0))
        await page.socket.send_json(["resize", {"width": 120, "height": 30}])
        async with asyncio.timeout(10):
            while tuple(served.apps[0].size) != (120, 30):
                await asyncio.sleep(0.02)


async def test_messages_that_mean_nothing_leave_the_view_as_it_is(served: Served) -> None:
    async with view(served) as page:
        await page.until(pruned(0))
        for sent in ("", "{}", "[]", "[1]", '["stdin"]', '["stdin", 5]', '["resize", {"width": "x"}]', "\x00", "null"):
            await page.socket.send_str(sent)
        await page.socket.send_bytes(b"\xff")
        await page.press("\x1b[999999999;1H\x1b[<999;x")
        await page.press(" ")
        await page.until(pruned(1))


async def test_quitting_ends_the_view_and_a_page_that_is_left_keeps_its_session(served: Served) -> None:
    async with view(served) as page:
        await page.until(pruned(0))
        await page.press("q")
        async with asyncio.timeout(10):
            while (await page.socket.receive()).type == WSMsgType.BINARY:
                pass
    async with view(served) as page:
        await page.until(pruned(0))
        await page.press(" ")
        await page.until(pruned(1))
    async with asyncio.timeout(10):
        while not all(app.return_value == 0 for app in served.apps):
            await asyncio.sleep(0.02)
    async with view(served) as page:
        await page.until(lambda text: "brings back the unexported edit" in text)
    assert not served.said


async def test_what_programs_print_goes_where_it_went_once_all_views_have_left(served: Served) -> None:
    before = sys.stdout, sys.stderr
    async with view(served) as one, view(served) as other:
        await one.until(pruned(0))
        await other.until(pruned(0))
    async with asyncio.timeout(10):
        while served.server._apps:
            await asyncio.sleep(0.02)
    assert (sys.stdout, sys.stderr) == before


async def test_a_view_that_fails_by_a_mistake_leaves_the_others_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with view(served) as one, view(served) as other:
        await one.until(pruned(0))
        await other.until(pruned(0))
        monkeypatch.setattr(served.apps[0].inspector, "run_action", lambda method: 1 / 0)
        served.apps[0].perform("mask.undo")
        async with asyncio.timeout(10):
            while (await one.socket.receive()).type == WSMsgType.BINARY:
                pass
        await other.press(" ")
        await other.until(pruned(1))
    assert served.said == ["a view was stopped by a mistake of its own; the others go on."]
