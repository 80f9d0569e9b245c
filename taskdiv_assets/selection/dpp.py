"""dpp: greedy picks that span as much volume as possible (greedy MAP inference for a determinantal point process).

Let X be the picked rows and s2 = 0.1. Each pick adds the prompt x that increases log det(I + X X' / s2) most. This is the
prompt with the largest gain g(x) = x' A x, where A is the inverse of I + X' X / s2. A pick s has the direction
w = A s / sqrt(s2 + g(s)). The pick subtracts (w . x)^2 from every g(x), and w w' from A. On average, a pick takes at most
O(n d + d^2) operations.

Source: Chen, Zhang, Zhou, "Fast greedy MAP inference for determinantal point process", 2018. We use the d dimensions of a
linear kernel, so the cost of a pick does not grow with the number of picks. We add the identity I, so that more prompts than
dimensions can be ranked. w and A are fixed-point numbers (see `directions`), so the picks are the same on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device
from taskdiv_assets.selection.directions import STEPS, TO_PROJECTION, VALUE_SCALE, Directions, projections
from taskdiv_assets.selection.grid import Grid, on_grid
from taskdiv_assets.selection.lazy import Rows, Values, greedy
from taskdiv_assets.selection.pool import Progress, SelectionPool


def dpp_order(pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None) -> NDArray[np.int64]:
    """Return the first `depth` picks (all if `depth` is None) as row positions; `seed` is not used."""
    picks_n = min(depth or len(pool.prompt_ids), len(pool.prompt_ids))
    if on_device.is_tensor(pool.embeddings):
        points, by_id = on_device.on_grid("dpp", pool, STEPS)
        return by_id[on_device.dpp(points, Directions(points.shape[1]), picks_n, progress)]
    grid = on_grid("dpp", pool, STEPS)
    return grid.by_id[greedy(_Gains(grid, picks_n), grid.lengths * VALUE_SCALE, picks_n, progress)]


class _Gains:
    def __init__(self, grid: Grid, depth: int) -> None:
        self.points = grid.points
        self.inverse = Directions(grid.points.shape[1])
        self.directions = np.empty((depth, grid.points.shape[1]))
        self.picks_n = 0
        self.activate(np.empty(0, np.int64))

    def add(self, row: int, value: float) -> None:
        self.directions[self.picks_n] = self.inverse.add(self.points[row], value) * TO_PROJECTION
        self.picks_n += 1

    def activate(self, rows: Rows) -> None:
        self.active = self.points[rows].astype(np.float64)

    def after_last(self, values: Values) -> Values:
        return values - projections(self.active, self.directions[self.picks_n - 1]) ** 2

    def after_some(self, rows: Rows, values: Values, missed: slice) -> Values:
        lost = projections(self.points[rows], self.directions[missed].T)
        fresh: Values = values - np.einsum("ij,ij->i", lost, lost)
        return fresh
