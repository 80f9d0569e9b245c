"""Clicks in Dagster's UI by what a reader sees: text and role, no ids or classes. For the UI's test and for its pictures.

Every wait is for something on the page, since a busy machine takes seconds for what an idle one shows at once.
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
    """The first thing in sight with exactly this text: the UI keeps unseen copies of long names, to measure them."""
    return page.get_by_text(text, exact=True).filter(visible=True).first


def open_group(page: Page, url: str, experiment: str) -> None:
    """The asset graph of an experiment."""
    page.goto(f"{url}/locations/taskdiv/asset-groups/{experiment}")
    seen(page, "raw_pool").wait_for(timeout=SLOW_MS)
    settled(page)


def open_asset(page: Page, url: str, experiment: str, asset: str, view: str = "overview") -> None:
    """One asset, at one of its tabs."""
    page.goto(f"{url}/assets/{experiment}/{asset}?view={view}")
    page.get_by_role("button", name="Materialize").first.wait_for(timeout=SLOW_MS)
    settled(page)


def open_cell(page: Page, url: str, experiment: str, asset: str, key: str) -> None:
    """One partition of an asset."""
    page.goto(f"{url}/assets/{experiment}/{asset}?view=partitions&partition={quote(key, safe='')}")
    seen(page, key).wait_for(timeout=SLOW_MS)
    settled(page)


def open_job(page: Page, url: str, job: str) -> None:
    """A job, such as `demo_cells`."""
    page.goto(f"{url}/locations/taskdiv/jobs/{job}")
    page.get_by_role("button", name="Materialize").first.wait_for(timeout=SLOW_MS)
    settled(page)


def open_report(page: Page) -> None:
    """Click the link with which the page of `strategy_report` begins: the report takes the UI's place in the tab."""
    page.get_by_role("link", name="Open the report").first.click()
    page.wait_for_url("**/index.html")


def settled(page: Page) -> None:
    """Wait until the page asks for nothing more, and nothing in sight says that it is loading."""
    page.wait_for_load_state("networkidle", timeout=SLOW_MS)
    page.wait_for_function(
        "() => ![...document.querySelectorAll('body *')].some(one => one.childElementCount === 0 && one.checkVisibility()"
        " && /^Loading/.test(one.textContent.trim()))",
        timeout=SLOW_MS,
    )


def materialise(page: Page) -> None:
    """Press Materialize on the page that is open, and confirm if something before it was never materialised."""
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
    """What the UI says in its corner once a run is launched."""
    return page.get_by_text("Launched run").first


def name_partition(page: Page, key: str) -> None:
    """Type the name of a new partition, in a dialog of its own; `save_partition` ends it."""
    page.get_by_text("Add a partition", exact=True).click()
    page.get_by_placeholder("name").fill(key)


def save_partition(page: Page) -> None:
    """Save a new partition. It is not selected by that."""
    page.get_by_role("button", name="Save").click()
    page.get_by_placeholder("name").wait_for(state="hidden", timeout=SLOW_MS)


def unfold_budgets(page: Page) -> None:
    """Open the list of budgets while nothing is selected."""
    page.get_by_text(CHOOSE).first.click()
    page.get_by_placeholder("Filter partitions").wait_for()


def tick(page: Page, keys: Iterable[str]) -> None:
    """Tick entries of the list that is unfolded."""
    for key in keys:
        page.get_by_placeholder("Filter partitions").fill(key)
        page.get_by_text(key, exact=True).filter(visible=True).last.click()
    page.get_by_placeholder("Filter partitions").fill("")


def choose_cells(page: Page, budget: str, strategies: Iterable[str]) -> None:
    """Select one budget and some strategies in the dialog."""
    unfold_budgets(page)
    tick(page, [budget])
    fold(page)
    page.get_by_text(CHOOSE).last.click()
    page.get_by_placeholder("Filter partitions").wait_for()
    tick(page, strategies)
    fold(page)


def fold(page: Page) -> None:
    """Close the list that is unfolded, by a click beside it."""
    page.get_by_text("Launch runs to").click()
    page.get_by_placeholder("Filter partitions").wait_for(state="hidden")


def launch_backfill(page: Page) -> None:
    """Launch what is selected: a backfill, or one run where it is one partition."""
    page.get_by_role("button", name="Launch").last.click()
    page.get_by_text("Partition selection").wait_for(state="hidden", timeout=SLOW_MS)
