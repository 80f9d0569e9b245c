"""The numbers of `taskdiv compare`: equal to the graph's report, to a second definition, and independent of order."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from reports import analysis, results
from reports.compare import compare, compare_sentences
from reports.compare.common_items import join
from reports.compare.score_sources import read_all
from reports.compare.versus import Versus, versus
from tests.compare.make_files import drawn, write_csv
from tests.reports.make_results import Recipe, make_results

HEAD = "task,item,score,seed,system"


def found(path: Path, reference: str = "") -> Versus:
    return versus(join(read_all([str(path)]), reference=reference))


def test_the_numbers_are_those_of_the_report_on_the_same_items(tmp_path: Path) -> None:
    """The scores of a stored result with one budget, exported to CSV."""
    recipe = Recipe(tasks=("copy", "flip", "omen", "round"), items_per_task=12, budgets=(64,), has_primary=False)
    folder = make_results(tmp_path, recipe)
    rows = []
    for name in recipe.strategies:
        table = pq.read_table(folder / "tables" / "benchmark_scores" / name / "64.parquet", partitioning=None)
        columns = (table[column].to_pylist() for column in ("task", "item_id", "score", "training_seed"))
        rows += [(*row, name) for row in zip(*columns, strict=True)]
    random.Random(1).shuffle(rows)
    ours = found(write_csv(tmp_path / "scores.csv", rows, HEAD), reference="random")

    (section,) = analysis.sections(results.load(str(folder)))
    theirs = {one.strategy: one for one in section.by_budget}
    assert {one.strategy for one in ours.comparisons} == set(theirs) and len(theirs) == 4
    for one in ours.comparisons:
        other = theirs[one.strategy]
        for field in ("estimate", "low", "high", "p_value", "standard_error", "df"):
            assert getattr(one.difference, field) == pytest.approx(
                getattr(other.difference, field), abs=1e-12, rel=1e-12
            )
        assert (one.verdict, one.p_adjusted) == (other.verdict, pytest.approx(other.p_adjusted, abs=1e-12))
        if other.verdict == "not separable from noise":
            assert one.detectable == pytest.approx(other.detectable, rel=1e-12)
    assert ours.leader[:3] == section.leaders[64][:3]
    for name, mean in ours.means.items():
        assert mean.estimate == pytest.approx(section.curves[name][0].mean.estimate, abs=1e-12)


def second_definition(a: dict[str, list[float]], b: dict[str, list[float]]) -> tuple[float, float]:
    """Return difference and half-width of its 95% interval from the items' differences by task, written out in loops."""
    tasks_n, estimate, of_items, below, squares, cubes, weights = len(a), 0.0, 0.0, 0.0, 0.0, 0.0, []
    for task in a:
        gaps = [x - y for x, y in zip(a[task], b[task], strict=True)]
        n, mean = len(gaps), sum(gaps) / len(gaps)
        estimate += mean / tasks_n
        share = sum((gap - mean) ** 2 for gap in gaps) / (n - 1) / n / tasks_n**2
        of_items, below = of_items + share, below + share**2 / (n - 1)
        w = 1 / (tasks_n * n)
        squares += sum(w**2 * (gap - mean) ** 2 for gap in gaps)
        cubes += sum(w**3 * (gap - mean) ** 3 for gap in gaps)
        weights.append(w)
    one = sum(weights) / tasks_n
    unseen = 3 * ((abs(cubes) + one**3 / 2) / (squares + one**2 / 2)) ** 2
    free = sum(len(gaps) - 1 for gaps in a.values())
    reach = stats.t.ppf(0.975, of_items**2 / below) ** 2 * of_items + stats.t.ppf(0.975, free) ** 2 * unseen
    return estimate, float(np.sqrt(reach))


def test_one_run_each_is_the_paired_difference_clustered_by_task(tmp_path: Path) -> None:
    rows = drawn({"base": 0.0, "tuned": 0.5})
    ours = found(write_csv(tmp_path / "scores.csv", rows, HEAD))
    by = {name: {task: [r[2] for r in rows if (r[4], r[0]) == (name, task)] for task in ("long", "middle", "short")}
          for name in ("base", "tuned")}  # fmt: skip
    estimate, reach = second_definition(by["tuned"], by["base"])
    (one,) = ours.comparisons
    assert one.difference.estimate == pytest.approx(estimate, abs=1e-12)
    assert (one.difference.low, one.difference.high) == pytest.approx((estimate - reach, estimate + reach), abs=1e-9)
    assert one.verdict == "better" and not one.difference.has_seed_uncertainty and one.difference.is_of_runs


