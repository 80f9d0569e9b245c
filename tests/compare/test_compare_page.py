"""The page of `taskdiv compare`: well-formed, safe with hostile names, and without serious faults in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from reports.compare import compare
from tests.browser import Tab, chromium, tab
from tests.compare.make_files import drawn, write_csv

HOSTILE = "=1+1<script>alert(1)</script>{{7*7}}$x_1$\u202e&'"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare four systems with hostile names, which have hostile tasks too."""
    folder = tmp_path_factory.mktemp("page")
    names = {f"{HOSTILE}{place}": level for place, level in enumerate((0.0, 0.3, 0.9, 0.9))}
    rows = [(f"{HOSTILE} {task}", item, score, seed, name) for task, item, score, seed, name in drawn(names, (0, 1, 2))]
    path = write_csv(folder / "scores.csv", rows, "task,item,score,seed,system")
    return Path(compare([str(path)], str(folder / "out")).page)


def test_no_cell_of_the_csv_is_a_formula(page: Path) -> None:
    text = (page.parent / "results.csv").read_text()
    assert "\"'=1+1" in text and '"=1+1' not in text


def test_the_page_is_well_formed_and_hostile_names_are_text(page: Path) -> None:
    text = page.read_text()
    tree = etree.fromstring(text.removeprefix("<!DOCTYPE html>").encode())
    assert len(tree.findall(".//script")) == 1 and "\u202e" not in text and "{{7*7}}" in text
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {f"#{one}" for one in ids} >= set(tree.xpath("//nav//@href"))
    policy = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


@pytest.fixture(scope="module")
def opened(page: Path) -> Iterator[Tab]:
    with chromium() as browser, tab(browser, height=900) as opened:
        opened.page.goto(page.as_uri())
        yield opened


@pytest.mark.browser
@pytest.mark.parametrize(("width", "is_dark"), [(390, True), pytest.param(1280, False, marks=pytest.mark.full)])
def test_chromium_shows_it_and_axe_finds_no_serious_fault(opened: Tab, width: int, is_dark: bool) -> None:
    opened.emulate(width=width, is_dark=is_dark)
    opened.unfold()
    assert opened.overflow() <= 0
    assert opened.accessibility_faults() == []
    assert not opened.errors and all(url.startswith(("file:", "data:")) for url in opened.requests)
