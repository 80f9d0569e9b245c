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
from taskdiv_assets.selection.pool import SelectionPool

WeightRule = Callable[[SelectionPool], NDArray[np.int64]]  # -> (T,) positive costs
Order = Callable[[SelectionPool, int, int | None], NDArray[np.int64]]  # (pool, seed, depth) -> row positions

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
    costs: NDArray[np.int64] = np.rint(COST_SCALE * np.where(is_used, confidence, 1.0)).astype(np.int64)
    costs[costs < 1] = 1
    return costs


def stratified(weight_rule: WeightRule, within_task: Order) -> Order:
    """Join a weight rule and a within-task order into the order of a strategy; the seed also shuffles the tasks."""

    def order(pool: SelectionPool, seed: int, depth: int | None) -> NDArray[np.int64]:
        if len(pool.tasks) != len(pool.prompt_ids):
            raise ValueError("a stratified strategy needs the task of every prompt; give tasks and task_names.")
        task_order = streams.shuffled_positions(seed, streams.TASK_ORDER, pool.task_names)
        return stratified_order(pool.tasks, weight_rule(pool), within_task(pool, seed, None), task_order)

    return order
