"""Statistics that both the stored tables and the report use.

Two scipy functions are not suitable. `binomtest` accepts only whole numbers of successes, but a mean score can be a fraction.
`spearmanr` needs half a second to import, and returns NaN where no estimate is possible.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution
PAIRS_MIN_N = 3  # the correlation of two pairs is always 1 or -1


def wilson(
    share: ArrayLike,  # (n,) or a number, 0..1
    items_n: ArrayLike,  # (n,) or a number, positive
    z: float = Z_95,
) -> tuple[FloatArray, FloatArray]:  # low and high end, of the shape of `share`
    """Return Wilson's score interval of the share of right items. It is within 0..1, and its width is above 0 at any share.

    Source: Wilson, JASA 22 (1927) 209; Brown, Cai & DasGupta, Statist. Sci. 16 (2001) 101. We also use it for fractional scores.
    A score in 0..1 has at most the variance of a right-or-wrong score with the same mean, so the interval may be too wide.

    Raises:
        ValueError: a share is not in 0..1, or its number of items is below 1.

    >>> low, high = wilson(0.0, 20)
    >>> float(low), round(float(high), 3)
    (0.0, 0.161)
    """
    shares, n = np.asarray(share, dtype=np.float64), np.asarray(items_n)
    if not ((shares >= 0) & (shares <= 1)).all() or (n < 1).any():
        raise ValueError(f"shares {shares} of {n} items; expected shares in 0..1 of at least one item")
    middle = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2))
    # The clips make the end of 0/n exactly 0 and the end of n/n exactly 1, despite rounding errors of 1e-17.
    return np.clip(middle - half, 0.0, shares), np.clip(middle + half, shares, 1.0)


def total_variation(first: ArrayLike, second: ArrayLike) -> float:
    """Return the total-variation distance of two allocations of one budget to tasks.

    It is the share of the budget that must move from one task to another to turn `first` into `second`; 0 for a budget of 0.

    >>> total_variation([6, 4], [5, 5])
    0.1
    """
    own, other = np.asarray(first), np.asarray(second)  # (T,) labels by task
    return float(np.abs(own - other).sum() / 2 / max(int(own.sum()), 1))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, rounded to 12 decimals. Equal values have the mean of their ranks.

    The result is None with fewer than three pairs of finite values, or if all values in `first` or in `second` are equal.

    >>> rank_correlation([0.1, 0.2, 0.3], [5, 7, 9]), rank_correlation([1, 1, 1], [1, 2, 3])
    (1.0, None)
    """
    pairs = np.array([first, second], dtype=np.float64)
    ranks = np.array([_ranks(values) for values in pairs[:, np.isfinite(pairs).all(axis=0)]])
    if ranks.shape[1] < PAIRS_MIN_N or (np.ptp(ranks, axis=1) == 0).any():
        return None
    return round(float(np.corrcoef(ranks)[0, 1]), 12)


def _ranks(values: FloatArray) -> FloatArray:
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(times) - (times - 1) / 2)[place])
