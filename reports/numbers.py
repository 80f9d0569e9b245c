"""The results table: scores, comparisons and counts of the page, and the numbers behind its verdicts (docs/RESULTS.md)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from data_contracts.shared_statistics import wilson
from reports import statistics
from reports.analysis import FULL_POOL, Comparison, Section
from reports.judged import AT_EQUAL_LENGTH
from reports.reader import AdapterRun
from reports.results import Results
from reports.scores import BASE, ArmKey, ScoreSet
from reports.statistics import Arm, Difference, verdict


class Number(NamedTuple):
    """One row of the results table: a number with its interval, p-values and verdict."""

    quantity: str
    benchmark: str
    metric: str
    strategy: str
    reference: str
    budget_n: int
    training_seed: int | None
    task: str
    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    verdict: str
    seeds_n: int
    items_n: int
    family: str = ""
    p_value_cautious: float | None = None
    standard_error: float | None = None
    df: float | None = None
    equivalence_low: float | None = None
    equivalence_high: float | None = None
    equivalence: str = ""


def results_table(results: Results, sections: tuple[Section, ...]) -> pa.Table:
    """Return the results table, sorted by its first eight columns."""
    rows = [number for one in results.score_sets for number in (*seed_scores(one), *task_scores(one))]
    rows += [*_chosen(results), *_overlaps(results), *_tokens(results)]
    if not results.is_scored:
        rows += _came_back(results)
    for section in sections:
        rows += [
            *_means(section),
            *_differences(section),
            *_detectable(section),
            *_labels(section),
            *_forecasts(section),
        ]
    return as_table(rows)


def as_table(rows: list[Number]) -> pa.Table:
    """Return rows as a table, sorted by the first eight columns."""
    rows = sorted(rows, key=lambda row: (*row[:6], -1 if row.training_seed is None else row.training_seed, row.task))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def _chosen(results: Results) -> Iterator[Number]:
    pool_n = results.pool_n or sum(results.task_sizes.values())
    for arm, by_task in results.allocations.items():
        if by_task:
            seeds_n = results.selection_seeds_n[arm]
            yield _counted("chosen", arm, "", sum(by_task.values()), seeds_n, pool_n)
            for task, size in results.task_sizes.items():
                yield _counted("chosen", arm, task, by_task.get(task, 0.0), seeds_n, size)


def _overlaps(results: Results) -> Iterator[Number]:
    budget_n = results.overlap_budget_n or 0
    for (first, second), share in results.overlaps.items():
        if np.isfinite(share):
            seeds_n = min(results.selection_seeds_n[name, budget_n] for name in (first, second))
            yield _counted("overlap", (first, budget_n), "", share, seeds_n, budget_n)._replace(reference=second)


def _tokens(results: Results) -> Iterator[Number]:
    full = results.full_pool
    runs: dict[ArmKey, list[AdapterRun]] = {}
    for run in results.adapters:
        runs.setdefault((run.strategy, run.budget_n), []).append(run)
    for arm, own in sorted(runs.items()):
        if arm[0] in results.experiment.strategies or (full is not None and arm == (full.strategy, full.budget_n)):
            tokens = sum(run.tokens_n for run in own) / len(own)
            yield _counted("tokens", arm, "", tokens, len(own), max(run.examples_n for run in own))


def _came_back(results: Results) -> Iterator[Number]:
    for state in results.lists.states if results.lists and results.experiment.is_campaign else ():
        arm, counts = (state.strategy, state.budget_n), state.counts
        yield _counted("sent", arm, "", counts.sent_n, len(state.seeds), counts.chosen_n)
        yield _counted("answered", arm, "", counts.answered_n, len(state.seeds), counts.chosen_n)


def _counted(quantity: str, arm: ArmKey, task: str, count_n: float, seeds_n: int, items_n: int) -> Number:
    where = ("", "", arm[0], "", arm[1], None, task)
    return Number(quantity, *where, float(count_n), None, None, None, None, "", seeds_n, items_n)


def seed_scores(one: ScoreSet) -> Iterator[Number]:
    sizes = one.task_sizes
    for (strategy, budget), arm in one.arms.items():
        macro = statistics.seed_means(arm, one.task_of_item)
        seeds: tuple[int | None, ...] = (None,) if (strategy, budget) == BASE else arm.seeds
        for position, seed in enumerate(seeds):
            means = statistics.task_means(Arm(arm.scores[position : position + 1]), one.task_of_item)
            places = [("", float(macro[position]), int(sizes.sum()))]
            places += [(task, float(means[t]), int(sizes[t])) for t, task in enumerate(one.tasks)]
            for task, score, items_n in places:
                where = (one.benchmark, one.metric, strategy, "", budget, seed, task)
                yield Number("score", *where, score, None, None, None, None, "", 1, items_n)


def task_scores(one: ScoreSet) -> Iterator[Number]:
    """Yield the mean of each task over seeds, with Wilson's interval. Pseudo-values, which can leave 0..1, have no interval."""
    for (strategy, budget), arm in one.arms.items():
        means = statistics.task_means(arm, one.task_of_item)
        is_pseudo = one.metric == AT_EQUAL_LENGTH or arm.scores.min() < 0 or arm.scores.max() > 1
        intervals = [(None, None)] * len(means)
        if not is_pseudo:
            intervals = np.stack(wilson(np.minimum(means, 1.0), one.task_sizes), axis=1).tolist()
        tasks = zip(one.tasks, means.tolist(), one.task_sizes.tolist(), intervals, strict=True)
        for task, mean, items_n, (low, high) in tasks:
            where = (one.benchmark, one.metric, strategy, "", budget, None, task)
            yield Number("task_mean", *where, mean, low, high, None, None, "", len(arm.scores), items_n)


