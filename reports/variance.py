"""The variance of a mean score under random items and random seeds.

Every seed has a score for every item. Tasks are fixed and have equal weight. The model is
d[s, i] = task + item_i + seed_s + (seed × task)_st + rest_si, with weights w_i = 1 / (T · n_t):

    part      estimator                              expected value
    items     Σ_t s²_t(item means) / (T² n_t)        variance from items + rest / S
    seeds     var_s(seed means) / S                  variance from seeds + rest / S
    residual  Σ_t MS_t(interaction) / (T² n_t S)     rest / S

So items + seeds − residual estimates the variance of the mean. Source: the two-way random-effects analysis of variance
(crossed, one observation in each cell). Our additions: tasks as strata, the lower bound in `total`, and `unseen_part`.
docs/STATISTICS.md has the measured coverage of the intervals.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtridf, stdtrit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# With four or more seeds, a variance of the seeds below the residual is taken as no seed effect. With three seeds this evidence
# is too weak: it occurs in 18% of experiments in which seeds cause four fifths of the variance. The 95% intervals would then
# cover .926 with three seeds, and .87 with two.
SEEDS_DF_TO_LEAVE_OUT = 3
# With fewer seeds, Satterthwaite's degrees of freedom (df) are too uncertain. So a tenth of the inverse df is that of the seeds.
# With three seeds that dominate and little item noise, 95% intervals covered .923 without this rule, and .931 with it.
HELD_BACK = 0.1
# If no item of n fails, the failure rate may still be 3 / n, the "rule of three" (Hanley & Lippman-Hand, JAMA 249 (1983) 1743).
UNSEEN_ITEMS_N = 3.0
# The effect of an unseen item is estimated from the sampled items plus this many items that deviate by 1. With 0.5, intervals
# cover .94 with ten items, and the variance of 24 tasks with 40 items each grows by 0.1%.
UNLIKE_ITEMS_N = 0.5
ROUNDING = 1e-12  # a variance below this share of the residual is a rounding error of equal means


class Part(NamedTuple):
    """A variance of the mean, and the degrees of freedom (df) of its estimate; df is 0 if there is no estimate."""

    variance: float
    df: float


class Strata(NamedTuple):
    """Items grouped by task, for fast sums over tasks."""

    order: IntArray  # (I,) positions that sort the items by task
    starts: IntArray  # (T,) first position of each task in that order
    sizes: IntArray  # (T,) items per task
    of_item: IntArray  # (I,) 0..T-1, the task of each item
    is_sorted: bool  # the items are already sorted by task

    @property
    def tasks_n(self) -> int:
        return len(self.sizes)

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sum over the items of each task: (..., I) → (..., T)."""
        by_task = values if self.is_sorted else values[..., self.order]
        return np.asarray(np.add.reduceat(by_task, self.starts, axis=-1), dtype=np.float64)

    def means(self, values: FloatArray) -> FloatArray:
        """Return the mean over the items of each task: (..., I) → (..., T)."""
        return self.sums(values) / self.sizes

    def macro_mean(self, values: FloatArray) -> FloatArray:
        """Return the mean over tasks of the tasks' means over items: (..., I) → (...)."""
        return np.asarray(self.means(values).mean(axis=-1))


def strata(tasks: IntArray) -> Strata:
    """Group items by task code (any integers). The result is cached, because thousands of comparisons use the same groups.

    Raise ValueError if `tasks` is not one-dimensional or has no item.
    """
    if tasks.ndim != 1 or len(tasks) == 0:
        raise ValueError(f"tasks has shape {tasks.shape}; expected (items,) with at least one item")
    return _strata(np.ascontiguousarray(tasks, dtype=np.int64).tobytes())


