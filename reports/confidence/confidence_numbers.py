"""Numbers on confidence, such as correlations over tasks, distances between allocations, and intervals of sampled means."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to import

from data_contracts.shared_statistics import rank_correlation, total_variation
from reports.reader import ComparedTask, TaskAccuracy, TaskConfidence
from reports.variance import FloatArray

CONFIDENT_AND_WRONG = 0.25  # a task is "confident and wrong" if its confidence is this much above the accuracy interval
PRIOR_DEGREES = 4  # degrees of freedom that a stored standard error of a sampled task borrows from the other tasks


class Variant(NamedTuple):
    """One source and definition of confidence, with its means and allocations."""

    source: str
    definition: str
    is_chosen: bool  # the variant that the experiment uses
    score_s: float
    means: Mapping[str, float]  # by task
    counts: Mapping[int, Mapping[str, int]]  # budget → labels by task


class Effect(NamedTuple):
    """The changes that a variant would cause, compared with the chosen variant."""

    variant: Variant
    correlation: float | None  # Spearman's, over the means of the tasks; None if it cannot be estimated
    distances: Mapping[int, float]  # budget → share of the labels that would go to other tasks
    is_same_pass: bool  # has the source of the chosen variant, so nothing more is scored
    time_share: float | None  # scoring time over that of the chosen variant; None if that is 0

    @property
    def name(self) -> str:
        """The definition if the variant has the chosen source, otherwise the source."""
        return self.variant.definition if self.is_same_pass else self.variant.source


class Comparison(NamedTuple):
    """All variants compared with the chosen variant."""

    tasks: tuple[str, ...]  # least confident first
    budgets: tuple[int, ...]
    effects: tuple[Effect, ...]  # the chosen variant first

    @property
    def chosen(self) -> Variant:
        return self.effects[0].variant


class Sampled(NamedTuple):
    """The uncertainty of the chosen allocation that comes from scoring only a sample."""

    distances: Mapping[int, float]  # budget → expected share of labels that would move if all prompts were scored
    counts: Mapping[int, Mapping[str, tuple[int, int, int]]]  # budget → task → count, low and high end (95%)


def comparison(rows: Sequence[ComparedTask]) -> Comparison | None:
    """Compare all variants with the chosen variant; None if the chosen variant is not stored."""
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
    tasks = sorted(chosen.means, key=lambda task: (chosen.means[task], task))
    return Comparison(tuple(tasks), tuple(sorted(chosen.counts)), effects)


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
    distances = {n: _distance(chosen.counts[n], one.counts[n]) for n in sorted(chosen.counts) if n in one.counts}
    time_share = one.score_s / chosen.score_s if chosen.score_s > 0 else None
    return Effect(one, rank_correlation(*means), distances, one.source == chosen.source, time_share)


def _distance(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    tasks = {*first, *second}
    return total_variation([first.get(task, 0) for task in tasks], [second.get(task, 0) for task in tasks])


def sampled(rows: Sequence[ComparedTask]) -> Sampled | None:
    """Return how uncertain the allocation is because only a sample was scored.

    The result is None if the uncertainty is not stored or all prompts were scored.
    """
    distances: dict[int, float] = {}
    counts: dict[int, dict[str, tuple[int, int, int]]] = {}
    for row in rows:
        if row.is_chosen and row.allocated_low_n is not None and row.allocated_high_n is not None:
            distances[row.budget_n] = row.distance_by_sampling
            ends = (row.allocated_n, row.allocated_low_n, row.allocated_high_n)
            counts.setdefault(row.budget_n, {})[row.task] = ends
    return Sampled(dict(sorted(distances.items())), dict(sorted(counts.items()))) if counts else None


def is_all_scored(rows: Sequence[TaskConfidence]) -> bool:
    """Return whether every prompt of every task was scored."""
    return all(row.scored_n >= row.pool_n for row in rows)


def half_width(row: TaskConfidence) -> float | None:
    """Return half the width of the 95% interval of a task's mean confidence over all its prompts.

    The result is None if all prompts are scored or the standard error is unknown. Student's t has `scored_n` − 1 degrees of
    freedom, plus `PRIOR_DEGREES` because the standard error also uses the other tasks.
    """
    if row.scored_n >= row.pool_n or row.standard_error is None:
        return None
    return float(stdtrit(max(row.scored_n - 1, 0) + PRIOR_DEGREES, 0.975)) * row.standard_error


def accuracy_correlation(rows: Sequence[TaskAccuracy]) -> float | None:
    """Return Spearman's rank correlation over tasks between mean confidence and accuracy; None if it cannot be estimated."""
    return rank_correlation([row.mean_confidence for row in rows], [row.accuracy for row in rows])


def confident_and_wrong(rows: Sequence[TaskAccuracy]) -> tuple[TaskAccuracy, ...]:
    """Return the tasks whose mean confidence is more than `CONFIDENT_AND_WRONG` above the accuracy interval, farthest first."""
    found = [row for row in rows if _excess(row) > CONFIDENT_AND_WRONG]
    return tuple(sorted(found, key=lambda row: (-_excess(row), row.task)))


def below_even_share(rows: Sequence[ComparedTask]) -> frozenset[str]:
    """Return the tasks to which the chosen variant, at its largest budget, gives fewer labels than an even split would."""
    own = [row for row in rows if row.is_chosen]
    largest = [row for row in own if row.budget_n == max(one.budget_n for one in own)]
    even = sum(row.allocated_n for row in largest) / max(1, len(largest))
    return frozenset(row.task for row in largest if row.allocated_n < even)


def _excess(row: TaskAccuracy) -> float:
    return row.mean_confidence - row.accuracy_high


def moved_labels(found: Comparison) -> FloatArray:  # (variants − 1, T)
    """Return how many more labels each other variant gives to each task than the chosen variant does, at the largest budget."""
    budget, own = found.budgets[-1], found.chosen.counts
    rows = [
        [one.variant.counts.get(budget, {}).get(task, 0) - own[budget].get(task, 0) for task in found.tasks]
        for one in found.effects[1:]
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(found.tasks))
