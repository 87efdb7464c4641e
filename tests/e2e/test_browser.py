"""`tpe serve` in a headless Chromium: a page opens, toggles and shows the change; a wrong token shows nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from tests.helpers.chromium import Page, chromium, debugging_address
from tpe_tui.shell.tour_seen import TourSeen

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium() is None, reason="there is no chromium")]

CELLS = (1300 // 9, 40)


@pytest.fixture
def address(env: dict[str, str], tmp_path: Path, analysis: dict[str, Any]) -> Iterator[str]:
    """The address that a `tpe serve` of the bundled model prints, while it runs; nobody has seen the tour there."""
    TourSeen(Path(env["XDG_STATE_HOME"]) / "tpe").path.unlink()
    command = ["tpe", "serve", "--port", "0", "--positions", str(analysis["positions"])]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[str]:
    with debugging_address(tmp_path / "chromium", 1300, 800) as browser:
        yield browser


async def test_pages_open_toggle_and_show_the_change_on_one_loaded_model(address: str, browser: str) -> None:
    async with ClientSession() as session:
        page = await Page.open(session, browser, address, CELLS)
        await page.until(lambda text: "KL 0.000" in text and "pruned 0/256" in text and "tour 1 of 3" in text)
        for shown in ("tour 2 of 3", "tour 3 of 3"):
            await page.press("A")
            await page.until(lambda text, shown=shown: shown in text)
        await page.press("A")
        await page.until(lambda text: "tour" not in text and "Prune" in text)
        before = await page.picture()
        await page.press(" ")
        text = await page.until(lambda text: "pruned 1/256" in text and "KL 0.000" not in text)
        assert "✗" in text
        assert await page.picture() != before
        assert await page.evaluate("document.fonts.check(\"16px 'Roboto Mono'\")")
        other = await Page.open(session, browser, address, CELLS)
        text = await other.until(lambda text: "pruned 0/256" in text and "the session demo is open in" in text)
        assert "tour" not in text, "it is shown once"
        server = urlsplit(address).netloc
        assert {urlsplit(asked).netloc for asked in (*page.requested, *other.requested)} == {server}
        await page.close()
        await other.close()


async def test_a_page_without_the_token_shows_one_sentence_and_opens_no_socket(address: str, browser: str) -> None:
    async with ClientSession() as session:
        for wrong in (
            address[:-2] + "/",
            address.removesuffix("/") + "x/",
            urlsplit(address)._replace(path="/").geturl(),
        ):
            page = await Page.open(session, browser, wrong, CELLS)
            shown = ""
            for _ in range(100):
                shown = await page.evaluate("document.body.innerText")
                if shown:
                    break
            assert shown.strip() == "This address has no valid token: open the one that tpe serve printed."
            assert not any(asked.startswith("ws") for asked in page.requested)
            await page.close()
