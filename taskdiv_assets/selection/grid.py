"""Embeddings as whole numbers, so that every pick by them is the same on every machine.

Floating-point sums depend on the order of additions, and that on the block size, the number of threads and the
library: near-ties then flip picks. So each component is rounded once to a multiple of 1/4,000. A product of two such
rows of length 1 is a whole number of at most 2^24, and so is every partial sum of it (Cauchy, Schwarz): float32 holds
them all exactly, in whatever order they are added, and matrix products run at full speed.

What rounding costs: a cosine moves by about 1e-4 (one standard deviation, whatever the width), less than the 1e-3 by
which the same model's embeddings in bfloat16 differ between two machines. Rows that are equal stay equal.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import Floats, SelectionPool

STEPS = 4_000  # grid steps in a length of 1; (STEPS * (1 + NORM_TOLERANCE))^2 stays below 2^24
NORM_TOLERANCE = 0.02  # a float16 row of norm 1 is off by at most 2^-11
BLOCK_CELLS = 2**22  # float32 numbers made at once, 16 MiB


class Grid(NamedTuple):
    """The rows of a pool in the order of their ids, so that the first of equals is the one with the smallest id."""

    points: NDArray[np.float32]  # (n, d) whole numbers
    by_id: NDArray[np.int64]  # (n,) row of the pool that each point is

    @property
    def lengths(self) -> NDArray[np.float64]:  # (n,) squared, in squared grid steps
        """Squared length of every row, exact; a block of rows at a time in float64."""
        lengths = np.empty(len(self.points))
        step = rows_at_once(self.points.shape[1])
        for start in range(0, len(self.points), step):
            block = self.points[start : start + step].astype(np.float64)
            lengths[start : start + step] = np.einsum("ij,ij->i", block, block)
        return lengths


def on_grid(strategy: str, pool: SelectionPool, steps: int = STEPS) -> Grid:
    """Round a pool's embeddings, a block of rows at a time.

    Raises:
        ValueError: there are none, or a row is not of length 1.
    """
    if pool.embeddings is None:
        raise ValueError(f"{strategy} needs embeddings; materialise prompt_embeddings first.")
    by_id = np.argsort(pool.prompt_ids)
    n, d = pool.embeddings.shape
    points = np.empty((n, d), np.float32)
    for start in range(0, n, rows_at_once(d)):
        stop = start + rows_at_once(d)
        points[start:stop] = rounded(np.asarray(pool.embeddings[by_id[start:stop]]), steps)
    grid = Grid(points, by_id)
    check_lengths(strategy, grid.lengths / steps**2, by_id)
    return grid


def rounded(embeddings: Floats, steps: int) -> Floats:
    """Embeddings in grid steps; float16 rows are scaled in float32, which holds the product exactly."""
    scaled = np.multiply(embeddings, steps, dtype=np.promote_types(embeddings.dtype, np.float32))
    return np.rint(scaled, out=scaled)


def check_lengths(strategy: str, squared_lengths: NDArray[np.float64], by_id: NDArray[np.int64]) -> None:
    """ValueError for rows that are not of length 1, which is what keeps the sums exact."""
    lengths = np.sqrt(squared_lengths)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= NORM_TOLERANCE))
    if len(wrong):
        first = wrong[by_id[wrong].argmin()]
        raise ValueError(
            f"{strategy}: {len(wrong)} rows of embeddings are not of length 1, the first is row {by_id[first]} "
            f"with {lengths[first]:.4g}; expected L2-normalised rows, as prompt_embeddings stores them."
        )


def rows_at_once(columns_n: int) -> int:
    """Rows of a block of `columns_n` columns."""
    return max(1, BLOCK_CELLS // columns_n)
