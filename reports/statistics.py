"""The statistics that the page quotes: pure numpy, no files, no clock.

Scores of an arm are (seeds, items) with a task code per item. Tasks are fixed and have equal weight; items (within tasks) and
seeds are random. Intervals are conditional on the base model and the pool. Differences are in `difference`, their variance in
`variance`, labels saved in `savings`; all public names are exported from here. docs/STATISTICS.md measures how often intervals
cover and verdicts err.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from reports.difference import (
    EQUIVALENCE_MARGIN,
    Arm,
    Difference,
    Equivalence,
    Pairing,
    Verdict,
    compare,
    equivalence,
    mean_score,
    paired_difference,
    verdict,
)
from reports.savings import Savings, savings
from reports.variance import FloatArray, IntArray, strata

__all__ = [
    "EQUIVALENCE_MARGIN",
    "Arm",
    "Best",
    "CurvePoint",
    "Difference",
    "Equivalence",
    "Pairing",
    "Savings",
    "Verdict",
    "area_under_curve",
    "compare",
    "equivalence",
    "holm",
    "learning_curve",
    "mean_score",
    "not_separable_from_best",
    "paired_difference",
    "savings",
    "seed_means",
    "task_means",
    "verdict",
]


class CurvePoint(NamedTuple):
    """One budget of a learning curve."""

    budget_n: int
    mean: Difference  # macro mean with its interval
    seed_means: FloatArray  # (S,)


class Best(NamedTuple):
    """The arm with the highest mean, and every arm that is not separable from it."""

    best: str
    not_separable: tuple[str, ...]  # without `best`, highest mean first
    can_tell: bool  # False: too few seeds to separate anything, or nothing to separate from
    pairs: tuple[tuple[str, str, Difference, float], ...] = ()  # higher and lower mean, their difference, Holm's p

    @property
    def is_single(self) -> bool:
        """Whether the best separates from every other arm; only then may it be called best."""
        return self.can_tell and not self.not_separable


def seed_means(arm: Arm, tasks: IntArray) -> FloatArray:
    """Return the macro mean of each seed, (S,): tasks have equal weight."""
    return strata(tasks).macro_mean(arm.scores)


def task_means(arm: Arm, tasks: IntArray) -> FloatArray:
    """Return the mean score of each task over items and seeds, in the order of the task codes: (T,).

    For an interval of one of them, use `shared_statistics.wilson`.
    """
    return strata(tasks).means(arm.scores.mean(axis=0))


def learning_curve(arms: Mapping[int, Arm], tasks: IntArray, *, level: float = 0.95) -> tuple[CurvePoint, ...]:
    """Return mean and interval at each budget, smallest first; `arms` maps a budget to its scores.

    Intervals are by budget (`mean_score`), not a band over the whole curve.
    """
    return tuple(
        CurvePoint(budget, mean_score(arms[budget], tasks, level=level), seed_means(arms[budget], tasks))
        for budget in sorted(arms)
    )


def area_under_curve(arms: Mapping[int, Arm], budgets: Sequence[int] | None = None) -> Arm:
    """Return the normalised area under the learning curve on log₂ budget, for each seed and item.

    Trapezoids over `budgets` (default: all), divided by the width, so the area has the unit of the score: a weighted mean of the
    budgets' scores. With one budget it is the score. Only seeds that every budget has are used.

    Source: the area under the learning curve on log₂ labels (Guyon et al., Active Learning Challenge, JMLR W&CP 16, 2011). Ours:
    by seed and item, so that the variance includes what the budgets' scores have in common.
    """
    chosen = sorted(arms if budgets is None else budgets)
    if not chosen:
        raise ValueError("no budget to integrate over; expected at least one that both arms have scores for")
    common = tuple(sorted(set.intersection(*(set(arms[budget].seeds) for budget in chosen))))
    if not common:
        raise ValueError(f"the budgets {chosen} share no seed; an area needs the same seeds at each of them")
    weights = _trapezoid_weights(np.log2(np.asarray(chosen, dtype=np.float64)))
    rows = np.stack([arms[budget].at(common).scores for budget in chosen])
    return Arm(np.tensordot(weights, rows, axes=1), common)


def holm(p_values: Sequence[float]) -> FloatArray:
    """Return Holm's step-down adjusted p-values; NaN stays NaN and does not count as a comparison.

    Pass `Difference.p_value_cautious`: Holm compares with alpha / k, where Satterthwaite's p-values are too small. Holm allows
    any dependence between tests, such as differences from one reference.
    Source: Holm, Scand. J. Statist. 6 (1979) 65.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors)) if len(order) else []
    return adjusted


def not_separable_from_best(arms: Mapping[str, Arm], tasks: IntArray, *, alpha: float = 0.05) -> Best:
    """Return which arms the data cannot separate from the one with the highest mean.

    The data also decide which arm is highest, so p-values are Holm's over all pairs of arms, not only over those with the best: a
    true tie at the top names a best arm in at most `alpha` of the cases.

    Source: Holm (1979) over all pairs, with Banerjee's p-values (`intervals`). Ours, and stricter than multiple comparisons
    with the best (Hsu 1981), which need one common variance.
    """
    if not arms:
        raise ValueError("no arm to compare; expected at least one")
    means = {name: float(seed_means(arm, tasks).mean()) for name, arm in arms.items()}
    ranked = sorted(arms, key=lambda name: (-means[name], name))
    pairs = list(combinations(ranked, 2))
    differences = [compare(arms[first], arms[second], tasks) for first, second in pairs]
    adjusted = holm([difference.p_value_cautious for difference in differences])
    verdicts = {
        second: verdict(difference, float(p_value), alpha)
        for (first, second), difference, p_value in zip(pairs, differences, adjusted, strict=True)
        if first == ranked[0]
    }
    others = tuple(name for name in ranked[1:] if verdicts[name] != "better")
    can_tell = bool(verdicts) and all(word != "too few seeds to say" for word in verdicts.values())
    found = [(*pair, gap, float(p)) for pair, gap, p in zip(pairs, differences, adjusted, strict=True)]
    return Best(ranked[0], others, can_tell, tuple(found))


def _trapezoid_weights(positions: FloatArray) -> FloatArray:
    """Return the weight of each point in the trapezoid rule, summing to 1: (B,)."""
    if len(positions) == 1:
        return np.ones(1)
    widths = np.diff(positions)
    weights = np.zeros(len(positions))
    weights[:-1] += widths / 2
    weights[1:] += widths / 2
    return np.asarray(weights / (positions[-1] - positions[0]), dtype=np.float64)