def _means(section: Section) -> Iterator[Number]:
    for name, points in section.curves.items():
        for point in points:
            yield of_difference("mean", section.scores, name, "", point.budget_n, point.mean)
    if section.base is not None:
        yield of_difference("mean", section.scores, "base", "", 0, section.base)
    if section.full_pool is not None:
        yield of_difference("mean", section.scores, FULL_POOL_STRATEGY, "", section.full_pool_n or 0, section.full_pool)


def _differences(section: Section) -> Iterator[Number]:
    for one in section.by_budget:
        yield _of_comparison("difference", section, one, "budgets")
    for one in section.against_full_pool:
        yield _of_comparison("difference", section, one, "full pool")
    for budget_n, leader in section.leaders.items():
        for other, gap, p_adjusted in leader.pairs:
            made = of_difference("pair", section.scores, leader.name, other, budget_n, gap)
            yield compared(made, gap, verdict(gap, p_adjusted), p_adjusted, "leader")
    for one in [*([section.primary] if section.primary else []), *section.areas]:
        yield _of_comparison("area", section, one, "areas")
    if section.full_pool_gain is not None:
        gain = section.full_pool_gain
        made = of_difference("gain", section.scores, FULL_POOL_STRATEGY, "base", section.full_pool_n or 0, gain)
        yield compared(made, gain, gain.verdict)


def _detectable(section: Section) -> Iterator[Number]:
    """Yield the detectable difference of each comparison that is not separable from noise."""
    found = [("difference", one) for one in (*section.by_budget, *section.against_full_pool)]
    found += [("area", one) for one in (section.primary, *section.areas) if one is not None]
    for quantity, one in found:
        if one.verdict == "not separable from noise":
            name = f"detectable_{quantity}"
            made = of_difference(name, section.scores, one.strategy, one.reference, max(one.budgets), one.difference)
            yield made._replace(estimate=one.detectable, low=None, high=None, standard_error=None, df=None)


def _labels(section: Section) -> Iterator[Number]:
    benchmark, metric, items_n = section.scores.benchmark, section.scores.metric, int(section.scores.task_sizes.sum())
    for reference, found in ((section.reference, section.savings), (FULL_POOL, section.full_pool_savings)):
        for name, one in found.items():
            where = (benchmark, metric, name, reference, one.largest_n, None, "")
            ends = (one.low_n, one.high_n)
            yield Number("labels_to_match", *where, one.labels_n, *ends, None, None, one.outcome, one.seeds_n, items_n)


def _forecasts(section: Section) -> Iterator[Number]:
    for strategy, found in section.outlooks.items():
        for one in found.forecasts:
            where = (section.scores.benchmark, section.scores.metric, strategy, "", one.budget_n, None, "")
            ends = (one.low, one.high, None, None)
            yield Number("forecast", *where, one.gain, *ends, one.verdict, one.seeds_n, one.items_n)


def _of_comparison(quantity: str, section: Section, one: Comparison, family: str) -> Number:
    made = of_difference(quantity, section.scores, one.strategy, one.reference, max(one.budgets), one.difference)
    return compared(made, one.difference, one.verdict, one.p_adjusted, family if one.p_adjusted is not None else "")


def compared(made: Number, gap: Difference, said: str, p_adjusted: float | None = None, family: str = "") -> Number:
    same = statistics.equivalence(gap)
    return made._replace(
        p_value=_known(gap.p_value) if gap.has_verdict else None,
        p_adjusted=None if p_adjusted is None else _known(p_adjusted),
        verdict=said,
        family=family,
        p_value_cautious=_known(gap.p_value_cautious),
        equivalence_low=_known(same.low),
        equivalence_high=_known(same.high),
        equivalence=same.verdict,
    )


def of_difference(
    quantity: str, scores: ScoreSet, strategy: str, reference: str, budget_n: int, one: Difference
) -> Number:
    where = (scores.benchmark, scores.metric, strategy, reference, budget_n, None, "")
    ends = (_known(one.low), _known(one.high))
    made = Number(quantity, *where, one.estimate, *ends, None, None, "", one.seeds_n, one.items_n)
    return made._replace(standard_error=_known(one.standard_error), df=_known(one.df) if ends[0] is not None else None)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


_TEXT = ("quantity", "benchmark", "metric", "strategy", "reference", "task", "verdict", "family", "equivalence")
_COUNTS = ("budget_n", "seeds_n", "items_n")
_TYPES = dict.fromkeys(_TEXT, pa.string()) | dict.fromkeys((*_COUNTS, "training_seed"), pa.int64())
SCHEMA = pa.schema(
    [pa.field(name, _TYPES.get(name, pa.float64()), name not in (*_TEXT, *_COUNTS)) for name in Number._fields]
)
