"""Numbers on confidence: correlations over tasks, distances between allocations, intervals of sampled means.

Pure functions of stored rows; nothing here formats.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to import

from reports.reader import ComparedTask, TaskAccuracy, TaskConfidence
from reports.variance import FloatArray

CONFIDENT_AND_WRONG = 0.25  # mean confidence above the upper end of the interval of the share right by more than this
PRIOR_DEGREES = 4  # of freedom that a sampled task's standard error borrows from the other tasks, as it is stored
TASKS_MIN_N = 3  # two ranks always agree or disagree whole


class Variant(NamedTuple):
    """One source and definition of confidence: what it says of the tasks, and the allocation that follows."""

    source: str
    definition: str
    is_chosen: bool  # the experiment's own
    score_s: float
    means: Mapping[str, float]  # by task
    counts: Mapping[int, Mapping[str, int]]  # budget → labels by task


class Effect(NamedTuple):
    """What a variant would change."""

    variant: Variant
    correlation: float | None  # Spearman's over tasks, with the chosen one's means; None where it cannot be estimated
    distances: Mapping[int, float]  # budget → share of the labels that would go to other tasks
    is_same_pass: bool  # of the chosen one's source: nothing more is scored
    time_share: float | None  # of the chosen one's time; None where that took none


class Comparison(NamedTuple):
    """Every variant against the experiment's own."""

    tasks: tuple[str, ...]
    budgets: tuple[int, ...]
    effects: tuple[Effect, ...]  # the experiment's own first

    @property
    def chosen(self) -> Variant:
        """The experiment's own."""
        return self.effects[0].variant


class Sampled(NamedTuple):
    """What scoring a sample leaves open of the experiment's own allocation."""

    distances: Mapping[int, float]  # budget → share of the labels expected to go to other tasks than by scoring all
    counts: Mapping[int, Mapping[str, tuple[int, int, int]]]  # budget → task → count, low and high end of 95%


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; equal values share their mean rank.

    None with fewer than three pairs or where either side is constant: that is no correlation of 0.

    >>> rank_correlation([0.1, 0.2, 0.3], [5, 7, 9]), rank_correlation([1, 1, 1], [1, 2, 3])
    (1.0, None)
    """
    pairs = np.array([first, second], dtype=np.float64)
    ranks = np.array([_ranks(values) for values in pairs[:, np.isfinite(pairs).all(axis=0)]])
    if ranks.shape[1] < TASKS_MIN_N or (np.ptp(ranks, axis=1) == 0).any():
        return None
    return round(float(np.corrcoef(ranks)[0, 1]), 12)


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share their mean rank."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(times) - (times - 1) / 2)[place])


def distance(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Total-variation distance of two allocations of one budget: the share of the labels that would go to other tasks.

    >>> distance({"a": 6, "b": 4}, {"a": 5, "b": 5})
    0.1
    """
    moved = sum(abs(first.get(task, 0) - second.get(task, 0)) for task in {*first, *second})
    return moved / 2 / max(1, sum(first.values()))


def comparison(rows: Sequence[ComparedTask]) -> Comparison | None:
    """All variants against the experiment's own; None where that is not among them."""
    grouped: dict[tuple[str, str], list[ComparedTask]] = {}
    for row in rows:
        grouped.setdefault((row.source, row.definition), []).append(row)
    variants = [_variant(members) for members in grouped.values()]
    chosen = next((one for one in variants if one.is_chosen), None)
    if chosen is None:
        return None
    others = [one for one in variants if one is not chosen]
    others.sort(key=lambda one: (one.source != chosen.source, one.source, one.definition))
    effects = tuple(_effect(one, chosen) for one in [chosen, *others])
    return Comparison(tuple(sorted(chosen.means)), tuple(sorted(chosen.counts)), effects)


def _variant(rows: Sequence[ComparedTask]) -> Variant:
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row.budget_n, {})[row.task] = row.allocated_n
    first = rows[0]
    means = {row.task: row.mean_confidence for row in rows}
    return Variant(first.source, first.definition, first.is_chosen, first.score_s, means, counts)


def _effect(one: Variant, chosen: Variant) -> Effect:
    tasks = sorted(set(one.means) & set(chosen.means))
    means = ([variant.means[task] for task in tasks] for variant in (one, chosen))
    distances = {n: distance(chosen.counts[n], one.counts[n]) for n in sorted(chosen.counts) if n in one.counts}
    time_share = one.score_s / chosen.score_s if chosen.score_s > 0 else None
    return Effect(one, rank_correlation(*means), distances, one.source == chosen.source, time_share)


def sampled(rows: Sequence[ComparedTask]) -> Sampled | None:
    """What the sample leaves open; None where every prompt was scored."""
    distances: dict[int, float] = {}
    counts: dict[int, dict[str, tuple[int, int, int]]] = {}
    for row in rows:
        if row.is_chosen and row.allocated_low_n is not None and row.allocated_high_n is not None:
            distances[row.budget_n] = row.distance_by_sampling
            ends = (row.allocated_n, row.allocated_low_n, row.allocated_high_n)
            counts.setdefault(row.budget_n, {})[row.task] = ends
    return Sampled(dict(sorted(distances.items())), dict(sorted(counts.items()))) if counts else None


def is_all_scored(rows: Sequence[TaskConfidence]) -> bool:
    """Whether no prompt of any task was left out."""
    return all(row.scored_n >= row.pool_n for row in rows)


def half_width(row: TaskConfidence) -> float | None:
    """Half of the 95% interval of a task's mean over its whole pool; None where all are scored or it is not known.

    Student's t with the degrees of freedom that the standard error has: the task's own, and those it borrows.
    """
    if row.scored_n >= row.pool_n or row.standard_error is None:
        return None
    return float(stdtrit(max(row.scored_n - 1, 0) + PRIOR_DEGREES, 0.975)) * row.standard_error


def accuracy_correlation(rows: Sequence[TaskAccuracy]) -> float | None:
    """Spearman's rank correlation over tasks between mean confidence and the share answered right."""
    return rank_correlation([row.mean_confidence for row in rows], [row.accuracy for row in rows])


def confident_and_wrong(rows: Sequence[TaskAccuracy]) -> tuple[TaskAccuracy, ...]:
    """Tasks whose mean confidence lies far above what their share right could be, farthest first."""
    found = [row for row in rows if _excess(row) > CONFIDENT_AND_WRONG]
    return tuple(sorted(found, key=lambda row: (-_excess(row), row.task)))


def below_even_share(rows: Sequence[ComparedTask]) -> frozenset[str]:
    """Tasks that the experiment's own confidence gives fewer labels than an even split, at the largest budget."""
    own = [row for row in rows if row.is_chosen]
    largest = [row for row in own if row.budget_n == max(one.budget_n for one in own)]
    even = sum(row.allocated_n for row in largest) / max(1, len(largest))
    return frozenset(row.task for row in largest if row.allocated_n < even)


def _excess(row: TaskAccuracy) -> float:
    return row.mean_confidence - row.accuracy_high


def moved_labels(found: Comparison) -> FloatArray:  # (variants − 1, T)
    """Labels more or fewer by task than by the experiment's own, at the largest budget."""
    budget, own = found.budgets[-1], found.chosen.counts
    rows = [
        [one.variant.counts.get(budget, {}).get(task, 0) - own[budget].get(task, 0) for task in found.tasks]
        for one in found.effects[1:]
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(found.tasks))
