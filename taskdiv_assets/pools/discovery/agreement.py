"""How much of a grouping is decided by chance: agreement between two seeds, and between two halves of the pool.

The measure is the adjusted Rand index (Hubert and Arabie, 1985): 1 for equal groupings, 0 on average for random ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taskdiv_assets.pools.discovery.clusters import Codes, centres_of, nearest, without_tiny
from taskdiv_assets.pools.discovery.word_views import Rows


class Agreement(NamedTuple):
    """How well repetitions of a grouping of the same prompts agree."""

    between_seeds: float  # adjusted Rand index of two seeds
    between_halves: float  # adjusted Rand index of two groupings, each made from one half of the prompts
    moved_share: float  # share of the prompts that change their group under another seed (see the function)


def measured(rows: Rows, codes: Codes, groups_n: int, seed: int) -> Agreement:
    """Return how well the grouping `codes` of `rows` into `groups_n` groups agrees with repetitions under another `seed`.

    The halves are the rows at even and at odd positions, so the rows must be in random order.
    """
    from sklearn.metrics import adjusted_rand_score

    again = _grouped(rows, rows, groups_n, seed)
    halves = [_grouped(rows[start::2], rows, groups_n, seed) if len(rows) > 1 else codes for start in (0, 1)]
    return Agreement(
        float(adjusted_rand_score(codes, again)), float(adjusted_rand_score(*halves)), moved_share(codes, again)
    )


def moved_share(codes: Codes, others: Codes) -> float:
    """Return the share of rows outside the best one-to-one matching of two groupings.

    >>> moved_share(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.25
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((int(codes.max()) + 1, int(others.max()) + 1), np.int64)
    np.add.at(counts, (codes, others), 1)
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return float(1 - matched / len(codes))


def _grouped(fitted: Rows, rows: Rows, groups_n: int, seed: int) -> Codes:
    return without_tiny(rows, nearest(rows, centres_of(fitted, groups_n, seed)))
