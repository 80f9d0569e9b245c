"""Weighted round robin over tasks, nested and exact in integers.

Pick j = 1, 2, ... of task t has the key ((j - 1) * cost_t, cost_t, order_t); a budget takes the smallest
keys. A task that is used up stops appearing, so its share flows to the others. `allocate` gives the counts of
one budget in closed form, `stratified_order` the order of all rows; the first k of the second are the counts
of the first, for every k.

This is Adams' divisor method (every task gets a first pick before any gets a second) with the costs as
inverse weights; divisor methods are the ones whose counts never fall as the budget grows (Balinski, Young,
"Fair Representation", 1982).
"""

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import Integers

_INT64_MAX = np.iinfo(np.int64).max


def allocate(
    costs: Integers,  # (T,) positive; the inverse of a task's weight, any scale
    pool_sizes: Integers,  # (T,) prompts available per task
    budget_n: int,  # prompts to annotate in total
) -> NDArray[np.int64]:  # (T,) prompts per task; sums to min(budget_n, pool)
    """Share a budget among tasks in inverse proportion to their costs, never more than a task has.

    The counts never fall as `budget_n` grows, so a larger budget keeps every label of a smaller one. Ties of
    cost go to the task that stands first. Where a division of the costs by their greatest common divisor does
    not keep all keys in 64 bits, ValueError says so.

    >>> allocate(np.array([1, 2]), np.array([10, 10]), 6).tolist()
    [4, 2]
    """
    costs, sizes = _checked(costs, pool_sizes)
    if int(budget_n) != budget_n or budget_n < 0:
        raise ValueError(f"budget is {budget_n!r}; expected a whole number of prompts, 0 or more.")
    sizes = np.minimum(sizes, int(budget_n))
    wanted = min(int(budget_n), int(sizes.sum()))
    if wanted == 0:
        return np.zeros_like(sizes)
    costs, highest = _reduced(costs, sizes)
    level = _water_level(costs, sizes, wanted, highest)
    counts = _picks_up_to(level, costs, sizes)
    return _repaired(counts, costs, level, wanted)


def _water_level(costs: NDArray[np.int64], sizes: NDArray[np.int64], wanted: int, highest: int) -> int:
    """The smallest key up to which there are enough picks: bisection, at most 63 passes over the tasks."""
    lowest = 0
    while lowest < highest:
        middle = (lowest + highest) // 2
        if int(_picks_up_to(middle, costs, sizes).sum()) >= wanted:
            highest = middle
        else:
            lowest = middle + 1
    return lowest


def _picks_up_to(level: int, costs: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:  # (T,)
    """Picks whose first key, (j - 1) * cost, is at most `level`."""
    return np.minimum(sizes, level // costs + 1)


def _repaired(counts: NDArray[np.int64], costs: NDArray[np.int64], level: int, wanted: int) -> NDArray[np.int64]:
    """Take back the picks that stand exactly at the water level and are too many: dearest and last tasks first."""
    surplus = int(counts.sum()) - wanted
    at_level = np.flatnonzero((counts > 0) & ((counts - 1) * costs == level))
    dearest_first = at_level[np.argsort(costs[at_level], kind="stable")][::-1]
    counts[dearest_first[:surplus]] -= 1
    return counts


def stratified_order(
    tasks: Integers,  # (n,) task codes
    costs: Integers,  # (T,) positive
    within_order: Integers,  # (n,) a permutation of the rows; rows of one task are taken in this order
    task_order: Integers,  # (T,) order_t, the last key: a permutation of 0 .. T - 1
) -> NDArray[np.int64]:  # (n,) row positions
    """All rows of a pool by their apportionment key; no loop over picks, O(n log n).

    >>> tasks = np.array([0, 0, 0, 1, 1])
    >>> stratified_order(tasks, np.array([1, 1]), np.array([2, 0, 1, 3, 4]), np.array([0, 1])).tolist()
    [2, 3, 0, 4, 1]
    """
    sizes = np.bincount(tasks, minlength=len(costs)).astype(np.int64)
    costs, sizes = _checked(costs, sizes)
    costs, highest = _reduced(costs, sizes)
    by_task = within_order[_stable_argsort(tasks[within_order], len(costs))]  # rows, task after task
    starts = np.cumsum(sizes) - sizes
    picks = np.arange(len(tasks)) - np.repeat(starts, sizes)  # j - 1
    first_keys = picks * np.repeat(costs, sizes)
    last_keys = np.empty(len(costs), np.int64)  # (cost_t, order_t) as one dense rank
    last_keys[np.lexsort((task_order, costs))] = np.arange(len(costs))
    return by_task[_argsort_pairs(first_keys, np.repeat(last_keys, sizes), highest, len(costs))].astype(np.int64)


def _stable_argsort(codes: Integers, codes_n: int) -> NDArray[np.int64]:
    """Stable argsort of small codes; numpy has a linear-time radix sort for 16 bits, 5 times as fast at 10M rows."""
    return np.argsort(codes.astype(np.uint16) if codes_n <= 2**16 else codes, kind="stable")


def _argsort_pairs(
    first: NDArray[np.int64], second: NDArray[np.int64], first_max: int, second_n: int
) -> NDArray[np.int64]:
    """Order of different pairs (first, second): one sort of packed 64-bit keys where they fit."""
    if (first_max + 1) * second_n <= _INT64_MAX:
        return np.argsort(first * second_n + second)
    return np.lexsort((second, first))


def _checked(costs: Integers, sizes: Integers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    for name, values in (("costs", costs), ("pool_sizes", sizes)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"{name} has dtype {values.dtype}; expected whole numbers. Round weights to integers first."
            )
    if costs.ndim != 1 or costs.shape != sizes.shape:
        raise ValueError(
            f"costs has shape {costs.shape}, pool_sizes {sizes.shape}; expected one of each per task, (T,)."
        )
    if (costs <= 0).any():
        task = int(np.flatnonzero(costs <= 0)[0])
        raise ValueError(f"the cost of task {task} is {costs[task]}; expected a positive whole number.")
    if (sizes < 0).any():
        task = int(np.flatnonzero(sizes < 0)[0])
        raise ValueError(f"the pool size of task {task} is {sizes[task]}; expected 0 or more prompts.")
    return costs.astype(np.int64), sizes.astype(np.int64)


def _reduced(costs: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Costs divided by their greatest common divisor, and the largest first key; ValueError if that passes 64 bits."""
    costs = costs // max(1, int(np.gcd.reduce(costs)))
    keys = [(int(size) - 1) * int(cost) for size, cost in zip(sizes, costs, strict=True)]  # Python's own integers
    highest = max([0, *keys])
    if highest >= _INT64_MAX:
        task = keys.index(highest)
        raise ValueError(
            f"task {task} has cost {costs[task]} and {sizes[task]} prompts: the key of its last pick, {highest}, "
            "does not fit into 64 bits. Give costs on a coarser scale, such as millionths."
        )
    return costs, highest
