"""Headless Chromium for tests: Debian's browser driven by Playwright, nothing downloaded.

While a browser is open its thread counts as one with a running event loop: `asyncio.run` refuses there, so it is closed early.
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
    """A browser of its own; the test is skipped where there is none, and fails there if one is required."""
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
    """Skip, or fail where the machine is one that must have it."""
    if os.environ.get("TASKDIV_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{what}, and is required here (TASKDIV_REQUIRE_BROWSER=1)")
    pytest.skip(what)


class Tab:
    """A page, with everything that it wrote to the console and every address that it asked for since `forget`."""

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
        """Drop what was collected so far."""
        for kept in (self.messages, self.errors, self.requests):
            kept.clear()

    def emulate(
        self, *, width: int, height: int = 1600, is_dark: bool = False, media: Literal["print", "screen"] = "screen"
    ) -> None:
        """Another window, colour scheme or medium for the page that is open."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(media=media, color_scheme="dark" if is_dark else "light")

    def overflow(self) -> int:
        """Pixels that the page is wider than its window."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))

    def unfold(self) -> None:
        """Open all that is folded."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    def accessibility_faults(self) -> list[str]:
        """Serious and critical faults that axe-core finds on the open page, with where and why."""
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
    """A page with no history, cookies or storage, in a window of its own."""
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
