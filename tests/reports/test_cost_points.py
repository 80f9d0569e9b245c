"""Score against cost: labels, selection and training added by hand, the line of unbeaten points, and what is said without prices."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import analysis, cost_points, page, results
from reports.results import Results
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_money import rows_of, text_of, with_settings
from tests.reports.test_report_page import SMALL

PRICES = {"price": 0.5, "price_of_machine_hour": 36.0, "currency": "EUR"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_settings(make_results(tmp_path_factory.mktemp("cost"), Recipe(**SMALL)), annotation=PRICES)


def with_sources(found: Results) -> Results:
    """Let min_margin's order come from confidence and facility_location's from embeddings without a recorded time."""
    tables = dict(found.tables)
    for strategy, inputs in (
        ("min_margin", ["task_confidence", "raw_pool.prompts"]),
        ("facility_location", ["prompt_embeddings"]),
    ):
        table = tables["ranking", strategy]
        footer = replace(table.footer, inputs=dict.fromkeys(inputs, "0" * 32))
        tables["ranking", strategy] = table._replace(footer=footer)
    table = tables["confidence_table", None]
    tables["prompt_embeddings", None] = table._replace(footer=replace(table.footer, wall_s=None, inputs={}))
    return found._replace(tables=tables)


def test_a_point_is_the_sum_of_labels_selection_and_training(folder: Path) -> None:
    found = with_sources(results.load(str(folder)))
    section = analysis.sections(found)[0]
    made, left_out = cost_points.points(found, section)
    of = {(one.name, one.budget_n): one for one in made}
    wall = {asset: table.footer.wall_s for (asset, key), table in found.tables.items() if key in (None, "min_margin")}
    trained = pq.read_table(folder / "tables/adapter/min_margin/32.parquet")["train_s"].to_pylist()
    selection = wall["ranking"] / len(trained) + wall["task_confidence"] + wall["confidence_table"]  # without raw_pool
    cost = 32 * 0.5 + (selection + np.mean(trained)) / 3600 * 36.0
    assert of["min_margin", 32].cost == pytest.approx(cost, rel=1e-12)
    assert of["min_margin", 32].score == section.curves["min_margin"][0].mean.estimate
    assert ("full pool", section.full_pool_n) in of and of["full pool", section.full_pool_n].selection_s == 0
    budgets_n = len(section.curves["facility_location"])
    assert not any(name == "facility_location" for name, _ in of)
    assert left_out == f" Left out, because a time is not stored: {budgets_n} points."
    assert [one.cost for one in made] == sorted(one.cost for one in made)


values = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(values)
def test_unbeaten_is_what_comparing_all_pairs_gives(pairs: list[tuple[int, int]]) -> None:
    costs, scores = np.array(pairs, dtype=float).T
    expected = [
        not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in pairs) for cost, score in pairs
    ]
    assert cost_points.unbeaten(costs, scores).tolist() == expected


def test_the_page_draws_the_line_and_lists_the_points(folder: Path) -> None:
    found = results.load(str(folder))
    sections = analysis.sections(found)
    html = page.render(found, sections).html
    rows = rows_of(html, "b0-cost-table")
    made, _ = cost_points.points(found, sections[0])
    assert "cost (EUR)" in rows["strategy"] and {one.name for one in made} <= set(rows)
    marked = [one for one in made if one.is_unbeaten]
    assert html.count(">on the line</bdi>") == len(marked) >= 1
    text = text_of(html)
    assert f"{marked[0].name} at {marked[0].budget_n:,}" in text
    assert "36.00 EUR a machine hour" in text and "drawn on means: neighbours may not be separable from noise" in text


@pytest.mark.parametrize(
    ("annotation", "missing"),
    [({"price": 0.5}, "of a machine hour"), ({"price_of_machine_hour": 2}, "of a label and of a machine hour")],
)
def test_without_prices_the_keys_are_named(folder: Path, annotation: dict[str, float], missing: str) -> None:
    found = results.load(str(folder))
    text = found.experiment.annotation.model_validate(annotation)
    money = found.money._replace(price_of_hour=None) if text.price and found.money else None
    part = cost_points.part(found._replace(money=money), analysis.sections(found)[0], "b0")
    assert part.text == f"No cost is shown: the experiment file has no price {missing}." and part.picture is None
    assert set(re.findall(r"(\w+): …", part.keys)) == {"price", "price_of_machine_hour", "currency"}


def test_the_price_of_an_hour_makes_nothing_stale_but_the_report(golden: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_HOME", str(golden.folder / "results"))
    plain = experiment_file.load(str(MINIATURE))
    priced = plain.model_copy(update={"annotation": plain.annotation.model_copy(update={"price_of_machine_hour": 2.0})})
    before, after = (REGISTRY.look(one, Store(one.name)) for one in (plain, priced))
    units = [
        unit for unit in REGISTRY.units(plain, before.store, before.pool_size, REGISTRY.order) if before.footer(unit)
    ]
    report = Unit("strategy_report")
    changed = [unit for unit in units if before.expect(unit).identity != after.expect(unit).identity]
    assert changed == [report]
    assert before.state(report).status == "fresh"
