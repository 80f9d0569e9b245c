"""How much a grouping depends on chance: the agreement under two seeds, and of groupings made from two halves of the prompts.

The measure is the adjusted Rand index (Hubert and Arabie, 1985): 1 for equal groupings, 0 on average for random ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from taskdiv_assets.pools.discovery.clusters import Codes, centres_of, nearest, without_tiny
from taskdiv_assets.pools.discovery.word_views import Rows


class Agreement(NamedTuple):
    """How well groupings of the same prompts agree if they differ in the seed or in the prompts that they are made from."""

    between_seeds: float  # adjusted Rand index of two seeds
    between_halves: float  # adjusted Rand index of two groupings, each made from one half of the prompts
    moved_share: float  # share of the prompts that change their group under another seed (see function `moved_share`)


def measured(rows: Rows, codes: Codes, groups_n: int, seed: int) -> Agreement:
    """Return the agreement of `codes`, a grouping of `rows` into at most `groups_n` groups, with a grouping under `seed`.

    `seed` must differ from the seed of `codes`. For `between_halves`, one grouping is made from the rows at even positions and
    another from the rows at odd positions, so the rows must be in random order.
    """
    from sklearn.metrics import adjusted_rand_score

    again = _grouped(rows, rows, groups_n, seed)
    halves = [_grouped(rows[start::2], rows, groups_n, seed) if len(rows) > 1 else codes for start in (0, 1)]
    return Agreement(
        float(adjusted_rand_score(codes, again)), float(adjusted_rand_score(*halves)), moved_share(codes, again)
    )


def moved_share(codes: Codes, others: Codes) -> float:
    """Return the share of rows that are not in matched groups. Groups of the two groupings are matched one to one to minimise it.

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
