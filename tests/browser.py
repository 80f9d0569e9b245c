"""Headless Chromium for tests: Debian's browser and driver, nothing downloaded."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium(
    profile: Path, *, width: int = 1280, height: int = 1600, is_dark: bool = False, has_scripts: bool = True
) -> Iterator[Chrome]:
    """A browser of its own; the test is skipped where there is none, and fails there if one is required."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        absent("Chromium or its driver is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        emulate(chrome, width=width, height=height, is_dark=is_dark)
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not has_scripts})
        yield chrome
    finally:
        chrome.quit()


def emulate(chrome: Chrome, *, width: int, height: int = 1600, is_dark: bool = False, media: str = "") -> None:
    """Another window, colour scheme or medium (`print`) for the page that is open."""
    scheme = [
        {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"},
        {
            "name": "prefers-reduced-motion",
            "value": "reduce",
        },  # a driver clicks where a thing is, not where it is going
    ]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": scheme})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def absent(what: str) -> NoReturn:
    """Skip, or fail where the machine is one that must have it."""
    if os.environ.get("TASKDIV_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{what}, and is required here (TASKDIV_REQUIRE_BROWSER=1)")
    pytest.skip(what)


def console_errors(chrome: Chrome) -> list[str]:
    """What the page complained of."""
    return [str(entry["message"]) for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"]


def console_messages(chrome: Chrome) -> list[str]:
    """Everything in the console, of any level."""
    return [str(entry["message"]) for entry in chrome.get_log("browser")]


def requests(chrome: Chrome) -> list[str]:
    """Addresses asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    return [
        str(event["params"]["request"]["url"]) for event in events if event["method"] == "Network.requestWillBeSent"
    ]


def overflow(chrome: Chrome) -> int:
    """Pixels that the page is wider than its window."""
    return int(
        chrome.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )


def accessibility_faults(chrome: Chrome) -> list[str]:
    """Serious and critical faults that axe-core finds on the open page, with where and why."""
    source = Path(sys.prefix) / "axe" / "axe_playwright_python" / "axe.min.js"
    if not source.is_file():
        absent(f"axe-core is not installed ({source}; `make test` puts it there)")
    chrome.execute_script(source.read_text(encoding="utf-8"))
    found = chrome.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations),"
        " e => done([{impact: 'critical', id: String(e), nodes: []}]))"
    )
    return [
        f"{fault['id']}: {node.get('html', '')[:160]} ({node.get('failureSummary', '')[:200]})"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:5] or [{}]
    ]
