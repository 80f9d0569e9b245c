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

    cost_t = max(1, round(10^6 * mean_confidence_t)). A task without prompts in the pool needs no confidence.
    """
    return _rounded(COST_SCALE * used_confidence(pool))


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
        raise ValueError(
            f"task_confidence of {int(is_wrong.sum())} tasks is no probability in (0, 1], the first is task "
            f"{pool.task_names[task]!r} with {confidence[task]}; did a log-probability get here without exp()?"
        )
    return np.where(is_used, confidence, 1.0)


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
