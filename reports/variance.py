"""The variance of a mean score over redrawn items and seeds.

The design is crossed: every seed answers every item. Items are a sample within their task. Tasks are fixed and have equal
weight, whatever their number of items. Seeds are a sample. Only the parts of the variance are here, no intervals or verdicts.

With d[s, i] = task + item_i + seed_s + (seed × task)_st + rest_si and weights w_i = 1 / (T · n_t):

    items     Σ_t s²_t(item means) / (T² n_t)        expects  items' own part + rest / S
    seeds     var_s(seed means) / S                  expects  seeds' own part + rest / S
    residual  Σ_t MS_t(interaction) / (T² n_t S)     expects  rest / S

so items + seeds − residual expects the variance of the mean. Source: the two-way random-effects analysis of variance
(crossed, one observation a cell). Ours: the strata of tasks, the floor (`total`), and the part added for items unlike all
those drawn (`unseen_part`). docs/STATISTICS.md measures how often the intervals cover.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtridf, stdtrit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# From four seeds on, a seeds' mean square below the residual is taken as no sign of a seed effect. With three it is too
# weak: 18% of experiments whose variance is four fifths seeds look that way, and intervals would hold .926 (and .87 with two).
SEEDS_DF_TO_LEAVE_OUT = 3
# With fewer seeds Satterthwaite's df are themselves too uncertain to be believed whole: a tenth of their inverse is that of
# the seeds alone. With three seeds that dominate beside a little item noise, 95% intervals held .923 without it, .931 with it.
HELD_BACK = 0.1
# Zero failures among n items leave room for a rate of 3 / n, the "rule of three" (Hanley & Lippman-Hand, JAMA 249 (1983) 1743).
UNSEEN_ITEMS_N = 3.0
# The size of an unseen item is read off those seen, which count against this many that are wholly unlike the others. Half a
# one is enough to hold .94 with ten items, and adds 0.1% to the variance of 24 tasks with 40 items each.
UNLIKE_ITEMS_N = 0.5
ROUNDING = 1e-12  # below this share of the residual, a mean square is the rounding of means that agree


class Part(NamedTuple):
    """A variance of the mean, and the degrees of freedom of its estimate (0 if it cannot be estimated)."""

    variance: float
    df: float


class Strata(NamedTuple):
    """Items grouped by task, so that sums over a task are one pass."""

    order: IntArray  # (I,) positions that sort the items by task
    starts: IntArray  # (T,) where each task begins in that order
    sizes: IntArray  # (T,) items per task
    of_item: IntArray  # (I,) 0..T-1, the task of each item
    is_sorted: bool  # the items stand by task already, so nothing has to be moved

    @property
    def tasks_n(self) -> int:
        """Number of tasks that have an item."""
        return len(self.sizes)

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sum over the items of each task: (..., I) → (..., T)."""
        by_task = values if self.is_sorted else values[..., self.order]
        summed: FloatArray = np.add.reduceat(by_task, self.starts, axis=-1)
        return summed

    def means(self, values: FloatArray) -> FloatArray:
        """Return the mean over the items of each task: (..., I) → (..., T)."""
        return self.sums(values) / self.sizes

    def macro_mean(self, values: FloatArray) -> FloatArray:
        """Return the mean over tasks of the means over their items: (..., I) → (...)."""
        return np.asarray(self.means(values).mean(axis=-1))


def strata(tasks: IntArray) -> Strata:
    """Group items by task code (any integers), cached because thousands of comparisons share one grouping."""
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
    """Return the variance of the macro mean from drawing the items, within tasks.

    A task with one item has no spread of its own and borrows the spread pooled over the other tasks. If every task has one item,
    all items count as one stratum. That includes the differences between tasks, so the interval is too wide, not too narrow.

    Source: variance of a stratified mean, without finite population correction (Cochran, Sampling Techniques, 1977, ch. 5).
    Ours: tasks of one item.
    """
    if len(item_means) < 2:
        return Part(float("nan"), 0.0)
    deviations, strata_used = _within(item_means, groups)
    return item_part_of(strata_used.sums(deviations**2), strata_used.sizes)


def item_part_of(squares: FloatArray, sizes: IntArray) -> Part:
    """Return `item_part` from the sums of squares within each task, (T,); some task has two items."""
    free = (sizes - 1).astype(np.float64)
    pooled = squares.sum() / free.sum()
    spread = np.where(free > 0, squares / np.maximum(free, 1), pooled)
    return _stratified(spread / sizes, np.where(free > 0, free, free.sum()))


def unseen_part(item_means: FloatArray, groups: Strata) -> Part:
    """Return the variance that items unlike all those drawn may add; it keeps an interval open if all items agree.

    It is that of `UNSEEN_ITEMS_N` items. Each moves the macro mean by as much as the drawn items are skewed, Σ w³e³ / Σ w²e²
    (e: deviation from the task's mean, w: weight of an item). Near 0 or 1 that is one item's weight, in the middle nearly
    nothing. If nothing deviates, it is the weight of an item whose score changes by 1.

    Source: for a binomial share near 1 the interval then agrees with one-sided exact 95% limits, as Agresti & Coull's
    added counts do (Am. Stat. 52 (1998) 119); Bonett & Price (J. Educ. Behav. Stat. 37 (2012) 479) add 2 where ours
    adds 3 to paired differences. Ours: the size by skewness, which leaves the variance of ordinary scores unchanged.
    """
    if len(item_means) < 2:
        return Part(float("nan"), 0.0)
    deviations, strata_used = _within(item_means, groups)
    return unseen_part_of(strata_used.sums(deviations**2), strata_used.sums(deviations**3), strata_used.sizes)


