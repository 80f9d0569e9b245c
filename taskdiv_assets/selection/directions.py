"""The directions of dpp's picks in fixed-point numbers, so that the picks are the same on every machine.

Embeddings are multiples of 2^-16, and w and A (see `dpp`) are rounded after every step. Each product and sum is then a
whole number below 2^53, which float64 holds exactly in any order. Rounding moves a gain g by about 5e-8, so prompts with
closer gains may swap places compared with exact arithmetic.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOISE = 0.1  # s2
STEPS = 2**16  # in a length of 1; finer than the grid of float32 strategies, since products are float64 here
DIRECTION_BITS = 26  # w, of length at most 1, in units of 2^-26
INVERSE_BITS = 36  # A, of norm at most 1, in units of 2^-36
PROJECTION_BITS = 10  # w . x in units of 2^-10 grid steps: its square, and the sum of these squares, below 2^53
TO_PROJECTION = 2.0 ** (PROJECTION_BITS - DIRECTION_BITS)
VALUE_SCALE = 2.0 ** (2 * PROJECTION_BITS)  # g in units of 2^-20 squared grid steps
FOLD_PICKS = 64  # picks whose w w' are folded into A at once; another number changes the rounding and so the order


class Directions:
    """The inverse A, which gives each pick its direction w."""

    def __init__(self, width: int) -> None:
        self.inverse = np.eye(width) * 2.0**INVERSE_BITS
        self.unfolded = np.empty((FOLD_PICKS, width))
        self.unfolded_n = 0

    def add(
        self,
        point: NDArray[np.floating],  # (d,) the picked row, in grid steps
        value: float,  # its g
    ) -> NDArray[np.float64]:  # (d,) w, in units of 2^-26
        """Add a pick to the inverse and return its direction."""
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
    """Return every w . x, rounded to units of 2^-10 grid steps."""
    return np.rint(points.astype(np.float64) @ directions)
