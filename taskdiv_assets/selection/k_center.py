"""k-center: always the prompt that is farthest from all picks so far, exact.

Farthest-first traversal over L2-normalised embeddings: every prefix of k picks covers the pool within twice the
smallest radius that any k prompts reach (Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985).
The first pick is drawn by seed. Once only copies of picks are left, they follow by prompt_id. Squared distances are
whole numbers (`grid`), picks come by exact lazy bounds (`lazy`): memory is n * d * 4 bytes and a few blocks.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device, streams
from taskdiv_assets.selection.grid import Grid, on_grid, rows_at_once
from taskdiv_assets.selection.lazy import Rows, Values, greedy
from taskdiv_assets.selection.pool import Progress, SelectionPool


def k_center_order(
    pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None
) -> NDArray[np.int64]:
    """The farthest-first order, its first `depth` picks."""
    picks_n = min(depth or len(pool.prompt_ids), len(pool.prompt_ids))
    if on_device.is_tensor(pool.embeddings):
        points, by_id = on_device.on_grid("k_center", pool)
        return by_id[on_device.k_center(points, _first(pool, by_id, seed), picks_n, progress)]
    grid = on_grid("k_center", pool)
    first = _first(pool, grid.by_id, seed)
    lengths = grid.lengths
    values = lengths + lengths[first] - 2.0 * (grid.points @ grid.points[first])
    values[first] = np.inf  # so that it is picked first
    return grid.by_id[greedy(_Distances(grid, lengths, picks_n), values, picks_n, progress)]


def _first(pool: SelectionPool, by_id: Rows, seed: int) -> int:
    return int(streams.keyed_hash(seed, streams.K_CENTER, pool.prompt_ids[by_id]).argmin())


class _Distances:
    """Squared distance of every row to the closest pick, in squared grid steps."""

    def __init__(self, grid: Grid, lengths: Values, depth: int) -> None:
        self.points, self.lengths = grid.points, lengths
        self.picks = np.empty(depth, np.int64)
        self.picks_n = 0
        self.activate(np.empty(0, np.int64))

    def add(self, row: int, value: float) -> None:
        self.picks[self.picks_n] = row
        self.picks_n += 1

    def activate(self, rows: Rows) -> None:
        self.active, self.active_lengths = self.points[rows], self.lengths[rows]

    def after_last(self, values: Values) -> Values:
        pick = self.picks[self.picks_n - 1]
        products = self.active @ self.points[pick]
        fresh: Values = np.minimum(values, self.active_lengths + self.lengths[pick] - 2.0 * products)
        return fresh

    def after(self, rows: Rows, values: Values, since: Rows) -> Values:
        return in_groups(self._after_some, rows, values, since, self.picks_n, self.points.shape[1])

    def _after_some(self, rows: Rows, values: Values, missed: slice) -> Values:
        picks = self.picks[missed]
        near = self.points[rows] @ self.points[picks].T
        near *= 2  # below 2^25 and even, so float32 still holds it
        nearest = (near - self.lengths[picks]).max(axis=1)
        fresh: Values = np.minimum(values, self.lengths[rows] - nearest)
        return fresh


def in_groups(
    after_some: Callable[[Rows, Values, slice], Values],  # values after some of the missed picks
    rows: Rows,
    values: Values,
    since: Rows,
    picks_n: int,
    width: int,  # d: what is gathered of rows and of picks is a block too
) -> Values:
    """Refresh rows that have missed the same picks together, a block of rows and picks at a time."""
    fresh = values.copy()
    for first in np.unique(since):
        group = np.flatnonzero(since == first)
        for missed in _slices(int(first), picks_n, rows_at_once(width)):
            step = min(rows_at_once(max(64, missed.stop - missed.start)), rows_at_once(width))
            for block in _slices(0, len(group), step):
                some = group[block]
                fresh[some] = after_some(rows[some], fresh[some], missed)
    return fresh


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))
