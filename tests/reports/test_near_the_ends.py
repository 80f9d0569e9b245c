"""Scores that (nearly) all agree: intervals keep a width, and no difference is called equivalent on few items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from reports import analysis, numbers, paper, results, sentences, statistics, tables, variance
from reports.statistics import Arm
from reports.variance import Part
from tests.evidence import near_the_ends
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_limits import changed, every, with_scores

FloatArray = NDArray[np.float64]
SMALL: dict[str, Any] = {"tasks": ("copy", "flip"), "items_per_task": 5, "budgets": (16, 32)}


def arm(scores: FloatArray) -> Arm:
    return Arm(scores, tuple(range(len(scores))))


@pytest.mark.parametrize("seeds_n", [1, 3, 5])
@pytest.mark.parametrize(("tasks_n", "items_n"), [(2, 5), (5, 10), (20, 50), (30, 1)])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_scores_that_all_agree_reach_the_exact_one_sided_bound(
    seeds_n: int, tasks_n: int, items_n: int, value: float
) -> None:
    """Without a failure among n items the rate of failures may be 1 − .05^(1/n): Clopper and Pearson's one-sided bound."""
    all_n = tasks_n * items_n
    mean = statistics.mean_score(arm(np.full((seeds_n, all_n), value)), np.repeat(np.arange(tasks_n), items_n))
    bound = 1 - 0.05 ** (1 / all_n)
    assert mean.high >= min(1.0, value + bound) and mean.low <= max(0.0, value - bound)
    assert mean.high - mean.low < 4.2 * bound and 0 <= mean.low <= value <= mean.high <= 1


@pytest.mark.parametrize("failed_n", range(13))
def test_few_failures_reach_the_exact_one_sided_bound(failed_n: int) -> None:
    """Items that fail under every seed, of 200 in four tasks; .0005 is a tenth of what one item moves the mean by."""
    scores = np.ones((3, 200))
    scores[:, np.arange(failed_n) * 15] = 0
    mean = statistics.mean_score(arm(scores), np.repeat(np.arange(4), 50))
    exact = 1 - stats.beta.ppf(0.95, failed_n + 1, 200 - failed_n)
    assert exact - 0.02 < mean.low <= exact + 0.0005


def test_the_unseen_part_is_that_of_the_formula_written_out() -> None:
    tasks = np.array([0] * 3 + [1] * 5 + [2] * 4)
    means = np.random.default_rng(1).random(12) ** 4
    weights = [1 / (3 * 3)] * 3 + [1 / (3 * 5)] * 5 + [1 / (3 * 4)] * 4
    gaps = [mean - means[tasks == task].mean() for mean, task in zip(means, tasks, strict=True)]
    unit = (1 / 9 + 1 / 15 + 1 / 12) / 3
    third = sum((weight * gap) ** 3 for weight, gap in zip(weights, gaps, strict=True))
    second = sum((weight * gap) ** 2 for weight, gap in zip(weights, gaps, strict=True))
    size = (abs(third) + unit**3 / 2) / (second + unit**2 / 2)
    assert variance.unseen_part(means, variance.strata(tasks)) == pytest.approx((3 * size**2, 9))


@settings(max_examples=80)
@given(st.floats(1e-9, 1), st.floats(1, 500), st.floats(1e-9, 1), st.floats(1, 500))
def test_what_is_added_never_narrows_an_interval(
    first: float, first_df: float, second: float, second_df: float
) -> None:
    """The reach is that of both parts, each by its own t: so also where seeds agree by luck and have few degrees of freedom."""
    whole, unseen = Part(first, first_df), Part(second, second_df)
    got = variance.with_unseen(whole, unseen)
    reach = [stats.t.ppf(0.975, part.df) ** 2 * part.variance for part in (whole, unseen, got)]
    assert reach[2] == pytest.approx(reach[0] + reach[1], rel=1e-3)
    assert got.variance == first + second and min(first_df, second_df) <= got.df <= max(first_df, second_df)


def test_ordinary_scores_keep_their_intervals() -> None:
    """24 tasks of 40 items, as in the demo: the variance grows by less than a thousandth."""
    generator, tasks = np.random.default_rng(2), np.repeat(np.arange(24), 40)
    levels = np.linspace(0.05, 0.95, 24)[tasks]
    first, second = (arm((generator.random((3, 960)) < levels).astype(float)) for _ in range(2))
    for one in (statistics.mean_score(first, tasks), statistics.compare(first, second, tasks)):
        assert one.parts is not None and one.parts.unseen.variance < 1e-3 * one.standard_error**2


@pytest.mark.parametrize(("items_n", "is_shown"), [(2, False), (10, False), (50, False), (120, False), (500, True)])
def test_arms_that_agree_are_equivalent_only_on_many_items(items_n: int, is_shown: bool) -> None:
    scores = arm(np.ones((3, items_n)))
    same = statistics.compare(scores, scores, np.arange(items_n) % 2)
    assert statistics.equivalence(same).is_shown == is_shown
    assert same.low < 0 < same.high and same.verdict == "not separable from noise"


