"""The browser of the tests leaves the tests that follow as they were."""

import asyncio
import subprocess

import pytest
from tests.browser import Chromium, installed, looked_at

pytestmark = pytest.mark.browser


async def ran() -> str:
    await asyncio.sleep(0)
    return "ran"


def test_asyncio_runs_while_the_browser_is_open(chromium: Chromium) -> None:
    for text in ("one", "two"):
        with looked_at(chromium, f"data:text/html,<p>{text}") as (page, heard):
            assert page.locator("p").inner_text() == text
            page.wait_for_timeout(1)
            # What it would be like in between, were the loop left as Playwright leaves it.
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                asyncio.run(waiting := ran())
            waiting.close()
            assert heard.errors == []
        assert asyncio.run(ran()) == "ran"
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()


def test_the_browser_is_that_of_the_machine(chromium: Chromium) -> None:
    binary = installed()
    assert binary is not None
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    with chromium.awake() as browser:
        assert browser.version in said
