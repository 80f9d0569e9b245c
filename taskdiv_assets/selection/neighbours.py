"""The sparse similarity graph of a pool: each prompt with its most similar ones, exact, made in tiles.

A similarity is the dot product of two rows on the grid (`grid`), negative ones count as 0. Equal similarities go to
the smaller prompt_id, so the graph is the same whatever the size of a tile or the order of rows.

Products are what takes the time, so each is used for both of its rows: tiles of one triangle only. Which entries of a
tile to keep is guessed beforehand from a sample of columns, about three times as many as are needed; a row for which the
guess was too high is seen in the end by its count, and done anew over all columns. So the guess costs time, never an
entry.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.grid import rows_at_once

TILE_ROWS = 2**10  # at most 2^11: what is left of 63 bits, see `_keys`
SAMPLED = 6  # the guess is the 6th largest of a sample in which that many stand for 3 m of the row
SURPLUS = 3  # entries kept for each one needed; with 6 of a sample, one row in 60 is done anew
KEYS_KEPT = 8  # times m a row: beyond, keys are thinned out before their row is complete
GROUPS_PER_NEIGHBOUR = 12  # more groups: a tighter threshold for a whole row, a longer search for it

Points = NDArray[np.float32]
Keys = NDArray[np.int64]


class Graph(NamedTuple):
    """Rows stand in the order of ids; a row of fewer than m positive similarities ends in similarity 0 with row 0."""

    neighbours: NDArray[np.int32]  # (n, m)
    similarities: NDArray[np.int32]  # (n, m) in squared grid steps, highest first


def nearest(points: Points, neighbours_n: int) -> Graph:
    """The `neighbours_n` most similar rows of every row, itself included; memory about n * neighbours_n * 32 bytes."""
    n = len(points)
    m = min(neighbours_n, n)
    graph = Graph(np.zeros((n, m), np.int32), np.zeros((n, m), np.int32))
    sample_n = -(-n * SAMPLED // (SURPLUS * m))
    if 2 * sample_n > n or n < 2 * SURPLUS * m:  # a sample of half the columns, or most of a row: nothing to save
        for start in range(0, n, TILE_ROWS):
            _fill(graph, start, most_similar(points[start : start + TILE_ROWS], points, m))
        return graph
    least = _guessed(points, sample_n)
    tiles = [slice(start, min(start + TILE_ROWS, n)) for start in range(0, n, TILE_ROWS)]
    waiting: list[list[Keys]] = [[] for _ in tiles]  # what was found for the rows of each tile
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
        _fill(graph, own.start, keys)
        short.append(own.start + np.flatnonzero((graph.similarities[own, -1] == 0) & (least[own] > 1)))
    _complete(graph, points, np.concatenate(short))
    return graph


def most_similar(rows: Points, points: Points, m: int) -> Keys:
    """Keys of the m largest positive similarities of each of `rows`, a block of all columns at a time."""
    found = []
    step = min(rows_at_once(len(points)), TILE_ROWS)
    for start in range(0, len(rows), step):
        similarities = rows[start : start + step] @ points.T
        keys = _keys(similarities >= _thresholds(similarities, m)[:, None], similarities, 0)
        found.append(_best(keys, m) + (start << 52))
    return np.concatenate(found)


def _guessed(points: Points, sample_n: int) -> NDArray[np.float32]:  # (n,)
    """For each row a similarity that about 3 m columns reach; at least 1, since others do not count."""
    columns = points[np.linspace(0, len(points) - 1, sample_n).astype(np.int64)]  # ids are hashes: as good as random
    least = np.empty(len(points), np.float32)
    for start in range(0, len(points), rows_at_once(sample_n)):
        rows = slice(start, start + rows_at_once(sample_n))
        least[rows] = np.partition(points[rows] @ columns.T, sample_n - SAMPLED, axis=1)[:, sample_n - SAMPLED]
    return np.maximum(least, 1)


def _keys(is_kept: NDArray[np.bool_], similarities: Points, first_column: int) -> Keys:
    """One number an entry, that sorts by row, then by falling similarity, then by column: 11, 25 and 27 bits."""
    if similarities.flags.c_contiguous:
        found = np.flatnonzero(is_kept)  # in two dimensions, nonzero takes ten times as long
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
    """The first m keys of each row, sorted."""
    keys = np.sort(keys)
    return keys[_ranks(keys) < m]


def _ranks(keys: Keys) -> NDArray[np.int64]:
    """Place of each sorted key within its row."""
    rows = keys >> 52
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))


def _similarities(keys: Keys) -> NDArray[np.int64]:
    similarities: NDArray[np.int64] = 2**25 - 1 - ((keys >> 27) & (2**25 - 1))
    return similarities


def _thin_out(waiting: list[Keys], least: NDArray[np.float32], m: int) -> None:
    """Where far more was found than is needed (copies, a low guess), keep the best m of each row, and raise its bar.

    Columns come in rising order, so of equal similarities the ones that are still to come stand behind.
    """
    if sum(len(keys) for keys in waiting) <= KEYS_KEPT * m * len(least):
        return
    keys = _best(np.concatenate(waiting), m)
    waiting[:] = [keys]
    last = keys[_ranks(keys) == m - 1]
    least[last >> 52] = _similarities(last) + 1


def _fill(graph: Graph, first_row: int, keys: Keys) -> None:
    rows, ranks = first_row + (keys >> 52), _ranks(keys)
    graph.neighbours[rows, ranks] = keys & (2**27 - 1)
    graph.similarities[rows, ranks] = _similarities(keys)


def _complete(graph: Graph, points: Points, short: NDArray[np.int64]) -> None:
    """Rows with fewer than m entries whose bar was above 1 have others below it: all columns for those, a tile at once."""
    for start in range(0, len(short), TILE_ROWS):
        some = short[start : start + TILE_ROWS]
        keys = most_similar(points[some], points, graph.neighbours.shape[1])
        rows, ranks = some[keys >> 52], _ranks(keys)
        graph.neighbours[rows, ranks] = keys & (2**27 - 1)
        graph.similarities[rows, ranks] = _similarities(keys)


def _thresholds(similarities: Points, m: int) -> NDArray[np.float32]:  # (r,)
    """A positive number for each row that at least its m largest entries reach, and hardly more.

    The row is dealt into groups; the m-th largest of the groups' maxima is reached by m entries, one a group.
    """
    groups_n = GROUPS_PER_NEIGHBOUR * m
    deep = similarities.shape[1] // groups_n
    if deep < 2:
        maxima = similarities
    else:
        maxima = similarities[:, : deep * groups_n].reshape(len(similarities), deep, groups_n).max(axis=1)
    place = maxima.shape[1] - m
    return np.maximum(np.partition(maxima, place, axis=1)[:, place], 1)
