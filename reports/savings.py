"""The labels that a strategy needs to reach a target score, with a confidence set.

The learning curve is piecewise linear in log₂ budget. At each budget of a grid, a t test compares the curve with the target.
The confidence set is found by inverting these tests. Each end of the set can be open.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from reports import variance
from reports.difference import Arm, Difference, compare, interval_of
from reports.variance import FloatArray, IntArray, Part, Strata, strata

PRODUCTS = ((0, 0), (0, 1), (1, 1))
BINOMIAL = (1, 3, 3, 1)
POINTS_PER_SEGMENT_N = 32  # if budgets double, neighbours on the grid differ by 2%


class Savings(NamedTuple):
    """The labels needed to match a target score, with a confidence set."""

    target_score: float
    labels_n: float | None  # first budget at which the mean curve reaches the target; None if it stays below
    low_n: float | None  # low end of the set; None if the set is open at the smallest budget
    high_n: float | None  # high end of the set; None if the set is open at the largest budget
    smallest_n: int
    largest_n: int
    is_empty: bool  # the test places the curve below the target at all budgets
    has_seed_uncertainty: bool  # False: the set includes only items
    seeds_n: int
    is_borrowed: bool = False  # the curve's seed variance is used for the target, which has a single seed

    @property
    def outcome(self) -> Literal["reached", "not reached", "not settled"]:
        """The outcome as text. It is "not reached" only if the test places the curve below the target at all budgets.

        A mean below the target is not enough: if the two strategies are truly equal, the mean curve does not reach the target in
        half of the cases (docs/STATISTICS.md).
        """
        if self.is_reached:
            return "reached"
        return "not reached" if self.is_empty else "not settled"

    @property
    def is_reached(self) -> bool:
        return self.labels_n is not None

    @property
    def is_reached_at_first(self) -> bool:
        """Whether the mean curve reaches the target at the smallest budget. Fewer labels may then be enough."""
        # 2 ** log2(60) is 60.00000000000001: rounding may place a crossing just above a budget.
        return self.labels_n is not None and self.labels_n <= self.smallest_n * (1 + 1e-9)

    @property
    def has_curve(self) -> bool:
        return self.smallest_n < self.largest_n


def savings(curve: Mapping[int, Arm], target: Arm, tasks: IntArray, *, level: float = 0.95) -> Savings:
    """Return the labels that `curve` (budget → arm) needs to match `target`: the first crossing and its confidence set.

    The test decides at each grid point whether the curve is below the target, above it, or neither. The set starts just before
    the first point that is not below, and ends at the first point that is above. Each end misses a true crossing in about 2.5% of
    cases. docs/STATISTICS.md has measurements for curves that bend, cross, are flat or fall again.

    Source: Fieller, J. R. Statist. Soc. B 16 (1954) 175, for a set by inverting a test. Our choices: the first crossing, and the
    t test of `compare` on a grid.

    Raises:
        ValueError: the curve has no budget, or its budgets have no common seed.
    """
    if not curve:
        raise ValueError("the curve has no budget; expected at least one scored budget")
    budgets = sorted(curve)
    common = tuple(sorted(set.intersection(*(set(curve[budget].seeds) for budget in budgets))))
    if not common:
        raise ValueError(f"the budgets {budgets} share no seed; a curve needs the same seeds at each of them")
    log_budgets = np.log2(np.asarray(budgets, dtype=np.float64))
    grid = _grid(log_budgets)
    against = _gaps(curve, common, target, tasks, level)
    signs = np.asarray([-1 if gap.high < 0 else 1 if gap.low > 0 else 0 for gap in against])
    low, high, is_empty = _first_set(signs, 2.0**grid)
    # Use the estimates of the test at the budgets, so that the crossing and the set use the same seeds.
    gaps = [against[min(step * POINTS_PER_SEGMENT_N, len(grid) - 1)].estimate for step in range(len(budgets))]
    goal = float(strata(tasks).macro_mean(target.scores.mean(axis=0)))
    crossing, last, ends = _first_crossing(log_budgets, gaps), against[-1], (budgets[0], budgets[-1])
    is_borrowed = len(target.seeds) == 1 and len(common) > 1
    return Savings(goal, crossing, low, high, *ends, is_empty, last.has_seed_uncertainty, last.seeds_n, is_borrowed)


class _Gap(NamedTuple):
    estimate: float
    low: float
    high: float
    has_seed_uncertainty: bool
    seeds_n: int


def _gaps(
    curve: Mapping[int, Arm], common: tuple[int, ...], target: Arm, tasks: IntArray, level: float
) -> Sequence[_Gap | Difference]:
    """Return the difference (curve minus target) at each grid point."""
    budgets = sorted(curve)
    rows = [curve[budget].at(common).scores for budget in budgets]
    shared = tuple(sorted(set(common) & set(target.seeds)))
    groups = strata(tasks)
    if len(budgets) > 1 and groups.sizes.max() > 1:
        if len(shared) >= 2:
            own = [curve[budget].at(shared).scores for budget in budgets]
            return _along(own, target.at(shared).scores, groups, level)
        if len(common) >= 2 and len(target.seeds) == 1:
            # Assume that the target's single seed varies as much as one seed of the curve, as in `compare`.
            return _along(rows, target.scores, groups, level, seeds_factor=1 + len(common))
    log_budgets = np.log2(np.asarray(budgets, dtype=np.float64))
    arms = [Arm(_interpolate(rows, log_budgets, point), common) for point in _grid(log_budgets)]
    return [compare(arm, target, tasks, level=level) for arm in arms]


def _along(
    rows: Sequence[FloatArray], target: FloatArray, groups: Strata, level: float, seeds_factor: int = 1
) -> list[_Gap]:
    """Return the result of `compare` at every grid point, for rows with at least two seeds.

    Between two budgets, the difference of each seed and item is `first + w · step`, with w from 0 to 1. Means, sums of squares
    and sums of cubes are polynomials in w. So a few sums for each segment are enough for thousands of points.
    """
    gaps: list[_Gap] = []
    for left, right in pairwise(rows):
        gaps[-1:] = _segment(left - target, right - left, groups, level, seeds_factor)  # replaces the shared point
    return gaps


def _segment(first: FloatArray, step: FloatArray, groups: Strata, level: float, factor: int) -> Iterator[_Gap]:
    """Yield the gap of `first` + w · `step` (S, I) on a grid of w in 0..1. `factor` multiplies seed and residual variances."""
    sizes, seeds_n, ends = groups.sizes, len(first), np.stack([first, step])
    by_task = groups.means(ends)
    seed_means = by_task.mean(axis=-1)  # (2, S)
    centred = ends - by_task[..., groups.of_item]
    item_means = centred.mean(axis=1)  # (2, I)
    item_sums = [groups.sums(item_means[i] * item_means[j]) for i, j in PRODUCTS]
    cube_sums = [groups.sums(item_means[0] ** (3 - k) * item_means[1] ** k) for k in range(4)]
    deviations = centred - item_means[:, None]
    rest_sums = [groups.sums((deviations[i] * deviations[j]).sum(axis=0)) for i, j in PRODUCTS]
    w = np.linspace(0, 1, POINTS_PER_SEGMENT_N + 1)[:, None]  # (W, 1)
    items, rest = (np.maximum(parts[0] + 2 * w * parts[1] + w**2 * parts[2], 0.0) for parts in (item_sums, rest_sums))
    cubes = sum((n * w**k * part for k, (n, part) in enumerate(zip(BINOMIAL, cube_sums, strict=True))), np.zeros(1))
    means = seed_means[0] + w * seed_means[1]  # (W, S)
    of_items = map(Part, *variance.stratified_rows(items, sizes - 1, sizes))
    of_rest = map(Part, *variance.stratified_rows(rest, (sizes - 1) * (seeds_n - 1), sizes * seeds_n))
    of_seeds = factor * means.var(axis=1, ddof=1) / seeds_n
    unseen = variance.unseen_rows(items, cubes, sizes)
    unseen_df = float((sizes - 1).sum())
    for estimate, item, one, seed, more in zip(means.mean(axis=1), of_items, of_rest, of_seeds, unseen, strict=True):
        whole = variance.total(item, Part(seed, seeds_n - 1.0), Part(factor * one.variance, one.df))
        low, high, _ = interval_of(float(estimate), variance.with_unseen(whole, Part(more, unseen_df)), level)
        yield _Gap(float(estimate), low, high, True, seeds_n)


def _grid(log_budgets: FloatArray) -> FloatArray:
    pieces = [np.linspace(left, right, POINTS_PER_SEGMENT_N, endpoint=False) for left, right in pairwise(log_budgets)]
    return np.concatenate([*pieces, log_budgets[-1:]])


def _interpolate(rows: list[FloatArray], log_budgets: FloatArray, point: float) -> FloatArray:
    right = int(np.clip(np.searchsorted(log_budgets, point), 1, max(1, len(rows) - 1)))
    if len(rows) == 1:
        return rows[0]
    share = (point - log_budgets[right - 1]) / (log_budgets[right] - log_budgets[right - 1])
    return np.asarray((1 - share) * rows[right - 1] + share * rows[right])


def _first_crossing(log_budgets: FloatArray, gaps: list[float]) -> float | None:
    """Return the smallest budget at which the line through the gaps (curve minus target) reaches 0; None if it does not."""
    tolerance = 1e-12  # rounding error of the mean of equal scores
    if gaps[0] >= -tolerance:
        return float(2.0 ** log_budgets[0])
    for left, right in pairwise(range(len(gaps))):
        if gaps[right] >= -tolerance:
            share = min(1.0, gaps[left] / (gaps[left] - gaps[right]))
            return float(2.0 ** (log_budgets[left] + share * (log_budgets[right] - log_budgets[left])))
    return None


def _first_set(signs: IntArray, budgets: FloatArray) -> tuple[float | None, float | None, bool]:
    """Return both ends of the confidence set (None where it is open), and whether the set is empty.

    A sign is −1 if the curve is below the target at this budget, 1 if above, and 0 if the test does not decide. The ends of an
    empty set are the largest budget and None.
    """
    not_below, above = np.flatnonzero(signs >= 0), np.flatnonzero(signs > 0)
    if len(not_below) == 0:
        return float(budgets[-1]), None, True
    # Both ends are the grid points just outside the set, so the grid can make the set a little larger, but not smaller.
    low = None if not_below[0] == 0 else float(budgets[not_below[0] - 1])
    return low, float(budgets[above[0]]) if len(above) else None, False
