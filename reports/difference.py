"""The difference between two arms, with its interval and verdict.

An arm is a matrix of scores by seed and item, for example of one strategy at one budget. This module decides what is random in a
comparison: always the items, and also the seeds if an arm has at least two. `variance` estimates the variance of each part.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from reports import variance
from reports.cautious_p_values import cautious_p_value
from reports.variance import FloatArray, IntArray, Part, Strata

Pairing = Literal["seeds", "fixed", "none"]
Verdict = Literal["better", "worse", "not separable from noise", "too few seeds to say"]

# Half of the gain of 4 points on MMLU that the paper claims: a strategy within this margin of its reference lacks at least half
# of the gain. Half the known effect is usual in non-inferiority trials (FDA guidance, 2016). The margin is a constant, so that
# no experiment file can change it after the scores are known.
EQUIVALENCE_MARGIN = 0.02


class Arm(NamedTuple):
    """Scores of one arm. An arm without seeds is a fixed reference, such as the base model."""

    scores: FloatArray  # (S, I), 0..1; pseudo-values can leave this range
    seeds: tuple[int, ...] = ()  # (S,) training seeds, sorted; empty for a fixed reference with S = 1

    def at(self, seeds: tuple[int, ...]) -> "Arm":
        return Arm(self.scores[[self.seeds.index(seed) for seed in seeds]], seeds)


class Parts(NamedTuple):
    """The parts of the variance of a difference."""

    items: Part
    seeds: tuple[Part, ...]  # one part; two if each arm has its own seeds
    residual: Part
    unseen: Part


class Difference(NamedTuple):
    """A difference (first arm minus second), macro-averaged over tasks, with its uncertainty."""

    estimate: float
    low: float  # NaN if no variance can be estimated
    high: float
    p_value: float  # two-sided test of no difference
    standard_error: float
    df: float
    seeds_n: int  # used seeds of the first arm
    reference_seeds_n: int  # used seeds of the second arm; 0 for a fixed reference
    items_n: int
    tasks_n: int
    has_seed_uncertainty: bool  # False: no arm has two seeds, so the interval leaves out the variance of the seeds
    is_borrowed: bool  # one arm has a single seed, and the other arm's seed variance is used for it
    is_identical: bool  # every score of the two arms is the same
    parts: Parts | None = None  # None: no arm has two seeds
    is_of_runs: bool = False  # both arms are fixed: the question is about these two runs, so no seed is random

    @property
    def has_verdict(self) -> bool:
        """Whether the interval counts all that is random in the question."""
        return self.has_seed_uncertainty or self.is_of_runs

    @property
    def verdict(self) -> Verdict:
        """Verdict without correction for the number of comparisons."""
        return verdict(self)

    @property
    def p_value_cautious(self) -> float:
        """The p-value for `holm`, at least `p_value`. If `parts` is known, it is valid even when very small (Banerjee 1960)."""
        if self.parts is None or not np.isfinite(self.p_value):
            return self.p_value
        return max(self.p_value, cautious_p_value(self.estimate, *self.parts))


class Equivalence(NamedTuple):
    """The result of a test of whether a difference lies within ±margin."""

    margin: float
    p_value: float  # the larger one of the two one-sided tests; NaN if no variance can be estimated
    low: float  # interval at level 1 − 2 alpha; the arms are equivalent if it lies within ±margin
    high: float
    is_shown: bool

    @property
    def verdict(self) -> str:
        """The result as text. "not shown" does not mean that the arms differ."""
        return f"equivalent within ±{self.margin:g}" if self.is_shown else "not shown"


def verdict(difference: Difference, p_adjusted: float | None = None, alpha: float = 0.05) -> Verdict:
    """Return the verdict of a two-sided test at `alpha`. If given, `p_adjusted` (such as Holm's) replaces `difference.p_value`.

    Our rule: if the p-value is NaN, or if seeds are random and no arm has two, the verdict is "too few seeds to say".
    """
    p_value = difference.p_value if p_adjusted is None else p_adjusted
    if not difference.has_verdict or not np.isfinite(p_value):
        return "too few seeds to say"
    if p_value >= alpha or difference.is_identical:
        return "not separable from noise"
    return "better" if difference.estimate > 0 else "worse"


def equivalence(difference: Difference, margin: float = EQUIVALENCE_MARGIN, alpha: float = 0.05) -> Equivalence:
    """Test whether the difference lies within ±margin (in units of the score), by two one-sided t tests, each at `alpha`.

    If seeds are random and no arm has two, equivalence is never shown, because the interval leaves out their variance. The
    estimated variance is above 0 even if all differences are 0 (see `variance.unseen_part`). So identical scores are shown to be
    equivalent only on about 150 items or more (with the default margin and `alpha`).
    Source: Schuirmann, J. Pharmacokin. Biopharm. 15 (1987) 657. Our choice: variance and df of `paired_difference`.
    Raise ValueError if `margin` is not above 0.

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
    is_shown = difference.has_verdict and p_value < alpha
    return Equivalence(margin, p_value, difference.estimate - reach, difference.estimate + reach, is_shown)


def paired_difference(
    a: FloatArray,  # (S, I) scores of the arm, or (I,) for one seed
    b: FloatArray,  # (S', I) scores of the reference, or (I,)
    tasks: IntArray,  # (I,) task code per item
    *,
    pairing: Pairing = "seeds",
    level: float = 0.95,
) -> Difference:
    """Return the macro mean over tasks of a − b, with an interval over items and, if an arm has at least two seeds, over seeds.

    Items are always paired. `pairing` defines which seeds the rows of `a` and `b` have:

    - "seeds": row s of both arms has the same seed (S = S').
    - "fixed": b is one row and does not depend on a seed.
    - "none": the seeds of the two arms are independent. If only one arm has several rows, its seed variance is used for both.

    Source: two-way random effects with Satterthwaite's t (see `variance`); pairing by item as in Miller (arXiv:2411.00640). Our
    addition: seeds are a second sample. Pooling all items × seeds as independent values gives intervals that are too narrow.
    Raise ValueError if a shape does not fit `tasks` or `pairing`, or if a score is not finite.

    >>> tasks = np.array([0, 0, 1, 1])
    >>> paired_difference(np.array([[1.0, 0, 1, 1], [1, 1, 1, 0]]), np.zeros((2, 4)), tasks).estimate
    0.75
    """
    first, second, groups = _rows(a, "a", tasks), _rows(b, "b", tasks), variance.strata(tasks)
    if pairing == "fixed" and len(second) != 1:
        raise ValueError(f"a fixed reference has one row of scores, b has {len(second)}")
    if pairing == "seeds" and len(first) != len(second):
        raise ValueError(f"a has {len(first)} seeds and b {len(second)}; give common seeds, or pairing='none'")
    item_differences = first.mean(axis=0) - second.mean(axis=0)
    items, unseen = variance.item_part(item_differences, groups), variance.unseen_part(item_differences, groups)
    parts = _parts(items, unseen, first, second, groups, pairing)
    known = items if parts is None else variance.total(items, variance.add(*parts.seeds), parts.residual)
    whole = variance.with_unseen(known, unseen)
    estimate = float(groups.macro_mean(item_differences))
    counts = len(first), 0 if pairing == "fixed" else len(second), len(tasks), groups.tasks_n
    return Difference(
        estimate,
        *interval_of(estimate, whole, level),
        float(np.sqrt(whole.variance)),
        whole.df,
        *counts,
        has_seed_uncertainty=parts is not None,
        is_borrowed=pairing == "none" and min(len(first), len(second)) == 1 < max(len(first), len(second)),
        is_identical=np.array_equal(first, second),
        parts=parts,
    )


def compare(a: Arm, b: Arm, tasks: IntArray, *, level: float = 0.95) -> Difference:
    """Return `paired_difference` with a pairing that depends on the arms' seeds. The rule is ours.

    - One arm is a fixed reference: pairing "fixed". If both are, the question is about these two runs (`is_of_runs`).
    - Two or more common seeds, or the same single seed: pairing "seeds" on the common seeds. The other seeds are not used.
    - Otherwise: pairing "none".
    """
    if not b.seeds:
        return paired_difference(a.scores, b.scores, tasks, pairing="fixed", level=level)._replace(
            is_of_runs=not a.seeds
        )
    if not a.seeds:
        flipped = paired_difference(b.scores, a.scores, tasks, pairing="fixed", level=level)
        return flipped._replace(estimate=-flipped.estimate, low=-flipped.high, high=-flipped.low)
    common = tuple(sorted(set(a.seeds) & set(b.seeds)))
    if len(common) >= 2 or (a.seeds == b.seeds):
        return paired_difference(a.at(common).scores, b.at(common).scores, tasks, level=level)
    return paired_difference(a.scores, b.scores, tasks, pairing="none", level=level)


def mean_score(arm: Arm, tasks: IntArray, *, level: float = 0.95) -> Difference:
    """Return the macro mean of one arm. Its interval is cut to 0..1 if all scores are in 0..1.

    For a single small task with a mean near 0 or 1, use `shared_statistics.wilson` instead.
    """
    mean = paired_difference(arm.scores, np.zeros((1, len(tasks))), tasks, pairing="fixed", level=level)
    if arm.scores.min() < 0 or arm.scores.max() > 1:  # pseudo-values of win rates at equal length
        return mean._replace(is_identical=False)
    low, high = np.clip((mean.low, mean.high), 0.0, 1.0).tolist()  # NaN stays NaN
    return mean._replace(low=low, high=high, is_identical=False)


def _parts(
    items: Part, unseen: Part, first: FloatArray, second: FloatArray, groups: Strata, pairing: Pairing
) -> Parts | None:
    known = [scores for scores in ((first, second) if pairing == "none" else (first - second,)) if len(scores) > 1]
    if not known:
        return None
    seeds = [variance.seed_part(scores, groups) for scores in known]
    residuals = [variance.residual_part(scores, groups) for scores in known]
    if pairing != "none":
        return Parts(items, tuple(seeds), residuals[0], unseen)
    if len(known) == 1:  # assume that the other arm's single seed varies as much as one seed of this arm
        factor = len(known[0])
        seeds = [Part(seeds[0].variance * (1 + factor), seeds[0].df)]
        residuals = [Part(residuals[0].variance * (1 + factor), residuals[0].df)]
    return Parts(items, tuple(seeds), variance.add(*residuals), unseen)


def interval_of(estimate: float, whole: Part, level: float) -> tuple[float, float, float]:
    """Return the low end, the high end and the two-sided p-value of a t interval; three NaN if the variance is not known."""
    if not np.isfinite(whole.variance):
        return float("nan"), float("nan"), float("nan")
    error = float(np.sqrt(whole.variance))
    reach = float(stdtrit(whole.df, 0.5 + level / 2)) * error
    return estimate - reach, estimate + reach, float(2 * stdtr(whole.df, -abs(estimate) / error))


def _rows(scores: FloatArray, name: str, tasks: IntArray) -> FloatArray:
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != len(tasks) or len(rows) == 0:
        raise ValueError(
            f"{name} has shape {rows.shape}; expected (seeds, {len(tasks)}), one column per entry of tasks"
        )
    if unknown_n := int((~np.isfinite(rows)).sum()):
        raise ValueError(f"{name} has {unknown_n} scores that are not numbers; keep the items that all arms have")
    return rows
