"""A Chromium without a window, driven by Playwright: what a person at the live page would see and press."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """The distribution's browser; a test that needs it is skipped where it or Playwright is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra `test`)")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        # a container has neither the rights for Chromium's sandbox nor a large /dev/shm
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextmanager
def tab(browser: Any, url: str = "", *, width: int = 1280, height: int = 900, **options: Any) -> Iterator[Any]:
    """A page in a profile of its own; at its end nothing in it may have gone wrong, its policy included.

    options: those of Playwright's `new_context`, such as `color_scheme`
    """
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    if url:
        page.goto(url)
    try:
        yield page
        assert wrong == []
    finally:
        context.close()
