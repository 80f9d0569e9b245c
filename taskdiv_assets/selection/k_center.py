"""k_center: each pick is the prompt that is farthest from all earlier picks.

This is farthest-first traversal over L2-normalised embeddings. The radius of k picks, the largest distance of a prompt to its
closest pick, is at most twice the smallest radius of any k prompts (Gonzalez, "Clustering to minimize the maximum intercluster
distance", 1985). The first pick depends on the seed. The last prompts, those with distance 0 to a pick, are sorted by prompt_id.
Squared distances are whole numbers (see `grid`), so `lazy` can compute the picks exactly. Memory is n * d * 4 bytes and a few
blocks.
"""

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device, streams
from taskdiv_assets.selection.grid import Grid, on_grid
from taskdiv_assets.selection.lazy import Rows, Values, greedy
from taskdiv_assets.selection.pool import Progress, SelectionPool


def k_center_order(
    pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None
) -> NDArray[np.int64]:
    """Return the first `depth` picks (all if `depth` is None) of the farthest-first order, as row positions."""
    picks_n = min(depth or len(pool.prompt_ids), len(pool.prompt_ids))
    if on_device.is_tensor(pool.embeddings):
        points, by_id = on_device.on_grid("k_center", pool)
        return by_id[on_device.k_center(points, _first(pool, by_id, seed), picks_n, progress)]
    grid = on_grid("k_center", pool)
    first = _first(pool, grid.by_id, seed)
    lengths = grid.lengths
    values = lengths + lengths[first] - 2.0 * (grid.points @ grid.points[first])
    values[first] = np.inf
    return grid.by_id[greedy(_Distances(grid, lengths, picks_n), values, picks_n, progress)]


def _first(pool: SelectionPool, by_id: Rows, seed: int) -> int:
    return int(streams.keyed_hash(seed, streams.K_CENTER, pool.prompt_ids[by_id]).argmin())


class _Distances:
    """The squared distance of each row to its closest pick, in squared grid steps. `lazy.greedy` updates the distances."""

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

    def after_some(self, rows: Rows, values: Values, missed: slice) -> Values:
        picks = self.picks[missed]
        near = self.points[rows] @ self.points[picks].T
        near *= 2  # below 2^25 and even, so float32 represents it exactly
        nearest = (near - self.lengths[picks]).max(axis=1)
        fresh: Values = np.minimum(values, self.lengths[rows] - nearest)
        return fresh