def test_a_paired_interval_is_narrower_than_an_unpaired_one(tmp_path: Path) -> None:
    """lm-eval's own helper adds the variances of both means, although both systems answer the same items."""
    rows = drawn({"base": 0.0, "tuned": 0.3}, items_n=400)
    rows = [row for row in rows if row[0] == "long"]
    (one,) = found(write_csv(tmp_path / "scores.csv", rows, HEAD)).comparisons
    base, tuned = (np.array([row[2] for row in rows if row[4] == name]) for name in ("base", "tuned"))
    unpaired = np.sqrt(base.var(ddof=1) / len(base) + tuned.var(ddof=1) / len(tuned))
    assert one.difference.standard_error < 0.8 * unpaired


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_order_of_rows_and_systems_changes_nothing(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    rows = drawn({"base": 0.0, "tuned": 0.4, "twin": 0.4}, seeds)
    first = found(write_csv(tmp_path / "scores.csv", rows, HEAD))
    turned = random.Random(2).sample(rows, len(rows))
    second = found(write_csv(tmp_path / "scores.csv", turned, HEAD), reference="base")
    by_name = {one.strategy: one for one in second.comparisons}
    assert all(one == by_name[one.strategy] for one in first.comparisons)
    assert first.leader == second.leader and first.means == second.means


def test_swapping_two_systems_flips_the_signs(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "scores.csv", drawn({"base": 0.0, "tuned": 0.5}, (0, 1, 2)), HEAD)
    (one,), (other,) = found(path, "base").comparisons, found(path, "tuned").comparisons
    assert one.difference.estimate == -other.difference.estimate > 0
    assert (one.difference.low, one.difference.high) == pytest.approx((-other.difference.high, -other.difference.low))
    assert one.p_adjusted == pytest.approx(other.p_adjusted)
    assert {one.verdict, other.verdict} <= {"better", "worse", "not separable from noise"}
    np.testing.assert_allclose(found(path, "base").by_task.values.sum(), -found(path, "tuned").by_task.values.sum())


def test_one_run_and_several_runs(tmp_path: Path) -> None:
    """A single run is assumed to vary as the other system's runs; two single runs beside others get no verdict."""
    rows = [
        row for row in drawn({"one": 0.0, "three": 0.5, "single": 0.1}, (0, 1, 2)) if row[4] == "three" or row[3] == 0
    ]
    ours = found(write_csv(tmp_path / "scores.csv", rows, HEAD))
    several, single = ours.comparisons
    assert several.difference.is_borrowed and several.difference.seeds_n == 3
    assert compare_sentences.verdict(single.difference, single.verdict) == "too few runs to say"
    assert "unequal numbers of runs" in [finding.title for finding in ours.joined.findings]


def test_results_have_the_numbers_of_the_page(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "scores.csv", drawn({"base": 0.0, "tuned": 0.5, "twin": 0.5}, (3, 4)), HEAD)
    made = compare([str(path)], str(tmp_path / "out"))
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    ours = found(path)
    stored = {row["system"]: row for row in rows if row["quantity"] == "difference"}
    for one in ours.comparisons:
        row = stored[one.strategy]
        assert (row["estimate"], row["low"], row["p_adjusted"]) == (
            one.difference.estimate,
            one.difference.low,
            one.p_adjusted,
        )
    assert {row["run"] for row in rows if row["quantity"] == "score"} == {3, 4}
    assert {"budget_n", "strategy", "benchmark"}.isdisjoint(rows[0])
    page = Path(made.page).read_text()
    assert all(f"{abs(one.difference.estimate):.3f}" in page for one in ours.comparisons)
    again = compare([str(path)], str(tmp_path / "again"))
    assert Path(again.page).read_bytes() == Path(made.page).read_bytes()
