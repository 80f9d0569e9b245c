"""Intervals and p-values that do not lean on Satterthwaite's estimate of the degrees of freedom.

Here belong Wilson's interval for a single task's score, and the cautious p-value that corrections for many comparisons
need. The interval of a difference stands in `difference`.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from reports.variance import Part, with_unseen

SMALLEST_P = 1e-15  # below it a p-value says nothing more, and quantiles lose their digits


class Interval(NamedTuple):
    """Two ends, in the unit of the score."""

    low: float
    high: float


def wilson(successes_n: float, items_n: int, *, level: float = 0.95) -> Interval:
    """Interval for a single task's score, from the items alone: Wilson's score interval.

    Arguments: `successes_n`, the sum of the items' scores (0..items_n); `items_n` ≥ 1, items and not items × seeds: the
    seeds answer the same items. Returns ends within 0..1, also where every item is wrong or right; always wider than 0.

    Source: Wilson, JASA 22 (1927) 209; Brown, Cai & DasGupta, Statist. Sci. 16 (2001) 101. Ours: fractions. A score in 0..1
    varies at most as much as right-or-wrong with the same mean, and so does its mean over seeds; the interval is then too
    wide, not too narrow. How the seeds differ is not in it.

    >>> [round(end, 3) for end in wilson(0, 10)]
    [0.0, 0.278]
    """
    if items_n < 1:
        raise ValueError(f"{items_n} items; an interval for a task's score needs at least one item")
    if not 0 <= successes_n <= items_n:
        raise ValueError(f"{successes_n} successes of {items_n} items; expected the sum of scores in 0..1")
    share, z2 = successes_n / items_n, float(ndtri(0.5 + level / 2)) ** 2
    centre = (share + z2 / (2 * items_n)) / (1 + z2 / items_n)
    reach = math.sqrt(z2 * (share * (1 - share) / items_n + z2 / (4 * items_n**2))) / (1 + z2 / items_n)
    # 0/n and n/n end at 0 and 1 exactly; without the outer cuts, at ±1e-17.
    return Interval(max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach)))


def cautious_p_value(estimate: float, items: Part, seeds: tuple[Part, ...], residual: Part, unseen: Part) -> float:
    """Two-sided p-value that stays honest far out in the tail, where corrections for many comparisons look.

    It is the p at which √(Σ_k t²_k(p) V_k) reaches the estimate, t_k the quantile with the part's own degrees of freedom and
    the parts: items − residual (at least 0), unseen items, and each arm's seeds. With exact parts the error never exceeds p,
    whatever the true shares of the parts.
    Satterthwaite's t has estimated degrees of freedom: three seeds that agree by luck look like many, and at p = .001 it
    errs up to ten times as often as it says (docs/STATISTICS.md).

    Source: Banerjee, Sankhyā 22 (1960) 357. Ours: the residual taken off the items' part, which then is no single mean square,
    and the floor: never below the p-value of the items' parts alone.
    """
    parts = [Part(max(0.0, items.variance - residual.variance), items.df), unseen, *seeds]
    known = [part for part in parts if part.variance > 0 and part.df > 0]
    alone = _t_test(estimate, with_unseen(items, unseen))
    if not known or estimate == 0.0:
        return alone
    df = np.array([part.df for part in known])
    variances = np.array([part.variance for part in known])
    low, high = math.log(SMALLEST_P), 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        is_beyond = float((stdtrit(df, math.exp(middle) / 2) ** 2 * variances).sum()) < estimate**2
        low, high = (low, middle) if is_beyond else (middle, high)
    return max(math.exp(high), alone)


def _t_test(estimate: float, part: Part) -> float:
    """Two-sided p-value of one part alone."""
    return float(2 * stdtr(max(1.0, part.df), -abs(estimate) / math.sqrt(part.variance)))
