"""Embeddings as whole numbers of grid steps, so that picks by embeddings are the same on every machine.

A floating-point sum depends on the order of additions, so picks with nearly equal values could change places. Each component is
therefore rounded to a multiple of 1/4,000, a grid step. The product of two rows of length 1 is then a whole number of at most
2^24 squared grid steps, and so is every partial sum (Cauchy, Schwarz). float32 represents these numbers exactly.

Rounding changes a cosine by about 1e-4 (one standard deviation, for any width). For comparison, the embeddings of one model in
bfloat16 differ by 1e-3 between two machines. Equal rows remain equal. `dpp` uses smaller steps (see `directions`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import SelectionPool

STEPS = 4_000  # grid steps in a length of 1; (STEPS * (1 + NORM_TOLERANCE))^2 stays below 2^24
NORM_TOLERANCE = 0.02  # the length of a normalised float16 row is off by at most 2^-11
BLOCK_CELLS = 2**22  # float32 numbers of one block, 16 MiB


class Grid(NamedTuple):
    """The embeddings of a pool on the grid, sorted by prompt_id. So of several equal rows, the first has the smallest id."""

    points: NDArray[np.float32]  # (n, d) whole numbers of grid steps
    by_id: NDArray[np.int64]  # (n,) row of each point in the pool

    @property
    def lengths(self) -> NDArray[np.float64]:  # (n,) squared, in squared grid steps
        """Exact squared lengths of the points, computed in float64 in blocks of rows."""
        lengths = np.empty(len(self.points))
        for rows in blocks(*self.points.shape):
            block = self.points[rows].astype(np.float64)
            lengths[rows] = np.einsum("ij,ij->i", block, block)
        return lengths


def on_grid(strategy: str, pool: SelectionPool, steps: int = STEPS) -> Grid:
    """Return a pool's embeddings on the grid. Raise ValueError if the pool has none, or if a row is not L2-normalised."""
    if pool.embeddings is None:
        raise ValueError(f"{strategy} needs embeddings; materialise prompt_embeddings first.")
    by_id = np.argsort(pool.prompt_ids)
    points = np.empty(pool.embeddings.shape, np.float32)
    for rows in blocks(*points.shape):
        embeddings = np.asarray(pool.embeddings[by_id[rows]])  # float16 cannot represent the product, so use float32
        scaled = np.multiply(embeddings, steps, dtype=np.promote_types(embeddings.dtype, np.float32))
        points[rows] = np.rint(scaled, out=scaled)
    grid = Grid(points, by_id)
    check_lengths(strategy, grid.lengths / steps**2, by_id)
    return grid


def check_lengths(strategy: str, squared_lengths: NDArray[np.float64], by_id: NDArray[np.int64]) -> None:
    """Raise ValueError if a row's length differs from 1 by more than NORM_TOLERANCE, because sums might not be exact then."""
    lengths = np.sqrt(squared_lengths)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= NORM_TOLERANCE))
    if len(wrong):
        first = wrong[by_id[wrong].argmin()]
        raise ValueError(
            f"{strategy}: {len(wrong)} rows of embeddings are not of length 1, the first is row {by_id[first]} "
            f"with {lengths[first]:.4g}; expected L2-normalised rows, as prompt_embeddings stores them."
        )


def rows_at_once(columns_n: int, cells_n: int | None = None) -> int:
    """Return how many rows of `columns_n` columns fit into a block of `cells_n` (default BLOCK_CELLS) numbers, at least 1."""
    return max(1, (cells_n or BLOCK_CELLS) // max(1, columns_n))


def blocks(rows_n: int, columns_n: int, cells_n: int | None = None) -> Iterator[slice]:
    """Yield the slices that split `rows_n` rows of `columns_n` columns into blocks of up to `rows_at_once` rows."""
    step = rows_at_once(columns_n, cells_n)
    return (slice(start, min(start + step, rows_n)) for start in range(0, rows_n, step))