def unseen_part_of(squares: FloatArray, cubes: FloatArray, sizes: IntArray) -> Part:
    """Return `unseen_part` from the sums of squares and cubes within each task, (T,); some task has two items."""
    weights = 1 / (len(sizes) * sizes)
    one = float(weights.mean())  # what an item moves the macro mean by, averaged over tasks
    skewed = abs(float((weights**3 * cubes).sum())) + UNLIKE_ITEMS_N * one**3
    size = skewed / (float((weights**2 * squares).sum()) + UNLIKE_ITEMS_N * one**2)
    return Part(UNSEEN_ITEMS_N * size**2, float((sizes - 1).sum()))


def with_unseen(whole: Part, unseen: Part) -> Part:
    """Return the sum of a variance and the unseen items', with the df that gives the 95% interval of both with their own df.

    Satterthwaite's df would grow if seeds agree by luck, and the added part would then shrink the interval.

    Source: Banerjee, Sankhyā 22 (1960) 357, for the interval: t² of each part's own df times its variance, summed.
    """
    variance = whole.variance + unseen.variance
    squares = [float(stdtrit(max(1.0, part.df), 0.975)) ** 2 * part.variance for part in (whole, unseen)]
    df = float(stdtridf(0.975, np.sqrt(sum(squares) / variance)))
    fewest, most = sorted(max(1.0, part.df) for part in (whole, unseen))
    return Part(variance, min(max(df, fewest), most) if np.isfinite(df) else most)


def _within(item_means: FloatArray, groups: Strata) -> tuple[FloatArray, Strata]:
    """Return deviations from the task's mean; if every task has one item, from the mean of all items as one task."""
    used = groups if groups.sizes.max() > 1 else strata(np.zeros(len(item_means), dtype=np.int64))
    return item_means - used.means(item_means)[used.of_item], used


def seed_part(scores: FloatArray, groups: Strata) -> Part:
    """Return the variance of the macro mean from drawing the seeds; (S, I) with S ≥ 2.

    Source: the seeds' mean square of the two-way analysis of variance. It includes seed × task, because tasks are fixed.
    """
    seeds_n = len(scores)
    if seeds_n < 2:
        return Part(float("nan"), 0.0)
    return Part(float(groups.macro_mean(scores).var(ddof=1)) / seeds_n, seeds_n - 1.0)


def residual_part(scores: FloatArray, groups: Strata) -> Part:
    """Return the interaction within tasks, which items and seeds both contain; (S, I) with S ≥ 2; 0 if no task has two items.

    Source: the interaction mean square of the two-way analysis of variance. Ours: a task of one item borrows the pooled one.
    """
    seeds_n = len(scores)
    free = ((groups.sizes - 1) * (seeds_n - 1)).astype(np.float64)
    if free.sum() == 0:
        return Part(0.0, 0.0)
    of_item = groups.of_item
    centred = scores - groups.means(scores)[:, of_item]
    return residual_part_of(groups.sums((centred - centred.mean(axis=0)) ** 2).sum(axis=0), groups.sizes, seeds_n)


def residual_part_of(squares: FloatArray, sizes: IntArray, seeds_n: int) -> Part:
    """Return `residual_part` from the sums of squares within each task, (T,); some task has two items, and S ≥ 2."""
    free = ((sizes - 1) * (seeds_n - 1)).astype(np.float64)
    pooled = squares.sum() / free.sum()
    spread = np.where(free > 0, squares / np.maximum(free, 1), pooled)
    return _stratified(spread / (sizes * seeds_n), np.where(free > 0, free, free.sum()))


def add(*parts: Part) -> Part:
    """Return the sum of independent parts, with degrees of freedom by Satterthwaite (1946)."""
    total = sum(part.variance for part in parts)
    return Part(total, satterthwaite(total, *parts))


def total(items: Part, seeds: Part, residual: Part) -> Part:
    """Return items + seeds − residual, never below the larger of the first two, with Satterthwaite's df, at least 1.

    Seeds − residual, the seeds' own part, can be estimated below 0 if it is small. The floor then leaves the items' part. From
    four seeds on it also leaves that part's df: the seeds' mean square is not in the variance, so it is not in the df either.
    With fewer seeds it stays in the df, which are also held back; the interval is then too wide if seeds have no effect. If means
    agree to the last digit but scores vary (few items), the residual, which both expect, is the result.

    Source: Satterthwaite, Biometrics Bull. 2 (1946) 110, for the df of sums and differences of mean squares; a part estimated
    below 0 is left out as in Searle, Casella & McCulloch, Variance Components (1992), ch. 4. Ours: the floor, the number of seeds
    from which the df leave it out too, and what is held back.
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
    """Return the degrees of freedom of a sum or difference of mean squares: V² / Σ V_k² / df_k (Satterthwaite 1946)."""
    below = sum(part.variance**2 / part.df for part in parts if part.df > 0)
    return variance**2 / below if below > 0 else max(part.df for part in parts)


def _stratified(variances: FloatArray, df: FloatArray) -> Part:
    """Return the variance of the plain mean over T strata whose variances are given."""
    shares = variances / len(variances) ** 2
    whole = float(shares.sum())
    below = float((shares**2 / df).sum())
    return Part(whole, whole**2 / below if below > 0 else float(df.sum()))
