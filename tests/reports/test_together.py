"""The page of several experiments: each row against the numbers of the stored report."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lxml import etree

import data_contracts
from data_contracts.footer import FOOTER_KEY
from reports import analysis, numbers, results
from reports.earlier.stored_reports import Figure
from reports.together import index_page
from reports.together import summary_sentences as sentences
from reports.together.summary import BROKEN, NO_REPORT, OUT_OF_DATE, Summary, read_summary
from tests.browser import chromium, tab
from tests.reports.make_results import Recipe, make_results

SMALL = {"tasks": ("copy", "flip"), "items_per_task": 8, "budgets": (32, 64), "reader": "table", "has_effects": False}
HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x00"
MADE_AT = "2026-11-30T04:06:25.846+00:00"


def with_report(folder: Path) -> Path:
    """Store the results table of a folder as the asset does."""
    found = results.load(str(folder))
    table = numbers.results_table(found, analysis.sections(found))
    notes = {"full_pool_n": found.full_pool.budget_n if found.full_pool else None, "claims": [{"text": "A claim."}]}
    footer = {"asset": "strategy_report", "identity": "0" * 32, "finished_at": MADE_AT, "notes": notes}
    (folder / "report").mkdir()
    stored = table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer).encode()})
    pq.write_table(stored, folder / "report/results.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_report(make_results(tmp_path_factory.mktemp("together"), Recipe(**SMALL)))


def area(verdict: str, estimate: float | None = 0.0314) -> Figure:
    return Figure("area", "lab", "exact_match", "ours", "random", 64, estimate, 0.01, 0.05, verdict, "")


def needed(estimate: float | None, low: float | None, high: float | None, verdict: str = "reached") -> Figure:
    return Figure("labels_to_match", "lab", "exact_match", "ours", "random", 512, estimate, low, high, verdict, "")


def test_a_row_has_the_numbers_of_the_report(folder: Path) -> None:
    one = read_summary("demo", str(folder))
    rows = pq.read_table(folder / "report/results.parquet").to_pandas()
    (primary,) = rows[(rows["quantity"] == "area") & (rows["family"] == "")].to_dict("records")
    assert one.primary is not None and (one.primary.estimate, one.primary.low) == (primary["estimate"], primary["low"])
    assert one.primary.strategy == "weighted_task_diversity" and one.primary.verdict == primary["verdict"]
    (savings,) = rows[
        (rows["quantity"] == "labels_to_match")
        & (rows["strategy"] == "weighted_task_diversity")
        & (rows["reference"] == "random")
    ].to_dict("records")
    assert one.savings is not None and one.savings.verdict == savings["verdict"]
    assert (one.reference_labels_n, one.largest_n) == (64, 64), "the full pool is no budget of the reference"
    assert one.question == "Does choosing by task beat choosing at random?"
    assert one.made_at == datetime(2026, 11, 30, 4, 6, 25, 846_000, UTC)
    assert one.identity == "0" * 32 and one.answer == "A claim."


def test_an_experiment_without_a_report_or_a_primary_comparison_has_a_row(tmp_path: Path) -> None:
    bare = make_results(tmp_path, Recipe(**SMALL, has_scores=False))
    assert sentences.answer(read_summary("demo", str(bare))) == "No report yet: taskdiv run demo"
    assert sentences.answer(read_summary("demo", str(with_report(bare)))) == "A claim."
    (bare / "report/results.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"results\.parquet cannot be read"):
        read_summary("demo", str(bare))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (area("better"), "ours scores 0.031 above random (95% interval of the difference +0.010 to +0.050)."),
        (area("worse", -0.0314)._replace(low=None), "ours scores 0.031 below random."),
        (area("not separable from noise")._replace(high=None), "ours is not separable from random. The difference is +0.031."),
        (area("too few seeds to say")._replace(low=None), "ours against random: too few seeds to say. The difference is +0.031."),
    ],
)  # fmt: skip
def test_the_answer_names_a_side_only_if_it_is_separable(found: Figure, said: str) -> None:
    assert sentences.answer(Summary("x", primary=found)) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (needed(225.4, 100.0, 450.2), "225 labels do what 512 random ones do (95%: 100 to 450)."),
        (needed(225.4, None, 450.2), "225 labels do what 512 random ones do (95%: at most 450)."),
        (needed(225.4, 100.0, None), "225 labels do what 512 random ones do (95%: 100 or more)."),
        (needed(225.4, None, None), "225 labels do what 512 random ones do (the 95% set is open at both ends)."),
        (needed(None, None, None, "not settled"), "It is not settled whether 512 labels do what 512 random ones do."),
        (needed(None, None, None, "not reached"), "512 labels do less than 512 random ones do."),
    ],
)
def test_the_labels_are_said_with_their_set(found: Figure, said: str) -> None:
    assert sentences.savings(Summary("x", primary=area("better"), savings=found, reference_labels_n=512)) == said


def test_the_price_is_at_most_that_of_all_labels() -> None:
    assert sentences.cost(Summary("x", largest_n=512, price=1.2, currency="EUR")) == (
        "512 labels cost at most 614.40 EUR (1.20 EUR each)."
    )
    assert sentences.cost(Summary("x", largest_n=1)) == "1 label; no price is named."
    assert sentences.cost(Summary("x")) == ""


def test_the_page_escapes_what_is_hostile_and_fetches_nothing() -> None:
    broken = Summary(HOSTILE, BROKEN, problems=(HOSTILE, *(f"problem {n}" for n in range(30))))
    stale = Summary("a_b", OUT_OF_DATE, "0" * 32, HOSTILE, primary=area("better"), problems=("one",))
    page = index_page.render([broken, stale, Summary("c", NO_REPORT)], "../..")
    root = etree.fromstring(
        page.removeprefix("<!DOCTYPE html>").encode(), etree.XMLParser(recover=False, resolve_entities=False)
    )
    assert not list(root.iter("img", "link", "iframe")) and len(list(root.iter("script"))) == 1
    links = [one.get("href") for one in root.iter("a")]
    assert links == ["#experiments", "#experiments", "#read", "../../a_b/report/index.html"]
    assert "\u202e" not in page and "3 experiments: 1 out of date, 1 without a report and 1 broken." in page
    rows = [" ".join("".join(row.itertext()).split()) for row in root.iter("tr")]
    assert "Not usable: </title><script>" in rows[1] and "… 20 more" in rows[1]
    assert "1 problem" in rows[2] and "No report yet: taskdiv run c" in rows[3]


@pytest.mark.browser
def test_the_page_is_readable_on_every_screen(folder: Path, tmp_path: Path) -> None:
    long = Summary("an_experiment_with_a_long_name", BROKEN, problems=("/a/long/path" * 20, "two"))
    made = [read_summary("demo", str(folder)), long, Summary("c", NO_REPORT)]
    (tmp_path / "index.html").write_text(index_page.render(made, ".."), encoding="utf-8")
    with chromium() as browser, tab(browser) as opened:
        for width, is_dark in ((1280, False), (390, True)):
            opened.emulate(width=width, is_dark=is_dark)
            opened.page.goto((tmp_path / "index.html").as_uri())
            opened.unfold()
            assert opened.overflow() <= 0
            assert opened.accessibility_faults() == []
        assert opened.errors == [] and {url.partition(":")[0] for url in opened.requests} == {"file"}


def test_a_home_without_experiments_says_what_to_run() -> None:
    page = index_page.render([], "../..")
    assert "No experiment is stored." in page and "taskdiv run demo" in page and "<table" not in page


def test_the_table_is_in_the_form_of_its_contract(folder: Path) -> None:
    contract = data_contracts.load("experiments_index")
    made = [
        Summary("z", BROKEN, problems=("one\ntwo",)),
        read_summary("demo", str(folder)),
        Summary("b", OUT_OF_DATE, "0" * 32),
    ]
    table = index_page.index_table(made, contract.arrow_schema)
    assert table["experiment"].to_pylist() == ["b", "demo", "z"]
    assert table["problems"].to_pylist() == ["", "", "one two"]
    result = data_contracts.validate(contract, table)
    assert result.is_valid and [one.rule for one in result.failed] == ["reports_up_to_date"]
    assert re.fullmatch(r"weighted_task_diversity .* random.*", table["answer"][1].as_py())
