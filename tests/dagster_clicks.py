"""Clicks in Dagster's UI, for the UI's test and for its pictures.

Elements are found by visible text and role, not by id or class. Each function waits for something on the page, because a busy
machine may need seconds to show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SLOW_MS = 90_000
CHOOSE = "Select a partition or create one"


def seen(page: Page, text: str) -> Locator:
    """Return the first visible element with exactly this text. The UI has invisible copies of long names to measure them."""
    return page.get_by_text(text, exact=True).filter(visible=True).first


def open_group(page: Page, url: str, experiment: str) -> None:
    """Open the asset graph of an experiment."""
    page.goto(f"{url}/locations/taskdiv/asset-groups/{experiment}")
    seen(page, "raw_pool").wait_for(timeout=SLOW_MS)
    settled(page)


def open_asset(page: Page, url: str, experiment: str, asset: str, view: str = "overview") -> None:
    """Open one tab of the page of an asset."""
    page.goto(f"{url}/assets/{experiment}/{asset}?view={view}")
    page.get_by_role("button", name="Materialize").first.wait_for(timeout=SLOW_MS)
    settled(page)


def open_cell(page: Page, url: str, experiment: str, asset: str, key: str) -> None:
    """Open one partition of an asset."""
    page.goto(f"{url}/assets/{experiment}/{asset}?view=partitions&partition={quote(key, safe='')}")
    seen(page, key).wait_for(timeout=SLOW_MS)
    settled(page)


def open_job(page: Page, url: str, job: str) -> None:
    """Open a job, such as `demo_cells`."""
    page.goto(f"{url}/locations/taskdiv/jobs/{job}")
    page.get_by_role("button", name="Materialize").first.wait_for(timeout=SLOW_MS)
    settled(page)


def open_report(page: Page) -> None:
    """Click the link at the top of the page of `strategy_report`. The report opens in the same tab."""
    page.get_by_role("link", name="Open the report").first.click()
    page.wait_for_url("**/index.html")


def settled(page: Page) -> None:
    """Wait until the page has no open request, and no visible text says that it is loading."""
    page.wait_for_load_state("networkidle", timeout=SLOW_MS)
    page.wait_for_function(
        "() => ![...document.querySelectorAll('body *')].some(one => one.childElementCount === 0 && one.checkVisibility()"
        " && /^Loading/.test(one.textContent.trim()))",
        timeout=SLOW_MS,
    )


def materialise(page: Page) -> None:
    """Click Materialize on the open page, and confirm if an upstream asset was never materialised."""
    page.get_by_role("button", name="Materialize").first.click()
    doubt, dialog, launched = (
        page.get_by_text("Are you sure?"),
        page.get_by_text("Partition selection"),
        launch_note(page),
    )
    doubt.or_(dialog).or_(launched).first.wait_for(timeout=SLOW_MS)
    if doubt.is_visible():
        page.get_by_role("button", name="Confirm").click()
        dialog.or_(launched).first.wait_for(timeout=SLOW_MS)


def launch_note(page: Page) -> Locator:
    """Return the message in the corner of the UI after a run was launched."""
    return page.get_by_text("Launched run").first


def name_partition(page: Page, key: str) -> None:
    """Type the name of a new partition in its dialog. `save_partition` closes the dialog."""
    page.get_by_text("Add a partition", exact=True).click()
    page.get_by_placeholder("name").fill(key)


def save_partition(page: Page) -> None:
    """Save a new partition. This does not select it."""
    page.get_by_role("button", name="Save").click()
    page.get_by_placeholder("name").wait_for(state="hidden", timeout=SLOW_MS)


def unfold_budgets(page: Page) -> None:
    """Open the list of budgets when nothing is selected."""
    page.get_by_text(CHOOSE).first.click()
    page.get_by_placeholder("Filter partitions").wait_for()


def tick(page: Page, keys: Iterable[str]) -> None:
    """Tick entries of the open list."""
    for key in keys:
        page.get_by_placeholder("Filter partitions").fill(key)
        page.get_by_text(key, exact=True).filter(visible=True).last.click()
    page.get_by_placeholder("Filter partitions").fill("")


def choose_cells(page: Page, budget: str, strategies: Iterable[str]) -> None:
    unfold_budgets(page)
    tick(page, [budget])
    fold(page)
    page.get_by_text(CHOOSE).last.click()
    page.get_by_placeholder("Filter partitions").wait_for()
    tick(page, strategies)
    fold(page)


def fold(page: Page) -> None:
    """Close the open list by a click beside it."""
    page.get_by_text("Launch runs to").click()
    page.get_by_placeholder("Filter partitions").wait_for(state="hidden")


def launch_backfill(page: Page) -> None:
    """Launch the selection: a backfill, or one run for one partition."""
    page.get_by_role("button", name="Launch").last.click()
    page.get_by_text("Partition selection").wait_for(state="hidden", timeout=SLOW_MS)
