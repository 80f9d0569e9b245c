"""The distance of whole picks from the exact quota, as pure functions of numbers.

The exact quota is the result of a budget if fractions of a prompt could be bought. Shares are inversely proportional to the
costs, and limited by the size of each task; the remainder goes to the other tasks. `allocate` is compared with it.
`allocations` writes the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.selection.apportionment import allocate

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Deviation(NamedTuple):
    """Whole picks compared with the exact quota at one budget.

    `distance` is the share of picks that are in another task than the quota's.
    """

    budget_n: int
    largest_n: float  # picks, over tasks
    mean_n: float  # picks a task
    distance: float  # total variation, 0..1
    rounded_distance: float  # the same for the whole numbers nearest to the quota


def exact_quota(costs: IntArray, sizes: IntArray, budget_n: int) -> FloatArray:  # (T,)
    """Return q with q_t = min(size_t, λ / cost_t) and Σ q_t = min(budget, pool). λ has a closed form (water filling).

    >>> exact_quota(np.array([1, 2]), np.array([2, 10]), 5).tolist()
    [2.0, 3.0]
    """
    if budget_n >= sizes.sum():
        return sizes.astype(np.float64)
    full_at = sizes * costs.astype(np.float64)  # (T,) the λ at which a task is used up
    first_full = np.argsort(full_at, kind="stable")
    rates = 1.0 / costs[first_full]
    taken = np.concatenate([[0], np.cumsum(sizes[first_full])[:-1]])  # by the tasks that are used up before this one
    left = np.cumsum(rates[::-1])[::-1]  # Σ 1 / cost of the others, this one too
    levels = (budget_n - taken) / left
    level = levels[int(np.flatnonzero(levels <= full_at[first_full])[0])]
    quota: FloatArray = np.minimum(sizes, level / costs)
    return quota


def nearest_whole(quota: FloatArray) -> IntArray:  # (T,)
    """Return whole numbers by largest remainders.

    No whole numbers of the same sum are nearer to the quota. But a count may fall as the budget grows.
    """
    counts = np.floor(quota + 1e-9).astype(np.int64)
    missing_n = round(float(quota.sum())) - int(counts.sum())
    counts[np.argsort(counts - quota, kind="stable")[:missing_n]] += 1
    return counts


def deviation(costs: IntArray, sizes: IntArray, budget_n: int) -> Deviation:
    """Return the deviation of `allocate` at one budget."""
    quota = exact_quota(costs, sizes, budget_n)
    gaps = np.abs(allocate(costs, sizes, budget_n) - quota)
    rounded = np.abs(nearest_whole(quota) - quota).sum() / 2 / budget_n
    distance = gaps.sum() / 2 / budget_n
    return Deviation(budget_n, float(gaps.max()), float(gaps.mean()), float(distance), float(rounded))


def multiples(tasks_n: int, prompts_n: int, steps: Sequence[int]) -> list[int]:
    """Return the budgets of `steps` picks a task that are smaller than the pool.

    >>> multiples(8, 100, (1, 2, 5, 10, 20))
    [8, 16, 40, 80]
    """
    return [tasks_n * step for step in steps if tasks_n * step < prompts_n]


def spread_evenly(tasks_n: int, prompts_n: int, points_n: int = 160) -> list[int]:
    """Return budgets from one pick a task to the whole pool, at equal steps of a logarithmic axis."""
    return sorted({round(budget) for budget in np.geomspace(tasks_n, prompts_n, points_n)})
