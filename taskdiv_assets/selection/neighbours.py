"""The sparse similarity graph of a pool: each prompt with its m most similar prompts, itself included. The graph is exact.

A similarity is the dot product of two rows on the grid (see `grid`); negative similarities count as 0. Among equal similarities,
the smaller prompt_id comes first. So the graph does not depend on the order of rows or on the block size of the computation.

The matrix of similarities is symmetric, so only the tiles (square blocks) of one triangle are computed, and each tile is used for
its rows and for its columns. Each row has a threshold. It is guessed from a sample of columns, so that about 3 m entries of the
row reach it. If fewer than m entries reach it, the row is computed again from all columns. So a wrong guess costs time, but the
graph is still exact.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.grid import blocks, rows_at_once

TILE_ROWS = 2**10  # at most 2^11, since `_keys` has 11 bits for a row
SAMPLED = 6  # the threshold is the 6th largest entry of a sample in which 6 entries represent 3 m of the row
SURPLUS = 3  # entries kept per needed entry; with SAMPLED = 6, one row in 60 is computed again
KEYS_KEPT = 8  # if there are more than this times m keys per row, `_thin_out` drops keys before the row is complete
GROUPS_PER_NEIGHBOUR = 12  # groups of columns; more groups give a tighter threshold, but take longer

Points = NDArray[np.float32]
Keys = NDArray[np.int64]


class Graph(NamedTuple):
    """The graph, with rows sorted by prompt_id. A row with fewer than m positive similarities is filled up with zeros."""

    neighbours: NDArray[np.int32]  # (n, m)
    similarities: NDArray[np.int32]  # (n, m) in squared grid steps, highest first


def nearest(points: Points, neighbours_n: int) -> Graph:
    """Return the graph of the `neighbours_n` most similar rows of every row, itself included. This needs about 32 n * m bytes."""
    n = len(points)
    m = min(neighbours_n, n)
    graph = Graph(np.zeros((n, m), np.int32), np.zeros((n, m), np.int32))
    sample_n = -(-n * SAMPLED // (SURPLUS * m))
    if 2 * sample_n > n or n < 2 * SURPLUS * m:  # a sample would not save time
        return _from_all_columns(graph, points, np.arange(n))
    least = _guessed(points, sample_n)
    tiles = [slice(start, min(start + TILE_ROWS, n)) for start in range(0, n, TILE_ROWS)]
    waiting: list[list[Keys]] = [[] for _ in tiles]  # keys found for the rows of each tile
    short = []
    for i, own in enumerate(tiles):
        for j in range(i, len(tiles)):
            other = tiles[j]
            similarities = points[own] @ points[other].T
            waiting[i].append(_keys(similarities >= least[own, None], similarities, other.start))
            _thin_out(waiting[i], least[own], m)
            if j > i:
                transposed = similarities.T
                waiting[j].append(_keys(transposed >= least[other, None], transposed, own.start))
                _thin_out(waiting[j], least[other], m)
        keys = _best(np.concatenate(waiting[i]), m)
        waiting[i] = []
        _fill(graph, np.arange(own.start, own.stop), keys)
        is_short = (graph.similarities[own, -1] == 0) & (least[own] > 1)  # fewer than m entries reach the threshold
        short.append(own.start + np.flatnonzero(is_short))
    return _from_all_columns(graph, points, np.concatenate(short))


def _from_all_columns(graph: Graph, points: Points, rows: NDArray[np.int64]) -> Graph:
    for start in range(0, len(rows), TILE_ROWS):
        some = rows[start : start + TILE_ROWS]
        _fill(graph, some, most_similar(points[some], points, graph.neighbours.shape[1]))
    return graph


def most_similar(rows: Points, points: Points, m: int) -> Keys:
    """Return, for each of at most 2^11 `rows`, the keys (`_keys`) of its m largest positive similarities to all `points`."""
    found = []
    step = min(rows_at_once(len(points)), TILE_ROWS)
    for start in range(0, len(rows), step):
        similarities = rows[start : start + step] @ points.T
        keys = _keys(similarities >= _thresholds(similarities, m)[:, None], similarities, 0)
        found.append(_best(keys, m) + (start << 52))
    return np.concatenate(found)


def _guessed(points: Points, sample_n: int) -> NDArray[np.float32]:  # (n,)
    """Return the guessed threshold of each row: a similarity of at least 1 that about 3 m entries of the row reach."""
    every_kth = np.linspace(0, len(points) - 1, sample_n).astype(np.int64)  # a random sample, since ids are hashes
    columns = points[every_kth]
    least = np.empty(len(points), np.float32)
    for rows in blocks(len(points), sample_n):
        least[rows] = np.partition(points[rows] @ columns.T, sample_n - SAMPLED, axis=1)[:, sample_n - SAMPLED]
    return np.maximum(least, 1)


def _keys(is_kept: NDArray[np.bool_], similarities: Points, first_column: int) -> Keys:
    """Return one key per kept entry: a number that sorts by row (11 bits), falling similarity (25 bits) and column (27 bits)."""
    if similarities.flags.c_contiguous:
        found = np.flatnonzero(is_kept)  # nonzero takes ten times as long on two dimensions
        rows, columns = np.divmod(found, similarities.shape[1])
        values = similarities.ravel()[found]
    else:
        found = np.flatnonzero(is_kept.T)
        columns, rows = np.divmod(found, similarities.shape[0])
        values = similarities.T.ravel()[found]
    falling = 2**25 - 1 - values.astype(np.int64)
    keys: Keys = (((rows << 25) + falling) << 27) + (columns + first_column)
    return keys


def _best(keys: Keys, m: int) -> Keys:
    keys = np.sort(keys)
    return keys[_ranks(keys) < m]


def _ranks(keys: Keys) -> NDArray[np.int64]:
    rows = keys >> 52
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))


def _similarities(keys: Keys) -> NDArray[np.int64]:
    similarities: NDArray[np.int64] = 2**25 - 1 - ((keys >> 27) & (2**25 - 1))
    return similarities


def _thin_out(waiting: list[Keys], least: NDArray[np.float32], m: int) -> None:
    """If `waiting` has over KEYS_KEPT * m keys per row on average, keep the best m keys of each row and raise its threshold.

    Columns are computed in rising order. So a later column with the same similarity as the last kept key is not needed.
    """
    if sum(len(keys) for keys in waiting) <= KEYS_KEPT * m * len(least):
        return
    keys = _best(np.concatenate(waiting), m)
    waiting[:] = [keys]
    last = keys[_ranks(keys) == m - 1]
    least[last >> 52] = _similarities(last) + 1


def _fill(graph: Graph, rows_of_keys: NDArray[np.int64], keys: Keys) -> None:
    rows, ranks = rows_of_keys[keys >> 52], _ranks(keys)
    graph.neighbours[rows, ranks] = keys & (2**27 - 1)
    graph.similarities[rows, ranks] = _similarities(keys)


def _thresholds(similarities: Points, m: int) -> NDArray[np.float32]:  # (r,)
    """Return a positive threshold for each row. The row's m largest entries reach the threshold, and few other entries do.

    The threshold is the m-th largest of the maxima of groups of entries, so at least m entries reach it. If this threshold is
    below 1, it is raised to 1; then fewer than m entries may reach it.
    """
    groups_n = GROUPS_PER_NEIGHBOUR * m
    deep = similarities.shape[1] // groups_n
    maxima = similarities
    if deep > 1:
        maxima = similarities[:, : deep * groups_n].reshape(len(similarities), deep, groups_n).max(axis=1)
    place = maxima.shape[1] - m
    return np.maximum(np.partition(maxima, place, axis=1)[:, place], 1)
