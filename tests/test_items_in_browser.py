"""The list of all paired items in Chromium: filters, search, pages, links, marks of differences, keyboard, foreign text, no script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

import reports
from tests.browser import Tab, chromium, tab
from tests.reports.make_items import add_items, text
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_hostile import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("report_in_browser")]
RECIPE = Recipe(
    tasks=("copy", "task_of_a_name_that_is_longer_than_most_columns_are_wide"), items_per_task=12, budgets=(32, 64),
    seeds=(0, 1), strategies=("random", "min_margin", "weighted_task_diversity"), benchmarks=("lab", "mmlu"),
)  # fmt: skip
ITEMS_N = 48


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_results(tmp_path_factory.mktemp("items"), RECIPE)
    return Path(reports.build(str(add_items(folder, RECIPE, choices=("mmlu",)))))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Tab]:
    """Open the page and its list, and check at the end that nothing complained and no request left the page."""
    with tab(browser, height=900) as opened:
        opened.page.set_default_timeout(10_000)
        opened.page.goto(page.as_uri())
        opened.page.locator("#items > summary").click()
        opened.page.locator(".items-list > li").nth(9).wait_for()
        yield opened
        assert opened.messages == [] and set(opened.requests) == {page.as_uri()}


def status(opened: Tab) -> str:
    return opened.page.locator(".items-status").inner_text()


def wait_for_status(opened: Tab, start: str) -> None:
    from playwright.sync_api import expect

    expect(opened.page.locator(".items-status")).to_contain_text(re.compile(f"^{start}"))


def choose(opened: Tab, pattern: str) -> None:
    opened.page.locator(".items-form fieldset label").filter(has_text=pattern).click()


def field(opened: Tab, name: str) -> Locator:
    return opened.page.get_by_label(name, exact=True)


def first(opened: Tab) -> Locator:
    """Open the first item of the list, and return it."""
    item = opened.page.locator(".item").nth(0)
    item.locator("> summary").click()
    item.locator(".item-body").wait_for()
    return item


def test_patterns_count_what_the_tables_hold(opened: Tab, page: Path) -> None:
    tables = page.parent.parent / "tables/benchmark_scores"
    sides = []
    for name in ("weighted_task_diversity", "random"):
        rows = [row for row in pq.read_table(tables / name / "64.parquet").to_pylist() if row["training_seed"] == 0]
        sides.append({(row["benchmark"], row["task"], row["item_id"]): row["score"] > 0.5 for row in rows})
    a, b = sides
    for pattern, kind in {"A right, B wrong": (True, False), "B right, A wrong": (False, True), "both right": (True, True), "both wrong": (False, False)}.items():  # fmt: skip
        expected = sum((a[key], b[key]) == kind for key in a)
        choose(opened, pattern)
        label = opened.page.locator(".items-form fieldset label").filter(has_text=pattern)
        assert label.locator("b").inner_text() == str(expected)
        assert status(opened).startswith(f"{expected} of {ITEMS_N} items" if expected else "No item fits")
    choose(opened, "all")
    field(opened, "A").select_option(label="min_margin")
    field(opened, "B").select_option(label="min_margin")
    assert opened.page.locator(".items-form fieldset label").nth(1).locator("b").inner_text() == "0"


def test_task_and_search_narrow_the_list(opened: Tab) -> None:
    field(opened, "Task").select_option(index=1)
    assert status(opened) == f"12 of {ITEMS_N} items, 1 to 10 shown"
    assert set(opened.page.locator(".item-task").all_inner_texts()) == {"copy"}
    field(opened, "Task").select_option(index=0)
    word = text("question 7", 30)
    field(opened, "Search (all words)").fill(f"  {' '.join(reversed(word.upper().split()))} ")
    wait_for_status(opened, "2 of")  # of each benchmark
    assert word in first(opened).locator(".item-body dd").nth(0).inner_text()
    field(opened, "Search (all words)").fill("no such words anywhere")
    wait_for_status(opened, "No item fits")
    assert opened.page.locator(".items-list > li").count() == 0


def test_typed_words_stay_when_another_control_is_used_at_once(opened: Tab) -> None:
    from playwright.sync_api import expect

    word = text("question 7", 30)
    query = field(opened, "Search (all words)")
    query.evaluate(
        """(query, word) => {
            const task = document.getElementById("items-task");
            query.value = word;
            query.dispatchEvent(new Event("input"));
            task.selectedIndex = 1;
            task.dispatchEvent(new Event("change"));
        }""",
        word,
    )
    expect(query).to_have_value(word)
    wait_for_status(opened, "1 of")


def test_pages_show_every_item_once(opened: Tab) -> None:
    before, after = (opened.page.get_by_role("button", name=name) for name in ("Previous", "Next"))
    seen: list[str] = []
    for number in range(1, 6):
        assert opened.page.locator(".items-pager span").inner_text() == f"page {number} of 5"
        assert opened.page.locator(".items-list > li").count() <= 10
        assert before.get_attribute("aria-disabled") == str(number == 1).lower()
        assert after.get_attribute("aria-disabled") == str(number == 5).lower()
        seen += opened.page.locator(".item-gist").all_inner_texts()
        after.dispatch_event("click")  # at the end, it does nothing
    assert len(seen) == ITEMS_N and len(set(seen)) == ITEMS_N // 2  # both benchmarks ask the same
    assert opened.page.locator(".items-pager span").inner_text() == "page 5 of 5"
    before.dispatch_event("click")
    assert status(opened) == f"{ITEMS_N} of {ITEMS_N} items, 31 to 40 shown"


def test_a_link_opens_its_item(opened: Tab, browser: Browser, page: Path) -> None:
    opened.page.get_by_role("button", name="Next").click()
    item = first(opened)
    asked = item.locator(".item-body dd").nth(0).inner_text()
    address = item.get_by_role("link").evaluate("one => one.href")
    assert address.startswith(f"{page.as_uri()}#item=lab.")
    with tab(browser, width=390) as other:
        other.page.goto(address)
        body = other.page.locator(".item[open] .item-body")
        body.wait_for()
        assert body.locator("dd").nth(0).inner_text() == asked
        assert other.page.evaluate("document.activeElement === document.querySelector('.item[open] > summary')")
        assert other.page.evaluate("document.querySelector('.item[open]').getBoundingClientRect().top >= 0")
        other.page.evaluate("location.hash = '#item=lab.000000000000'")
        wait_for_status(other, "This page has no such")
        assert other.messages == []


def test_a_link_keeps_the_two_answers_that_were_compared(opened: Tab, browser: Browser, page: Path) -> None:
    field(opened, "A").select_option(label="min_margin")
    field(opened, "B").select_option(label="weighted_task_diversity")
    address = first(opened).get_by_role("link").evaluate("one => one.href")
    old, *_ = address.split("&")
    with tab(browser) as other:
        for link, names in (
            (address, ["min_margin", "weighted_task_diversity"]),
            (f"{old}&a=nobody&page=1&b=__proto__&a", ["min_margin", "weighted_task_diversity"]),  # what is not known is left out
            (f"{old}&b=random", ["min_margin", "random"]),
        ):  # fmt: skip
            other.page.goto(link)
            heads = other.page.locator(".item[open] .item-sides").nth(0).locator(".item-who > bdi")
            heads.nth(1).wait_for()
            assert heads.all_inner_texts() == names
        assert other.messages == []
    with tab(browser) as older:
        older.page.goto(old)
        heads = older.page.locator(".item[open] .item-sides").nth(0).locator(".item-who > bdi")
        heads.nth(1).wait_for()
        assert heads.all_inner_texts() == ["weighted_task_diversity", "random"]


def test_both_answers_stand_side_by_side_with_their_differences_marked(opened: Tab) -> None:
    field(opened, "Task").select_option(index=1)
    verdict = "yes"
    choose(opened, "both right")
    if status(opened).startswith("No item"):
        verdict = "no"
        choose(opened, "both wrong")
    item = first(opened)
    sides = item.locator(".item-sides").nth(0).locator(".item-side")
    place = int(item.locator(".item-body dd").nth(1).inner_text().removeprefix("target "))
    assert sides.count() == 2
    for side, name in enumerate(("weighted_task_diversity", "random")):
        own = text(f"{name} {place}", 4)
        said = f"{text(f'shared {place}', 12)} {own} so {verdict}"
        assert sides.nth(side).locator(".item-text").inner_text() == said
        assert " ".join(sides.nth(side).locator("mark").all_inner_texts()) == own
    assert sides.nth(0).inner_text().startswith("A: weighted_task_diversity") and "seeds" in sides.nth(0).inner_text()
    assert "hash of the prompt" in item.locator(".item-foot").inner_text()
    left, right = (sides.nth(side).bounding_box() for side in (0, 1))
    assert left and right and left["y"] == right["y"] and left["x"] < right["x"]
    opened.emulate(width=390)
    left, right = (sides.nth(side).bounding_box() for side in (0, 1))
    assert left and right and left["x"] == right["x"] and left["y"] < right["y"]
    item.locator(".item-more > summary").click()
    assert item.locator(".item-more .item-side").count() == 2  # the base and the third strategy


def test_it_works_by_keyboard(opened: Tab) -> None:
    keyboard = opened.page.keyboard
    field(opened, "Search (all words)").focus()
    keyboard.press("Tab")
    keyboard.press("ArrowRight")
    assert opened.page.locator(".items-form input:checked").get_attribute("value") == "1"
    keyboard.press("Tab")
    keyboard.press("Enter")
    opened.page.locator(".item[open] .item-body").wait_for()
    assert opened.page.locator(".items-status[role=status]").count() == 1


@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (390, True)])
def test_it_is_readable_wide_and_narrow_light_and_dark(opened: Tab, width: int, is_dark: bool) -> None:
    opened.emulate(width=width, is_dark=is_dark)
    first(opened).locator(".item-more > summary").click()
    assert opened.overflow() <= 0
    assert opened.accessibility_faults() == []


def test_foreign_text_is_only_text(browser: Browser, tmp_path: Path) -> None:
    recipe = Recipe(tasks=("copy",), items_per_task=len(HOSTILE), budgets=(8, 16), seeds=(0,), strategies=("random", "weighted_task_diversity"))  # fmt: skip
    texts = list(HOSTILE.values())
    made = add_items(make_results(tmp_path, recipe), recipe, say=lambda model, place, _: f"{texts[place]} {model}")
    page = Path(reports.build(str(made)))
    with tab(browser, width=390) as opened:
        opened.page.goto(page.as_uri() + "#item=<img src=x onerror=alert(1)>.x")
        opened.page.locator(".items-list > li").nth(9).wait_for()
        for _ in range(2):
            for summary in opened.page.locator(".item > summary").all():
                summary.click()
            opened.unfold()
            assert opened.overflow() <= 0
            assert opened.page.locator(".items-list :is(img, script, svg, style)").count() == 0
            opened.page.get_by_role("button", name="Next").dispatch_event("click")
        assert opened.messages == [] and opened.requests == [page.as_uri()]


def test_without_scripts_the_page_says_so(browser: Browser, page: Path) -> None:
    with tab(browser, has_scripts=False) as plain:
        plain.page.goto(page.as_uri())
        assert plain.page.locator("#items select, #items input, #items button").count() == 0
        plain.page.locator("#items > summary").click()
        assert plain.page.get_by_text("This list needs JavaScript").is_visible()
        assert plain.page.locator(".said").count() > 3  # the examples are there
        assert plain.messages == []