@lru_cache(maxsize=8)
def _strata(codes: bytes) -> Strata:
    _, of_item, sizes = np.unique(np.frombuffer(codes, dtype=np.int64), return_inverse=True, return_counts=True)
    order = np.argsort(of_item, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    is_sorted = bool((np.diff(of_item) >= 0).all())
    return Strata(order, starts.astype(np.int64), sizes.astype(np.int64), of_item.astype(np.int64), is_sorted)


def item_part(item_means: FloatArray, groups: Strata) -> Part:
    """Return the variance of the macro mean that comes from sampling items within tasks.

    If every task has one item, all items are one stratum. The variance then includes the differences between tasks, so intervals
    are too wide rather than too narrow. Source: variance of a stratified mean, without finite population correction (Cochran,
    Sampling Techniques, 1977, ch. 5). Our addition: a task with one item has the pooled variance of the other tasks.
    The variance is NaN with fewer than two items.
    """
    if len(item_means) < 2:
        return Part(float("nan"), 0.0)
    deviations, strata_used = _within(item_means, groups)
    return stratified(strata_used.sums(deviations**2), strata_used.sizes - 1, strata_used.sizes)


def unseen_part(item_means: FloatArray, groups: Strata) -> Part:
    """Return the variance that items unlike all sampled items may add. With it, an interval has a width even if all items agree.

    The result is the variance of `UNSEEN_ITEMS_N` unseen items. Each shifts the macro mean by the skewness of the sampled items,
    Σ w³e³ / Σ w²e² (e: deviation from the task's mean, w: weight of an item). For a mean near 0 or 1, the shift is the weight of
    one item. For a mean in the middle, the shift is almost 0. If no item deviates, the shift is the weight of an item whose score
    changes by 1. The variance is NaN with fewer than two items.

    Source: for a binomial share near 1, the interval agrees with one-sided exact 95% limits, as with the added counts of Agresti
    & Coull (Am. Stat. 52 (1998) 119). For paired differences, Bonett & Price (J. Educ. Behav. Stat. 37 (2012) 479) add 2 items
    and we add 3. Our choice is the shift by skewness, which leaves the variance of ordinary scores almost unchanged.
    """
    if len(item_means) < 2:
        return Part(float("nan"), 0.0)
    deviations, strata_used = _within(item_means, groups)
    return unseen_part_of(strata_used.sums(deviations**2), strata_used.sums(deviations**3), strata_used.sizes)


def unseen_part_of(squares: FloatArray, cubes: FloatArray, sizes: IntArray) -> Part:
    """Return `unseen_part` from the sums of squares and cubes within each task, (T,). Some task must have two items."""
    return Part(float(unseen_rows(squares, cubes, sizes)), float((sizes - 1).sum()))


def unseen_rows(squares: FloatArray, cubes: FloatArray, sizes: IntArray) -> FloatArray:
    """Return the variances of `unseen_part_of` for many rows of sums at once: (..., T) → (...)."""
    weights = 1 / (len(sizes) * sizes)
    one = float(weights.mean())  # weight of an item, averaged over tasks
    skewed = np.abs((weights**3 * cubes).sum(axis=-1)) + UNLIKE_ITEMS_N * one**3
    size = skewed / ((weights**2 * squares).sum(axis=-1) + UNLIKE_ITEMS_N * one**2)
    return np.asarray(UNSEEN_ITEMS_N * size**2, dtype=np.float64)


def with_unseen(whole: Part, unseen: Part) -> Part:
    """Return the sum of a variance and the variance of unseen items.

    The degrees of freedom (df) give Banerjee's 95% interval (Sankhyā 22 (1960) 357). The square of its half-width is the sum of
    t² · variance over both parts, where t has the df of the part. With Satterthwaite's df, seeds that agree by chance would make
    the interval narrower.
    """
    variance = whole.variance + unseen.variance
    squares = [float(stdtrit(max(1.0, part.df), 0.975)) ** 2 * part.variance for part in (whole, unseen)]
    df = float(stdtridf(0.975, np.sqrt(sum(squares) / variance)))
    fewest, most = sorted(max(1.0, part.df) for part in (whole, unseen))
    return Part(variance, min(max(df, fewest), most) if np.isfinite(df) else most)


def _within(item_means: FloatArray, groups: Strata) -> tuple[FloatArray, Strata]:
    """Return the items' deviations from the mean of their stratum, and the strata.

    The strata are the tasks. If every task has only one item, all items are one stratum.
    """
    used = groups if groups.sizes.max() > 1 else strata(np.zeros(len(item_means), dtype=np.int64))
    return item_means - used.means(item_means)[used.of_item], used


def seed_part(scores: FloatArray, groups: Strata) -> Part:
    """Return the variance of the macro mean that comes from sampling seeds; NaN with fewer than two seeds. `scores` is (S, I).

    Source: the seeds' mean square of the two-way analysis of variance. It includes seed × task, because tasks are fixed.
    """
    seeds_n = len(scores)
    if seeds_n < 2:
        return Part(float("nan"), 0.0)
    return Part(float(groups.macro_mean(scores).var(ddof=1)) / seeds_n, seeds_n - 1.0)


def residual_part(scores: FloatArray, groups: Strata) -> Part:
    """Return the variance from the interaction of seeds and items within tasks. `scores` is (S, I).

    The results of `item_part` and of `seed_part` each include this variance. The result is 0 with one seed, or if no task has two
    items. Source: the interaction mean square of the two-way analysis of variance. Our addition: a task with one item gets the
    mean square that is pooled over all tasks.
    """
    seeds_n = len(scores)
    if seeds_n < 2 or groups.sizes.max() < 2:
        return Part(0.0, 0.0)
    centred = scores - groups.means(scores)[:, groups.of_item]
    squares = groups.sums((centred - centred.mean(axis=0)) ** 2).sum(axis=0)
    return stratified(squares, (groups.sizes - 1) * (seeds_n - 1), groups.sizes * seeds_n)


def add(*parts: Part) -> Part:
    """Return the sum of independent parts, with degrees of freedom by Satterthwaite (1946)."""
    total = sum(part.variance for part in parts)
    return Part(total, satterthwaite(total, *parts))


def total(items: Part, seeds: Part, residual: Part) -> Part:
    """Return the variance items + seeds − residual, but at least the larger of items and seeds.

    If seeds have a small effect, their variance can be below the residual. The result is then the larger of items and seeds, in
    most cases that of the items, as in Searle, Casella & McCulloch, Variance Components (1992), ch. 4.

    The degrees of freedom (df) of the result are Satterthwaite's (Biometrics Bull. 2 (1946) 110), at least 1. The exceptions:

    - The seeds have at least `SEEDS_DF_TO_LEAVE_OUT` df (four seeds have 3), and their variance is above neither the residual
      nor the items: the df are those of the items.
    - The seeds have fewer df: the inverse of Satterthwaite's df is mixed with the inverse of the seeds' df (`HELD_BACK`). If
      seeds have no effect, the interval is then too wide.
    - All means are equal but scores vary (few items): the variance and the df are those of the residual.

    Our additions: the lower bound of the variance, the rule on the df of the seeds, and the mixture.
    """
    variance = max(items.variance + seeds.variance - residual.variance, items.variance, seeds.variance)
    if variance <= ROUNDING * residual.variance:
        return Part(residual.variance, max(1.0, residual.df))
    df = satterthwaite(variance, items, seeds, residual)
    if seeds.df < SEEDS_DF_TO_LEAVE_OUT:
        df = 1 / ((1 - HELD_BACK) / df + HELD_BACK / seeds.df)
    elif seeds.variance <= min(residual.variance, items.variance):
        df = items.df
    return Part(variance, max(1.0, df))


def satterthwaite(variance: float, *parts: Part) -> float:
    """Return the degrees of freedom of a sum or difference of mean squares: V² / Σ (V_k² / df_k) (Satterthwaite 1946).

    Parts without df are left out. If the sum is 0, the result is the largest df of the parts.
    """
    below = sum(part.variance**2 / part.df for part in parts if part.df > 0)
    return variance**2 / below if below > 0 else max(part.df for part in parts)


def stratified(squares: FloatArray, free: IntArray, counts: IntArray) -> Part:
    """Return the variance of the unweighted mean over T strata, from sums of squares, degrees of freedom (df) and counts, (T,).

    A stratum without df has the pooled mean square and the df of all strata. At least one stratum must have df.
    """
    variances, df = stratified_rows(squares, free, counts)
    return Part(float(variances), float(df))


def stratified_rows(squares: FloatArray, free: IntArray, counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return `stratified` for many rows of sums of squares at once, (..., T): the variances and the df, (...)."""
    pooled, all_df = squares.sum(axis=-1, keepdims=True) / free.sum(), float(free.sum())
    spread, df = np.where(free > 0, squares / np.maximum(free, 1), pooled), np.where(free > 0, free, all_df)
    shares = spread / counts / len(counts) ** 2
    whole, below = shares.sum(axis=-1), (shares**2 / df).sum(axis=-1)
    known = np.divide(whole**2, below, out=np.full(np.shape(whole), df.sum(dtype=np.float64)), where=below > 0)
    return np.asarray(whole), np.asarray(known)
