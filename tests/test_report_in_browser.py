"""The report in Chromium: pictures appear, no overflow, no errors, no requests to elsewhere; sorting, contents, print.

The page is that of a simulated run, and at the end that of a real run.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import reports
from reports import envelope, take_away, words
from reports.tables import Table
from tests.browser import Tab, chromium, tab
from tests.home import Home
from tests.reports.make_campaign import Campaign, make_campaign
from tests.reports.make_results import Recipe, make_results

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

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
LOOKS = [
    (1280, False),
    (390, True),
    *(pytest.param(*look, marks=pytest.mark.full) for look in ((1280, True), (390, False))),
]
simulated = pytest.mark.xdist_group("report_in_browser")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(reports.build(str(make_results(tmp_path_factory.mktemp("results"), RECIPE))))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Tab]:
    """Open the page in a large window."""
    with tab(browser, height=900) as opened:
        opened.page.goto(page.as_uri())
        yield opened


def assert_readable(opened: Tab, is_dark: bool) -> None:
    sizes = opened.page.evaluate(
        "[...document.querySelectorAll('svg')].map(s => { const b = s.getBoundingClientRect();"
        " return [b.width, b.height, s.querySelectorAll('path,rect,use,line').length]; })"
    )
    assert len(sizes) >= 5
    assert all(w > 100 and h > 40 and shapes > 3 for w, h, shapes in sizes), sizes
    assert opened.overflow() <= 0
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3])
    assert (brightness < 200) == is_dark, background


@simulated
@pytest.mark.parametrize(("width", "is_dark"), LOOKS)
class TestEveryLook:
    def test_it_is_readable_and_nothing_complains(self, opened: Tab, width: int, is_dark: bool) -> None:
        opened.emulate(width=width, is_dark=is_dark)
        opened.page.reload()
        assert_readable(opened, is_dark)
        assert opened.messages == []

    def test_nothing_overflows_with_everything_unfolded(self, opened: Tab, width: int, is_dark: bool) -> None:
        opened.emulate(width=width, is_dark=is_dark)
        opened.unfold()
        assert opened.overflow() <= 0

    def test_axe_finds_no_serious_fault(self, opened: Tab, width: int, is_dark: bool) -> None:
        opened.emulate(width=width, is_dark=is_dark)
        opened.unfold()
        assert opened.accessibility_faults() == []


@simulated
def test_no_request_leaves_the_page(opened: Tab, page: Path) -> None:
    opened.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    opened.unfold()
    opened.page.wait_for_load_state("networkidle")
    assert opened.requests == [page.as_uri()]


@simulated
def test_the_policy_refuses_what_is_not_its_own(opened: Tab) -> None:
    refused = opened.page.evaluate(
        "() => new Promise(done => { const found = [];"
        "document.addEventListener('securitypolicyviolation', event => found.push(event.effectiveDirective));"
        "const script = document.createElement('script'); script.textContent = 'window.foreign = 1';"
        "const style = document.createElement('style'); style.textContent = 'body { display: none }';"
        "const image = new Image(); image.src = 'https://example.invalid/x.png';"
        "document.head.append(script, style, image);"
        "const own = document.createElement('p'); own.setAttribute('style', 'color: red'); document.body.append(own);"
        "fetch('https://example.invalid/').catch(() => 0)"
        ".finally(() => setTimeout(() => done([found.sort(), window.foreign ?? null]), 50)) })"
    )
    assert refused == [["connect-src", "img-src", "script-src-elem", "style-src-attr", "style-src-elem"], None]


DIFFERENCE, SEEDS = 3, 6  # places of columns in the table of areas; the verdict comes second


def table(opened: Tab, name: str) -> Locator:
    return opened.page.locator(f"table:has(#{name}-caption)")


def column(table: Locator, place: int) -> list[str]:
    script = "(table, place) => [...table.tBodies[0].rows].map(row => row.cells[place].textContent.trim())"
    found: list[str] = table.evaluate(script, place)
    return found


@simulated
def test_a_click_on_a_head_sorts_and_the_third_gives_the_first_order_back(opened: Tab) -> None:
    areas = table(opened, "b0-areas")
    head = areas.locator("thead th").nth(DIFFERENCE)
    before = column(areas, DIFFERENCE)
    numbers = [float(text.replace("−", "-")) for text in before]
    assert numbers != sorted(numbers)
    for turn, expected in [
        ("ascending", sorted(numbers)),
        ("descending", sorted(numbers, reverse=True)),
        (None, numbers),
    ]:
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == turn
        assert [float(text.replace("−", "-")) for text in column(areas, DIFFERENCE)] == expected
    assert column(areas, DIFFERENCE) == before


@simulated
def test_sorting_works_by_keyboard_and_only_one_head_is_marked(opened: Tab) -> None:
    areas = table(opened, "b0-areas")
    buttons, keyboard = areas.locator("thead button"), opened.page.keyboard
    buttons.nth(0).focus()
    keyboard.press("Enter")
    names = column(areas, 0)
    assert names == sorted(names)
    keyboard.press("Tab")
    assert buttons.nth(1).evaluate("one => one === document.activeElement")
    keyboard.press("Space")
    marked = [head.get_attribute("aria-sort") for head in areas.locator("thead th").all()]
    assert marked == [None, "ascending"] + [None] * (len(marked) - 2)


ASCENDING = [  # as they shall stand; what has no value last, in the order given
    "−1,204.5", "−0.052 [−0.070 to −0.033]", "< 0.001", "0.001", "12 ms", "0.12 [0.1, 0.2]", "33.1%", "0.5 s", "[0.75, 1]",
    "1.0 min", "at most 128", "128, 256 and 512", "more than 512", "1,100 to 4,800", "4,437 (full pool)", "1.5 h", "2e+04",
    "–", "not reached", "12ab34",
]  # fmt: skip


@simulated
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_numbers_are_understood_as_they_are_written(opened: Tab, tmp_path: Path, order: str) -> None:
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
    opened.page.goto((tmp_path / "numbers.html").as_uri())
    for _ in range(1 if order == "ascending" else 2):
        opened.page.locator("thead button").nth(1).click()
    found = column(table(opened, "t"), 1)
    values = ASCENDING[:-3] if order == "ascending" else ASCENDING[-4::-1]
    assert found == [*values, *ASCENDING[-3:]]


@simulated
def test_equal_rows_keep_their_order_either_way(opened: Tab) -> None:
    areas = table(opened, "b0-areas")
    before = column(areas, 0)
    assert len(set(column(areas, SEEDS))) == 1 < len(before)
    for _ in range(2):
        areas.locator("thead button").nth(SEEDS).click()
        assert column(areas, 0) == before


@simulated
@pytest.mark.parametrize("width", [1280, 390])
def test_the_contents_stay_in_sight_and_mark_the_section(opened: Tab, width: int) -> None:
    page = opened.page
    opened.emulate(width=width, height=900)
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    names = page.evaluate("[...document.querySelectorAll('main > section')].map(one => one.id)")
    assert names == page.evaluate("[...document.querySelectorAll('nav a')].map(one => one.hash.slice(1))")
    for name in [names[0], *names[2::3], names[-1]]:
        page.evaluate("name => { location.hash = '#' + name }", name)
        marked = page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(() => {"
            " const all = [...document.querySelectorAll('nav [aria-current]')], box = all[0].getBoundingClientRect();"
            " done([all.map(one => one.hash), box.top >= 0, box.bottom <= innerHeight, box.left >= 0, box.right <= innerWidth]);"
            " }, 30)))"
        )
        assert marked == [[f"#{name}"], True, True, True, True]
    page.evaluate("history.replaceState(0, '', location.pathname); scrollTo(0, 0)")
    marked = page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout("
        "done, 30, document.querySelector('nav [aria-current]').hash))))"
    )
    assert marked == f"#{names[0]}"


@simulated
def test_it_prints_whole(opened: Tab) -> None:
    raw = opened.page.pdf(outline=True, tagged=True)
    assert raw.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", raw)) > 3
    titles = re.findall(rb"/Title\s*\(((?:[^()\\]|\\.)*)\)", raw)  # the outline is made of the page's headings
    assert {b"The decision", b"Learning curves", b"Reproduce this page"} <= set(titles)
    assert b"/ToUnicode" in raw  # letters, not pictures of them
    opened.emulate(width=700, media="print", is_dark=True)
    seen = opened.page.evaluate(
        "() => { const seen = q => [...document.querySelectorAll(q)]"
        ".map(one => one.checkVisibility({contentVisibilityAuto: true}) ? one.getBoundingClientRect().height > 0 : false);"
        "return [seen('nav'), seen('details:not(.long) table'), getComputedStyle(document.body).backgroundColor] }"
    )
    assert not any(seen[0]) and all(seen[1]) and len(seen[1]) > 3
    assert seen[2] == "rgb(255, 255, 255)"  # paper is white, whatever the screen was
    assert opened.overflow() <= 0


@simulated
@pytest.mark.parametrize("width", [1280, 390])
def test_without_scripts_everything_is_there(browser: Browser, page: Path, width: int) -> None:
    with tab(browser, width=width, has_scripts=False) as plain:
        plain.page.goto(page.as_uri())
        text = plain.page.locator("body").inner_text()
        assert all(words in text for words in ("The decision", "weighted_task_diversity", "Reproduce this page"))
        assert plain.page.locator("thead button, [aria-current]").count() == 0  # no control that does nothing
        links = plain.page.locator("nav a")
        assert links.count() > 10 and links.nth(0).is_visible()
        folded = plain.page.locator("details:has(table)").nth(0)
        assert not folded.locator("table").nth(0).is_visible()
        folded.locator("summary").nth(0).click()
        assert folded.locator("table").nth(0).is_visible()
        assert plain.messages == []


HOSTILE = (
    "=1+1", "+cmd|' /C calc'!A0", "−0.031", "+1,200", "007", 'a "b", c', "pipe | and \\ and `code`", "<img src=x>&amp;",
    "50% of $5 #1 _a_ {b} ~^ [x] *y*", "= after", "@SUM(1)", "≤ 3 × 10 – … ₂",
)  # fmt: skip


def copied(opened: Tab, name: str, form: str) -> str:
    """Return what a keyboard user gets on the clipboard: open the menu below a table, and choose a form."""
    menu = opened.page.locator(f".scroll:has(#{name}-caption) + .copy")
    opener = menu.get_by_role("button", name="Copy table")
    if opener.get_attribute("aria-expanded") == "false":
        opener.press("Enter")
    menu.get_by_role("button", name=f"as {form}").press("Enter")
    menu.get_by_text(f"copied as {form}").wait_for()
    assert menu.get_by_role("status").inner_text() == f"copied as {form}"
    text: str = opened.page.evaluate("navigator.clipboard.readText()")
    return text


@simulated
def test_a_copied_table_is_the_one_in_the_zip_file_in_the_order_on_the_screen(opened: Tab) -> None:
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with opened.page.expect_download() as download:
        opened.page.locator("#reproduce a[download]").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        stored = archive.read("tables/b0-areas.csv").decode("utf-8-sig").splitlines()
    assert copied(opened, "b0-areas", "CSV").splitlines() == stored
    table(opened, "b0-areas").locator("thead button").nth(0).click()
    head, *rows = stored
    by_name = sorted(rows, key=lambda row: row.split(",")[0])
    assert by_name != rows and copied(opened, "b0-areas", "CSV").splitlines() == [head, *by_name]
    opened.page.keyboard.press("Escape")
    assert opened.page.locator(".copy button[aria-expanded=true]").count() == 0
    assert opened.page.evaluate("document.activeElement.textContent") == "Copy table"
    assert opened.messages == []


@simulated
def test_hostile_cells_stay_text(opened: Tab, tmp_path: Path) -> None:
    shown = Table(
        "t", "A 100% safe caption", ("name", "value"), tuple((text, text) for text in HOSTILE), frozenset({1})
    )
    form = '{% from "macros.html.j2" import grid %}<!DOCTYPE html><meta charset="utf-8"/><nav><ol><li><a href="#a">a</a></li></ol></nav>'
    form += '<main><section id="a">{{ grid(table) }}</section></main><script>{{ envelope.script }}</script>'
    page = tmp_path / "hostile.html"
    page.write_text(envelope.environment().from_string(form).render(table=shown), encoding="utf-8")
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.goto(page.as_uri())
    as_csv = copied(opened, "t", "CSV")
    assert as_csv == take_away.as_csv(shown).decode("utf-8-sig")  # a second definition, in another language
    cells = [cell for row in csv.reader(io.StringIO(as_csv, newline="")) for cell in row]
    assert not [
        cell
        for cell in cells
        if re.match(r"\s*[=+@]", cell) or (cell.startswith("-") and not re.fullmatch(r"-[\d.]+", cell))
    ]
    lines = copied(opened, "t", "Markdown").splitlines()
    assert lines[1] == "| --- | ---: |" and len(lines) == 2 + len(HOSTILE)
    for line, text in zip(lines[2:], HOSTILE, strict=True):
        [*_, value, end] = re.split(r"(?<!\\)\|", line.replace("\\\\", "\0"))
        assert end == "" and re.sub(r"\\(.)", r"\1", value).replace("\0", "\\").strip() == words.clean(text)
        assert not re.search(r"(?<!\\)[<`*_&\[\]]", value)
    latex = copied(opened, "t", "LaTeX")
    assert latex.startswith("% A 100% safe caption\n\\begin{tabular}{lr}\n\\hline\nname & value \\\\\n\\hline\n")
    rows = latex.split("\\hline\n")[2].splitlines()
    assert len(rows) == len(HOSTILE)
    for row in rows:
        assert row.endswith(" \\\\") and len(re.findall(r"(?<!\\)&", row)) == 1
        assert not re.search(r"(?<!\\)[%#_](?![2])|(?<!\\)[\^~]", row)
        assert row.count("{") - row.count("\\{") == row.count("}") - row.count("\\}")


FIRST_FORMS = {
    "no_tasks": Campaign(),
    "tasks": Campaign(
        tasks={"billing": 40, "a_task_of_a_name_that_is_longer_than_most_columns_are_wide": 20, "other": 4},
        strategies=("random", "task_diversity"),
        budgets=(10, 20),
        exports=((10, "task_diversity", 10),),
        answered_n=4,
        settings={"annotation": {"price": 0.35, "currency": "EUR"}},
    ),
}


@simulated
@pytest.mark.parametrize("kind", FIRST_FORMS)
def test_the_first_form_is_readable_wide_and_narrow_light_and_dark(browser: Browser, tmp_path: Path, kind: str) -> None:
    page = Path(reports.build(str(make_campaign(tmp_path, FIRST_FORMS[kind]))))
    with tab(browser) as first:
        for width, is_dark in ((1280, False), (390, True)):
            first.emulate(width=width, is_dark=is_dark)
            first.page.goto(page.as_uri())
            assert first.page.locator(".strip li").count() == 4
            assert first.overflow() <= 0
            first.unfold()
            assert first.overflow() <= 0
            assert first.accessibility_faults() == []
        assert first.messages == [] and set(first.requests) == {page.as_uri()}
        names = first.page.evaluate("[...document.querySelectorAll('main > section')].map(one => one.id)")
        assert names == first.page.evaluate("[...document.querySelectorAll('nav a')].map(one => one.hash.slice(1))")
        assert first.page.pdf().startswith(b"%PDF")


@pytest.mark.xdist_group("report_in_browser")
@pytest.mark.parametrize(("width", "is_dark"), LOOKS)
def test_the_report_of_a_real_run_is_readable(golden: Home, browser: Browser, width: int, is_dark: bool) -> None:
    page = golden.folder / "results/miniature/report/index.html"
    with tab(browser, width=width, is_dark=is_dark) as real:
        real.page.goto(page.as_uri())
        assert_readable(real, is_dark)
        assert "miniature" in real.page.title()
        assert real.messages == []
        assert real.requests == [page.as_uri()]
        assert real.accessibility_faults() == []


@pytest.mark.xdist_group("report_in_browser")
def test_the_report_of_a_real_run_is_small(golden: Home) -> None:
    page = (golden.folder / "results/miniature/report/index.html").read_text()
    assert len(page.encode()) <= 1_000_000
    assert "<script src" not in page and "<link" not in page and "@import" not in page
