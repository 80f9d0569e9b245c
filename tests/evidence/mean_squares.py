"""The error rates of the rules for an interval. The three mean squares are drawn directly from their chi-square distributions.

There are hundreds of thousands of draws, so error rates of one in a thousand can be measured. The rules are written here a
second time, for arrays. `simulations` sends whole experiments through the report's own functions.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from tests.evidence.drawn_scores import FloatArray

ITEMS_DF = 936  # 24 tasks × 40 items, as in the lab
ALPHAS = (0.05, 0.05 / 4, 0.05 / 60)  # alone, and Holm's first step among 4 and among 60 comparisons
RULES = (
    "Satterthwaite, floor (as before)",
    "the same, a tenth of the df held back",
    "the same, items alone where seeds lie below the residual",
    "the same, seeds in the df never below the residual",
    "Banerjee",
)
BEFORE, UP_TO_THREE, FROM_FOUR, NOT_BELOW, BANERJEE = RULES
POWER = 0.8


class MeanSquares(NamedTuple):
    """Draws of one design: estimates of the parts, and the distance of the mean difference from the truth."""

    items: FloatArray
    seeds: FloatArray
    residual: FloatArray
    distance: FloatArray
    seeds_n: int

    @property
    def used(self) -> str:
        """The rule that the report uses at this number of seeds."""
        return UP_TO_THREE if self.seeds_n < 4 else FROM_FOUR


def drawn(parts: tuple[float, float, float], seeds_n: int, draws_n: int, generator: np.random.Generator) -> MeanSquares:
    """Draw mean squares. `parts` are the true variances of the mean from items, seeds and the rest."""
    items, seeds, rest = parts
    df = (ITEMS_DF, seeds_n - 1, ITEMS_DF * (seeds_n - 1))
    squares = [
        whole * generator.chisquare(free, draws_n) / free
        for whole, free in zip((items + rest, seeds + rest, rest), df, strict=True)
    ]
    return MeanSquares(*squares, generator.normal(0, np.sqrt(items + seeds + rest), draws_n), seeds_n)


def reach(rule: str, one: MeanSquares, alpha: float) -> FloatArray:
    """Return half the width of the 1 − alpha interval."""
    a, b, r, df_b = one.items, one.seeds, one.residual, one.seeds_n - 1
    if rule == BANERJEE:
        t_a, t_b = stdtrit(ITEMS_DF, 1 - alpha / 2), stdtrit(df_b, 1 - alpha / 2)
        return np.asarray(np.sqrt(np.maximum(t_a**2 * np.maximum(a - r, 0) + t_b**2 * b, t_a**2 * a)))
    whole = np.maximum.reduce([a + b - r, a, b])
    counted = np.maximum(b, r) if rule == NOT_BELOW else b
    df = np.maximum(1.0, whole**2 / (a**2 / ITEMS_DF + counted**2 / df_b + r**2 / (ITEMS_DF * df_b)))
    if rule == UP_TO_THREE:
        df = 1 / (0.9 / df + 0.1 / df_b)
    if rule == FROM_FOUR:
        df = np.where(b <= np.minimum(a, r), ITEMS_DF, df)
    return np.asarray(stdtrit(df, 1 - alpha / 2) * np.sqrt(whole))


def errors(rule: str, one: MeanSquares, alpha: float) -> float:
    """Return how often the interval misses the truth."""
    return float((np.abs(one.distance) > reach(rule, one, alpha)).mean())


def detectable(rule: str, one: MeanSquares, alpha: float) -> float:
    """Return the true difference that is found, with its sign, in a share `POWER` of the draws."""
    return float(np.quantile(reach(rule, one, alpha) - one.distance, POWER))


def equivalence_margin(one: MeanSquares, margin: float) -> tuple[float, float]:
    """Return how often equivalence within `margin` is shown for equal arms, and the margin that gives a share `POWER`."""
    end = np.abs(one.distance) + reach(one.used, one, 0.10)
    return float((end < margin).mean()), float(np.quantile(end, POWER))
