"""The page's scores, means, differences and labels as one table: results.parquet and results.csv beside it.

A row is one quantity: a score of a seed, a mean, a difference, labels to match. Its interval, p-value and verdict stand
with it, and they are the very objects that the page's sentences and figures are made of.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from reports import statistics
from reports.analysis import FULL_POOL, Comparison, Section
from reports.lists.numbers import ListState
from reports.results import FULL_POOL_STRATEGY, Results
from reports.scores import BASE, ScoreSet
from reports.statistics import Arm, Difference, Savings, verdict


class Number(NamedTuple):
    """One row.

    Attributes:
        quantity: `score` (one seed's mean over the items of a task, or over all tasks), `mean` (over tasks and seeds),
            `difference` (strategy minus reference at a budget), `area` (of both areas under the curve up to that budget),
            `pair` (of every two strategies at a budget, the higher mean first: what “best” rests on), `labels_to_match`
            (the reference's score at its largest budget) or `gain` (over the base). While no strategy is scored also `chosen`
            (prompts of a list, by task and in all, mean over selection seeds), and in a campaign `sent` and `answered`
            (prompts of a list that any export sent out, and that an import answered).
        strategy: `base` for the base.
        reference: what is compared with; empty where nothing is.
        budget_n: labels; 0 for the base.
        training_seed: None where it is not one seed's.
        task: empty over all tasks.
        estimate: in the unit of the metric, or labels, or prompts; None where the mean curve ends below a target, or a value
            does not exist.
        low: of the 95% interval or set; None where it is open or cannot be estimated.
        high: as `low`.
        p_adjusted: by Holm, within the table of the page that the row stands in; None for the primary comparison.
        verdict: in words; empty where none is given.
        seeds_n: behind the estimate.
        items_n: behind the estimate; of `chosen` the prompts of the task or pool, of `sent` and `answered` those of the list.
    """

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


def results_table(results: Results, sections: tuple[Section, ...]) -> pa.Table:
    """All numbers, sorted by what they are of."""
    rows = [number for one in results.score_sets for number in _scores(one)]
    if not results.is_scored:
        rows += [*_chosen(results), *_came_back(results)]
    for section in sections:
        rows += [*_means(section), *_differences(section), *_labels(section)]
    rows.sort(key=lambda row: (*row[:6], -1 if row.training_seed is None else row.training_seed, row.task))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def _chosen(results: Results) -> Iterator[Number]:
    """Prompts of each list by task, and in all."""
    pool_n = results.pool_n or sum(results.task_sizes.values())
    for state in results.lists.states if results.lists else ():
        by_task = results.allocations.get((state.strategy, state.budget_n), {})
        rows = [("", sum(by_task.values()), pool_n)] if by_task else []
        rows += [(task, by_task.get(task, 0.0), size) for task, size in results.task_sizes.items() if by_task]
        for task, chosen_n, items_n in rows:
            yield _counted("chosen", state, task, chosen_n, items_n)


def _came_back(results: Results) -> Iterator[Number]:
    """How many prompts of each list of a campaign went out, and are answered."""
    for state in results.lists.states if results.lists and results.experiment.is_campaign else ():
        yield _counted("sent", state, "", state.counts.sent_n, state.counts.chosen_n)
        yield _counted("answered", state, "", state.counts.answered_n, state.counts.chosen_n)


def _counted(quantity: str, state: ListState, task: str, count_n: float, items_n: int) -> Number:
    where = ("", "", state.strategy, "", state.budget_n, None, task)
    seeds_n = len(state.seeds)
    return Number(quantity, *where, float(count_n), None, None, None, None, "", seeds_n, items_n)


def _scores(one: ScoreSet) -> Iterator[Number]:
    """By seed and task, and over all tasks."""
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


def _means(section: Section) -> Iterator[Number]:
    for name, points in section.curves.items():
        for point in points:
            yield _of_difference("mean", section, name, "", point.budget_n, point.mean)
    if section.base is not None:
        yield _of_difference("mean", section, "base", "", 0, section.base)
    if section.full_pool is not None:
        yield _of_difference("mean", section, FULL_POOL_STRATEGY, "", section.full_pool_n or 0, section.full_pool)


def _differences(section: Section) -> Iterator[Number]:
    for one in section.by_budget:
        yield _of_comparison("difference", section, one)
    for one in section.against_full_pool:
        yield _of_comparison("difference", section, one)
    for budget_n, best in section.best.items():
        for first, second, gap, p_adjusted in best.pairs:
            made = _of_difference("pair", section, first, second, budget_n, gap)
            said = verdict(gap, p_adjusted)
            yield made._replace(p_value=_p_value(gap), p_adjusted=_known(p_adjusted), verdict=said)
    for one in [*([section.primary] if section.primary else []), *section.areas]:
        yield _of_comparison("area", section, one)
    if section.full_pool_gain is not None:
        gain = section.full_pool_gain
        made = _of_difference("gain", section, FULL_POOL_STRATEGY, "base", section.full_pool_n or 0, gain)
        yield made._replace(p_value=_p_value(gain), verdict=gain.verdict)


def _labels(section: Section) -> Iterator[Number]:
    items_n = int(section.scores.task_sizes.sum())
    for reference, found in ((section.reference, section.savings), (FULL_POOL, section.full_pool_savings)):
        for name, one in found.items():
            yield _of_savings(section, name, reference, one, items_n)


def _of_comparison(quantity: str, section: Section, one: Comparison) -> Number:
    made = _of_difference(quantity, section, one.strategy, one.reference, max(one.budgets), one.difference)
    adjusted = None if one.p_adjusted is None else _known(one.p_adjusted)
    return made._replace(p_value=_p_value(one.difference), p_adjusted=adjusted, verdict=one.verdict)


def _of_difference(
    quantity: str, section: Section, strategy: str, reference: str, budget_n: int, one: Difference
) -> Number:
    where = (section.scores.benchmark, section.scores.metric, strategy, reference, budget_n, None, "")
    return Number(
        quantity,
        *where,
        one.estimate,
        _known(one.low),
        _known(one.high),
        None,
        None,
        "",
        one.seeds_n,
        one.items_n,
    )


def _of_savings(section: Section, strategy: str, reference: str, one: Savings, items_n: int) -> Number:
    where = (section.scores.benchmark, section.scores.metric, strategy, reference, one.largest_n, None, "")
    return Number(
        "labels_to_match",
        *where,
        one.labels_n,
        one.low_n,
        one.high_n,
        None,
        None,
        one.outcome,
        one.seeds_n,
        items_n,
    )


def _p_value(one: Difference) -> float | None:
    """Of the t test; none is told where it would count items only."""
    return _known(one.p_value) if one.has_seed_uncertainty else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


_TEXT = ("quantity", "benchmark", "metric", "strategy", "reference", "task", "verdict")
_WHOLE = ("budget_n", "training_seed", "seeds_n", "items_n")
_OPEN = ("training_seed", "estimate", "low", "high", "p_value", "p_adjusted")
SCHEMA = pa.schema(
    [
        pa.field(
            name,
            pa.string() if name in _TEXT else pa.int64() if name in _WHOLE else pa.float64(),
            nullable=name in _OPEN,
        )
        for name in Number._fields
    ]
)
