"""Orders of a pool: by hash, by score, and stratified by task.

A stratified order combines a weight rule with a within-task order. A weight rule gives a positive integer cost for each task.
A within-task order is a permutation of all rows; the rows of each task keep this order.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import streams
from taskdiv_assets.selection.apportionment import stratified_order
from taskdiv_assets.selection.pool import Progress, SelectionPool

WeightRule = Callable[[SelectionPool], NDArray[np.int64]]  # -> (T,) positive costs
Order = Callable[..., NDArray[np.int64]]  # (pool, seed, depth) -> row positions; a greedy one also takes `progress`

COST_SCALE = 1_000_000  # confidences become costs in millionths
IN_THOUSANDTHS: dict[str, object] = {"costs": "in thousandths of the smallest"}  # entry for such costs in identities
BY_COMPLEMENT = "complement_weighted_task_diversity"  # strategy whose costs are never in thousandths
LARGEST_KEY = 2.0**62  # limit of (cost * prompts) of a task, with a margin for rounding
SMALLEST_COST = 1_000  # cost of the least confident task if millionths are too coarse; ratios change by 0.05%


def random_order(stream: str) -> Order:
    """Return an order function that sorts all rows by a keyed hash of their ids, smallest first."""

    def order(pool: SelectionPool, seed: int, depth: int | None) -> NDArray[np.int64]:
        return np.argsort(streams.keyed_hash(seed, stream, pool.prompt_ids))

    return order


def score_order(column: str, *, is_high_first: bool) -> Order:
    """Return an order function that sorts all rows by a column of `SelectionPool.scores`, and equal scores by prompt_id."""

    def order(pool: SelectionPool, seed: int, depth: int | None) -> NDArray[np.int64]:
        scores = pool.scores[column]
        if is_high_first:
            return np.lexsort((~pool.prompt_ids, scores))[::-1]  # unsigned scores cannot be negated
        return np.lexsort((pool.prompt_ids, scores))

    return order


def equal_costs(pool: SelectionPool) -> NDArray[np.int64]:
    """Return cost 1 for every task, which gives round robin, as in TaskDiversity."""
    return np.ones(len(pool.task_names), np.int64)


def confidence_costs(pool: SelectionPool) -> NDArray[np.int64]:
    """Return a cost for each task in proportion to the base model's mean confidence, as in WeightedTaskDiversity.

    cost_t = max(1, round(10^6 * mean_confidence_t)). If the smallest mean confidence is below 10^-6, as a product of many
    probabilities may be, cost_t = round(10^3 * mean_confidence_t / smallest mean confidence), so that costs keep their ratios.
    Raise ValueError if the confidence of a task with prompts is missing or not in (0, 1], or if keys do not fit into 64 bits.
    """
    confidence = pool.used_confidence()
    sizes = np.bincount(pool.tasks, minlength=len(confidence))
    costs = inverse_costs(confidence, sizes)
    if costs is None:
        is_used = sizes > 0
        least, most = (int(np.flatnonzero(is_used)[pick(confidence[is_used])]) for pick in (np.argmin, np.argmax))
        raise ValueError(
            f"{pool.confidence_name} is {confidence[least]:.3g} for task {pool.task_names[least]!r} and {confidence[most]:.3g} "
            f"for task {pool.task_names[most]!r}; their shares are too far apart for 64 bits. Choose a confidence that depends "
            "less on the length of an answer, such as `confidence: {column: geometric_mean}`"
        )
    return costs


def inverse_costs(
    confidence: NDArray[np.float64],  # (T,) positive
    sizes: NDArray[np.integer],  # (T,) prompts; tasks without prompts are ignored
    smallest: float | None = None,  # confidence that sets the scale; None for the smallest of a task with prompts
) -> NDArray[np.int64] | None:  # (T,) positive
    """Return whole-number costs in proportion to confidence.

    Return None if, for any task, the cost times the number of prompts reaches LARGEST_KEY.

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
    """Return costs that give each task a share in proportion to 1.02 minus its mean confidence.

    The rule is ours, for base models with confidences close to 1. Because of the 0.02, a task with confidence 1 gets a share too.
    """
    return _rounded(COST_SCALE / (1.02 - pool.used_confidence()))


def _rounded(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.maximum(np.rint(costs).astype(np.int64), 1)


def stratified(weight_rule: WeightRule, within_task: Order) -> Order:
    """Return an order function that combines a weight rule with a within-task order.

    The seed decides which of two tasks with equal costs comes first. The within-task order always ranks all rows of the pool,
    whatever `depth` is. So a greedy within-task order considers the earlier picks of all tasks.
    """

    def order(
        pool: SelectionPool,
        seed: int,
        depth: int | None,
        *progress: Progress | None,  # passed to a greedy within-task order
    ) -> NDArray[np.int64]:
        if len(pool.tasks) != len(pool.prompt_ids):
            raise ValueError("a stratified strategy needs the task of every prompt; give tasks and task_names.")
        task_order = streams.shuffled_positions(seed, streams.TASK_ORDER, pool.task_names)
        within_order = within_task(pool, seed, None, *progress)
        return stratified_order(pool.tasks, weight_rule(pool), within_order, task_order)

    return order
