"""Headless Chromium for tests: Debian's browser controlled by Playwright. Nothing is downloaded.

While a browser is open, its thread counts as one with a running event loop, and `asyncio.run` fails in it. So the browser is
closed early.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a new browser. Without Chromium, skip the test, or fail it if the browser is required."""
    program = shutil.which("chromium")
    if not program:
        absent("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def absent(what: str) -> NoReturn:
    """Skip the test, or fail it on a machine that must have a browser."""
    if os.environ.get("TASKDIV_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{what}, and is required here (TASKDIV_REQUIRE_BROWSER=1)")
    pytest.skip(what)


class Tab:
    """A page with all console messages and all requested addresses since `forget`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.messages: list[str] = []  # of any level; an uncaught exception is one too
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._heard(message.text, message.type == "error"))
        page.on("pageerror", lambda error: self._heard(str(error), True))
        page.context.on("request", lambda request: self.requests.append(request.url))

    def _heard(self, text: str, is_error: bool) -> None:
        self.messages.append(text)
        if is_error:
            self.errors.append(text)

    def forget(self) -> None:
        """Remove all collected messages and addresses."""
        for kept in (self.messages, self.errors, self.requests):
            kept.clear()

    def emulate(
        self, *, width: int, height: int = 1600, is_dark: bool = False, media: Literal["print", "screen"] = "screen"
    ) -> None:
        """Change the window, the colour scheme or the medium of the open page."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(media=media, color_scheme="dark" if is_dark else "light")

    def overflow(self) -> int:
        """Return how many pixels the page is wider than its window."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))

    def unfold(self) -> None:
        """Open all folded sections."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    def accessibility_faults(self) -> list[str]:
        """Return the serious and critical faults that axe-core finds on the open page, each with its element and reason."""
        source = Path(sys.prefix) / "axe" / "axe_playwright_python" / "axe.min.js"
        if not source.is_file():
            absent(f"axe-core is not installed ({source}; `make test` puts it there)")
        self.page.evaluate(source.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "() => axe.run(document, {resultTypes: ['violations']}).then(r => r.violations,"
            " e => [{impact: 'critical', id: String(e), nodes: []}])"
        )
        return [
            f"{fault['id']}: {node.get('html', '')[:160]} ({node.get('failureSummary', '')[:200]})"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"][:5] or [{}]
        ]


@contextmanager
def tab(
    browser: Browser, *, width: int = 1280, height: int = 1600, is_dark: bool = False, has_scripts: bool = True
) -> Iterator[Tab]:
    """Yield a page without history, cookies or storage, in its own window."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if is_dark else "light",
        reduced_motion="reduce",  # a click goes where a thing is, not where it is going
        java_script_enabled=has_scripts,
    )
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
