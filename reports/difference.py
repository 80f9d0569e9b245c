"""The difference between two arms, with its interval and its verdict in words.

An arm is one strategy at one budget (or the base, or an area under a curve): scores by seed and item. Here is decided what is
random in a comparison. The variance comes from `variance`, curves from `statistics`.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from reports import variance
from reports.cautious_p_values import cautious_p_value
from reports.variance import FloatArray, IntArray, Part, Strata

Pairing = Literal["seeds", "fixed", "none"]
Verdict = Literal["better", "worse", "not separable from noise", "too few seeds to say"]

# Half of the 4 points of MMLU that the paper claims: a strategy that is closer than that to its reference lacks at least
# half of the claimed effect. (Half the known effect is the usual margin of non-inferiority trials: FDA guidance, 2016.)
# A constant, so that no experiment file can choose it after seeing the scores.
EQUIVALENCE_MARGIN = 0.02


class Arm(NamedTuple):
    """Scores of one arm. Without seeds it is a fixed reference, such as the base model."""

    scores: FloatArray  # (S, I), 0..1
    seeds: tuple[int, ...] = ()  # (S,) training seeds, sorted; empty for a fixed reference with S = 1

    def at(self, seeds: tuple[int, ...]) -> "Arm":
        """Return the arm with these seeds only."""
        return Arm(self.scores[[self.seeds.index(seed) for seed in seeds]], seeds)


class Parts(NamedTuple):
    """The parts of the variance of a difference."""

    items: Part
    seeds: tuple[Part, ...]  # one; two where the arms have seeds of their own
    residual: Part
    unseen: Part


class Difference(NamedTuple):
    """A macro mean of differences (first arm minus second) with its uncertainty."""

    estimate: float
    low: float  # NaN where no variance can be estimated
    high: float
    p_value: float  # two-sided, of no difference
    standard_error: float
    df: float
    seeds_n: int  # of the first arm, as used
    reference_seeds_n: int  # of the second; 0 for a fixed reference
    items_n: int
    tasks_n: int
    has_seed_uncertainty: bool  # False: one seed, the interval counts items only
    is_borrowed: bool  # one arm has a single seed and takes the seed variance of the other
    is_identical: bool  # every score of the two arms is the same
    parts: Parts | None = None  # None: the interval counts items only

    @property
    def verdict(self) -> Verdict:
        """The verdict without correction for the number of comparisons."""
        return verdict(self)

    @property
    def p_value_cautious(self) -> float:
        """The p-value for `holm`: never below `p_value`, and valid far out in the tail (Banerjee 1960)."""
        if self.parts is None or not np.isfinite(self.p_value):
            return self.p_value
        return max(self.p_value, cautious_p_value(self.estimate, *self.parts))


class Equivalence(NamedTuple):
    """Whether a difference is shown to be smaller than a margin."""

    margin: float
    p_value: float  # of the two one-sided tests, the larger; NaN where no variance can be estimated
    low: float  # interval at level 1 − 2 alpha: equivalent where it lies within ±margin
    high: float
    is_shown: bool

    @property
    def verdict(self) -> str:
        """The result in words; "not shown" is evidence neither against equivalence nor for a difference."""
        return f"equivalent within ±{self.margin:g}" if self.is_shown else "not shown"


def verdict(difference: Difference, p_adjusted: float | None = None, alpha: float = 0.05) -> Verdict:
    """Return a verdict in words; `p_adjusted` (for instance by Holm) replaces the difference's own p-value.

    Source: a two-sided test at `alpha`. Ours: no verdict from one seed, but "too few seeds to say".
    """
    p_value = difference.p_value if p_adjusted is None else p_adjusted
    if not difference.has_seed_uncertainty or not np.isfinite(p_value):
        return "too few seeds to say"
    if p_value >= alpha or difference.is_identical:
        return "not separable from noise"
    return "better" if difference.estimate > 0 else "worse"


def equivalence(difference: Difference, margin: float = EQUIVALENCE_MARGIN, alpha: float = 0.05) -> Equivalence:
    """Test whether the difference is within ±margin: two one-sided t tests, each at `alpha`.

    `margin` is in the unit of the score, above 0. One seed never shows equivalence, because its interval counts items only.
    Source: Schuirmann, J. Pharmacokin. Biopharm. 15 (1987) 657, without correction for the number of comparisons, as for the
    interval. Ours: the variance and df of `paired_difference`. That variance is above 0 even if all differences are 0, so two
    arms that agree on few items are not shown to be equivalent; on about 150 items or more they are.

    >>> same = np.ones((2, 4))
    >>> equivalence(paired_difference(same, same, np.array([0, 0, 1, 1]))).verdict
    'not shown'
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin!r}; expected a score above 0, such as {EQUIVALENCE_MARGIN}")
    error = difference.standard_error
    if not np.isfinite(error):
        return Equivalence(margin, float("nan"), float("nan"), float("nan"), False)
    room = margin - abs(difference.estimate)
    p_value = float(stdtr(difference.df, -room / error))
    reach = float(stdtrit(difference.df, 1 - alpha)) * error
    is_shown = difference.has_seed_uncertainty and p_value < alpha
    return Equivalence(margin, p_value, difference.estimate - reach, difference.estimate + reach, is_shown)


