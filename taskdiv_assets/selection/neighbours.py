"""The sparse similarity graph of a pool: each prompt with its most similar ones, exact, made in blocks.

A similarity is the dot product of two rows on the grid (`grid`), negative ones count as 0. Equal similarities go to
the smaller prompt_id, so the graph is the same whatever the block size or the order of rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.grid import rows_at_once

ROWS_MAX = 2**11  # of a block: what is left of 63 bits, see `most_similar`
GROUPS_PER_NEIGHBOUR = 12  # more groups: a tighter first threshold, a longer search for it


class Graph(NamedTuple):
    """Rows stand in the order of ids; a row of fewer than m positive similarities ends in similarity 0 with row 0."""

    neighbours: NDArray[np.int32]  # (n, m)
    similarities: NDArray[np.int32]  # (n, m) in squared grid steps, highest first


def nearest(points: NDArray[np.float32], neighbours_n: int) -> Graph:
    """The `neighbours_n` most similar rows of every row, itself included; memory n * neighbours_n * 8 bytes."""
    n = len(points)
    m = min(neighbours_n, n)
    graph = Graph(np.zeros((n, m), np.int32), np.zeros((n, m), np.int32))
    block = np.empty((min(n, rows_at_once(n), ROWS_MAX), n), np.float32)
    for start in range(0, n, len(block)):
        rows = points[start : start + len(block)]
        similarities = np.matmul(rows, points.T, out=block[: len(rows)])
        places, neighbours, values = most_similar(similarities, m)
        graph.neighbours[start + places[0], places[1]] = neighbours
        graph.similarities[start + places[0], places[1]] = values
    return graph


def most_similar(
    similarities: NDArray[np.float32],  # (r, n)
    m: int,
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64], NDArray[np.int64]]:
    """The m largest positive entries of every row: their places (row, rank), columns and values."""
    n = similarities.shape[1]
    found = np.flatnonzero(
        similarities >= _thresholds(similarities, m)[:, None]
    )  # in 2-D, nonzero takes ten times as long
    rows = found // n
    # Sorted by row, then by falling value, then by column, as one number each: 11 bits, 25 bits and 27 bits.
    values = similarities.ravel()[found].astype(np.int64)
    keys = np.sort(((rows << 25) + (2**25 - 1 - values) << 27) + (found - rows * n))
    rows = keys >> 52
    first = np.searchsorted(rows, np.arange(len(similarities)))
    ranks = np.arange(len(keys)) - first[rows]
    kept = ranks < m
    keys, rows, ranks = keys[kept], rows[kept], ranks[kept]
    return (rows, ranks), keys & (2**27 - 1), 2**25 - 1 - ((keys >> 27) & (2**25 - 1))


def _thresholds(similarities: NDArray[np.float32], m: int) -> NDArray[np.float32]:  # (r,)
    """A positive number for each row that at least its m largest entries reach, and hardly more.

    The row is dealt into groups; the m-th largest of the groups' maxima is reached by m entries, one a group.
    """
    columns_n = similarities.shape[1]
    groups_n = GROUPS_PER_NEIGHBOUR * m
    deep = columns_n // groups_n
    if deep < 2:
        maxima = similarities
    else:
        maxima = similarities[:, : deep * groups_n].reshape(len(similarities), deep, groups_n).max(axis=1)
    place = maxima.shape[1] - m
    return np.maximum(np.partition(maxima, place, axis=1)[:, place], 1)
