"""results.csv is enough to compute its intervals and verdicts again, and docs/RESULTS.md describes every column."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import data_contracts
from reports import analysis, numbers, results, tables, writing
from reports.statistics import EQUIVALENCE_MARGIN, holm
from taskdiv_assets.assets import strategy_report as report
from tests.reports.make_results import Recipe, make_results

DOCS = Path(__file__).resolve().parents[2] / "docs" / "RESULTS.md"
Row = dict[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(
        tasks=("copy", "flip", "omen"), items_per_task=12, budgets=(16, 32), benchmarks=("lab", "bbh"),
        strategies=("random", "task_diversity", "weighted_task_diversity"),
    )  # fmt: skip
    return make_results(tmp_path_factory.mktemp("results"), recipe)


@pytest.fixture(scope="module")
def table(folder: Path) -> pa.Table:
    found = results.load(str(folder))
    return numbers.results_table(found, analysis.sections(found))


@pytest.fixture(scope="module")
def rows(table: pa.Table) -> list[Row]:
    """Return the rows as a reader of the CSV gets them: as text."""
    return list(csv.DictReader(io.StringIO(writing.as_csv(table).decode())))


def with_interval(rows: list[Row]) -> Iterator[tuple[Row, float, float, float]]:
    for row in rows:
        if row["standard_error"] and row["df"]:
            yield row, float(row["estimate"]), float(row["standard_error"]), float(row["df"])


def test_holm_over_the_column_of_the_file_is_the_adjusted_p_value(rows: list[Row]) -> None:
    families: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["p_adjusted"]:
            budget = row["budget_n"] if row["family"] == "leader" else ""
            families[row["benchmark"], row["metric"], row["family"], budget].append(row)
    assert {key[2] for key in families} == {"areas", "budgets", "full pool", "leader"}
    for (*_, name, _), family in families.items():
        cautious = [float(row["p_value_cautious"]) for row in family]
        again = np.minimum(1, len(family) * np.array(cautious)) if name == "leader" else holm(cautious)
        assert [float(row["p_adjusted"]) for row in family] == pytest.approx(list(again), abs=1e-11)
        for row, p_value in zip(family, again, strict=True):
            side = "better" if float(row["estimate"]) > 0 else "worse"
            can_say = row["verdict"] != "too few seeds to say"
            assert not can_say or row["verdict"] == (side if p_value < 0.05 else "not separable from noise")


def test_intervals_and_p_values_follow_from_estimate_error_and_df(rows: list[Row]) -> None:
    kinds = set()
    for row, estimate, error, df in with_interval(rows):
        reach = stats.t.ppf(0.975, df) * error
        low, high = estimate - reach, estimate + reach
        if row["quantity"] == "mean":
            low, high = max(0.0, low), min(1.0, high)
        assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high), abs=1e-9)
        if row["p_value"]:
            again = 2 * stats.t.sf(abs(estimate) / error, df)
            assert float(row["p_value"]) == pytest.approx(again, rel=1e-6, abs=1e-12)
        kinds.add(row["quantity"])
    assert kinds == {"mean", "difference", "area", "pair", "gain"}


def test_equivalence_follows_from_the_same_three(rows: list[Row]) -> None:
    compared = [entry for entry in with_interval(rows) if entry[0]["quantity"] != "mean"]
    for row, estimate, error, df in compared:
        reach = stats.t.ppf(0.95, df) * error
        ends = (float(row["equivalence_low"]), float(row["equivalence_high"]))
        assert ends == pytest.approx((estimate - reach, estimate + reach), abs=1e-9)
        is_inside = ends[0] > -EQUIVALENCE_MARGIN and ends[1] < EQUIVALENCE_MARGIN
        assert row["equivalence"] in (("equivalent within ±0.02", "not shown") if is_inside else ("not shown",))
    assert all(not row["equivalence"] for row in rows if not row["standard_error"] or row["quantity"] == "mean")


def test_the_interval_of_a_task_is_wilsons_of_its_items(rows: list[Row]) -> None:
    """By the score equation, which either end solves: |share − end| = z √(end (1 − end) / items)."""
    of_task = [row for row in rows if row["quantity"] == "task_mean"]
    arms = {(row["benchmark"], row["strategy"], row["budget_n"]) for row in rows if row["quantity"] == "mean"}
    assert len(of_task) == 3 * len(arms)
    for row in of_task:
        share, items_n = float(row["estimate"]), int(row["items_n"])
        for end in (float(row["low"]), float(row["high"])):
            off = abs(share - end) ** 2 - stats.norm.ppf(0.975) ** 2 * end * (1 - end) / items_n
            assert off == pytest.approx(0, abs=1e-9)


def test_lists_overlaps_and_tokens_are_those_of_the_page(folder: Path, rows: list[Row]) -> None:
    found = results.load(str(folder))
    chosen = {(r["strategy"], int(r["budget_n"]), r["task"]): r for r in rows if r["quantity"] == "chosen"}
    for (strategy, budget_n), by_task in found.allocations.items():
        assert float(chosen[strategy, budget_n, ""]["estimate"]) == pytest.approx(budget_n)
        for task, prompts_n in by_task.items():
            assert float(chosen[strategy, budget_n, task]["estimate"]) == pytest.approx(prompts_n)
            assert int(chosen[strategy, budget_n, task]["seeds_n"]) == found.selection_seeds_n[strategy, budget_n] > 0
    shares = {(r["strategy"], r["reference"]): float(r["estimate"]) for r in rows if r["quantity"] == "overlap"}
    known = {pair: share for pair, share in found.overlaps.items() if share == share}
    assert shares == pytest.approx(known)
    tokens = {(r["strategy"], r["budget_n"]): float(r["estimate"]) for r in rows if r["quantity"] == "tokens"}
    page = tables.tokens(found, "random")
    shown = {row[0]: row[1] for row in page.rows}
    assert all(f"{tokens[name, '16']:,.0f}" == cell.split(" ")[0] for name, cell in shown.items() if cell != "–")


def test_once_scored_the_picture_is_the_curve(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of prompts are in the table too; the picture of lists is for before any score."""
    monkeypatch.setattr(report, "main_curve", lambda *_: b"the curve")
    assert report.main_picture(table, {}) == b"the curve"


