"""The numbers of a comparison of systems, by the report's statistics: differences, leader and tied set, differences by task."""

from typing import NamedTuple

import numpy as np

from reports import statistics
from reports.analysis import Comparison, TaskDifferences
from reports.compare.common_items import Joined
from reports.power import detectable
from reports.statistics import Difference, Leader


class Versus(NamedTuple):
    """All numbers of the page."""

    joined: Joined
    means: dict[str, Difference]  # mean score of each system, in the order of the arguments
    comparisons: tuple[Comparison, ...]  # each system with the reference; corrected together by Holm
    leader: Leader
    by_task: TaskDifferences


def versus(joined: Joined) -> Versus:
    """Compare each system with the reference, and find the leader and the systems that are not shown to differ from it."""
    arms, tasks = joined.arms, joined.scores.task_of_item
    others = [name for name in arms if name != joined.reference]
    gaps = [statistics.compare(arms[name], arms[joined.reference], tasks) for name in others]
    adjusted = statistics.holm([gap.p_value_cautious for gap in gaps])
    corrected_n = int(np.isfinite(adjusted).sum())
    comparisons = tuple(
        Comparison(
            name, joined.reference, (), gap, float(p_value), statistics.verdict(gap, float(p_value)),
            detectable(gap, corrected_n),
        )
        for name, gap, p_value in zip(others, gaps, adjusted, strict=True)
    )  # fmt: skip
    means = {name: statistics.mean_score(arm, tasks) for name, arm in arms.items()}
    return Versus(joined, means, comparisons, statistics.tied_with_leader(arms, tasks), _by_task(joined, others))


def _by_task(joined: Joined, others: list[str]) -> TaskDifferences:
    means = {name: statistics.task_means(arm, joined.scores.task_of_item) for name, arm in joined.arms.items()}
    values = np.stack([means[name] - means[joined.reference] for name in others])
    order = np.argsort(-values.mean(axis=0), kind="stable")
    return TaskDifferences(0, tuple(others), tuple(joined.scores.tasks[t] for t in order), values[:, order])
