"""The statistics of the page, as pure functions of arrays. This module also exports names of `difference` and `savings`.

The scores of an arm have the shape (seeds, items), with a task code for each item. Tasks are fixed and have equal weight. Items
(within tasks) and seeds are random. Intervals are conditional on the base model and the pool. docs/STATISTICS.md has measured
coverage and error rates.
"""

from collections.abc import Mapping, Sequence
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
    "CurvePoint",
    "Difference",
    "Equivalence",
    "Leader",
    "Pairing",
    "Savings",
    "Verdict",
    "area_under_curve",
    "compare",
    "equivalence",
    "holm",
    "learning_curve",
    "mean_score",
    "paired_difference",
    "savings",
    "seed_means",
    "task_means",
    "tied_with_leader",
    "verdict",
]


class CurvePoint(NamedTuple):
    """One budget of a learning curve."""

    budget_n: int
    mean: Difference  # macro mean with its interval
    seed_means: FloatArray  # (S,)


class Leader(NamedTuple):
    """The arm with the highest mean at one budget, and its tied set: all arms that are not shown to differ from the leader."""

    name: str
    tied: tuple[str, ...]  # without the leader, highest mean first
    can_tell: bool  # False: too few seeds, or only one arm
    pairs: tuple[
        tuple[str, Difference, float], ...
    ] = ()  # other arm, leader minus other arm, corrected p; highest mean first

    @property
    def is_single(self) -> bool:
        """Whether the leader is separable from all other arms. The page calls only such an arm best."""
        return self.can_tell and not self.tied


def seed_means(arm: Arm, tasks: IntArray) -> FloatArray:
    """Return for each seed the macro mean over tasks: (S,)."""
    return strata(tasks).macro_mean(arm.scores)


def task_means(arm: Arm, tasks: IntArray) -> FloatArray:
    """Return the mean score of each task over items and seeds, in the order of the task codes: (T,)."""
    return strata(tasks).means(arm.scores.mean(axis=0))


def learning_curve(arms: Mapping[int, Arm], tasks: IntArray, *, level: float = 0.95) -> tuple[CurvePoint, ...]:
    """Return mean and interval at each budget, smallest first. The intervals are not a simultaneous band for the curve."""
    return tuple(
        CurvePoint(budget, mean_score(arms[budget], tasks, level=level), seed_means(arms[budget], tasks))
        for budget in sorted(arms)
    )


def area_under_curve(arms: Mapping[int, Arm], budgets: Sequence[int] | None = None) -> Arm:
    """Return the area under the learning curve for each seed and item, divided by the range of the log₂ budgets.

    By the trapezoid rule over `budgets` (default: all), this is a weighted mean of the scores at the budgets. Only seeds that all
    these budgets have are used.
    Source: Guyon et al., Active Learning Challenge, JMLR W&CP 16 (2011). Our change: the area is by seed and item, so that its
    variance includes the correlation between budgets.

    Raises:
        ValueError: there is no budget, or the budgets have no common seed.
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
    """Return Holm's step-down adjusted p-values. NaN stays NaN and does not count as a comparison.

    Use `Difference.p_value_cautious` as input. Holm compares p-values with alpha / k, where k is at most their number,
    and Satterthwaite's t makes such small p-values too small. The tests may depend on each other in any way.
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


def tied_with_leader(arms: Mapping[str, Arm], tasks: IntArray, *, alpha: float = 0.05) -> Leader:
    """Return the leader (the arm with the highest mean), and the arms that are not shown to differ from it.

    The same data select the leader, so its p-values are multiplied by the number of other arms (Bonferroni). An arm that is truly
    best is then left out in at most `alpha` / 2 of the cases, because any of the others could be the leader that excludes it. If
    two arms are truly equal at the top, one is called best in at most `alpha` of the cases. The tests may depend on each other in
    any way. Source: subset selection (Gupta, Technometrics 7 (1965) 225). Our changes: paired tests with p-values by Banerjee
    (`cautious_p_values`), because multiple comparisons with the best (Hsu 1981) need one common variance. Arms with exactly
    equal means are ordered by name.

    Raises:
        ValueError: there is no arm.
    """
    if not arms:
        raise ValueError("no arm to compare; expected at least one")
    common = tuple(sorted(set.intersection(*(set(arm.seeds) for arm in arms.values()))))
    means = {name: _mean(arm.at(common) if common else arm, tasks) for name, arm in arms.items()}
    ranked = sorted(arms, key=lambda name: (-means[name], name))
    pairs = _against(ranked, arms, tasks)
    # Two arms are compared on the seeds that both have, which can be more than those of all arms, and may show another leader.
    for _ in ranked:
        ahead = [name for name, gap, p in pairs if verdict(gap, p, alpha) == "worse"]
        if not ahead:
            break
        ranked = [ahead[0], *(name for name in ranked if name != ahead[0])]
        pairs = _against(ranked, arms, tasks)
    leader, *others = ranked
    verdicts = {name: verdict(gap, p, alpha) for name, gap, p in pairs}
    can_tell = bool(verdicts) and "too few seeds to say" not in verdicts.values()
    return Leader(leader, tuple(name for name in others if verdicts[name] != "better"), can_tell, pairs)


def _mean(arm: Arm, tasks: IntArray) -> float:
    return float(seed_means(arm, tasks).mean())


def _against(
    ranked: Sequence[str], arms: Mapping[str, Arm], tasks: IntArray
) -> tuple[tuple[str, Difference, float], ...]:
    """Compare the first arm with each other one. p-values are multiplied by the number of the others."""
    leader, *others = ranked
    gaps = [compare(arms[leader], arms[name], tasks) for name in others]
    return tuple(
        (name, gap, float(np.minimum(1.0, gap.p_value_cautious * len(others))))
        for name, gap in zip(others, gaps, strict=True)
    )


def _trapezoid_weights(positions: FloatArray) -> FloatArray:
    """Return the weights of the points, (B,), in the trapezoid rule. The weights sum to 1."""
    if len(positions) == 1:
        return np.ones(1)
    halves = np.diff(positions) / 2
    weights = np.append(halves, 0) + np.append(0, halves)
    return np.asarray(weights / (positions[-1] - positions[0]), dtype=np.float64)
