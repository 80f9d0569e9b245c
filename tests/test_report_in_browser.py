"""The report, opened in Chromium: pictures there, nothing overflows, nothing complains, nothing leaves; sorting, contents, print.

The page of a simulated run, and at the end that of a real one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import reports
from tests import browser
from tests.browser import chromium, emulate
from tests.home import Home
from tests.reports.make_results import Recipe, make_results

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.browser
RECIPE = Recipe(
    tasks=("copy", "flip", "omen", "round", "task_of_a_name_that_is_longer_than_most_columns_are_wide"),
    items_per_task=12,
    budgets=(32, 64),
    benchmarks=("lab", "bbh"),
    missing=frozenset({("min_margin", 64)}),
    rejected=(("adapter", "64|min_margin"),),
    sample_n=30,
)
LOOKS = [(1280, False), (1280, True), (390, False), (390, True)]
simulated = pytest.mark.xdist_group("report_in_browser")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(reports.build(str(make_results(tmp_path_factory.mktemp("results"), RECIPE))))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as chrome:
        yield chrome


@pytest.fixture
def chrome(opened: Chrome, page: Path) -> Chrome:
    """The page just opened in a large window."""
    emulate(opened, width=1280, height=900)
    opened.get("about:blank")
    browser.requests(opened), browser.console_messages(opened)
    opened.get(page.as_uri())
    return opened


def assert_readable(chrome: Chrome, is_dark: bool) -> None:
    sizes = chrome.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => { const b = s.getBoundingClientRect();"
        " return [b.width, b.height, s.querySelectorAll('path,rect,use,line').length]; })"
    )
    assert len(sizes) >= 5
    assert all(w > 100 and h > 40 and shapes > 3 for w, h, shapes in sizes), sizes
    assert browser.overflow(chrome) <= 0
    background = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3])
    assert (brightness < 200) == is_dark, background


@simulated
@pytest.mark.parametrize(("width", "is_dark"), LOOKS)
class TestEveryLook:
    def test_it_is_readable_and_nothing_complains(self, chrome: Chrome, width: int, is_dark: bool) -> None:
        emulate(chrome, width=width, is_dark=is_dark)
        chrome.refresh()
        assert_readable(chrome, is_dark)
        assert browser.console_messages(chrome) == []

    def test_nothing_overflows_with_everything_unfolded(self, chrome: Chrome, width: int, is_dark: bool) -> None:
        emulate(chrome, width=width, is_dark=is_dark)
        chrome.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.overflow(chrome) <= 0

    def test_axe_finds_no_serious_fault(self, chrome: Chrome, width: int, is_dark: bool) -> None:
        emulate(chrome, width=width, is_dark=is_dark)
        chrome.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.accessibility_faults(chrome) == []


@simulated
def test_no_request_leaves_the_page(chrome: Chrome, page: Path) -> None:
    chrome.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    assert browser.requests(chrome) == [page.as_uri()]


@simulated
def test_the_policy_refuses_what_is_not_its_own(chrome: Chrome) -> None:
    refused = chrome.execute_async_script(
        "const done = arguments[0], found = [];"
        "document.addEventListener('securitypolicyviolation', event => found.push(event.effectiveDirective));"
        "const script = document.createElement('script'); script.textContent = 'window.foreign = 1';"
        "const style = document.createElement('style'); style.textContent = 'body { display: none }';"
        "const image = new Image(); image.src = 'https://example.invalid/x.png';"
        "document.head.append(script, style, image);"
        "const own = document.createElement('p'); own.setAttribute('style', 'color: red'); document.body.append(own);"
        "fetch('https://example.invalid/').catch(() => 0).finally(() => setTimeout(() => done([found.sort(), window.foreign]), 50))"
    )
    assert refused == [["connect-src", "img-src", "script-src-elem", "style-src-attr", "style-src-elem"], None]


def table(chrome: Chrome, name: str) -> WebElement:
    return chrome.find_element("css selector", f"table:has(#{name}-caption)")


def column(chrome: Chrome, table: WebElement, place: int) -> list[str]:
    script = "return [...arguments[0].tBodies[0].rows].map(row => row.cells[arguments[1]].textContent.trim())"
    found: list[str] = chrome.execute_script(script, table, place)
    return found


@simulated
def test_a_click_on_a_head_sorts_and_the_third_gives_the_first_order_back(chrome: Chrome) -> None:
    areas = table(chrome, "b0-areas")
    head = areas.find_elements("css selector", "thead th")[2]
    before = column(chrome, areas, 2)
    numbers = [float(text.replace("−", "-")) for text in before]
    assert numbers != sorted(numbers)
    for turn, expected in [
        ("ascending", sorted(numbers)),
        ("descending", sorted(numbers, reverse=True)),
        (None, numbers),
    ]:
        head.find_element("css selector", "button").click()
        assert head.get_attribute("aria-sort") == turn
        assert [float(text.replace("−", "-")) for text in column(chrome, areas, 2)] == expected
    assert column(chrome, areas, 2) == before


@simulated
def test_sorting_works_by_keyboard_and_only_one_head_is_marked(chrome: Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    areas = table(chrome, "b0-areas")
    first, second = areas.find_elements("css selector", "thead button")[:2]
    chrome.execute_script("arguments[0].focus()", first)
    chrome.switch_to.active_element.send_keys(Keys.ENTER)
    names = column(chrome, areas, 0)
    assert names == sorted(names)
    chrome.switch_to.active_element.send_keys(Keys.TAB)
    assert chrome.switch_to.active_element == second
    chrome.switch_to.active_element.send_keys(Keys.SPACE)
    marked = [head.get_attribute("aria-sort") for head in areas.find_elements("css selector", "thead th")]
    assert marked == [None, "ascending"] + [None] * (len(marked) - 2)


ASCENDING = [  # as they shall stand; what has no value last, in the order given
    "−1,204.5", "−0.052 [−0.070 to −0.033]", "< 0.001", "0.001", "12 ms", "0.12 [0.1, 0.2]", "33.1%", "0.5 s", "[0.75, 1]",
    "1.0 min", "at most 128", "128, 256 and 512", "more than 512", "1,100 to 4,800", "4,437 (full pool)", "1.5 h", "2e+04",
    "–", "not reached", "12ab34",
]  # fmt: skip


@simulated
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_numbers_are_understood_as_they_are_written(opened: Chrome, tmp_path: Path, order: str) -> None:
    script = (Path(reports.__file__).parent / "templates" / "report.js").read_text()
    shuffled = [*ASCENDING[1:-3:2], *ASCENDING[-3:], *ASCENDING[:-3:2]]
    rows = "".join(
        f"<tr><th>{place}</th><td>{text.replace('<', '&lt;')}</td></tr>" for place, text in enumerate(shuffled)
    )
    html = (
        '<!DOCTYPE html><meta charset="utf-8"><nav><ol><li><a href="#a">a</a></li></ol></nav><main><section id="a"><table>'
        f'<caption id="t-caption"></caption><thead><tr><th>a</th><th class="n">b</th></tr></thead><tbody>{rows}</tbody>'
        f"</table></section></main><script>{script}</script>"
    )
    (tmp_path / "numbers.html").write_text(html, encoding="utf-8")
    opened.get((tmp_path / "numbers.html").as_uri())
    for _ in range(1 if order == "ascending" else 2):
        opened.find_elements("css selector", "thead button")[1].click()
    found = column(opened, table(opened, "t"), 1)
    values = ASCENDING[:-3] if order == "ascending" else ASCENDING[-4::-1]
    assert found == [*values, *ASCENDING[-3:]]


@simulated
def test_equal_rows_keep_their_order_either_way(chrome: Chrome) -> None:
    areas = table(chrome, "b0-areas")
    heads, before = areas.find_elements("css selector", "thead button"), column(chrome, areas, 0)
    assert len(set(column(chrome, areas, 5))) == 1 < len(before)  # seeds
    for _ in range(2):
        heads[5].click()
        assert column(chrome, areas, 0) == before


@simulated
@pytest.mark.parametrize("width", [1280, 390])
def test_the_contents_stay_in_sight_and_mark_the_section(chrome: Chrome, width: int) -> None:
    emulate(chrome, width=width, height=900)
    chrome.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    names = chrome.execute_script("return [...document.querySelectorAll('main > section')].map(one => one.id)")
    assert names == chrome.execute_script(
        "return [...document.querySelectorAll('nav a')].map(one => one.hash.slice(1))"
    )
    for name in [names[0], *names[2::3], names[-1]]:
        chrome.execute_script("location.hash = '#' + arguments[0]", name)
        marked = chrome.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => setTimeout(() => {"
            " const all = [...document.querySelectorAll('nav [aria-current]')], box = all[0].getBoundingClientRect();"
            " done([all.map(one => one.hash), box.top >= 0, box.bottom <= innerHeight, box.left >= 0, box.right <= innerWidth]);"
            " }, 30))"
        )
        assert marked == [[f"#{name}"], True, True, True, True]
    chrome.execute_script("history.replaceState(0, '', location.pathname); scrollTo(0, 0)")
    script = (
        "requestAnimationFrame(() => setTimeout(arguments[0], 30, document.querySelector('nav [aria-current]').hash))"
    )
    assert (
        chrome.execute_async_script(f"const done = arguments[0]; requestAnimationFrame(() => {script})")
        == f"#{names[0]}"
    )


@simulated
def test_it_prints_whole(chrome: Chrome) -> None:
    raw = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {"generateDocumentOutline": True})["data"])
    assert raw.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", raw)) > 3
    titles = re.findall(rb"/Title\s*\(((?:[^()\\]|\\.)*)\)", raw)  # the outline is made of the page's headings
    assert {b"The answer", b"Learning curves", b"Make it again"} <= set(titles)
    assert b"/ToUnicode" in raw  # letters, not pictures of them
    emulate(chrome, width=700, media="print", is_dark=True)
    seen = chrome.execute_script(
        "const seen = q => [...document.querySelectorAll(q)].map(one => one.checkVisibility({contentVisibilityAuto: true})"
        " ? one.getBoundingClientRect().height > 0 : false);"
        "return [seen('nav'), seen('details:not(.long) table'), getComputedStyle(document.body).backgroundColor]"
    )
    assert not any(seen[0]) and all(seen[1]) and len(seen[1]) > 3
    assert seen[2] == "rgb(255, 255, 255)"  # paper is white, whatever the screen was
    assert browser.overflow(chrome) <= 0


@simulated
@pytest.mark.parametrize("width", [1280, 390])
def test_without_scripts_everything_is_there(page: Path, tmp_path: Path, width: int) -> None:
    with chromium(tmp_path / "profile", width=width, has_scripts=False) as chrome:
        chrome.get(page.as_uri())
        text = chrome.find_element("css selector", "body").text
        assert all(words in text for words in ("The answer", "weighted_task_diversity", "Make it again"))
        assert (
            chrome.find_elements("css selector", "thead button, [aria-current]") == []
        )  # no control that does nothing
        links = chrome.find_elements("css selector", "nav a")
        assert len(links) > 10 and links[0].is_displayed()
        folded = chrome.find_element("css selector", "details:has(table)")
        assert not folded.find_element("css selector", "table").is_displayed()
        folded.find_element("css selector", "summary").click()
        assert folded.find_element("css selector", "table").is_displayed()
        assert browser.console_messages(chrome) == []


@pytest.mark.xdist_group("miniature")
@pytest.mark.parametrize(("width", "is_dark"), LOOKS)
def test_the_report_of_a_real_run_is_readable(miniature: Home, tmp_path: Path, width: int, is_dark: bool) -> None:
    page = miniature.folder / "results/miniature/report/index.html"
    with chromium(tmp_path / "profile", width=width, is_dark=is_dark) as chrome:
        chrome.get(page.as_uri())
        assert_readable(chrome, is_dark)
        assert "miniature" in chrome.title
        assert browser.console_messages(chrome) == []
        assert browser.accessibility_faults(chrome) == []


@pytest.mark.xdist_group("miniature")
def test_the_report_of_a_real_run_is_small(miniature: Home) -> None:
    page = (miniature.folder / "results/miniature/report/index.html").read_text()
    assert len(page.encode()) <= 1_000_000
    assert "<script src" not in page and "<link" not in page and "@import" not in page
