"""Groups of similar rows: k-means on unit rows, which is close to spherical k-means, and the merging of tiny groups.

The rows are rounded to a grid (`word_views.GRID`), so sums of rows are exact in any order. A given seed gives the same result.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.pools.discovery.word_views import Rows

Codes: TypeAlias = NDArray[np.int64]  # (n,) group of each row
Centres: TypeAlias = NDArray[np.float64]  # (k, d)

TINY_N = 5  # a group with fewer rows is merged into the nearest group
STARTS_N = 3  # number of starts of k-means; the best one is used
ROUNDS_MAX = 100
BLOCK_N = 20_000


def grouped(fitted: Rows, rows: Rows, groups_n: int, seed: int) -> Codes:  # (n,)
    """Return the group of each of `rows`. The centres of the groups are made from `fitted`, and no group is tiny."""
    return without_tiny(rows, nearest(rows, centres_of(fitted, groups_n, seed)))


def centres_of(rows: Rows, groups_n: int, seed: int) -> Centres:
    """Return the centres of k groups, (k, d). k is `groups_n`, or the number of different rows if that is smaller."""
    from sklearn.cluster import KMeans

    k = min(groups_n, len(np.unique(rows, axis=0)))
    model = KMeans(k, n_init=STARTS_N, max_iter=ROUNDS_MAX, random_state=seed & 0xFFFFFFFF, copy_x=False)
    centres: Centres = model.fit(rows.astype(np.float64)).cluster_centers_
    return centres


def nearest(rows: Rows, centres: Centres) -> Codes:  # (n,)
    """Return for each row the index of the centre with the smallest Euclidean distance; the smallest index on a tie."""
    half = np.sum(centres * centres, axis=1) / 2
    codes = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK_N):
        block = rows[start : start + BLOCK_N].astype(np.float64)
        codes[start : start + BLOCK_N] = np.argmin(half - block @ centres.T, axis=1)
    return codes


def without_tiny(rows: Rows, codes: Codes) -> Codes:
    """Merge each group of fewer than `TINY_N` rows into the group with the nearest mean, the smallest group first.

    The groups of the result are numbered from 0, in the order of their old numbers. If there are fewer than `TINY_N` rows
    altogether, they become one group.
    """
    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    sums, sizes = sums_of(rows, codes), np.bincount(codes).astype(np.int64)
    while np.count_nonzero(sizes) > 1:
        used = np.flatnonzero(sizes)
        smallest = used[np.argmin(sizes[used])]
        if sizes[smallest] >= TINY_N:
            break
        others = used[used != smallest]
        gaps = sums[others] / sizes[others, None] - sums[smallest] / sizes[smallest]
        target = others[np.argmin(np.sum(gaps * gaps, axis=1))]
        sums[target] += sums[smallest]
        sizes[target] += sizes[smallest]
        codes[codes == smallest], sizes[smallest] = target, 0
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def sums_of(rows: Rows, codes: Codes) -> Centres:
    """Return the sum of the rows of each group, (k, d)."""
    sums = np.zeros((int(codes.max()) + 1, rows.shape[1]))
    for start in range(0, len(rows), BLOCK_N):
        np.add.at(sums, codes[start : start + BLOCK_N], rows[start : start + BLOCK_N].astype(np.float64))
    return sums
