"""The cautious p-value for corrections over many comparisons, without Satterthwaite's degrees of freedom.

The interval of a difference is in `difference`.
"""

import math

import numpy as np
from scipy.special import stdtr, stdtrit

from reports.variance import Part, with_unseen

SMALLEST_P = 1e-15  # below it a p-value says nothing more, and quantiles lose their digits


def cautious_p_value(estimate: float, items: Part, seeds: tuple[Part, ...], residual: Part, unseen: Part) -> float:
    """Return a two-sided p-value that is valid far out in the tail, where corrections for many comparisons look.

    It is the p at which √(Σ_k t²_k(p) V_k) reaches the estimate. t_k is the quantile with the part's own degrees of freedom. The
    parts are items − residual (at least 0), unseen items, and each arm's seeds. With exact parts the error never exceeds p,
    whatever the true shares of the parts. Satterthwaite's t has estimated degrees of freedom: three seeds that agree by luck look
    like many, and at p = .001 it errs up to ten times as often as stated (docs/STATISTICS.md).

    Source: Banerjee, Sankhyā 22 (1960) 357. Ours: the residual is subtracted from the items' part, which then is not a single
    mean square, and the result is never below the p-value of the items' parts alone.
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
    return float(2 * stdtr(max(1.0, part.df), -abs(estimate) / math.sqrt(part.variance)))
