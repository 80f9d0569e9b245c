"""What another knowledge of the tasks' confidences does to WeightedTaskDiversity's allocation.

Two questions. How far is the allocation of a sample from that of the whole pool, in expectation, and between what numbers
does each task's count lie? How far apart are the allocations of two sources or definitions of confidence?
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.confidence.sampling import TaskMeans
from taskdiv_assets.selection.apportionment import allocate
from taskdiv_assets.selection.strata import COST_SCALE

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
DRAWS_N = 400
LEVEL = 0.95
LARGEST_DEVIATION = 0.5  # of numbers between 0 and 1
SMALLEST = 1 / COST_SCALE  # a confidence below counts as this: costs are whole millionths, at least 1


class Effect(NamedTuple):
    """What sampling leaves open at one budget."""

    distance: float  # expected total-variation distance between the allocation made and that of the whole pool, 0..1
    low: Counts  # (T,) 95% interval of each task's count
    high: Counts  # (T,)


def weighted_allocation(mean_confidence: Floats, pool_n: Counts, budget_n: int) -> Counts:  # (T,)
    """WeightedTaskDiversity's counts; ties go to the task that stands first, where a ranking has a seeded shuffle."""
    costs = np.maximum(np.rint(COST_SCALE * mean_confidence), 1).astype(np.int64)
    return allocate(costs, pool_n, budget_n)


def distance(first: Counts, second: Counts) -> float:
    """Total-variation distance of two allocations of one budget: the share of the labels that would go elsewhere.

    >>> distance(np.array([6, 4]), np.array([5, 5]))
    0.1
    """
    return float(np.abs(first - second).sum() / 2 / max(int(first.sum()), 1))


def sampling_effect(means: TaskMeans, budget_n: int, *, seed: int = 0) -> Effect:
    """What the sampling error of the tasks' means does to an allocation.

    The mean over the whole task is drawn from Student's t around the sample's, all tasks at once, and allocated: 400
    times. Where no task has two scored prompts, nothing is known of their spread: it counts as the largest that there is.
    """
    random = np.random.default_rng(seed)
    made = weighted_allocation(means.mean, means.pool_n, budget_n)
    errors = np.where(np.isnan(means.standard_error), LARGEST_DEVIATION, means.standard_error)
    draws = means.mean + errors * random.standard_t(means.degrees, size=(DRAWS_N, len(errors)))
    counts = np.stack([weighted_allocation(draw, means.pool_n, budget_n) for draw in np.clip(draws, SMALLEST, 1.0)])
    low, high = np.quantile(counts, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="closest_observation")
    expected = float(np.mean([distance(made, count) for count in counts]))
    return Effect(expected, np.minimum(low, made).astype(np.int64), np.maximum(high, made).astype(np.int64))
