"""The smallest difference that an experiment can show: the detectable difference at a given power.

A power of 80% means: of many repetitions of the experiment with this true difference, 80% give the verdict "better" or "worse".
docs/STATISTICS.md has the power that was measured in simulations.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from reports import variance
from reports.cautious_p_values import cautious_threshold
from reports.difference import Difference
from reports.variance import FloatArray, Part

POWER = 0.8  # Cohen, Statistical Power Analysis (1988), ch. 2
ALPHA = 0.05
QUANTILES_N = 48  # grid of the standard error's distribution; the factor changes by less than 0.001 with more
COUNTS_MAX = 10_000_000  # of seeds or items, when a needed number is looked for


def detectable(difference: Difference, comparisons_n: int = 0, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """Return the true difference that a repetition of this experiment would show with probability `power`.

    The result is in units of the score, above 0, and NaN if the experiment gives no verdict (one seed, or one item).

    Args:
        difference: The comparison, whose own variance is used.
        comparisons_n: Number of comparisons that are corrected together. The difference must then be shown at `alpha` divided by
            this number, which Holm's first step demands. 0: the comparison is not corrected, such as the primary one.
        power: Probability of the verdict "better" or "worse", 0.5 to 1, both excluded.
        alpha: Level of the two-sided test.

    Source: the power of a t test (Cohen 1988). Our addition: the result uses an estimated standard error, and a repetition has
    another estimate. Both vary with the degrees of freedom of the estimate, so the stated power is an average over both.
    """
    error = difference.standard_error
    if not difference.has_seed_uncertainty or not np.isfinite(error):
        return float("nan")
    return _factor(round(difference.df, 2), round(_needed(difference, comparisons_n, alpha) / error, 4), power) * error


def _needed(difference: Difference, comparisons_n: int, alpha: float) -> float:
    """Return the smallest absolute estimate that is separable from 0 with the variance of `difference`."""
    reach = float(stdtrit(difference.df, 1 - alpha / 2)) * difference.standard_error
    if comparisons_n == 0 or difference.parts is None:
        return reach
    level = alpha / comparisons_n
    alone = float(stdtrit(difference.df, 1 - level / 2)) * difference.standard_error
    return max(alone, cautious_threshold(level, *difference.parts))


@lru_cache(maxsize=4096)
def _factor(df: float, needed: float, power: float) -> float:
    """Return the detectable difference in standard errors. `needed` is the smallest separable estimate in standard errors.

    With true standard error 1, the stated difference is f · a, and a repetition shows it if f · a + Z > needed · b. Z is
    standard normal. a and b are independent estimates of the standard error: √(χ² / df).
    """
    at = (np.arange(QUANTILES_N) + 0.5) / QUANTILES_N
    estimates: FloatArray = np.sqrt(chdtri(df, at) / df)

    def missing(factor: float) -> float:
        return float(ndtr(factor * estimates[:, None] - needed * estimates).mean()) - power

    return float(brentq(missing, 0.0, 2 * needed + 20, xtol=1e-4))


class Design(NamedTuple):
    """Variances of one comparison for a single item, seed and answer, from which other numbers of seeds and items follow."""

    item: float  # variance of the mean from one item for each task, of many seeds
    seed: float  # variance of the mean from one seed, of many items
    rest: float  # variance of the mean from the answers of one seed to one item for each task, beside both
    tasks_n: int


def design_of(difference: Difference) -> Design | None:
    """Split the variance of a comparison by seeds and items; None if the comparison has no seeds in pairs.

    The items of all tasks are counted as equal in number. A component below 0 is set to 0.
    """
    parts = difference.parts
    if parts is None or len(parts.seeds) != 1:
        return None
    items_n, seeds_n = difference.items_n / difference.tasks_n, difference.seeds_n
    return Design(
        item=max(0.0, parts.items.variance - parts.residual.variance) * items_n,
        seed=max(0.0, parts.seeds[0].variance - parts.residual.variance) * seeds_n,
        rest=parts.residual.variance * items_n * seeds_n,
        tasks_n=difference.tasks_n,
    )


def detectable_with(design: Design, seeds_n: int, items_n: int, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """Return the difference that `seeds_n` (at least 2) seeds and `items_n` items would show in an uncorrected comparison.

    Raises:
        ValueError: `seeds_n` is below 2, or `items_n` is not above the number of tasks.
    """
    if seeds_n < 2 or items_n <= design.tasks_n:
        raise ValueError(
            f"{seeds_n} seeds and {items_n} items; expected at least 2 seeds and more than {design.tasks_n} items"
        )
    whole = _total(design, seeds_n, items_n)
    error = float(np.sqrt(whole.variance))
    return _factor(round(whole.df, 2), round(float(stdtrit(whole.df, 1 - alpha / 2)), 4), power) * error


def _total(design: Design, seeds_n: int, items_n: int) -> Part:
    """Return the expected variance of the difference, by the rules of `variance.total`."""
    by_task = items_n / design.tasks_n
    rest = design.rest / by_task / seeds_n
    residual = Part(rest, float((items_n - design.tasks_n) * (seeds_n - 1)))
    items = Part(design.item / by_task + rest, float(items_n - design.tasks_n))
    return variance.total(items, Part(design.seed / seeds_n + rest, seeds_n - 1.0), residual)


def needed_seeds(design: Design, wanted: float, items_n: int) -> int | None:
    """Return the smallest number of seeds that shows a difference of `wanted`; None if no number of seeds is enough."""
    return _smallest(lambda seeds_n: detectable_with(design, seeds_n, items_n) <= wanted, 2)


def needed_items(design: Design, wanted: float, seeds_n: int) -> int | None:
    """Return the smallest number of items that shows a difference of `wanted`; None if no number of items is enough."""
    return _smallest(lambda items_n: detectable_with(design, seeds_n, items_n) <= wanted, design.tasks_n + 1)


def _smallest(is_enough: Callable[[int], bool], low: int) -> int | None:
    high = low
    while not is_enough(high):
        if high >= COUNTS_MAX:
            return None
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return high


