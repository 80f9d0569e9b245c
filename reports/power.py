"""The smallest difference that an experiment can show: the detectable difference at a given power.

A power of 80% means: of many repetitions of the experiment with this true difference, 80% give the verdict "better" or "worse".
docs/STATISTICS.md has the power that was measured in simulations.

One run knows its variances only roughly, and a repetition estimates them again. So the power is a mean over draws of both: of
true variances that fit the estimates of this run, and of the estimates of a repetition with these true variances. The draws are
fixed, so equal inputs give equal results.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, ndtr, ndtri, stdtridf, stdtrit

from reports.difference import Difference, Parts
from reports.variance import HELD_BACK, SEEDS_DF_TO_LEAVE_OUT, FloatArray, Part

POWER = 0.8  # Cohen, Statistical Power Analysis (1988), ch. 2
# The mean over true variances is careful: a difference computed for 80% was shown in 82% of simulated repetitions (mean of 24
# settings, 79% to 85%). So `detectable` computes 78% where 80% is stated, and 77% to 84% are then shown.
CAREFUL = 0.02
ALPHA = 0.05
DRAWS_N = 400  # results change by about 1% with another set of draws
DF_EXACT = 30  # below, quantiles of χ² are exact; above, by Wilson and Hilferty (1931)
COUNTS_MAX = 10_000_000  # of seeds or items, when a needed number is looked for


def detectable(difference: Difference, comparisons_n: int = 0, *, power: float = POWER) -> float:
    """Return the true difference that a repetition of this experiment would show with probability `power`.

    The result is in units of the score, above 0, and NaN if the experiment gives no verdict (one seed, or one item).

    Args:
        difference: The comparison, whose own variance is used.
        comparisons_n: Number of comparisons that are corrected together. The difference must then be shown at 5% divided by this
            number, which Holm's first step demands. 0: the comparison is not corrected, such as the primary one.
        power: Probability of the verdict "better" or "worse"; at least 0.6 and below 1. `CAREFUL` is subtracted.

    Source: the power of a t test (Cohen 1988). Our addition: the mean over true variances, by the fiducial distribution of a
    mean square, df · MS / χ² (Fisher 1935).
    """
    if not difference.has_verdict or not np.isfinite(difference.standard_error):
        return float("nan")
    if difference.parts is None:
        return _of_items(difference.standard_error, difference.df, comparisons_n, power - CAREFUL)
    return _detectable(difference.parts, comparisons_n, power - CAREFUL)


@lru_cache(maxsize=1024)
def _of_items(error: float, df: float, comparisons_n: int, power: float) -> float:
    """Return the detectable difference of two fixed runs, whose only variance is `error`², from items, with `df`."""
    own, repeated = _chances(0)
    true = error**2 * df / _chi_squares(df, own)
    limits = -stdtrit(df, ALPHA / max(1, comparisons_n) / 2) * np.sqrt(true * _chi_squares(df, repeated) / df)
    return _with_power(limits, np.sqrt(true), power)


@lru_cache(maxsize=1024)
def _detectable(parts: Parts, comparisons_n: int, power: float) -> float:
    own = [_chances(place)[0] for place in range(len(parts.seeds) + 2)]
    squares = (parts.items, parts.residual, *parts.seeds)
    true = [
        part.variance * part.df / _chi_squares(part.df, chance) if part.df > 0 else np.zeros(DRAWS_N)
        for part, chance in zip(squares, own, strict=True)
    ]
    return _reached(true, [part.df for part in squares], parts.unseen, comparisons_n, power)


def _reached(true: list[FloatArray], df: list[float], unseen: Part, comparisons_n: int, power: float) -> float:
    """Return the difference with the wanted power. `true` has the expected variances of items, residual and seeds: (D,) each."""
    drawn = [
        Repeated(one * _chi_squares(free, _chances(place)[1]) / free if free > 0 else one, free)
        for place, (one, free) in enumerate(zip(true, df, strict=True))
    ]
    items, residual, *seeds = drawn
    limits = threshold(items, residual, tuple(seeds), unseen, comparisons_n)
    of_seeds = np.sum(true[2:], axis=0)
    # Without the lower bounds of `variance.total`: they would state too large a difference where seeds have no effect.
    errors = np.sqrt(np.maximum(true[0] + of_seeds - true[1], 1e-3 * (true[0] + of_seeds) + 1e-18))
    return _with_power(limits, errors, power)


def _with_power(limits: FloatArray, errors: FloatArray, power: float) -> float:
    """Return the difference above `limits`, (D,), with probability `power`, given normal errors, (D,)."""
    low, high = 0.0, float(limits.max() + errors.max())
    while ndtr((high - limits) / errors).mean() < power:
        high *= 2
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if ndtr((middle - limits) / errors).mean() < power else (low, middle)
    return high


class Repeated(NamedTuple):
    """A variance of the mean in many repetitions of an experiment, and the degrees of freedom (df) of its estimate."""

    variance: FloatArray  # (D,)
    df: float


def threshold(
    items: Repeated, residual: Repeated, seeds: tuple[Repeated, ...], unseen: Part, comparisons_n: int = 0
) -> FloatArray:
    """Return the smallest absolute estimate that gives a verdict in each repetition: (D,).

    These are the rules of `variance.total`, `variance.with_unseen` and `cautious_p_value`, for many repetitions at once.
    """
    of_seeds = np.sum([one.variance for one in seeds], axis=0)
    squares_of_seeds = np.sum([one.variance**2 / one.df for one in seeds], axis=0)
    seeds_df = np.where(squares_of_seeds > 0, of_seeds**2 / np.maximum(squares_of_seeds, 1e-300), seeds[0].df)
    known = np.maximum.reduce([items.variance + of_seeds - residual.variance, items.variance, of_seeds])
    below = of_seeds**2 / seeds_df + sum(one.variance**2 / one.df for one in (items, residual) if one.df > 0)
    df = np.maximum(known**2 / np.maximum(below, 1e-300), 1e-9)
    is_small = of_seeds <= np.minimum(residual.variance, items.variance)
    held_back = 1 / ((1 - HELD_BACK) / df + HELD_BACK / seeds_df)
    df = np.where(seeds_df < SEEDS_DF_TO_LEAVE_OUT - 1e-9, held_back, np.where(is_small, items.df, df))
    limit = _reach(known, np.maximum(1.0, df), unseen, ALPHA / max(1, comparisons_n))
    if comparisons_n == 0:
        return limit
    level = ALPHA / comparisons_n / 2
    rest = np.maximum(0.0, items.variance - residual.variance)
    parts = [(rest, items.df), (unseen.variance, unseen.df), *((one.variance, one.df) for one in seeds)]
    squares = sum(stdtrit(free, level) ** 2 * one for one, free in parts if free > 0)
    alone = _reach(items.variance, np.full(len(known), max(1.0, items.df)), unseen, 2 * level)
    return np.asarray(np.maximum.reduce([limit, np.sqrt(squares), alone]), dtype=np.float64)


def _reach(known: FloatArray, df: FloatArray, unseen: Part, level: float) -> FloatArray:
    """Return half of the width of the interval at 1 − `level`, with the degrees of freedom of `variance.with_unseen`."""
    whole, unseen_df = known + unseen.variance, max(1.0, unseen.df)
    squares = stdtrit(df, 0.975) ** 2 * known + stdtrit(unseen_df, 0.975) ** 2 * unseen.variance
    joint = np.clip(stdtridf(0.975, np.sqrt(squares / whole)), np.minimum(df, unseen_df), np.maximum(df, unseen_df))
    return np.asarray(-stdtrit(joint, level / 2) * np.sqrt(whole), dtype=np.float64)


@cache
def _chances(place: int) -> tuple[FloatArray, FloatArray]:
    """Return two fixed sets of chances in 0..1 for one variance, evenly spread and in random order: (D,) each."""
    generator = np.random.default_rng(place)
    even = (np.arange(DRAWS_N) + 0.5) / DRAWS_N
    return generator.permutation(even), generator.permutation(even)


def _chi_squares(df: float, chances: FloatArray) -> FloatArray:
    """Return the quantiles of χ² with `df` degrees of freedom, for upper-tail chances."""
    if df < DF_EXACT:
        return np.asarray(chdtri(max(df, 1e-9), chances), dtype=np.float64)
    share = 2 / (9 * df)
    return np.asarray(df * (1 - share - ndtri(chances) * np.sqrt(share)) ** 3, dtype=np.float64)


class Design(NamedTuple):
    """The variances of one comparison by source, from which the variance with other numbers of seeds and items follows."""

    item: float  # divided by the number of items: the variance of the mean that comes from items
    seed: float  # divided by the number of seeds: the variance that comes from seeds
    rest: float  # divided by both numbers: the variance that comes from each seed on each item
    tasks_n: int
    seeds_n: int  # of the run that was measured
    items_n: int  # of all tasks, in the run that was measured


def design_of(difference: Difference) -> Design | None:
    """Split the variance of a comparison by items and seeds; None if its arms are not paired by two seeds or more.

    A negative estimate becomes 0. The split is exact if all tasks have the same number of items.
    """
    parts = difference.parts
    if parts is None or len(parts.seeds) != 1 or difference.is_borrowed:
        return None
    items_n, seeds_n = difference.items_n, difference.seeds_n
    return Design(
        item=max(0.0, parts.items.variance - parts.residual.variance) * items_n,
        seed=max(0.0, parts.seeds[0].variance - parts.residual.variance) * seeds_n,
        rest=parts.residual.variance * items_n * seeds_n,
        tasks_n=difference.tasks_n,
        seeds_n=seeds_n,
        items_n=items_n,
    )


def mean_design(designs: Sequence[Design]) -> Design | None:
    """Return the mean variances of comparisons of the same seeds and items; None if there is none."""
    if not designs:
        return None
    item, seed, rest = np.mean([one[:3] for one in designs], axis=0).tolist()
    return designs[0]._replace(item=item, seed=seed, rest=rest)


def detectable_with(design: Design, seeds_n: int, items_n: int, *, power: float = POWER) -> float:
    """Return the detectable difference of an uncorrected comparison with `seeds_n` seeds and `items_n` items in all.

    Raises:
        ValueError: `seeds_n` is below 2, or `items_n` is not above the number of tasks.
    """
    if seeds_n < 2 or items_n <= design.tasks_n:
        raise ValueError(
            f"{seeds_n} seeds and {items_n} items; expected at least 2 seeds and more than {design.tasks_n} items"
        )
    free, measured_df = float(items_n - design.tasks_n), design.seeds_n - 1.0
    # The true variance of the seeds is as uncertain as in the run that was measured, where it contained the rest.
    measured_rest = design.rest / design.items_n
    uncertain = (design.seed + measured_rest) * measured_df / _chi_squares(measured_df, _chances(2)[0])
    rest = np.full(DRAWS_N, design.rest / items_n / seeds_n)
    seeds = np.maximum(0.0, uncertain - measured_rest) / seeds_n
    degrees = [free, free * (seeds_n - 1), seeds_n - 1.0]
    return _reached([design.item / items_n + rest, rest, seeds + rest], degrees, Part(0.0, free), 0, power)


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
