"""How often a model's outputs are preferred to a reference's: plain, and as if both were equally long.

Arrays in, numbers out. Rates are in 0..1, never percent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RIDGE = 1.0  # penalty RIDGE/2 · coefficient², a standard normal prior: felt by few items or separable ones
ONE_SIDED = 1e-6  # a mean preference this near to 0 or 1 leaves nothing to fit


class WinRate(NamedTuple):
    """A plain win rate."""

    win_rate: float  # 0..1, a tie counts a half
    standard_error: float  # over instructions; NaN for one item
    n: int
    wins_n: int  # preferences above 0.5
    losses_n: int
    ties_n: int


class LengthControlled(NamedTuple):
    """A win rate as predicted for outputs of equal length."""

    win_rate: float  # 0..1
    standard_error: float  # over instructions, with the uncertainty of both coefficients; NaN for one item
    pseudo_values: FloatArray  # (n,) mean win_rate, and their spread gives standard_error
    length_coefficient: float | None  # of tanh(difference / its standard deviation); None if it was not fitted
    reason: str  # why the plain rate stands in place of a fit; empty if it was fitted


def win_rate(preferences: FloatArray) -> WinRate:
    """Mean preference.

    Args:
        preferences: (n,) in 0..1, 1: the model's output is preferred.

    Raises:
        ValueError: none at all, or one outside 0..1.

    Source: AlpacaEval's win_rate and standard_error (sample standard deviation over √n), which are 100 times these.

    >>> win_rate(np.array([1.0, 0.0, 0.5, 1.0]))[:1]
    (0.625,)
    """
    y = _checked(preferences)
    error = float(y.std(ddof=1) / np.sqrt(len(y))) if len(y) > 1 else float("nan")
    return WinRate(float(y.mean()), error, len(y), int((y > 0.5).sum()), int((y < 0.5).sum()), int((y == 0.5).sum()))


def length_controlled(
    preferences: FloatArray,  # (n,) in 0..1
    model_chars: IntArray,  # (n,)
    reference_chars: IntArray,  # (n,)
) -> LengthControlled:
    """The win rate with the judge's liking for longer (or shorter) outputs taken out.

    A logistic regression of the preference y (soft labels too) on x = tanh(d/s), where d is the model's characters less the
    reference's and s their sample standard deviation: logit p = a + b·x. At equal lengths x = 0, so the rate is sigmoid(a).
    b has the penalty RIDGE/2·b², a has none.

    `pseudo_values` are the rate plus n times each item's influence on it. They sum to n times the rate (the intercept carries no
    penalty, and that of b is spread evenly), and the standard error of their mean is the sandwich estimate. Paired statistics
    need them: y − (p − sigmoid(a)) has the same mean but takes both coefficients for known, and where outputs differ in length
    on the whole the rate is an extrapolation: for gpt4 on the published annotations, 2.9 points where that says 0.6. s is
    taken for known.

    Raises:
        ValueError: arrays of different lengths, none at all, a preference outside 0..1, or a negative count.

    Source: AlpacaEval 2's length-controlled win rate (arXiv:2404.04475; glm_winrate.py of alpaca-eval 0.6.6). We differ: no
    term for an instruction's difficulty, which was estimated from other models and has to be downloaded, hence no further
    data that pull b towards theirs either; a fixed ridge where they choose an L1 penalty by cross-validation.
    """
    y = _checked(preferences)
    difference = _difference(model_chars, reference_chars, len(y))
    plain = win_rate(y)
    reason = _why_not(y, difference)
    if reason:
        return LengthControlled(plain.win_rate, plain.standard_error, y, None, reason)
    x = np.tanh(difference / difference.std(ddof=1))
    design = np.column_stack([np.ones_like(x), x])  # (n, 2)
    a, b = _fit(y, design)
    rate = float(expit(a))
    residuals = y - expit(a + b * x)  # (n,)
    pseudo_values = rate + _influence(residuals, design, a, b)
    error = float(pseudo_values.std(ddof=1) / np.sqrt(len(y)))
    return LengthControlled(rate, error, pseudo_values, float(b), "")


def _checked(preferences: FloatArray) -> FloatArray:
    """Preferences as they should be."""
    y = np.asarray(preferences, dtype=np.float64)
    if y.ndim != 1 or len(y) == 0:
        raise ValueError(f"preferences have the shape {y.shape}; expected (n,) with n > 0: were any pairs judged?")
    wrong = y[~((y >= 0) & (y <= 1))]  # NaN is wrong too
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} preferences are outside 0..1, such as {wrong[0]}; "
            "drop pairs without a verdict, and take 1 from AlpacaEval's 1..2"
        )
    return y


def _difference(model_chars: IntArray, reference_chars: IntArray, n: int) -> FloatArray:
    """Characters of the model's outputs less the reference's."""
    model, reference = np.asarray(model_chars), np.asarray(reference_chars)
    if model.shape != (n,) or reference.shape != (n,):
        raise ValueError(
            f"{n} preferences with lengths of shape {model.shape} and {reference.shape}; expected one of each an item"
        )
    if min(model.min(), reference.min()) < 0:
        raise ValueError("an output's length is negative; expected its number of characters")
    return model.astype(np.float64) - reference.astype(np.float64)


def _why_not(y: FloatArray, difference: FloatArray) -> str:
    """Why length cannot be controlled for; empty if it can."""
    if not ONE_SIDED < float(y.mean()) < 1 - ONE_SIDED:
        return "every preference is on one side, so that nothing tells what length does; this is the plain win rate"
    if np.ptp(difference) == 0:
        return "the difference in length is the same everywhere, so that its effect cannot be seen; this is the plain win rate"
    return ""


def _fit(y: FloatArray, design: FloatArray) -> FloatArray:
    """Intercept and coefficient that minimise log loss plus RIDGE/2 · coefficient²: Newton's method, steps halved if too long.

    The loss is strictly convex and, unless all preferences are on one side, has a minimum.
    """
    penalty = np.array([0.0, RIDGE])

    def loss(beta: FloatArray) -> float:
        eta = design @ beta
        return float((np.logaddexp(0, eta) - y * eta).sum() + (penalty * beta**2).sum() / 2)

    beta = np.array([logit(y.mean()), 0.0])
    for _ in range(200):
        gradient = design.T @ (expit(design @ beta) - y) + penalty * beta
        if np.abs(gradient).max() < 1e-11 * len(y):
            return beta
        step = np.linalg.solve(_hessian(design, beta), gradient)
        size = 1.0
        limit = loss(beta) * (1 + 1e-12)  # rounding must not shorten the last steps
        while size > 1e-6 and loss(beta - size * step) > limit:
            size /= 2
        beta = beta - size * step
    raise RuntimeError(f"the length-controlled regression of {len(y)} preferences did not converge; please report it")


def _hessian(design: FloatArray, beta: FloatArray) -> FloatArray:
    """(2, 2) second derivatives of the penalised loss."""
    p = expit(design @ beta)
    hessian: FloatArray = design.T @ (design * (p * (1 - p))[:, None]) + np.diag([0.0, RIDGE])
    return hessian


def _influence(residuals: FloatArray, design: FloatArray, a: float, b: float) -> FloatArray:
    """(n,) n times each item's influence on sigmoid(a), summing to 0: the terms of the sandwich estimate."""
    n = len(residuals)
    scores = residuals[:, None] * design - np.array([0.0, RIDGE * b / n])  # (n, 2), columns sum to 0
    rate = expit(a)
    influence: FloatArray = n * rate * (1 - rate) * np.linalg.solve(_hessian(design, np.array([a, b])), scores.T)[0]
    return influence
