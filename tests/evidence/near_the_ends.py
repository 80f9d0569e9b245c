"""Hard cases for the report's intervals: scores near 0 or 1, seeds that fail, and a wrongly borrowed seed variance.

The functions draw right-or-wrong scores (in the last two cases, the lab's noise) with a known truth, and count with the
functions of the report. `coverage` defines the numbers of draws and writes the page.
"""

from typing import NamedTuple

import numpy as np

from reports import statistics
from reports.statistics import EQUIVALENCE_MARGIN, Arm, Difference
from tests.evidence.drawn_scores import FloatArray, IntArray
from tests.evidence.simulations import LAB_NOISE, Share, share

DESIGNS = ((2, 5), (5, 10), (20, 50))  # tasks × items of each
LEVELS = (0.5, 0.9, 0.99, 0.999)
SEEDS_N = (1, 3, 5)
ALIKE = (0.0, 0.5, 1.0)  # share of items that every seed answers alike; the others are answered by each seed for itself
MARGIN_LEVELS = (0.5, 0.9, 0.99, 1.0)  # of the better arm; the other is the margin below
COLLAPSED_IN = 0.3  # share of training runs
DEPTHS = (0.05, 0.1, 0.2, 0.4)  # how far a collapsed run scores below the others
VARIANCE_RATIOS = (1.0, 4.0)  # of the single run's seed effects to those that it borrows


class Near(NamedTuple):
    """Means at one level, by one design, for one number of seeds."""

    level: float
    design: tuple[int, int]
    seeds_n: int
    covered: tuple[Share, ...]  # one for each of ALIKE; only one with one seed, where all are equal


class AtMargin(NamedTuple):
    """Two arms whose true difference is the margin. Both are near `level`."""

    level: float
    design: tuple[int, int]
    seeds_n: int
    covered: tuple[Share, ...]  # one for each of ALIKE
    equivalent: tuple[Share, ...]  # wrongly shown


def near(level: float, design: tuple[int, int], seeds_n: int, draws_n: int, generator: np.random.Generator) -> Near:
    """Return the coverage of the mean of one arm whose items are right with probability `level`."""
    tasks = _tasks(design)
    covered = []
    for alike in ALIKE[-1:] if seeds_n == 1 else ALIKE:
        means = (_arm(_ranks(alike, seeds_n, len(tasks), generator) < level) for _ in range(draws_n))
        covered.append(share([_holds(statistics.mean_score(arm, tasks), level) for arm in means]))
    return Near(level, design, seeds_n, tuple(covered))


def at_margin(
    level: float, design: tuple[int, int], seeds_n: int, draws_n: int, generator: np.random.Generator
) -> AtMargin:
    """Return coverage and wrong equivalence of a difference. An item that all seeds answer alike is equally hard for both."""
    tasks = _tasks(design)
    covered, equivalent = [], []
    for alike in ALIKE:
        gaps = []
        for _ in range(draws_n):
            first, second = _ranks(alike, 2 * seeds_n, len(tasks), generator).reshape(2, seeds_n, -1)
            gaps.append(statistics.compare(_arm(first < level), _arm(second < level - EQUIVALENCE_MARGIN), tasks))
        covered.append(share([_holds(gap, EQUIVALENCE_MARGIN) for gap in gaps]))
        equivalent.append(share([statistics.equivalence(gap).is_shown for gap in gaps]))
    return AtMargin(level, design, seeds_n, tuple(covered), tuple(equivalent))


def collapsing(depth: float, seeds_n: int, draws_n: int, generator: np.random.Generator) -> Share:
    """Return the coverage of the difference from a steady arm. In 30% of the other arm's runs, all scores are `depth` lower."""
    tasks, truth = _tasks((24, 40)), -COLLAPSED_IN * depth
    gaps = []
    for _ in range(draws_n):
        first, second = _noise(2, seeds_n, tasks, generator)
        first = first - depth * (generator.random((seeds_n, 1)) < COLLAPSED_IN)
        gaps.append(statistics.compare(_arm(first), _arm(second), tasks))
    return share([_holds(gap, truth) for gap in gaps])


def borrowing(ratio: float, seeds_n: int, draws_n: int, generator: np.random.Generator) -> Share:
    """Return the coverage of the difference from a single run. Its seed variance is `ratio` times that of the other runs."""
    tasks, gaps = _tasks((24, 40)), []
    for _ in range(draws_n):
        many, one = (_noise(1, n, tasks, generator, factor)[0] for n, factor in ((seeds_n, 1.0), (1, ratio**0.5)))
        gaps.append(statistics.compare(_arm(many), Arm(one, (seeds_n,)), tasks))
    return share([_holds(gap, 0.0) for gap in gaps])


def _tasks(design: tuple[int, int]) -> IntArray:
    return np.repeat(np.arange(design[0]), design[1])


def _ranks(alike: float, rows_n: int, items_n: int, generator: np.random.Generator) -> FloatArray:
    """Return uniform draws (rows, items). An answer is right if its draw is below the level. Alike items share one draw."""
    own = generator.random((rows_n, items_n))
    return np.where(generator.random(items_n) < alike, own[0], own)


def _noise(
    arms_n: int, seeds_n: int, tasks: IntArray, generator: np.random.Generator, factor: float = 1.0
) -> FloatArray:
    """Return the lab's noise at one budget, (arms, seeds, items), with seed effects times `factor`, and without item effects."""
    _, seed, seed_task, rest = LAB_NOISE
    shape = (arms_n, seeds_n)
    by_task = generator.normal(0, factor * seed_task, (*shape, 24))[..., tasks]
    whole = generator.normal(0, factor * seed, (*shape, 1)) + by_task
    return np.asarray(whole + generator.normal(0, rest, (*shape, len(tasks))))


def _arm(scores: FloatArray) -> Arm:
    return Arm(np.asarray(scores, dtype=np.float64), tuple(range(len(scores))))


def _holds(gap: Difference, truth: float) -> bool:
    """Return whether an interval contains the truth, up to rounding errors of sums in another order."""
    return gap.low - 1e-12 <= truth <= gap.high + 1e-12
