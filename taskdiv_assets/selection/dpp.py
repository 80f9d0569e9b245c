"""dpp: prompts that span as much volume as possible, the greedy mode of a determinantal point process.

Each pick adds the prompt x that raises log det(I + X X' / s2) over the picked rows X most, with s2 = 0.1: the one of
the largest g(x) = x' A x, where A is the inverse of I + X' X / s2. A pick s takes (w . x)^2 from every g(x), with
w = A s / sqrt(s2 + g(s)), and w w' from A: rank-one updates, O(n d) a pick.

Source of the greedy mode: Chen, Zhang, Zhou, "Fast greedy MAP inference for determinantal point process", 2018. We
differ in working in the d dimensions of a linear kernel (the cost of a pick does not grow with their number), with the
identity added, so that more prompts than dimensions can be ranked.

Why the picks are the same everywhere: embeddings are whole numbers (multiples of 2^-16), w and A are rounded to fixed-point
numbers after every step, and each product and each sum of them is a whole number below 2^53, which float64 holds
exactly in any order. Rounding moves a g by about 5e-8; two prompts whose gains differ by less may change places with
what exact arithmetic would do, but on every machine in the same way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import on_device
from taskdiv_assets.selection.grid import Grid, on_grid
from taskdiv_assets.selection.k_center import in_groups
from taskdiv_assets.selection.lazy import Rows, Values, greedy
from taskdiv_assets.selection.pool import Progress, SelectionPool

NOISE = 0.1  # s2
STEPS = 2**16  # in a length of 1: products are made in float64 here, so the grid can be finer than elsewhere
DIRECTION_BITS = 26  # w, of length at most 1, in units of 2^-26
INVERSE_BITS = 36  # A, of norm at most 1, in units of 2^-36
PROJECTION_BITS = 10  # w . x in units of 2^-10 grid steps: its square, and the sum of these squares, below 2^53
TO_PROJECTION = 2.0 ** (PROJECTION_BITS - DIRECTION_BITS)
VALUE_SCALE = 2.0 ** (2 * PROJECTION_BITS)  # g in units of 2^-20 squared grid steps
FOLD_PICKS = 64  # w w' of so many picks enter A at once; another number is another rounding, so another order


def dpp_order(pool: SelectionPool, seed: int, depth: int | None, progress: Progress | None = None) -> NDArray[np.int64]:
    """The greedy order, its first `depth` picks; the seed plays no part."""
    picks_n = min(depth or len(pool.prompt_ids), len(pool.prompt_ids))
    if on_device.is_tensor(pool.embeddings):
        points, by_id = on_device.on_grid("dpp", pool, STEPS)
        return by_id[on_device.dpp(points, Directions(points.shape[1]), picks_n, progress)]
    grid = on_grid("dpp", pool, STEPS)
    return grid.by_id[greedy(_Gains(grid, picks_n), grid.lengths * VALUE_SCALE, picks_n, progress)]


class Directions:
    """The inverse A, from which each pick gets its direction w."""

    def __init__(self, width: int) -> None:
        self.inverse = np.eye(width) * 2.0**INVERSE_BITS
        self.unfolded = np.empty((FOLD_PICKS, width))
        self.unfolded_n = 0

    def add(
        self,
        point: NDArray[np.floating],  # (d,) the picked row, in grid steps
        value: float,  # its g
    ) -> NDArray[np.float64]:  # (d,) w, in units of 2^-26
        """Take a pick into the inverse; returns its direction."""
        if self.unfolded_n == FOLD_PICKS:
            squares = self.unfolded.T @ self.unfolded
            self.inverse -= np.rint(squares * 2.0 ** (INVERSE_BITS - 2 * DIRECTION_BITS))
            self.unfolded_n = 0
        earlier = self.unfolded[: self.unfolded_n]
        image = self.inverse @ point.astype(np.float64) - projections(point, earlier.T * TO_PROJECTION) @ earlier
        scale = np.sqrt(NOISE * STEPS**2 + value / VALUE_SCALE)
        direction: NDArray[np.float64] = np.rint(image * (2.0 ** (DIRECTION_BITS - INVERSE_BITS) / scale))
        self.unfolded[self.unfolded_n] = direction
        self.unfolded_n += 1
        return direction


def projections(
    points: NDArray[np.floating[Any]],  # (…, d) in grid steps
    directions: NDArray[np.float64],  # (d, …) in units of 2^-26 times 2^-16, a power of 2: products stay exact
) -> NDArray[np.float64]:
    """Every w . x, rounded to units of 2^-10 grid steps."""
    return np.rint(points.astype(np.float64) @ directions)


class _Gains:
    """g of every row, whole numbers."""

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

    def after(self, rows: Rows, values: Values, since: Rows) -> Values:
        return in_groups(self._after_some, rows, values, since, self.picks_n, self.points.shape[1])

    def _after_some(self, rows: Rows, values: Values, missed: slice) -> Values:
        lost = projections(self.points[rows], self.directions[missed].T)
        fresh: Values = values - np.einsum("ij,ij->i", lost, lost)
        return fresh
