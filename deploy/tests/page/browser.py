"""Chromium, and what a page does in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window. Root cannot use its sandbox."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("page-test: chromium is not in PATH; on Debian: apt install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page whose errors and requests are kept."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_context(**context).new_page()
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def faults(self) -> Iterator[str]:
        """Yields its errors, and its requests to other places than below its own address."""
        yield from (f"console: {error}" for error in self.errors)
        yield from (f"request to {url}" for url in self.requests if not url.startswith(self.url))

    def close(self) -> None:
        """Closes it."""
        self.page.context.close()
