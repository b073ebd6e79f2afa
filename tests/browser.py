"""A headless Chromium for tests that look at pages, driven by Playwright.

Tests take the fixture `chromium` (the machine's binary, none is downloaded), open pages by
`looked_at`, and keep pictures of them by `keep_picture`.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@dataclass(frozen=True)
class Chromium:
    """A browser, and the event loop that Playwright drives it by.

    Playwright marks its loop as running in the thread of its caller from one call to the next, so
    that `asyncio.run` would fail in every later test. Here it is marked only within `awake`.
    """

    browser: "Browser"
    loop: asyncio.AbstractEventLoop

    @contextmanager
    def awake(self) -> "Iterator[Browser]":
        """The browser, for use within this block alone."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            yield self.browser
        finally:
            asyncio._set_running_loop(before)


def installed() -> str | None:
    """The machine's browser; Playwright's own is never downloaded."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One browser for all tests of a process; skipped, saying what is missing, where it is not."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright of the `test` extra is missing"
    )
    binary = installed()
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    driver = playwright.sync_playwright().start()
    started = Chromium(
        driver.chromium.launch(executable_path=binary, args=list(_FLAGS)),
        asyncio.get_running_loop(),
    )
    asyncio._set_running_loop(None)
    yield started
    with started.awake() as browser:
        browser.close()
        driver.stop()


@dataclass
class Heard:
    """What a page said and asked for while it was open.

    Attributes:
        errors: console errors and warnings of refused content, and uncaught exceptions.
        requests: addresses that it asked for, in order.
    """

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def outside(self) -> list[str]:
        """Requests that left this machine."""
        own = ("file:", "data:", "blob:", "http://127.0.0.1:", "about:")
        return [address for address in self.requests if not address.startswith(own)]


@contextmanager
def looked_at(
    chromium: Chromium,
    address: str | Path,
    width: int = 1280,
    height: int = 900,
    colors: Literal["light", "dark"] = "light",
    **context: Any,
) -> "Iterator[tuple[Page, Heard]]":
    """Open a page (an address, or a file) in a window of its own; what it says is kept.

    Args:
        context: further options of Playwright's `new_context`, as `java_script_enabled=False`.
    """
    if isinstance(address, Path):
        address = address.resolve().as_uri()
    with chromium.awake() as browser:
        window = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=colors, **context
        )
        heard = Heard()
        try:
            page = window.new_page()
            page.on(
                "console",
                lambda line: heard.errors.append(line.text) if line.type == "error" else None,
            )
            page.on("pageerror", lambda error: heard.errors.append(str(error)))
            page.on("request", lambda request: heard.requests.append(request.url))
            page.goto(address)
            yield page, heard
        finally:
            window.close()


def keep_picture(page: "Page", name: str, whole: bool = True) -> None:
    """A screenshot `name`.png in the folder that CISLENS_ARTIFACTS names; nothing without it."""
    folder = os.environ.get("CISLENS_ARTIFACTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=whole)
