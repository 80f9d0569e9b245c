"""Stratified orders: a weight rule times a within-task order, combined freely.

A weight rule turns a pool into one positive integer cost per task; a within-task order is a permutation of
all rows that says which rows of a task come first. `stratified` joins the two, so a new strategy is a few
lines (`strategies.STRATEGIES`). Sorting and apportioning live in `apportionment`, hashes in `streams`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import streams
from taskdiv_assets.selection.apportionment import stratified_order
from taskdiv_assets.selection.pool import Progress, SelectionPool

WeightRule = Callable[[SelectionPool], NDArray[np.int64]]  # -> (T,) positive costs
Order = Callable[..., NDArray[np.int64]]  # (pool, seed, depth) -> row positions; a greedy one also takes `progress`

COST_SCALE = 1_000_000  # costs are confidences in millionths
LARGEST_KEY = 2.0**62  # cost times prompts of a task, with room for rounding
SMALLEST_COST = 1_000  # of the least confident task, where millionths are too coarse: rounding moves a ratio by 0.05%


def random_order(stream: str) -> Order:
    """All rows by a keyed hash of their ids, smallest first."""

    def order(pool: SelectionPool, seed: int, depth: int | None) -> NDArray[np.int64]:
        return np.argsort(streams.keyed_hash(seed, stream, pool.prompt_ids))

    return order


def equal_costs(pool: SelectionPool) -> NDArray[np.int64]:
    """Round robin: TaskDiversity."""
    return np.ones(len(pool.task_names), np.int64)


def confidence_costs(pool: SelectionPool) -> NDArray[np.int64]:
    """Shares in proportion to the inverse of the base model's mean confidence: WeightedTaskDiversity.

    cost_t = max(1, round(10^6 * mean_confidence_t)). Where a task's mean confidence is below 10^-6, as products of many
    probabilities are, cost_t = round(10^3 * mean_confidence_t / smallest mean confidence), so that ratios stay what they are
    at any magnitude. A task without prompts in the pool needs no confidence.

    Raises:
        ValueError: the tasks' confidences lie so far apart that no 64-bit key holds both.
    """
    confidence = used_confidence(pool)
    sizes = np.bincount(pool.tasks, minlength=len(confidence))
    costs = inverse_costs(confidence, sizes)
    if costs is None:
        is_used = sizes > 0
        least, most = (int(np.flatnonzero(is_used)[pick(confidence[is_used])]) for pick in (np.argmin, np.argmax))
        raise ValueError(
            f"{_named(pool)} is {confidence[least]:.3g} for task {pool.task_names[least]!r} and {confidence[most]:.3g} for task "
            f"{pool.task_names[most]!r}; shares in inverse proportion to numbers so far apart do not fit into 64 bits. Choose a "
            "confidence that depends less on the length of an answer, such as `confidence: {column: geometric_mean}`"
        )
    return costs


def inverse_costs(
    confidence: NDArray[np.float64],  # (T,) positive
    sizes: NDArray[np.integer],  # (T,) prompts; a task without counts for nothing
    smallest: float
    | None = None,  # confidence that the scale is made for; the smallest of a task with prompts by default
) -> NDArray[np.int64] | None:  # (T,) positive
    """Whole-number costs in proportion to confidence; None if they do not fit into 64 bits.

    >>> inverse_costs(np.array([0.5, 0.25]), np.array([10, 10])).tolist()
    [500000, 250000]
    >>> inverse_costs(np.array([5e-9, 2e-9]), np.array([10, 10])).tolist()
    [2500, 1000]
    """
    is_used = sizes > 0
    if smallest is None:
        smallest = float(confidence[is_used].min(initial=1.0))
    with np.errstate(over="ignore"):
        costs = COST_SCALE * confidence if smallest >= 1 / COST_SCALE else SMALLEST_COST * (confidence / smallest)
        highest = float((np.where(is_used, costs, 1.0) * np.maximum(sizes, 1)).max(initial=0.0))
    return _rounded(np.where(is_used, costs, COST_SCALE)) if highest < LARGEST_KEY else None


def complement_costs(pool: SelectionPool) -> NDArray[np.int64]:
    """Shares in proportion to 1.02 minus the mean confidence: ours, for bases whose confidences lie close to 1.

    cost_t = round(10^6 / (1.02 - mean_confidence_t)); 0.02 keeps a task of confidence 1 from getting nothing.
    """
    return _rounded(COST_SCALE / (1.02 - used_confidence(pool)))


def used_confidence(pool: SelectionPool) -> NDArray[np.float64]:  # (T,)
    """Mean confidence by task, 1 for a task without prompts; ValueError for what is no probability."""
    if pool.task_confidence is None:
        raise ValueError("the pool has no task_confidence; materialise task_confidence first.")
    confidence = pool.task_confidence.astype(np.float64)
    is_used = np.bincount(pool.tasks, minlength=len(confidence)) > 0
    is_wrong = is_used & ~((confidence > 0) & (confidence <= 1))
    if is_wrong.any():
        task = int(np.flatnonzero(is_wrong)[0])
        is_lost = confidence[task] == 0
        hint = "is it a product too small for a float?" if is_lost else "did a log-probability get here without exp()?"
        raise ValueError(
            f"{_named(pool)} of {int(is_wrong.sum())} tasks is no probability in (0, 1], the first is task "
            f"{pool.task_names[task]!r} with {confidence[task]}; {hint}"
        )
    return np.where(is_used, confidence, 1.0)


def _named(pool: SelectionPool) -> str:
    column = f" ({pool.confidence_column})" if pool.confidence_column else ""
    return f"task_confidence{column}"


def _rounded(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.maximum(np.rint(costs).astype(np.int64), 1)


def stratified(weight_rule: WeightRule, within_task: Order) -> Order:
    """Join a weight rule and a within-task order into the order of a strategy; the seed also shuffles the tasks.

    A task's prompts stand as they do in the order of the whole pool. So a greedy one picks all of the pool, whatever
    the depth, and looks at all picks so far, not only at those of the task.
    """

    def order(
        pool: SelectionPool,
        seed: int,
        depth: int | None,
        *progress: Progress | None,  # given to a strategy with `is_greedy`, whose within-task order takes it
    ) -> NDArray[np.int64]:
        if len(pool.tasks) != len(pool.prompt_ids):
            raise ValueError("a stratified strategy needs the task of every prompt; give tasks and task_names.")
        task_order = streams.shuffled_positions(seed, streams.TASK_ORDER, pool.task_names)
        within_order = within_task(pool, seed, None, *progress)
        return stratified_order(pool.tasks, weight_rule(pool), within_order, task_order)

    return order
