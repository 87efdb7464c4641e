"""`tpe report` in a headless Chromium: on a desktop, on a phone, in the dark and on paper, without a request."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.e2e.conftest import execute
from tests.helpers.chromium import Page, chromium, debugging_address

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium() is None, reason="there is no chromium")]

PARTS = "residuals,r2-by-k,few-shot,dynamics"
LAID_OUT = """(() => {
  const root = document.documentElement, images = [...document.images];
  return JSON.stringify({
    ready: document.readyState === "complete",
    width: root.clientWidth, content: root.scrollWidth, ground: getComputedStyle(document.body).backgroundColor,
    images: images.map(each => [each.complete, each.naturalWidth, each.getBoundingClientRect().width,
                                decodeURIComponent(each.currentSrc).includes('#14171c')]),
    wide: [...document.querySelectorAll("body *:not(.skip):not(.wide *)")]
      .filter(each => each.getBoundingClientRect().right > root.clientWidth + 1).map(each => each.outerHTML)
  });
})()"""


@pytest.fixture
def report(env: dict[str, str], tmp_path: Path, analysis: dict[str, Any]) -> Path:
    """The folder of a report on the bundled model."""
    words = ["tpe", "report", "--positions", str(analysis["positions"]), "--only", PARTS, "--out", "report"]
    result = execute(words, env, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "4 of 4 parts" in result.stdout
    return tmp_path / "report"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[str]:
    with debugging_address(tmp_path / "chromium", 1280, 900) as browser:
        yield browser


async def laid_out(page: Page, width: int, scheme: str) -> dict[str, Any]:
    """How the page looks in a window of that width, light or dark."""
    await page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for _ in range(100):
        look: dict[str, Any] = json.loads(await page.evaluate(LAID_OUT) or '{"images": []}')
        wanted = [done and natural and dark is (scheme == "dark") for done, natural, _, dark in look["images"]]
        if look.get("ready") and wanted and all(wanted):  # while a page is read, some figures are not there yet
            return look
        await asyncio.sleep(0.1)
    raise AssertionError(f"the figures were not drawn as they are for {scheme}")


async def test_the_page_is_read_anywhere_and_asks_for_nothing(report: Path, browser: str) -> None:
    async with ClientSession() as session:
        page = await Page.open(session, browser, (report / "index.html").as_uri(), (80, 24))
        figures = len(list((report / "figures").glob("*.svg")))
        assert figures == 6
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                look = await laid_out(page, width, scheme)
                assert look["content"] <= look["width"], "nothing is cut off at the side"
                assert look["wide"] == []
                assert len(look["images"]) == figures
                assert all(shown > 0.85 * min(width, 832) for _, _, shown, _ in look["images"])
                assert look["ground"] == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
        for detail in ("open", ""):
            await page.evaluate(
                f"document.querySelectorAll('details').forEach(each => each.open = {'true' if detail else 'false'})"
            )
            look = await laid_out(page, 390, "light")
            assert look["content"] <= look["width"], "wide tables scroll by themselves"
        answer = await page.call("Page.printToPDF", printBackground=True)
        assert base64.b64decode(answer["data"]).startswith(b"%PDF-")
        assert {asked.partition(":")[0] for asked in page.requested} <= {"file", "data"}
        assert [asked for asked in page.requested if asked.startswith("file:")] == [(report / "index.html").as_uri()]
        await page.close()