def paired_difference(
    a: FloatArray,  # (S, I) scores of the arm, or (I,) for one seed
    b: FloatArray,  # (S', I) scores of the reference, or (I,)
    tasks: IntArray,  # (I,) task code per item
    *,
    pairing: Pairing = "seeds",
    level: float = 0.95,
) -> Difference:
    """Return the macro mean over tasks of a − b, with an interval that counts items and seeds.

    Items are always paired. `pairing` says what the rows are. "seeds": row s of both arms is the same seed (S = S'). "fixed": b
    is one row that no seed redraws. "none": each arm has its own seeds; an arm with one row then takes the seed variance of the
    other, and `is_borrowed` says so. With one seed in total the interval counts items only.

    Source: two-way random effects, Satterthwaite t (see `variance`); pairing by item as in Miller, "Adding Error Bars to Evals"
    (arXiv:2411.00640). Ours: seeds as a second sample. Pooling items × seeds as if independent gives too narrow intervals.

    >>> tasks = np.array([0, 0, 1, 1])
    >>> paired_difference(np.array([[1.0, 0, 1, 1], [1, 1, 1, 0]]), np.zeros((2, 4)), tasks).estimate
    0.75
    """
    first, second = _rows(a, "a", tasks), _rows(b, "b", tasks)
    groups = variance.strata(tasks)
    if pairing == "fixed" and len(second) != 1:
        raise ValueError(f"a fixed reference has one row of scores, b has {len(second)}")
    if pairing == "seeds" and len(first) != len(second):
        raise ValueError(f"a has {len(first)} seeds and b {len(second)}; give common seeds, or pairing='none'")
    item_differences = first.mean(axis=0) - second.mean(axis=0)
    items, unseen = variance.item_part(item_differences, groups), variance.unseen_part(item_differences, groups)
    is_borrowed = pairing == "none" and min(len(first), len(second)) == 1 < max(len(first), len(second))
    parts = _parts(items, unseen, first, second, groups, pairing)
    whole = variance.with_unseen(items, unseen) if parts is None else _total(parts)
    estimate = float(groups.macro_mean(item_differences))
    low, high, p_value = interval_of(estimate, whole, level)
    return Difference(
        estimate,
        low,
        high,
        p_value,
        float(np.sqrt(whole.variance)),
        whole.df,
        len(first),
        0 if pairing == "fixed" else len(second),
        len(tasks),
        groups.tasks_n,
        has_seed_uncertainty=parts is not None,
        is_borrowed=is_borrowed,
        is_identical=_is_identical(first, second),
        parts=parts,
    )


