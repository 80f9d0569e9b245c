"""The cautious p-value, which corrections for many comparisons use instead of the p-value of Satterthwaite's t."""

import math

import numpy as np
from scipy.special import stdtr, stdtrit

from reports.variance import Part, with_unseen

SMALLEST_P = 1e-15  # smaller p-values have no use, and their quantiles lose precision


def cautious_p_value(estimate: float, items: Part, seeds: tuple[Part, ...], residual: Part, unseen: Part) -> float:
    """Return a two-sided p-value that remains valid when it is very small.

    The result is the p at which √(Σ_k t²_k(p) V_k) equals |estimate|. V_k is the variance of part k. t_k(p) is the two-sided t
    quantile with the part's degrees of freedom (df). The parts are items − residual (at least 0), unseen items, and the seeds of
    each arm. The result is at least `SMALLEST_P`, and at least the p-value from `items` and `unseen` alone. If the parts are
    independent mean squares, the error rate never exceeds p. Satterthwaite's t estimates its df, and the estimate is too high if
    three seeds agree by chance. At p = .001, the error rate of this t is up to ten times too high (docs/STATISTICS.md).

    Source: Banerjee, Sankhyā 22 (1960) 357. Our changes: the lower bound of the result, and the subtraction of the residual from
    the part of the items. After this subtraction, the part is not a single mean square.
    """
    parts = [Part(max(0.0, items.variance - residual.variance), items.df), unseen, *seeds]
    known = [part for part in parts if part.variance > 0 and part.df > 0]
    whole = with_unseen(items, unseen)
    alone = float(2 * stdtr(max(1.0, whole.df), -abs(estimate) / math.sqrt(whole.variance)))
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
