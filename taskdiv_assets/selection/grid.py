"""Embeddings as whole numbers, so that picks by embeddings are the same on every machine.

Floating-point sums depend on the order of additions, and so on the block size, the threads and the library: near-ties
would flip picks. So each component is rounded once to a multiple of 1/4,000. The product of two such rows of length 1 is
a whole number of at most 2^24, and so is every partial sum (Cauchy, Schwarz). float32 holds them exactly in any order,
and matrix products run at full speed.

Rounding moves a cosine by about 1e-4 (one standard deviation, for any width). The same model's embeddings in bfloat16
differ by 1e-3 between two machines. Equal rows stay equal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import SelectionPool

STEPS = 4_000  # grid steps in a length of 1; (STEPS * (1 + NORM_TOLERANCE))^2 stays below 2^24
NORM_TOLERANCE = 0.02  # a float16 row of norm 1 is off by at most 2^-11
BLOCK_CELLS = 2**22  # float32 numbers made at once, 16 MiB


class Grid(NamedTuple):
    """The rows of a pool sorted by id, so that the first of equal rows has the smallest id."""

    points: NDArray[np.float32]  # (n, d) whole numbers
    by_id: NDArray[np.int64]  # (n,) row of the pool that each point is

    @property
    def lengths(self) -> NDArray[np.float64]:  # (n,) squared, in squared grid steps
        """Exact; computed in float64, a block of rows at a time."""
        lengths = np.empty(len(self.points))
        for rows in blocks(*self.points.shape):
            block = self.points[rows].astype(np.float64)
            lengths[rows] = np.einsum("ij,ij->i", block, block)
        return lengths


def on_grid(strategy: str, pool: SelectionPool, steps: int = STEPS) -> Grid:
    """Round a pool's embeddings; raise ValueError if there are none or a row is not of length 1."""
    if pool.embeddings is None:
        raise ValueError(f"{strategy} needs embeddings; materialise prompt_embeddings first.")
    by_id = np.argsort(pool.prompt_ids)
    points = np.empty(pool.embeddings.shape, np.float32)
    for rows in blocks(*points.shape):
        embeddings = np.asarray(pool.embeddings[by_id[rows]])  # float16 is scaled in float32, which holds the product
        scaled = np.multiply(embeddings, steps, dtype=np.promote_types(embeddings.dtype, np.float32))
        points[rows] = np.rint(scaled, out=scaled)
    grid = Grid(points, by_id)
    check_lengths(strategy, grid.lengths / steps**2, by_id)
    return grid


def check_lengths(strategy: str, squared_lengths: NDArray[np.float64], by_id: NDArray[np.int64]) -> None:
    """Raise ValueError for rows that are not of length 1; unit length keeps the sums exact."""
    lengths = np.sqrt(squared_lengths)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= NORM_TOLERANCE))
    if len(wrong):
        first = wrong[by_id[wrong].argmin()]
        raise ValueError(
            f"{strategy}: {len(wrong)} rows of embeddings are not of length 1, the first is row {by_id[first]} "
            f"with {lengths[first]:.4g}; expected L2-normalised rows, as prompt_embeddings stores them."
        )


def rows_at_once(columns_n: int, cells_n: int | None = None) -> int:
    """Return how many rows of `columns_n` columns fit into a block of `cells_n` numbers, by default BLOCK_CELLS."""
    return max(1, (cells_n or BLOCK_CELLS) // max(1, columns_n))


def blocks(rows_n: int, columns_n: int, cells_n: int | None = None) -> Iterator[slice]:
    """Split `rows_n` rows of `columns_n` columns into blocks of rows."""
    step = rows_at_once(columns_n, cells_n)
    return (slice(start, min(start + step, rows_n)) for start in range(0, rows_n, step))
