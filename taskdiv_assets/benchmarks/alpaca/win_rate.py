"""Compute two win rates: the mean preference for the model's output, and an estimate of this mean for outputs of equal length.

Rates are in 0..1. Each call covers one model; `reports.length_adjusted` uses all judged models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RIDGE = 1.0  # penalty RIDGE/2 · coefficient², a standard normal prior; it matters only for few or separable items
ONE_SIDED = 1e-6  # no fit if the mean preference is this close to 0 or 1


class WinRate(NamedTuple):
    """A plain win rate."""

    win_rate: float  # 0..1; a tie counts as one half
    standard_error: float  # over instructions; NaN for one item
    n: int
    wins_n: int  # preferences above 0.5
    losses_n: int
    ties_n: int


class LengthControlled(NamedTuple):
    """A win rate that is predicted for outputs of equal length."""

    win_rate: float  # 0..1
    standard_error: float  # over instructions, includes the uncertainty of the coefficients; NaN for one item
    pseudo_values: FloatArray  # (n,) their mean is win_rate, their spread gives standard_error
    length_coefficient: float | None  # of tanh(difference in length / its standard deviation); None if not fitted
    reason: str  # reason why the plain rate is used; empty if the regression was fitted


class Difficulty(NamedTuple):
    """Published difficulties of the judged instructions, and verdicts that stabilise the fit."""

    of_item: FloatArray  # (n,) one for each preference, in the unit of AlpacaEval's file
    steady_y: FloatArray = np.empty(0)  # (g,) preferences for outputs made long or short on purpose
    steady_x: FloatArray = np.empty(0)  # (g,) tanh of the standardised difference in length, output minus reference
    steady_difficulty: FloatArray = np.empty(0)  # (g,) difficulties of their instructions
    steady_weight: float = 0.0  # weight of each such verdict, relative to a verdict on the model's real output


def win_rate(preferences: FloatArray) -> WinRate:
    """Return the mean of preferences (n,) in 0..1, its standard error, and counts. A preference of 1 is for the model's output.

    Source: AlpacaEval's win_rate and standard_error (sample standard deviation over √n). AlpacaEval's values are 100 times ours.

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
    difficulty: Difficulty | None = None,
) -> LengthControlled:
    """Return the win rate without the judge's preference for longer (or shorter) outputs.

    The estimate is a logistic regression of the preference y on the difference in length d, the model's characters minus the
    reference's: logit p = a + b·tanh(d/s), or logit p = a + b·tanh(d/s) + c·g with difficulties g. p is the expected y, and s the
    sample standard deviation of d. The penalty is RIDGE/2 · (b² + c²). At equal lengths, the rate is sigmoid(a), or the mean of
    sigmoid(a + c·g). If the data do not show the effect of length, the result is the plain win rate, with a `reason`.

    A pseudo-value is an item's rate at equal lengths plus n times the item's influence on the mean rate. The mean of the
    pseudo-values is the rate, and the standard error of this mean is the sandwich estimate. The simpler values
    y − (p − sigmoid(a)) treat the coefficients as known: for gpt4 on the published annotations, the standard error is 2.9 points,
    and 0.6 points with the simpler values.

    Raises:
        ValueError: the arrays differ in length or are empty, a preference is outside 0..1, or a number of characters is negative.

    Source: AlpacaEval 2's length-controlled win rate (arXiv:2404.04475; glm_winrate.py of alpaca-eval 0.6.6). Our ridge penalty
    is fixed, but AlpacaEval chooses an L1 penalty by cross-validation. Without `difficulty`, our fit also lacks the term c·g, and
    the preferences for outputs made long or short on purpose, which stabilise AlpacaEval's fit.
    """
    y = _checked(preferences)
    difference = _difference(model_chars, reference_chars, len(y))
    plain = win_rate(y)
    reason = _why_not(y, difference)
    if reason:
        return LengthControlled(plain.win_rate, plain.standard_error, y, None, reason)
    x = np.tanh(difference / difference.std(ddof=1))
    data = _Data(y, np.column_stack([np.ones_like(x), x]), np.ones_like(x))
    at_equal_length = np.column_stack([np.ones_like(x), np.zeros_like(x)])
    if difficulty is not None:
        data = _with_difficulty(data, difficulty)
        at_equal_length = np.column_stack([at_equal_length, difficulty.of_item])
    beta = _fit(data)
    pseudo_values = _pseudo_values(data, beta, at_equal_length)
    error = float(pseudo_values.std(ddof=1) / np.sqrt(len(y)))
    rate = float(_expit(at_equal_length @ beta).mean())
    return LengthControlled(rate, error, pseudo_values, float(beta[1]), "")


