"""Debian's Chromium through Playwright: `chromium` for a module, `visit` for a fresh visitor (cookies of its own)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.browser import CHROMIUM

_ARGUMENTS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

Visit = Callable[..., Page]


@pytest.fixture(scope="module")  # Playwright keeps an event loop on this thread, which no other test could live with
def chromium() -> Iterator[Browser]:
    """One browser process for a module's tests."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed (tests/install-tools.sh)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """`visit("http://127.0.0.1:…", locale="en")` gives a page in a context of its own; other options go to the context.

    The console's errors are in `page.said`.
    """
    contexts: list[BrowserContext] = []

    def open_(url: str, **options: Any) -> Page:
        context = chromium.new_context(**{"locale": "en", **options})
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.said = said  # type: ignore[attr-defined]
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
