"""The score at the next budgets, forecast from the learning curve so far.

The law is s(n) = a − b · n^(−c), a power law in the number of labels n. Real curves are not exactly of this kind. So the forecast
also allows a smooth departure from the law, whose size is relative to the curve's own rise. The departure is 0 at the largest
budget and grows with the distance from it in doublings, in both directions. Scores at much smaller budgets count less, and a
forecast further away is less certain.

A forecast is about the measured gain: the mean score that a run at the next budget, with the same seeds and items, would
measure, minus the score that was measured at the largest budget. docs/STATISTICS.md has its measured coverage.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from reports import variance
from reports.difference import EQUIVALENCE_MARGIN, Arm
from reports.variance import FloatArray, IntArray, Part, Strata, strata

BUDGETS_MIN_N = 3
SEEDS_MIN_N = 2
FARTHEST = 2  # times the largest scored budget
NATURAL = (1.5, 2.0)  # times the largest scored budget, if the experiment names no next budget
# The exponents c, all equally likely before the scores are seen. 0 is a straight line on log labels. Below 0, the curve bends
# upward, as at the start of an S-shaped curve. Above 2, a curve is flat after one doubling.
EXPONENTS = np.arange(-5, 21) / 10
# The standard deviation of the change of slope within one doubling, as shares of the mean rise of a doubling, equally likely.
# Chosen on simulated curves of nine shapes and on the lab's pool of seed 1 (docs/STATISTICS.md).
DEPARTURES = np.array([0.5, 1.0])
NEGLIGIBLE = 1e-9  # weight of a law that is left out
HALVINGS_N = 26  # steps of bisection for a quantile: its error is below 1e-8


class Forecast(NamedTuple):
    """The forecast gain from the largest scored budget to a larger one."""

    largest_n: int  # largest scored budget
    budget_n: int
    gain: float  # median
    low: float  # ends of the 95% interval
    high: float
    budgets_n: int  # scored budgets
    seeds_n: int
    items_n: int
    score: float  # measured at the largest budget

    @property
    def more_n(self) -> int:
        return self.budget_n - self.largest_n

    @property
    def verdict(self) -> str:
        """The verdict in words. "little to gain" means that the whole interval is below `EQUIVALENCE_MARGIN`."""
        if self.high < EQUIVALENCE_MARGIN:
            return "little to gain"
        return "gain expected" if self.low > 0 else "cannot tell"


class Outlook(NamedTuple):
    """The forecasts of one strategy, nearest budget first; or why there are none."""

    forecasts: tuple[Forecast, ...]
    problem: str  # one sentence; empty if there are forecasts


def outlook(curve: Mapping[int, Arm], tasks: IntArray, known: Collection[int], pool_n: int | None) -> Outlook:
    """Return the forecasts from a learning curve (budget → scores) at the budgets of `next_budgets`.

    Args:
        curve: Scores of one strategy by budget; at least one budget.
        tasks: Task code of each item, (I,).
        known: Budgets of the experiment.
        pool_n: Prompts of the pool; None if unknown.
    """
    common = tuple(sorted(set.intersection(*(set(arm.seeds) for arm in curve.values()))))
    if len(curve) < BUDGETS_MIN_N:
        return Outlook((), f"A forecast needs scores at {BUDGETS_MIN_N} budgets; there are scores at {len(curve)}.")
    if len(common) < SEEDS_MIN_N:
        return Outlook((), f"A forecast needs {SEEDS_MIN_N} seeds that all budgets have; they have {len(common)}.")
    if len(tasks) < 2:
        return Outlook((), "A forecast needs at least two items.")
    targets = next_budgets(max(curve), known, pool_n)
    if not targets:
        return Outlook((), f"The largest list has all {max(curve):,} prompts of the pool.")
    return Outlook(forecast({budget: arm.at(common) for budget, arm in curve.items()}, tasks, targets), "")


def next_budgets(largest_n: int, known: Collection[int], pool_n: int | None) -> tuple[int, ...]:
    """Return the budgets to forecast: those of the experiment above `largest_n`, up to `FARTHEST` times as many labels.

    If there are none, return one and a half times and twice as many labels. No budget is larger than the pool.

    >>> next_budgets(512, (256, 512, 768, 2048), 4000), next_budgets(512, (512,), 900), next_budgets(512, (512,), 512)
    ((768,), (768, 900), ())
    """
    named = sorted({n for n in known if largest_n < n <= FARTHEST * largest_n})
    most_n = pool_n or FARTHEST * largest_n
    found = named or [min(round(factor * largest_n), most_n) for factor in NATURAL]
    return tuple(dict.fromkeys(n for n in found if largest_n < n <= most_n))


def forecast(
    curve: Mapping[int, Arm],  # at least BUDGETS_MIN_N budgets, each with the same seeds
    tasks: IntArray,  # (I,) task code of each item
    targets: Sequence[int],  # budgets above the largest of the curve, ascending
    *,
    level: float = 0.95,
) -> tuple[Forecast, ...]:
    """Return the forecast gain at each target, with an interval for the gain that a run would measure.

    Every pair of an exponent and a size of departure is one linear regression of the mean scores: generalized least squares,
    with level and rise unknown. The variance of a score is known only roughly: from the interaction of budgets with items and
    seeds (`noise`), and from the distance of the scores to the fit. Each regression then predicts by a t distribution. Its weight
    is the probability of the pair, given the scores (flat prior on level, rise and log variance). The result has the median and
    the interval of the weighted mixture. Scores in 0..1 stay there: the ends are cut.

    Source: Bayesian linear regression and averaging over models (Gelman et al., Bayesian Data Analysis, 2013, ch. 14; Hoeting et
    al., Stat. Sci. 14 (1999) 382); power laws of learning curves (Hestness et al., arXiv:1712.00409). The departure is an
    integrated Wiener process (Wahba, J. R. Statist. Soc. B 40 (1978) 364). Our choices: the departure's place and size.
    """
    budgets, groups = sorted(curve), strata(tasks)
    rows = np.stack([curve[budget].scores for budget in budgets])  # (K, S, I)
    means = groups.macro_mean(rows.mean(axis=1))
    steps = np.log2(np.array([*budgets, *targets]) / budgets[-1])
    known = noise(rows, groups)
    mixture = _mixture(means, steps[: len(budgets)], steps[len(budgets) :], known)
    tail = (1 - level) / 2
    ends = _quantiles(mixture, (0.5, tail, 1 - tail))
    last = float(means[-1])
    if rows.min() >= 0 and rows.max() <= 1:
        ends = np.clip(ends, -last, 1 - last)
    seeds_n, items_n = rows.shape[1:]
    return tuple(
        Forecast(budgets[-1], target, gain, low, high, len(budgets), seeds_n, items_n, last)
        for target, (gain, low, high) in zip(targets, ends.tolist(), strict=True)
    )


def noise(rows: FloatArray, groups: Strata) -> Part:
    """Return the variance of the mean score of one budget, without what all budgets share: `rows` is (budgets, seeds, items).

    What all budgets share, such as the difficulty of the items, cancels in a gain. So the variance is that of contrasts between
    budgets with squared weights that sum to 1, averaged over K − 1 orthogonal contrasts. Each contrast has the parts of a paired
    difference (`variance`). There must be two seeds and two items.
    """
    budgets_n = len(rows)
    places = np.arange(1, budgets_n)[:, None]
    columns = np.arange(budgets_n)[None]
    helmert = np.where(columns < places, 1.0, np.where(columns == places, -places, 0.0))
    scores = np.tensordot(helmert / np.sqrt(places * (places + 1)), rows, axes=1)
    items, unseen, seeds, residual = (
        Part(float(np.mean([part.variance for part in parts])), sum(part.df for part in parts))
        for parts in (
            [variance.item_part(one.mean(axis=0), groups) for one in scores],
            [variance.unseen_part(one.mean(axis=0), groups) for one in scores],
            [variance.seed_part(one, groups) for one in scores],
            [variance.residual_part(one, groups) for one in scores],
        )
    )
    return variance.with_unseen(variance.total(items, seeds, residual), unseen)


class _Mixture(NamedTuple):
    """Weighted t distributions of the gain at each target, all with the same degrees of freedom."""

    weights: FloatArray  # (M,) sum to 1
    centres: FloatArray  # (T, M)
    errors: FloatArray  # (T, M) above 0
    df: float


def _mixture(means: FloatArray, steps: FloatArray, ahead: FloatArray, known: Part) -> _Mixture:
    """Return the predicted gains. `steps`, (K,), are doublings from the largest budget, at most 0; `ahead`, (T,), are above 0."""
    rise = float(np.ptp(means)) / -steps[0]
    sizes = (DEPARTURES * rise) ** 2 / known.variance  # (L,) variance of the departure, in units of the noise
    inverse = np.linalg.inv(np.eye(len(means)) + sizes[:, None, None] * _departure(-steps))  # (L, K, K)
    shapes, shapes_ahead = _law(steps, steps[0]), _law(ahead, steps[0])  # (C, K), (C, T)
    weighed = np.einsum("lij,cj->lci", inverse, shapes)
    by_one = inverse.sum(axis=-1)  # (L, K)
    ones, cross = by_one.sum(axis=-1)[:, None], by_one @ shapes.T  # (L, 1), (L, C)
    squares = (weighed * shapes).sum(axis=-1)  # (L, C)
    centred = means - means[-1]
    first, second = (by_one @ centred)[:, None], weighed @ centred
    determinant = ones * squares - cross**2
    level, slope = (squares * first - cross * second) / determinant, (ones * second - cross * first) / determinant
    rest = np.einsum("i,lij,j->l", centred, inverse, centred)[:, None] - level * first - slope * second
    df = known.df + len(means) - 2
    scale = (known.df * known.variance + np.maximum(rest, 0.0)) / df  # (L, C)
    log_weights = 0.5 * (np.linalg.slogdet(inverse)[1][:, None] - np.log(determinant) - df * np.log(scale))
    weights = np.exp(log_weights - log_weights.max())
    kept = weights > NEGLIGIBLE * weights.sum()
    x = shapes_ahead.T[:, None, :]  # (T, 1, C)
    fitted = (squares - 2 * cross * x + ones * x**2) / determinant
    departed = sizes[:, None] * (ahead**3 / 3)[:, None, None]
    errors = np.sqrt(scale * (fitted + departed + 1))
    return _Mixture(weights[kept] / weights[kept].sum(), (level + slope * x)[:, kept], errors[:, kept], df)


def _law(steps: FloatArray, first: float) -> FloatArray:
    """Return the law of each exponent, (C, N), scaled to −1 at the smallest budget `first` and 0 at the largest."""
    powers = np.log(2) * EXPONENTS[:, None]
    is_straight = powers == 0

    def curved(doublings: FloatArray) -> FloatArray:
        return np.where(is_straight, doublings, -np.expm1(-powers * doublings) / np.where(is_straight, 1.0, powers))

    return curved(steps) / -curved(np.array([first]))


def _departure(distances: FloatArray) -> FloatArray:
    """Return the covariance of an integrated Wiener process at distances ≥ 0, (K,), from its start: (K, K)."""
    near, far = np.minimum.outer(distances, distances), np.maximum.outer(distances, distances)
    return np.asarray(near**2 * (3 * far - near) / 6)


def _quantiles(mixture: _Mixture, shares: Sequence[float]) -> FloatArray:
    """Return the quantiles at each target, (T, shares), by bisection between the smallest and the largest one of the parts."""
    weights, centres, errors, df = mixture
    wanted = np.asarray(shares, dtype=np.float64)
    each = centres[:, None] + stdtrit(df, wanted)[:, None] * errors[:, None]  # (T, shares, M)
    low, high = each.min(axis=-1), each.max(axis=-1)
    for _ in range(HALVINGS_N):
        middle = (low + high) / 2
        is_below = stdtr(df, (middle[..., None] - centres[:, None]) / errors[:, None]) @ weights < wanted
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.asarray((low + high) / 2)
