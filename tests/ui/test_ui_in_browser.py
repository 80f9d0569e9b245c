"""A first hour in Dagster's UI, clicked in Chromium over a home without results: pool, budget, report, failed check.

Screenshots of every step stay in $TASKDIV_ARTEFACTS, else in pytest's own folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from taskdiv_assets.commands import report_server
from taskdiv_assets.orchestration import report_links
from taskdiv_assets.storage.machine import machine
from tests import dagster_clicks as clicks
from tests.browser import Tab, chromium, tab
from tests.dagster_dev import Ui, dagster_dev, wait_for
from tests.home import MINIATURE, Home
from tests.rotten import rotten_experiment

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.ui,
    pytest.mark.browser,
    pytest.mark.xdist_group("ui_in_browser"),
    pytest.mark.timeout(900),  # three waits for the daemon's 30 s loops, and six imports of torch
]
BUDGET, STRATEGIES = "64", ("random", "weighted_task_diversity")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with two experiments: the miniature without results, and one whose base model is damaged on disk."""
    home = Home(tmp_path_factory.mktemp("fresh"))
    folder = home.folder / "results/miniature"
    folder.mkdir(parents=True)
    shutil.copy(MINIATURE, folder / "experiment.yaml")
    rotten_experiment(home, "rotten")
    return home


@pytest.fixture(scope="module")
def ui(home: Home) -> Iterator[Ui]:
    with dagster_dev(home) as served:
        yield served


@pytest.fixture(scope="module")
def opened() -> Iterator[Tab]:
    with chromium() as browser, tab(browser, width=1600, height=1000) as opened:
        opened.page.set_default_timeout(clicks.SLOW_MS)
        yield opened


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("TASKDIV_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_from_nothing_to_a_report_of_a_new_budget(ui: Ui, opened: Tab, artefacts: Path) -> None:
    page = opened.page
    clicks.open_group(page, ui.url, "miniature")
    for name in ("raw_pool", "base_model", "ranking", "allocation", "strategy_report"):
        assert clicks.seen(page, name).is_visible()
    page.screenshot(path=artefacts / "1 graph.png")

    materialise_the_pool(ui, page)
    page.screenshot(path=artefacts / "2 pool.png")
    rest = ui.home.taskdiv("run", "miniature", "--until", "ranking", "--workers", "2")
    assert rest.returncode == 0, rest.stderr

    add_and_backfill_a_budget(ui, page, artefacts)
    for strategy in STRATEGIES:
        wait_for_cell(ui, page, f"{BUDGET}|{strategy}")
        page.screenshot(path=artefacts / f"6 cell {strategy}.png")

    wait_for_the_report(ui)
    clicks.open_asset(page, ui.url, "miniature", "strategy_report")
    page.screenshot(path=artefacts / "7 link to the report.png")
    with report_server.serve(machine().report_port, str(ui.home.folder / "results")):
        clicks.open_report(page)
        assert "miniature" in page.title()
        assert page.locator("#answer-title").is_visible()
        assert "weighted_task_diversity" in page.locator("section:has(#answer-title)").inner_text()
        assert f"{BUDGET} labels" in page.locator("body").inner_text()
        page.screenshot(path=artefacts / "8 report.png")
    own = (
        ui.url,
        ui.url.replace("http", "ws"),
        "data:",
        "blob:",
        f"http://{report_links.HOST}:{machine().report_port}/",
    )
    assert [address for address in opened.requests if not address.startswith(own)] == []


def materialise_the_pool(ui: Ui, page: Page) -> None:
    """Click to materialise the pool, and wait until the page shows the number of prompts."""
    clicks.open_asset(page, ui.url, "miniature", "raw_pool")
    assert clicks.seen(page, "Never materialized").is_visible()
    clicks.materialise(page)

    def is_counted() -> bool:
        clicks.open_asset(page, ui.url, "miniature", "raw_pool")
        return clicks.seen(page, "Row count").is_visible()

    wait_for(is_counted, 240, "the pool is materialised")
    assert clicks.seen(page, "142").is_visible()  # prompts


def add_and_backfill_a_budget(ui: Ui, page: Page, artefacts: Path) -> None:
    """Add a partition in the dialog, select it with two strategies, launch."""
    clicks.open_job(page, ui.url, "miniature_cells")
    clicks.materialise(page)
    clicks.name_partition(page, BUDGET)
    page.screenshot(path=artefacts / "3 new budget.png")
    clicks.save_partition(page)
    clicks.choose_cells(page, BUDGET, STRATEGIES)
    assert clicks.seen(page, "2 partitions").is_visible()
    page.screenshot(path=artefacts / "4 cells.png")
    clicks.launch_backfill(page)
    page.get_by_text("Created backfill").wait_for()
    page.screenshot(path=artefacts / "5 launched.png")


def wait_for_cell(ui: Ui, page: Page, key: str) -> None:
    """Reload a cell's scores until they are materialised."""

    def is_there() -> bool:
        clicks.open_cell(page, ui.url, "miniature", "benchmark_scores", key)
        assert not clicks.seen(page, "Failed").is_visible(), f"{key} failed"
        return clicks.seen(page, "Materialized").is_visible()

    wait_for(is_there, 300, f"the scores of {key} are materialised")
    assert clicks.seen(page, "480").is_visible()  # 240 items by two seeds


def wait_for_the_report(ui: Ui) -> None:
    """Wait until the report has been made automatically."""
    stored = ui.home.folder / "results/miniature/report/results.parquet"

    def holds_the_cells() -> bool:
        if not stored.is_file():
            return False
        rows = pq.read_table(stored, columns=["budget_n", "strategy"]).to_pylist()
        return {row["strategy"] for row in rows if str(row["budget_n"]) == BUDGET} >= set(STRATEGIES)

    wait_for(holds_the_cells, 240, "the report has made itself with both cells")


def test_a_broken_contract_is_red_and_says_its_rule(ui: Ui, opened: Tab, artefacts: Path) -> None:
    page = opened.page
    clicks.open_asset(page, ui.url, "rotten", "base_model")
    clicks.materialise(page)
    clicks.launch_note(page).wait_for()

    def is_red() -> bool:
        clicks.open_asset(page, ui.url, "rotten", "base_model", "checks")
        return clicks.seen(page, "Failed").is_visible()

    wait_for(is_red, 180, "a check is red")
    clicks.seen(page, "hashes_equal_files").click()
    page.get_by_text("1 of 5 rows fail").wait_for()
    text = page.locator("body").inner_text()
    assert "The files are exactly those in the folder, and each has the stored hash." in text
    assert "Nothing stored was changed" in text  # what to do begins so
    page.screenshot(path=artefacts / "9 red check.png")
    assert not (ui.home.folder / "results/rotten/tables/base_model.parquet").exists()
