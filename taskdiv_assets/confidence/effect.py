"""Estimate how errors in the tasks' mean confidences change the allocation of WeightedTaskDiversity.

`sampling_effect` estimates how far an allocation computed from a sample is from the allocation computed from the full pool. The
other functions test whether means can serve as weights, and turn them into an allocation.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_contracts.shared_statistics import total_variation
from taskdiv_assets.confidence.measures import SMALLEST as FLOOR
from taskdiv_assets.confidence.measures import confidence
from taskdiv_assets.confidence.sampling import TaskMeans
from taskdiv_assets.selection.apportionment import allocate
from taskdiv_assets.selection.strata import COST_SCALE, LARGEST_KEY, SMALLEST_COST, inverse_costs

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
DRAWS_N = 400
LEVEL = 0.95
LARGEST_DEVIATION = 0.5  # largest standard deviation of numbers between 0 and 1
# Smallest usable mean of a task. FLOOR, the smallest possible confidence of a prompt, is over a thousandth of a smaller mean.
LEAST_KNOWN = 1_000 * FLOOR


class Effect(NamedTuple):
    """How uncertain the allocation at one budget is, because the tasks' means are estimated from a sample."""

    distance: float  # expected total-variation distance to the allocation computed from the full pool, 0..1
    low: Counts  # (T,) 95% interval of each task's count, widened to include this allocation
    high: Counts  # (T,)


def is_too_small(mean_confidence: Floats) -> NDArray[np.bool_]:  # (T,)
    """Return a mask of the means below LEAST_KNOWN. FLOOR, the smallest possible confidence of a prompt, distorts these means."""
    return mean_confidence < LEAST_KNOWN


def has_weights(mean_confidence: Floats, pool_n: Counts) -> bool:
    """Return True if these means can be weights: none is too small (`is_too_small`), and `inverse_costs` can represent all."""
    return not is_too_small(mean_confidence).any() and inverse_costs(mean_confidence, pool_n) is not None


def weighted_allocation(
    mean_confidence: Floats, pool_n: Counts, budget_n: int, smallest: float | None = None
) -> Counts:  # (T,)
    """Return the number of prompts that WeightedTaskDiversity takes from each task; raise ValueError if means are too far apart.

    At equal costs, the first task comes first here; in a ranking, a seeded shuffle decides. `smallest` is the confidence that
    sets the scale of the costs (see `inverse_costs`).
    """
    costs = inverse_costs(mean_confidence, pool_n, smallest)
    if costs is None:
        raise ValueError(f"mean confidences from {mean_confidence.min()} to {mean_confidence.max()} give no weights")
    return allocate(costs, pool_n, budget_n)


def may_have_small_means(least_log_probability: float | None) -> bool:
    """Return True if at least one definition of confidence may give a task a mean below one millionth.

    `least_log_probability` is the smallest sequence log-probability of all scored prompts, None if no prompt is scored. No
    definition gives a smaller confidence than the probability of the sequence.
    """
    return least_log_probability is not None and least_log_probability < log(1 / COST_SCALE)


def has_small_means(
    labels: pa.Table,  # prompt_id and task of task_labels
    scored: pa.Table,  # prompt_id and sequence_log_probability of confidence_table
) -> bool:
    """Return True if any definition gives a task a mean confidence below one millionth. `inverse_costs` then changes the scale.

    The probability of a sequence is the smallest of all definitions, so only this definition is computed.
    """
    if not may_have_small_means(pc.min(scored["sequence_log_probability"]).as_py()):
        return False
    places = pc.index_in(scored["prompt_id"], value_set=labels["prompt_id"].combine_chunks())
    tasks = labels["task"].take(places).combine_chunks().dictionary_encode().indices.to_numpy()
    columns = {"sequence_log_probability": scored["sequence_log_probability"].to_numpy()}
    means = np.bincount(tasks, confidence(columns, "sequence_probability")) / np.bincount(tasks)
    return bool((means < 1 / COST_SCALE).any())


def sampling_effect(means: TaskMeans, budget_n: int, *, seed: int = 0) -> Effect:
    """Return how the sampling error of the tasks' means changes an allocation.

    In each of 400 draws, the mean of every task is drawn from a Student's t distribution around its estimate, and clipped to the
    usable range. The budget is then allocated by the drawn means. An unknown standard error counts as 0.5, the largest deviation
    of numbers from 0 to 1. The means must be usable as weights (`has_weights`).
    """
    random = np.random.default_rng(seed)
    made = weighted_allocation(means.mean, means.pool_n, budget_n)
    errors = np.where(np.isnan(means.standard_error), LARGEST_DEVIATION, means.standard_error)
    draws = means.mean + errors * random.standard_t(means.degrees, size=(DRAWS_N, len(errors)))
    smallest = float(means.mean.min())
    least = min(1 / COST_SCALE, smallest / SMALLEST_COST)  # a cost of 1, as a confidence
    draws = np.clip(draws, least, min(1.0, least * LARGEST_KEY / (2.0 * means.pool_n.max())))
    counts = np.stack([weighted_allocation(draw, means.pool_n, budget_n, smallest) for draw in draws])
    low, high = np.quantile(counts, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="closest_observation")
    expected = float(np.mean([total_variation(made, count) for count in counts]))
    return Effect(expected, np.minimum(low, made).astype(np.int64), np.maximum(high, made).astype(np.int64))