def compare(a: Arm, b: Arm, tasks: IntArray, *, level: float = 0.95) -> Difference:
    """Return `paired_difference` with the pairing that the arms' seeds allow.

    Two or more common seeds: paired on those, without the others. A fixed reference: no seeds there. One common seed and no
    other: items only. Else the seeds are independent. The rule is ours.
    """
    if not b.seeds:
        return paired_difference(a.scores, b.scores, tasks, pairing="fixed", level=level)
    if not a.seeds:
        flipped = paired_difference(b.scores, a.scores, tasks, pairing="fixed", level=level)
        return flipped._replace(estimate=-flipped.estimate, low=-flipped.high, high=-flipped.low)
    common = tuple(sorted(set(a.seeds) & set(b.seeds)))
    if len(common) >= 2 or (a.seeds == b.seeds):
        return paired_difference(a.at(common).scores, b.at(common).scores, tasks, level=level)
    return paired_difference(a.scores, b.scores, tasks, pairing="none", level=level)


def mean_score(arm: Arm, tasks: IntArray, *, level: float = 0.95) -> Difference:
    """Return the macro mean of one arm with its interval: the difference from a fixed zero, cut to 0..1.

    Source: `paired_difference`. For a single small task near 0 or 1 use Wilson's interval (`shared_statistics.wilson`).
    """
    zero = np.zeros((1, len(tasks)))
    mean = paired_difference(arm.scores, zero, tasks, pairing="fixed", level=level)
    if arm.scores.min() < 0 or arm.scores.max() > 1:  # pseudo-values of length control
        return mean._replace(is_identical=False)
    low, high = np.clip((mean.low, mean.high), 0.0, 1.0).tolist()  # an end that cannot be estimated stays NaN
    return mean._replace(low=low, high=high, is_identical=False)


def _parts(
    items: Part, unseen: Part, first: FloatArray, second: FloatArray, groups: Strata, pairing: Pairing
) -> Parts | None:
    if pairing != "none":
        differences = first - second
        if len(differences) < 2:
            return None
        seed, residual = variance.seed_part(differences, groups), variance.residual_part(differences, groups)
        return Parts(items, (seed,), residual, unseen)
    known = [scores for scores in (first, second) if len(scores) > 1]
    if not known:
        return None
    seeds = [variance.seed_part(scores, groups) for scores in known]
    residuals = [variance.residual_part(scores, groups) for scores in known]
    if len(known) == 1:  # the other arm's single seed is taken to vary as much as one seed of this arm
        factor = len(known[0])
        seeds = [Part(seeds[0].variance * (1 + factor), seeds[0].df)]
        residuals = [Part(residuals[0].variance * (1 + factor), residuals[0].df)]
    return Parts(items, tuple(seeds), variance.add(*residuals), unseen)


def _total(parts: Parts) -> Part:
    return variance.with_unseen(variance.total(parts.items, variance.add(*parts.seeds), parts.residual), parts.unseen)


def interval_of(estimate: float, whole: Part, level: float) -> tuple[float, float, float]:
    """Return low end, high end and two-sided p-value of a t interval."""
    if not np.isfinite(whole.variance):
        return float("nan"), float("nan"), float("nan")
    error = float(np.sqrt(whole.variance))
    reach = float(stdtrit(whole.df, 0.5 + level / 2)) * error
    return estimate - reach, estimate + reach, float(2 * stdtr(whole.df, -abs(estimate) / error))


def _is_identical(first: FloatArray, second: FloatArray) -> bool:
    return first.shape == second.shape and bool(np.array_equal(first, second))


def _rows(scores: FloatArray, name: str, tasks: IntArray) -> FloatArray:
    """Return scores as (S, I) float64; reject other shapes and NaN."""
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != len(tasks) or len(rows) == 0:
        raise ValueError(
            f"{name} has shape {rows.shape}; expected (seeds, {len(tasks)}), one column per entry of tasks"
        )
    if not np.isfinite(rows).all():
        raise ValueError(
            f"{name} has {int((~np.isfinite(rows)).sum())} scores that are not numbers; "
            "keep the items that all arms have"
        )
    return rows
