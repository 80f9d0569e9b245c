"""Measures of found tasks against true tasks, for pools that have both: agreement, and how evenly a list covers the true tasks.

`docs/DISCOVERY.md` and the report show these numbers. All functions are pure functions of task codes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_contracts.shared_statistics import total_variation
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.selection.apportionment import allocate


class WithTrue(NamedTuple):
    """The agreement of a grouping with the true tasks of the same prompts. 1 is the best value of each measure."""

    rand: float  # adjusted Rand index
    information: float  # normalised mutual information
    purity: float


def with_true(true: Codes, found: Codes) -> WithTrue:
    """Return the agreement of `found`, the found task of each prompt, with `true`, its true task."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    rand, information = adjusted_rand_score(true, found), normalized_mutual_info_score(true, found)
    return WithTrue(float(rand), float(information), purity(true, found))


def purity(true: Codes, found: Codes) -> float:
    """Return the share of prompts that have the commonest true task of their found task.

    >>> purity(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    0.75
    """
    counts = np.zeros((int(found.max()) + 1, int(true.max()) + 1), np.int64)
    np.add.at(counts, (found, true), 1)
    return float(counts.max(axis=1).sum() / len(true))


def even_spread(true: Codes, budget_n: int) -> NDArray[np.int64]:  # (T,) prompts of each true task
    sizes = np.bincount(true).astype(np.int64)
    return allocate(np.ones_like(sizes), sizes, budget_n)


def list_distance(
    true: Codes,  # (n,) true task of each prompt of the pool
    chosen: NDArray[np.int64],  # positions of the chosen prompts
) -> float:
    """Return the share of a list that would have to move to other true tasks to spread it evenly over the true tasks."""
    goal = even_spread(true, len(chosen))
    return total_variation(goal, np.bincount(true[chosen], minlength=len(goal)))


def random_distance(true: Codes, budget_n: int) -> float:
    """Return the expected value of `list_distance` for `budget_n` prompts that are chosen at random. It is exact.

    The number X of chosen prompts of a task has the hypergeometric distribution. X and the goal g of the even spread both sum to
    the budget over the tasks, so the distance is the sum of E max(g - X, 0), divided by the budget.
    """
    from scipy.stats import hypergeom

    sizes, goals, pool_n = np.bincount(true), even_spread(true, budget_n), len(true)
    sizes, goals = sizes[sizes > 0], goals[sizes > 0]
    means = budget_n * sizes / pool_n
    # E max(g - X, 0) = g P(X <= g) - E(X; X <= g), and the second term is E X P(X' <= g - 1) with one prompt less everywhere.
    below = goals * hypergeom.cdf(goals, pool_n, sizes, budget_n)
    below -= means * hypergeom.cdf(goals - 1, pool_n - 1, sizes - 1, budget_n - 1)
    return float(below.sum() / budget_n)