class _Data(NamedTuple):
    """The data of a regression: first the rows of the judged items, then the rows that stabilise the fit."""

    y: FloatArray  # (r,)
    design: FloatArray  # (r, 2) intercept and length, or (r, 3) with difficulty
    weights: FloatArray  # (r,)

    @property
    def penalty(self) -> FloatArray:
        return np.array([0.0, *[RIDGE] * (self.design.shape[1] - 1)])


def _with_difficulty(data: _Data, difficulty: Difficulty) -> _Data:
    """Return the data with a column of difficulties and with the rows that stabilise the fit. These rows have no intercept."""
    if difficulty.of_item.shape != data.y.shape:
        raise ValueError(
            f"{len(data.y)} preferences with difficulties of shape {difficulty.of_item.shape}; expected one an item"
        )
    steady = [np.zeros_like(difficulty.steady_y), difficulty.steady_x, difficulty.steady_difficulty]
    return _Data(
        np.concatenate([data.y, difficulty.steady_y]),
        np.concatenate([np.column_stack([data.design, difficulty.of_item]), np.column_stack(steady)]),
        np.concatenate([data.weights, np.full(len(difficulty.steady_y), difficulty.steady_weight)]),
    )


def _checked(preferences: FloatArray) -> FloatArray:
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
    model, reference = np.asarray(model_chars), np.asarray(reference_chars)
    if model.shape != (n,) or reference.shape != (n,):
        raise ValueError(
            f"{n} preferences with lengths of shape {model.shape} and {reference.shape}; expected one of each an item"
        )
    if min(model.min(), reference.min()) < 0:
        raise ValueError("an output's length is negative; expected its number of characters")
    return model.astype(np.float64) - reference.astype(np.float64)


def _why_not(y: FloatArray, difference: FloatArray) -> str:
    if not ONE_SIDED < float(y.mean()) < 1 - ONE_SIDED:
        return "every preference is on one side, so that nothing tells what length does; this is the plain win rate"
    if np.ptp(difference) == 0:
        return "the difference in length is the same everywhere, so that its effect cannot be seen; this is the plain win rate"
    return ""


def _fit(data: _Data) -> FloatArray:
    """Return the coefficients that minimise the penalised log loss, by Newton's method. A step that increases the loss is halved.

    The loss is strictly convex and has a minimum unless all preferences are on one side.
    """
    from scipy.special import logit  # imported here: the import takes a sixth of a second

    y, design, weights, penalty = *data, data.penalty

    def loss(beta: FloatArray) -> float:
        eta = design @ beta
        return float((weights * (np.logaddexp(0, eta) - y * eta)).sum() + (penalty * beta**2).sum() / 2)

    beta = np.zeros(design.shape[1])
    beta[0] = logit(y[design[:, 0] == 1].mean())
    for _ in range(200):
        gradient = design.T @ (weights * (_expit(design @ beta) - y)) + penalty * beta
        if np.abs(gradient).max() < 1e-11 * len(y):
            return beta
        step = np.linalg.solve(_hessian(data, beta), gradient)
        size, limit = 1.0, loss(beta) * (1 + 1e-12)  # tolerance, so that rounding errors do not halve the last steps
        while size > 1e-6 and loss(beta - size * step) > limit:
            size /= 2
        beta = beta - size * step
    raise RuntimeError(f"the length-controlled regression of {len(y)} preferences did not converge; please report it")


def _expit(values: FloatArray) -> FloatArray:
    from scipy.special import expit

    shares: FloatArray = expit(values)
    return shares


def _hessian(data: _Data, beta: FloatArray) -> FloatArray:
    p = _expit(data.design @ beta)
    hessian: FloatArray = data.design.T @ (data.design * (data.weights * p * (1 - p))[:, None]) + np.diag(data.penalty)
    return hessian


def _pseudo_values(data: _Data, beta: FloatArray, at_equal_length: FloatArray) -> FloatArray:
    """Return the pseudo-values (n,): each item's rate plus n times its influence on the rate.

    The influence of penalties and of rows that stabilise the fit is divided equally among the items. So influences sum to 0.
    """
    n = len(at_equal_length)
    scores = (data.weights * (data.y - _expit(data.design @ beta)))[:, None] * data.design
    fixed = scores[n:].sum(axis=0) - data.penalty * beta
    own = _expit(at_equal_length @ beta)
    gradient = ((own * (1 - own))[:, None] * at_equal_length).mean(axis=0)
    values: FloatArray = own + n * (scores[:n] + fixed / n) @ np.linalg.solve(_hessian(data, beta), gradient)
    return values
