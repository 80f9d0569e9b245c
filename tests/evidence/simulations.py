"""The coverage of intervals and the error rates of verdicts with a known truth: draws scores (`drawn_scores`) and counts.

The scores go through the functions of the report; no statistics are written a second time here. `coverage` defines the numbers
of draws and writes the page. `mean_squares` measures error rates that are too small for this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr
from scipy.stats import binom

from data_contracts.shared_statistics import wilson
from reports import statistics, variance
from reports.statistics import Arm, Difference
from tests.evidence.drawn_scores import BUDGETS, Curve, FloatArray, IntArray, Setting, crossing, draw, draw_curve

LAB_NOISE = (
    0.34,
    0.011,
    0.055,
    0.24,
)  # item, seed, seed × task, rest: read off the demo's stored scores, 24 × 40 items


class Share(NamedTuple):
    """The number of simulated draws in which something happened."""

    happened_n: int
    draws_n: int

    @property
    def value(self) -> float:
        return self.happened_n / self.draws_n if self.draws_n else float("nan")

    @property
    def error(self) -> float:
        """Standard error by the binomial distribution."""
        return float(np.sqrt(self.value * (1 - self.value) / self.draws_n))

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.draws_n else "–"


def share(happened: Sequence[bool] | FloatArray) -> Share:
    return Share(int(np.sum(happened)), len(happened))


class Coverage(NamedTuple):
    """The results of one setting with one number of seeds."""

    setting: str
    seeds_n: int
    area: Share  # the interval of the area holds the true difference
    by_budget: Share  # the same at single budgets, all budgets together
    negative: Share  # areas with a seeds' mean square below the residual
    equivalent: Share  # equivalence wrongly shown where the true difference is the margin


def coverage(setting: Setting, seeds_n: int, draws_n: int, generator: np.random.Generator) -> Coverage:
    """Measure paired differences of two strategies whose true difference is known."""
    areas, budgets, negative, equivalent = [], [], [], []
    for _ in range(draws_n):
        first, second, truth = draw(setting, seeds_n, generator)
        area = statistics.compare(
            statistics.area_under_curve(first), statistics.area_under_curve(second), setting.tasks
        )
        areas.append(_holds(area, truth))
        equivalent.append(statistics.equivalence(area, abs(truth)).is_shown)
        if area.parts:
            negative.append(sum(part.variance for part in area.parts.seeds) < area.parts.residual.variance)
        budgets += [
            _holds(statistics.compare(first[budget], second[budget], setting.tasks), truth) for budget in BUDGETS
        ]
    return Coverage(setting.name, seeds_n, share(areas), share(budgets), share(negative), share(equivalent))


def _holds(difference: Difference, truth: float) -> bool:
    return difference.low <= truth <= difference.high


class Saved(NamedTuple):
    """Confidence sets of labels saved for one true curve."""

    curve: Curve
    truth_n: float | None
    covered: Share
    smooth: Share  # holds where the smooth curve crosses; no draws where the curve has no such form
    open_above: Share
    open_below: Share
    not_reached: Share  # the mean curve stays below the target: the sentence says "does not reach"
    refuted: Share  # the verdict says "not reached": every budget lies below the target by the test
    fewer: Share  # the verdict says "fewer labels" than the reference's largest budget


def savings(curve: Curve, draws_n: int, generator: np.random.Generator) -> Saved:
    """Measure the coverage of the sets. If the curve never reaches the target, the sets that are open above cover the truth."""
    truth = crossing(curve)
    rows, smooth = [], []
    for _ in range(draws_n):
        arms, target, tasks = draw_curve(curve, generator)
        got = statistics.savings(arms, target, tasks)
        is_open = got.high_n is None
        is_covered = is_open if truth is None else _is_within(truth, got)
        if curve.smooth_n is not None:
            smooth.append(_is_within(curve.smooth_n, got))
        is_fewer = got.high_n is not None and got.high_n < max(arms)
        rows.append((is_covered, is_open, got.low_n is None, not got.is_reached, got.is_empty, is_fewer))
    covered, *others = (share(column) for column in zip(*rows, strict=True))
    return Saved(curve, truth, covered, share(smooth), *others)


def _is_within(truth_n: float, got: statistics.Savings) -> bool:
    return (got.low_n is None or got.low_n <= truth_n) and (got.high_n is None or truth_n <= got.high_n)


class Null(NamedTuple):
    """Results for equal strategies, by the report's families of comparisons."""

    strategies_n: int
    budgets_n: int
    seeds_n: int
    better_cells: Share  # strategy × budget against the reference, Holm among all: "better"
    cells_family: Share  # draws in which any cell is "better" or "worse"
    cells_family_before: Share  # the same with Satterthwaite's p-values given to Holm, as before
    raw_cells: Share  # "better" or "worse" without any correction
    areas_family: Share  # any area against the reference
    areas_family_before: Share
    crowned: Share  # budgets at which one arm "is best", of those looked at


