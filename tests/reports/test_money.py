"""Cost beside counts of labels: with a price in a study, with one in a campaign, and no cost without a price."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import reports
from reports import analysis, page, results, sentences, tables, words
from reports.bills import Money
from reports.savings import Savings
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_report_page import HOSTILE, SMALL, parsed

pytestmark = pytest.mark.usefixtures("without_pictures")

SAVED = Savings(0.5, 41.3, 35.07, 52.8, 32, 64, False, True, 3)
EUROS = Money(0.5, "EUR", True, {}, ())


def with_settings(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, allow_unicode=True))
    return folder


def as_campaign(folder: Path, **annotation: Any) -> Path:
    """Turn a study into a campaign: one list for each cell.

    The pool answers every fourth prompt. Half of random's list at 32 has been answered.
    """
    with_settings(folder, purpose="campaign", annotation=annotation)
    for path in (folder / "tables/allocation").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.filter(np.asarray(table["selection_seed"]) == 0), path)
    path = folder / "tables/raw_pool.parquet"
    pool = pq.read_table(path)
    answers = pa.array([None if row % 4 else "a" for row in range(len(pool))], pa.string())
    place = pool.column_names.index("response")
    pq.write_table(pool.set_column(place, "response", answers), path)
    first = pq.read_table(folder / "tables/allocation/random/32.parquet")["prompt_id"].to_pylist()[:16]
    footer = {b"taskdiv": json.dumps({"asset": "annotations"}).encode()}
    pq.write_table(
        pa.table({"prompt_id": first}).replace_schema_metadata(footer), folder / "tables/annotations.parquet"
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("money"), Recipe(**SMALL))


def text_of(html: str) -> str:
    return " ".join(" ".join(parsed(html).itertext()).split())


def rows_of(html: str, table: str) -> dict[str, list[str]]:
    caption = next(c for c in parsed(html).iter("caption") if c.get("id") == f"{table}-caption")
    rows = ([" ".join("".join(cell.itertext()).split()) for cell in row] for row in caption.getparent().iter("tr"))
    return {" ".join(row[:1]): row[1:] for row in rows}


def test_without_a_price_nothing_is_said_of_money(folder: Path) -> None:
    with_settings(folder, annotation={"instructions": "Answer.", "currency": "EUR"})
    html = reports.render(str(folder)).html
    shown = re.sub(r"<details><summary>The experiment file.*?</details>", "", html, flags=re.S)
    assert results.load(str(folder)).money is None
    shown = re.sub(r'<section id="cost".*?</section>', "", shown, flags=re.S)  # says which prices are missing
    shown = shown.replace('<a href="#cost">Score and cost</a>', "")
    shown = shown.replace("what is stored, what is missing, what it costs", "")  # of `taskdiv plan`: time, labels, disk
    assert not re.findall(r"[^.]*(?:\bcosts?\b|\bprice|EUR|\bpaid\b)[^.]*", text_of(shown))


def test_a_study_says_what_its_labels_would_cost(folder: Path) -> None:
    with_settings(folder, annotation={"price": 0.5, "currency": "EUR"})
    html = reports.render(str(folder)).html
    section = analysis.sections(results.load(str(folder)))[0]
    text = text_of(html)
    assert "0.50 EUR a label, as if none of the answers were known" in text and "What the labels would cost" in text
    pool_n = section.full_pool_n or 0
    assert rows_of(html, "costs") == {
        "labels": ["would cost (EUR)"],
        "32": ["16.00"],
        "64": ["32.00"],
        f"{pool_n:,} (full pool)": [f"{pool_n / 2:,.2f}"],
    }
    assert f"Its labels would cost {pool_n / 2:,.2f} EUR." in text
    saved = rows_of(html, "b0-savings")
    assert saved["strategy"] == ["labels", "95% set", "would cost (EUR)", "95% set of cost", "seeds", "the set counts"]
    for name, one in section.savings.items():
        labels, _, cost, *_ = saved[name]
        if one.labels_n is not None:  # what is shown can be multiplied by the reader
            number = float(labels.removeprefix("at most ").replace(",", ""))
            assert cost.removeprefix("at most ") == f"{number / 2:,.2f}"
    curves = rows_of(html, "b0-curves-table")
    assert curves["base model"][:2] == ["0", "0.00"] and curves["random"][:2] == ["64", "32.00"]
    assert not re.search(r"\b(they|labels) cost\b", text)


@pytest.mark.parametrize(
    ("money", "said"),
    [
        (EUROS, "They would cost 20.50 EUR (95% set 17.50 EUR to 26.50 EUR), those of random 32.00 EUR: 0.50 EUR a label, as if"),
        (EUROS._replace(currency=""), "They would cost 20.50 (95% set 17.50 to 26.50), those of random 32.00: 0.50 a label"),
        (
            EUROS._replace(is_hypothetical=False, free_ranks={"task_diversity": (0, 30, 40, 41), "random": (63,)}),
            "They cost 19.00 EUR (95% set 16.50 EUR to 24.50 EUR), those of random 31.50 EUR: 0.50 EUR a label, none for",
        ),
        (None, ""),
    ],
)  # fmt: skip
def test_the_sentence_multiplies_what_it_shows(folder: Path, money: Money | None, said: str) -> None:
    section = analysis.sections(results.load(str(folder)))[0]._replace(savings_budget_n=64, money=money)
    found = sentences.saved("task_diversity", SAVED, section)
    assert found.startswith(
        "task_diversity reaches the score of random at 64 labels (0.500) with 41 labels (95% set 35 to 53;"
    )
    assert said in found and ("cost" in found) == bool(said)
    at_first = sentences.saved("task_diversity", SAVED._replace(labels_n=32.0, low_n=None), section)
    assert not money or "cost at most 1" in at_first
    missed = sentences.saved("task_diversity", SAVED._replace(labels_n=None), section)
    assert ("cost" in missed) == bool(money) and missed.endswith("seeds)." if money is None else ".")


@pytest.mark.full
def test_a_campaign_pays_for_what_the_pool_does_not_answer(tmp_path: Path) -> None:
    folder = as_campaign(make_results(tmp_path, Recipe(**SMALL, seeds=(0,), full_pool_seeds=())), price=0.25)
    found = results.load(str(folder))
    pool = pq.read_table(folder / "tables/raw_pool.parquet").to_pylist()
    bought = set(pq.read_table(folder / "tables/annotations.parquet")["prompt_id"].to_pylist())
    free = {row["prompt_id"] for row in pool if row["response"] is not None} - bought
    table = tables.costs(found)
    assert table is not None and len(table.rows) == 5 * 2
    for strategy, labels, to_annotate, cost, back, spent in table.rows:
        path = folder / f"tables/allocation/{strategy}/{labels}.parquet"
        chosen = pq.read_table(path)["prompt_id"].to_pylist()
        paid_n = sum(prompt_id not in free for prompt_id in chosen)
        assert (to_annotate, cost) == (str(paid_n), f"{paid_n / 4:.2f}")
        assert (back, spent) == (str(len(bought & set(chosen))), f"{len(bought & set(chosen)) / 4:.2f}")
        assert found.money is not None and found.money.listed(strategy, int(labels)) == cost
    assert {row[4] for row in table.rows if row[0] == "random"} == {"16"}
    text = text_of(page.render(found, analysis.sections(found)).html)
    assert "What the labels cost" in text and "would cost" not in text
    (folder / "tables/annotations.parquet").unlink()
    without = tables.costs(results.load(str(folder)))
    assert without is not None and {row[4:] for row in without.rows} == {("not known", "not known")}


def test_a_currency_is_shown_escaped_and_cut(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Recipe(**SMALL))
    with_settings(folder, annotation={"price": 2, "currency": HOSTILE})
    html = reports.render(str(folder)).html
    assert "(&lt;script…)" in html and "128.00 &lt;script…" in html and html.count("<script") == 1


def test_labels_are_shown_with_three_digits_between_budgets_and_whole_at_them() -> None:
    assert [words.labels(value) for value in (4437, 4437.0, 41.3, 1234.5)] == ["4,437", "4,440", "41", "1,230"]
    assert EUROS.said("random", 1234.5) == "615.00 EUR" and EUROS.listed("random", 4437) == "2,218.50"