def test_a_difference_on_every_item_separates_only_if_there_are_enough() -> None:
    """Four items of four: the sign test has p = .125."""
    for items_n, said in ((4, "not separable from noise"), (20, "better")):
        gap = statistics.compare(arm(np.ones((3, items_n))), arm(np.zeros((3, items_n))), np.arange(items_n) % 2)
        assert gap.verdict == said and gap.p_value <= gap.p_value_cautious


def test_one_item_has_no_interval_and_shows_nothing() -> None:
    alone = statistics.compare(arm(np.ones((3, 1))), arm(np.ones((3, 1))), np.zeros(1, np.int64))
    assert np.isnan(alone.low) and not statistics.equivalence(alone).is_shown
    assert alone.verdict == "too few seeds to say"


@pytest.mark.parametrize("alike_n", [0, 1])
def test_means_near_one_hold_the_truth(alike_n: int) -> None:
    """The case of the report's first version: 5 tasks × 10 items at .99, three seeds, held .41 to .77."""
    generator = np.random.default_rng(3)
    got = near_the_ends.near(0.99, (5, 10), 3, 100, generator)
    assert got.covered[-alike_n].value >= 0.93


def test_equivalence_at_the_margin_is_hardly_ever_shown_on_few_items() -> None:
    got = near_the_ends.at_margin(0.99, (2, 5), 3, 60, np.random.default_rng(4))
    assert [one.value for one in got.equivalent] == [0, 0, 0] and min(one.value for one in got.covered) >= 0.93


def said(folder: Path) -> tuple[str, pa.Table]:
    """Return a report's claims and verdicts as one text, and its table of results."""
    found = results.load(str(folder))
    sections = analysis.sections(found)
    claims = [" ".join(claim) for claim in sentences.answer(found, sections)]
    claims += [row[-1] for one in sections for row in tables.differences(one.by_budget, "", "").rows]
    return " ".join(claims), numbers.results_table(found, sections)


@pytest.mark.parametrize("value", [0.25, 0.5])
def test_equal_scores_compare_nothing(tmp_path: Path, value: float) -> None:
    """Adapters that do nothing: all models agree on every item, and the answer says that alone."""
    recipe = Recipe(**SMALL, strategies=("random", "k_center"))
    folder = changed(make_results(tmp_path, recipe), lambda path, table: every(value)(table))
    (section,) = analysis.sections(results.load(str(folder)))
    assert section.says_nothing == "Every model has the same score on every item: this benchmark cannot compare them."
    text, table = said(folder)
    assert not any(word in text for word in ("equivalent", "reaches", "highest mean", "open at both ends"))
    assert set(table["equivalence"].to_pylist()) <= {"", "not shown"}


def test_scores_that_differ_are_compared(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL, strategies=("random", "k_center"))
    (section,) = analysis.sections(results.load(str(make_results(tmp_path, recipe))))
    assert section.says_nothing == ""


def test_few_items_near_one_are_never_called_equivalent(tmp_path: Path) -> None:
    """Two arms agree on 2 × 5 items, a third lies .01 below on each of them."""

    def nearly(path: Path, table: pa.Table) -> pa.Table:
        return every(1.0 if "k_center" not in str(path) else 0.99)(table)

    recipe = Recipe(**SMALL, strategies=("random", "task_diversity", "k_center"))
    text, table = said(changed(make_results(tmp_path, recipe), nearly))
    assert "equivalent" not in text and "not shown" in text
    assert not {"better", "worse"} & set(table["verdict"].to_pylist())


def test_equal_means_share_the_first_place(tmp_path: Path) -> None:
    """No strategy has "the highest mean" by the alphabet; one that is lower is named as before."""
    folder = changed(
        make_results(tmp_path, Recipe(**SMALL, strategies=("random", "task_diversity", "k_center"))), lowered
    )
    (section,) = analysis.sections(results.load(str(folder)))
    assert "k_center and random share the highest mean (0.800 [" in sentences.best_by_budget(section)
    assert "]); not shown to differ from it: task_diversity" in sentences.best_by_budget(section)


def lowered(path: Path, table: pa.Table) -> pa.Table:
    """Set four of five items right, and three of five for task_diversity."""
    right = np.arange(table.num_rows) % 5 > ("task_diversity" in str(path))
    return with_scores(table, right.astype(float))


@pytest.mark.parametrize("benchmark", ["lab", "mmlu"])
def test_the_papers_claims_are_not_tested_where_nothing_differs(tmp_path: Path, benchmark: str) -> None:
    recipe = Recipe(**SMALL, strategies=("random", "k_center"), benchmarks=(benchmark,))
    found = results.load(str(changed(make_results(tmp_path, recipe), lambda path, table: every(0.0)(table))))
    said_of = dict(paper.paper_claims(found, analysis.sections(found)))
    assert all(here.startswith(paper.NOT_TESTABLE) for here in said_of.values())
