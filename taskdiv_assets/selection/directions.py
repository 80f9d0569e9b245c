"""The directions w of the picks of `dpp` in fixed-point numbers, so that the picks are the same on every machine.

The terms w, A, g and s2 are defined in `dpp`. Embeddings are rounded to multiples of 2^-16. Each w is rounded, and A is rounded
after each change. Products and sums are then whole numbers below 2^53, which float64 represents exactly in any order of addition.
Rounding changes a gain g by about 5e-8, so the order of prompts whose gains differ by less may change.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOISE = 0.1  # s2
STEPS = 2**16  # grid steps in a length of 1; more than in `grid`, since products are float64 here
DIRECTION_BITS = 26  # w, of length at most 1, in units of 2^-26
INVERSE_BITS = 36  # A, of norm at most 1, in units of 2^-36
PROJECTION_BITS = 10  # w . x in units of 2^-10 grid steps; the sum of its squares stays below 2^53
TO_PROJECTION = 2.0 ** (PROJECTION_BITS - DIRECTION_BITS)
VALUE_SCALE = 2.0 ** (2 * PROJECTION_BITS)  # g in units of 2^-20 squared grid steps
FOLD_PICKS = 64  # picks whose w w' are subtracted from A at once; another number changes rounding and order


class Directions:
    """The matrix A of `dpp`, which is the inverse of I + X' X / s2. The direction w of each pick is computed from A."""

    def __init__(self, width: int) -> None:
        self.inverse = np.eye(width) * 2.0**INVERSE_BITS
        self.unfolded = np.empty((FOLD_PICKS, width))
        self.unfolded_n = 0

    def add(
        self,
        point: NDArray[np.floating],  # (d,) the picked row, in grid steps
        value: float,  # its g
    ) -> NDArray[np.float64]:  # (d,) w, in units of 2^-26
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
    directions: NDArray[np.float64],  # (d, …) in units of 2^-26, times TO_PROJECTION, a power of 2: products stay exact
) -> NDArray[np.float64]:
    """Return the products w . x of points x and directions w in units of 2^-10 grid steps, rounded to whole numbers."""
    return np.rint(points.astype(np.float64) @ directions)
