"""The report of a real run, opened in Chromium: pictures there, nothing overflows, nothing complains."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import chromium, console_errors
from tests.home import Home

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("miniature")]


@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_the_report_is_readable(miniature: Home, tmp_path: Path, width: int, is_dark: bool) -> None:
    page = miniature.folder / "results/miniature/report/index.html"
    with chromium(tmp_path / "profile", width=width, is_dark=is_dark) as chrome:
        chrome.get(page.as_uri())
        assert console_errors(chrome) == []
        assert "miniature" in chrome.title
        sizes = chrome.execute_script(
            "return [...document.querySelectorAll('svg')].map(s => { const b = s.getBoundingClientRect();"
            " return [b.width, b.height, s.querySelectorAll('path,rect,use,line').length]; })"
        )
        assert len(sizes) >= 5
        assert all(w > 100 and h > 40 and shapes > 3 for w, h, shapes in sizes), sizes
        overflow = chrome.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0
        background = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3])
        assert (brightness < 200) == is_dark, background


def test_the_report_needs_nothing_from_outside(miniature: Home) -> None:
    page = (miniature.folder / "results/miniature/report/index.html").read_text()
    assert len(page.encode()) <= 1_000_000
    assert "<script src" not in page and "<link" not in page and "@import" not in page
