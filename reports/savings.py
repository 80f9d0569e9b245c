"""The labels that a strategy needs to reach a target score, as a set instead of a point.

The curve is piecewise linear in log₂ budget. A budget belongs to the set if the paired t test of "curve at this budget minus
target" does not reject 0 there: the test is inverted over a grid, as Fieller does for a ratio. The set can be open at either
end.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from reports.difference import Arm, compare, interval_of
from reports.variance import (
    FloatArray,
    IntArray,
    Part,
    Strata,
    item_part_of,
    residual_part_of,
    strata,
    total,
    unseen_part_of,
    with_unseen,
)

PRODUCTS = ((0, 0), (0, 1), (1, 1))
BINOMIAL = (1, 3, 3, 1)
POINTS_PER_SEGMENT_N = 32  # between two budgets that double, neighbours on the grid differ by 2%


class Savings(NamedTuple):
    """Labels needed to match a target. An end is `None` if the budgets tried do not bound it."""

    target_score: float
    labels_n: float | None  # first crossing of the mean curve; None: it ends below the target
    low_n: float | None  # None: open towards fewer labels than the smallest budget
    high_n: float | None  # None: open towards more labels than the largest budget
    smallest_n: int
    largest_n: int
    is_empty: bool  # every budget tried lies below the target: only more labels could reach it
    has_seed_uncertainty: bool  # False: the set counts items only
    seeds_n: int
    is_borrowed: bool = False  # the target's single seed is taken to vary as the curve's

    @property
    def outcome(self) -> Literal["reached", "not reached", "not settled"]:
        """The outcome in words; "not reached" only if the test places every budget below the target.

        A curve that ends just below the target says little: one of two equal curves does half of the time (docs/STATISTICS.md).
        """
        if self.is_reached:
            return "reached"
        return "not reached" if self.is_empty else "not settled"

    @property
    def is_reached(self) -> bool:
        """Whether the mean curve reaches the target within the budgets tried."""
        return self.labels_n is not None

    @property
    def is_reached_at_first(self) -> bool:
        """Whether the smallest budget already reaches it, so that the labels needed are at most that many."""
        # 2 ** log2(60) is 60.00000000000001: a crossing at a budget may lie above it by rounding.
        return self.labels_n is not None and self.labels_n <= self.smallest_n * (1 + 1e-9)

    @property
    def has_curve(self) -> bool:
        """Whether there are two budgets; one budget makes no line that could cross a target."""
        return self.smallest_n < self.largest_n


def savings(curve: Mapping[int, Arm], target: Arm, tasks: IntArray, *, level: float = 0.95) -> Savings:
    """Return the labels that `curve` (budget → arm) needs to match `target`: first crossing and its confidence set.

    The set runs from where the curve is no longer below the target to where it is first above it, both by the test.

    Source: Fieller, J. R. Statist. Soc. B 16 (1954) 175, for a set by inverting a test, open if the test cannot close it.
    Ours: the first crossing, and the t test of `compare` at each point of a grid. At a true crossing each end errs in about
    2.5%; docs/STATISTICS.md measures curves that bend, cross, are flat or fall again.
    """
    if not curve:
        raise ValueError("the curve has no budget; expected at least one scored budget")
    budgets = sorted(curve)
    common = tuple(sorted(set.intersection(*(set(curve[budget].seeds) for budget in budgets))))
    if not common:
        raise ValueError(f"the budgets {budgets} share no seed; a curve needs the same seeds at each of them")
    rows = [curve[budget].at(common).scores for budget in budgets]
    log_budgets = np.log2(np.asarray(budgets, dtype=np.float64))
    grid = _grid(log_budgets)
    shared = tuple(sorted(set(common) & set(target.seeds)))
    groups = strata(tasks)
    can_go_along = len(budgets) > 1 and groups.sizes.max() > 1
    if can_go_along and len(shared) >= 2:
        own = [curve[budget].at(shared).scores for budget in budgets]
        against = _along(own, target.at(shared).scores, groups, level)
    elif can_go_along and len(common) >= 2 and len(target.seeds) == 1:
        # The target's single seed is taken to vary as much as one of the curve's, as in `compare`.
        against = _along(rows, target.scores, groups, level, seeds_factor=1 + len(common))
    else:
        each = [
            compare(Arm(_interpolate(rows, log_budgets, point), common), target, tasks, level=level) for point in grid
        ]
        against = [_Gap(gap.estimate, gap.low, gap.high, gap.has_seed_uncertainty, gap.seeds_n) for gap in each]
    signs = np.asarray([-1 if gap.high < 0 else 1 if gap.low > 0 else 0 for gap in against])
    low, high, is_empty = _first_set(signs, 2.0**grid)
    # The estimates of the test itself, at the budgets: point and set then use the same seeds.
    gaps = [against[min(step * POINTS_PER_SEGMENT_N, len(grid) - 1)].estimate for step in range(len(budgets))]
    goal = float(strata(tasks).macro_mean(target.scores.mean(axis=0)))
    return Savings(
        goal,
        _first_crossing(log_budgets, gaps),
        low,
        high,
        budgets[0],
        budgets[-1],
        is_empty,
        against[-1].has_seed_uncertainty,
        against[-1].seeds_n,
        is_borrowed=len(target.seeds) == 1 and len(common) > 1,
    )


class _Gap(NamedTuple):
    estimate: float
    low: float
    high: float
    has_seed_uncertainty: bool
    seeds_n: int


def _along(
    rows: Sequence[FloatArray], target: FloatArray, groups: Strata, level: float, seeds_factor: int = 1
) -> list[_Gap]:
    """Return `compare` at every point of the grid; the differences need two seeds or more.

    Between two budgets the differences are `first + w · step` in each seed and item. Their means are linear in w, their sums of
    squares quadratic, their sums of cubes cubic: a few sums per segment give all points, so a page of thousands is quick.
    """
    gaps: list[_Gap] = []
    for left, right in pairwise(rows):
        line = _Line(left - target, right - left, groups, seeds_factor)
        gaps += [line.at(w, level) for w in np.linspace(0, 1, POINTS_PER_SEGMENT_N, endpoint=False)]
    return [*gaps, line.at(1.0, level)]


class _Line:
    """Differences that move from `first` (S, I) by w · `step` (S, I); the seeds' part counts `seeds_factor` times."""

    def __init__(self, first: FloatArray, step: FloatArray, groups: Strata, seeds_factor: int) -> None:
        self.sizes, self.factor = groups.sizes, seeds_factor
        ends = np.stack([first, step])
        by_task = groups.means(ends)
        self.seed_means = by_task.mean(axis=-1)  # (2, S)
        centred = ends - by_task[..., groups.of_item]
        items = centred.mean(axis=1)  # (2, I)
        self.items = [groups.sums(items[i] * items[j]) for i, j in PRODUCTS]
        self.cubes = [groups.sums(items[0] ** (3 - k) * items[1] ** k) for k in range(4)]
        rest = centred - items[:, None]
        self.rest = [groups.sums((rest[i] * rest[j]).sum(axis=0)) for i, j in PRODUCTS]

    def at(self, w: float, level: float) -> _Gap:
        """Return the gap at one point."""
        powers = (1.0, 2 * w, w * w)
        means = self.seed_means[0] + w * self.seed_means[1]
        items, rest = (
            np.maximum(sum(power * part for power, part in zip(powers, parts, strict=True)), 0.0)
            for parts in (self.items, self.rest)
        )
        seeds_n = len(means)
        seeds = Part(self.factor * float(means.var(ddof=1)) / seeds_n, seeds_n - 1.0)
        one = residual_part_of(rest, self.sizes, seeds_n)
        residual = Part(self.factor * one.variance, one.df)
        cubes = np.asarray(sum(n * w**k * part for k, (n, part) in enumerate(zip(BINOMIAL, self.cubes, strict=True))))
        unseen = unseen_part_of(items, cubes, self.sizes)
        whole = with_unseen(total(item_part_of(items, self.sizes), seeds, residual), unseen)
        estimate = float(means.mean())
        low, high, _ = interval_of(estimate, whole, level)
        return _Gap(estimate, low, high, True, seeds_n)


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
    """Return the smallest budget at which the line through the gaps (curve minus target) reaches 0."""
    tolerance = 1e-12  # the mean of differences of equal scores, summed in another order
    if gaps[0] >= -tolerance:
        return float(2.0 ** log_budgets[0])
    for left, right in zip(range(len(gaps) - 1), range(1, len(gaps)), strict=True):
        if gaps[right] >= -tolerance:
            share = min(1.0, gaps[left] / (gaps[left] - gaps[right]))
            return float(2.0 ** (log_budgets[left] + share * (log_budgets[right] - log_budgets[left])))
    return None


def _first_set(signs: IntArray, budgets: FloatArray) -> tuple[float | None, float | None, bool]:
    """Return the ends of the set of budgets where a first crossing is not refuted; signs: −1 below, 0 unclear, 1 above."""
    not_below = np.flatnonzero(signs >= 0)
    if len(not_below) == 0:
        return float(budgets[-1]), None, True
    # Both ends are refuted points of the grid: its steps make the set a little larger, never smaller.
    low = None if not_below[0] == 0 else float(budgets[not_below[0] - 1])
    above = np.flatnonzero(signs > 0)
    high = float(budgets[above[0]]) if len(above) else None
    return low, high, False
