"""How much a grouping depends on chance: the agreement under two seeds, and of groupings made from two halves of the prompts.

The measure is the adjusted Rand index (Hubert and Arabie, 1985): 1 for equal groupings, 0 on average for random ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taskdiv_assets.pools.discovery.clusters import Codes, grouped
from taskdiv_assets.pools.discovery.word_views import Rows


class Agreement(NamedTuple):
    """How well groupings of the same prompts agree if they differ in the seed or in the prompts that they are made from."""

    between_seeds: float  # adjusted Rand index of two seeds
    between_halves: float  # adjusted Rand index of two groupings, each made from one half of the prompts
    moved_share: float  # share of the prompts that change their group under another seed (see function `moved_share`)


def measured(rows: Rows, codes: Codes, again: Codes, groups_n: int, seed: int) -> Agreement:
    """Return the agreement of `codes`, a grouping of `rows` into at most `groups_n` groups, with `again`, one under another seed.

    `seed` makes the groupings for `between_halves`: one from the rows at even positions, the other from the rows at odd
    positions. So the rows must be in random order.
    """
    from sklearn.metrics import adjusted_rand_score

    halves = [grouped(rows[start::2], rows, groups_n, seed) if len(rows) > 1 else codes for start in (0, 1)]
    return Agreement(
        float(adjusted_rand_score(codes, again)), float(adjusted_rand_score(*halves)), moved_share(codes, again)
    )


def moved_share(codes: Codes, others: Codes) -> float:
    """Return the share of rows that are not in matched groups (see `matched`).

    >>> moved_share(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.25
    """
    return float(np.mean(matched(codes, others) != codes))


def matched(codes: Codes, others: Codes) -> Codes:
    """Return the grouping `others` with new numbers: groups that match a group of `codes` get its number.

    The groups are matched one to one so that as many rows as possible are in matched groups. A group without a match gets a
    number that `codes` does not have.

    >>> matched(np.array([0, 0, 1, 1, 1]), np.array([1, 1, 2, 2, 0])).tolist()
    [0, 0, 1, 1, 2]
    """
    from scipy.optimize import linear_sum_assignment

    own_n, others_n = int(codes.max()) + 1, int(others.max()) + 1
    pairs, sizes = np.unique(codes * others_n + others, return_counts=True)
    own, other = np.divmod(pairs, others_n)
    # Equal groups match. Without them, the matrix stays small where most tasks are labels, which no seed changes.
    is_equal = (np.bincount(own)[own] == 1) & (np.bincount(other)[other] == 1)
    numbers = own_n + np.arange(others_n)
    numbers[other[is_equal]] = own[is_equal]
    rows, row = np.unique(own[~is_equal], return_inverse=True)
    columns, column = np.unique(other[~is_equal], return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), np.int64)
    counts[row, column] = sizes[~is_equal]
    best = linear_sum_assignment(counts, maximize=True)
    numbers[columns[best[1]]] = rows[best[0]]
    return numbers[others].astype(np.int64)