def null(
    strategies_n: int, budgets_n: int, seeds_n: int, draws_n: int, crowned_n: int, generator: np.random.Generator
) -> Null:
    """Measure verdicts on equal strategies. The first one is the reference. `crowned_n` draws also determine the best arm."""
    tasks = np.repeat(np.arange(24), 40)
    cells: list[tuple[float, float, float]] = []
    found = []
    crowned: list[bool] = []
    for number in range(draws_n):
        scores = _null_scores(strategies_n, budgets_n, seeds_n, tasks, generator)
        arms = [
            {128 << b: Arm(scores[s, b], tuple(range(seeds_n))) for b in range(budgets_n)} for s in range(strategies_n)
        ]
        gaps = [
            statistics.compare(arms[s][budget], arms[0][budget], tasks)
            for s, budget in product(range(1, strategies_n), arms[0])
        ]
        areas = [statistics.area_under_curve(curve) for curve in arms]
        area_gaps = [statistics.compare(area, areas[0], tasks) for area in areas[1:]]
        words = [
            statistics.verdict(gap, float(p))
            for gap, p in zip(gaps, statistics.holm([gap.p_value_cautious for gap in gaps]), strict=True)
        ]
        cells.append((words.count("better"), sum(gap.p_value < 0.05 for gap in gaps), len(gaps)))
        found.append(
            (
                any(word in ("better", "worse") for word in words),
                _is_any(gaps, _p_before),
                _is_any(area_gaps, lambda gap: gap.p_value_cautious),
                _is_any(area_gaps, _p_before),
            )
        )
        if number < crowned_n:
            crowned += [
                statistics.tied_with_leader({str(s): arms[s][budget] for s in range(strategies_n)}, tasks).is_single
                for budget in arms[0]
            ]
    better, raw, all_n = (int(total) for total in np.sum(cells, axis=0))
    now, before, areas_now, areas_before = (share(column) for column in zip(*found, strict=True))
    return Null(
        strategies_n,
        budgets_n,
        seeds_n,
        Share(better, all_n),
        now,
        before,
        Share(raw, all_n),
        areas_now,
        areas_before,
        share(crowned),
    )


def _is_any(gaps: Sequence[Difference], p_value: Callable[[Difference], float]) -> bool:
    return bool((statistics.holm([p_value(gap) for gap in gaps]) < 0.05).any())


def _p_before(gap: Difference) -> float:
    """Return the p-value that Holm received earlier: by Satterthwaite's df, which always include the seeds."""
    if gap.parts is None:
        raise ValueError("a null experiment needs two seeds or more")
    parts = gap.parts.items, variance.add(*gap.parts.seeds), gap.parts.residual
    df = max(1.0, variance.satterthwaite(gap.standard_error**2, *parts))
    return float(2 * stdtr(df, -abs(gap.estimate) / gap.standard_error))


def _null_scores(
    strategies_n: int, budgets_n: int, seeds_n: int, tasks: IntArray, generator: np.random.Generator
) -> FloatArray:
    """Draw scores (strategies, budgets, seeds, items) with equal means and the lab's noise.

    Half of a seed's effect is the same at all budgets.
    """
    item, seed, seed_task, rest = LAB_NOISE
    shape = (strategies_n, budgets_n, seeds_n)

    def effects(width: int) -> FloatArray:
        once = generator.normal(size=(strategies_n, 1, seeds_n, width))
        return np.asarray((generator.normal(size=(*shape, width)) + once) / np.sqrt(2))

    scores = 0.7 + item * generator.normal(size=len(tasks)) + rest * generator.normal(size=(*shape, len(tasks)))
    return np.asarray(scores + seed * effects(1) + seed_task * effects(24)[..., tasks])


class Crowned(NamedTuple):
    """How often `tied_with_leader` calls one arm best, wrongly and rightly."""

    levels: tuple[float, ...]  # true mean of each arm above the lowest
    seeds_n: int
    wrongly: Share  # an arm that is not above all others
    rightly: Share
    held: Share  # the leader and its tied set have every arm at the highest level


def crowned(levels: tuple[float, ...], seeds_n: int, draws_n: int, generator: np.random.Generator) -> Crowned:
    """Measure at one budget. An arm that shares the highest level is crowned wrongly."""
    tasks, highest = np.repeat(np.arange(24), 40), max(levels)
    wrongly, rightly, held = [], [], []
    top = [arm for arm, level in enumerate(levels) if level == highest]
    for _ in range(draws_n):
        scores = _null_scores(len(levels), 1, seeds_n, tasks, generator)[:, 0] + np.array(levels)[:, None, None]
        leader = statistics.tied_with_leader(
            {str(arm): Arm(rows, tuple(range(seeds_n))) for arm, rows in enumerate(scores)}, tasks
        )
        is_right = levels.count(highest) == 1 and levels[int(leader.name)] == highest
        wrongly.append(leader.is_single and not is_right)
        rightly.append(leader.is_single and is_right)
        held.append(all(int(leader.name) == arm or str(arm) in leader.tied for arm in top))
    return Crowned(levels, seeds_n, share(wrongly), share(rightly), share(held))


def wilson_coverage(items_n: int) -> tuple[float, float]:
    """Return the mean and the smallest coverage of Wilson's interval over a grid of true shares, by exact sums."""
    grid = np.linspace(0.005, 0.995, 199)
    ends = np.stack(wilson(np.arange(items_n + 1) / items_n, items_n), axis=1)
    holds = (ends[:, :1] <= grid) & (grid <= ends[:, 1:])
    covered = (binom.pmf(np.arange(items_n + 1)[:, None], items_n, grid) * holds).sum(axis=0)
    return float(covered.mean()), float(covered.min())
