"""A page in a headless Chromium, driven through its debugging socket: keys, what its WebSockets received, a picture."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyte
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

__all__ = ["Page", "chromium", "debugging_address"]

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage")
START_SECONDS = 60


def chromium() -> str | None:
    """The program; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def debugging_address(folder: Path, width: int, height: int) -> Iterator[str]:
    """A browser of its own with a window of so many pixels; the address at which it is driven."""
    words = [chromium() or "", *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    words += [f"--window-size={width},{height}", "about:blank"]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{_port(folder / 'DevToolsActivePort')}"
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _port(file: Path) -> int:
    import time

    for _ in range(START_SECONDS * 10):
        with suppress(OSError, ValueError, IndexError):
            return int(file.read_text().splitlines()[0])
        time.sleep(0.1)
    raise AssertionError("the browser did not start")


class Page:
    """One tab. What its WebSocket received is drawn on `screen`, as the terminal in the page draws it."""

    def __init__(self, session: ClientSession, socket: ClientWebSocketResponse, cells: tuple[int, int]) -> None:
        self._socket = socket
        self._session = session
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.screen = pyte.Screen(*cells)
        self._stream = pyte.ByteStream(self.screen)
        self.received = 0  # bytes
        self.requested: list[str] = []  # every address that the page asked for
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, session: ClientSession, browser: str, address: str, cells: tuple[int, int]) -> Page:
        async with session.put(f"{browser}/json/new?about:blank") as answer:
            tab = await answer.json()
        socket = await session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
        page = cls(session, socket, cells)
        for domain in ("Network", "Page", "Runtime"):
            await page.call(f"{domain}.enable")
        await page.call("Page.navigate", url=address)
        return page

    async def close(self) -> None:
        await self.call("Page.close")
        self._reading.cancel()
        await self._socket.close()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(self._answers[number], 60)

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type != WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event.get("result", event))
            elif event["method"] == "Network.webSocketFrameReceived":
                frame = event["params"]["response"]
                if frame["opcode"] == 2:
                    data = base64.b64decode(frame["payloadData"])
                    self.received += len(data)
                    self._stream.feed(data)
            elif event["method"] == "Network.requestWillBeSent":
                self.requested.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.webSocketCreated":
                self.requested.append(event["params"]["url"])

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    async def until(self, what: Callable[[str], object], seconds: float = 120.0) -> str:
        """Wait for the screen to be as `what` says; its text."""
        for _ in range(int(seconds / 0.1)):
            if what(self.text):
                return self.text
            await asyncio.sleep(0.1)
        raise AssertionError(f"waited in vain:\n{self.text}")

    async def press(self, key: str) -> None:
        """A printable key, as a person presses it."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def evaluate(self, code: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def picture(self) -> bytes:
        """The page as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])