def test_the_page_of_columns_names_every_column_and_quantity(rows: list[Row]) -> None:
    text = DOCS.read_text(encoding="utf-8")
    quantities, columns = (
        [
            name
            for line in part.splitlines()
            if line.startswith("| `")
            for name in re.findall(r"`(\w+)`", line.split("|")[1])
        ]
        for part in (text.split("## Rows")[1].split("## Columns")[0], text.split("## Columns")[1].split("\n## ")[0])
    )
    assert columns == list(numbers.SCHEMA.names) == list(rows[0])
    rule = next(rule for rule in data_contracts.load("strategy_report").rules if rule.name == "quantities_known")
    assert sorted(quantities) == sorted(rule.kwargs["value_set"])
    # A forecast needs three budgets (tests/reports/test_forecast.py).
    assert {row["quantity"] for row in rows} == set(quantities) - {"sent", "answered", "forecast"}


def test_the_full_pool_s_tokens_are_there_where_random_is_no_strategy(tmp_path: Path) -> None:
    recipe = Recipe(tasks=("copy",), items_per_task=4, budgets=(16,), strategies=("task_diversity",))
    found = results.load(str(make_results(tmp_path, recipe)))
    rows = numbers.results_table(found, analysis.sections(found)).to_pylist()
    arms = {(row["strategy"], row["budget_n"]) for row in rows if row["quantity"] == "tokens"}
    assert arms == {("task_diversity", 16), ("random", found.pool_n)}


def test_only_files_directly_among_the_budgets_are_budgets(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Recipe(tasks=("copy",), items_per_task=4, budgets=(16,), full_pool_seeds=()))
    (folder / "budgets" / "old").mkdir()
    (folder / "budgets" / "old" / "8").write_text('{"kind": "requested"}')
    os.mkfifo(folder / "budgets" / "9")
    found = results.load(str(folder))
    assert found.budgets == (16,)
    assert [
        name for name in ("old", "9") if any(f"budgets/{name} was not written by" in one for one in found.problems)
    ] == ["old", "9"]
