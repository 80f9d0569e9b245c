"""Win rates at equal length, estimated for all judged models together.

A judge's preference depends on the model, on the difference in length, and on the difficulty of the instruction. Verdicts on
one model cannot separate the effects of length and difficulty; verdicts on several models can. If the difficulties come from
AlpacaEval's file, the estimates of `taskdiv_assets.benchmarks.alpaca.win_rate` are used instead.
"""

import numpy as np
from scipy.special import expit, logit

from reports.variance import FloatArray

RIDGE = 1.0  # priors with variance 1: length coefficients around 0, sensitivities to difficulty around 1
NODES = np.linspace(-4.5, 4.5, 41)  # grid of an instruction's difficulty, in standard deviations
_DENSITY = np.exp(-(NODES**2) / 2)
WEIGHTS = _DENSITY / _DENSITY.sum()
BLOCK = 2**21  # numbers in memory at once
STEPS_MOST_N = 200
ONE_SIDED = 1e-6  # a mean preference closer to 0 or 1 cannot be fitted


def can_be_fitted(preferences: FloatArray, differences: FloatArray) -> np.ndarray:
    """Return a mask (M,) of the models whose differences in length vary, and whose mean preference is not close to 0 or 1."""
    means = preferences.mean(axis=1)
    return np.asarray((means > ONE_SIDED) & (means < 1 - ONE_SIDED) & (np.ptp(differences, axis=1) > 0))


def joint_pseudo_values(
    preferences: FloatArray,  # (M, n) in 0..1, M ≥ 2; 1: the model's output is preferred; all rows pass `can_be_fitted`
    differences: FloatArray,  # (M, n) characters of the model's output minus those of the reference's output
) -> FloatArray:  # (M, n)
    """Estimate the models' win rates at equal length, and return a pseudo-value for each model and item.

    The regression is logit p_mi = a_m + b_m·tanh(d_mi / s_m) + c_m·g_i, for model m and instruction i. d is the difference in
    length, and s_m is the sample standard deviation of d for model m. g_i is the difficulty of instruction i for all models.
    Difficulties have a standard normal distribution. They are integrated out on a grid, so that a few models do not overfit
    them. The win rate of model m is the mean of sigmoid(a_m + c_m·g) over this distribution. The penalties are RIDGE/2·b² and
    RIDGE/2·(c − 1)².

    The mean of a row of pseudo-values is the win rate of the model. The spread of the row gives the sandwich standard error. This
    error includes the uncertainty of all coefficients and difficulties, but not of s.

    Difficulties are assumed to be independent of the differences in length. If all models write longer outputs on easy
    instructions, part of the difficulty counts as an effect of length (simulated: 2 to 3 points).

    Source: the regression of AlpacaEval 2 (arXiv:2404.04475); marginal likelihood as in Bock and Aitkin, Psychometrika 46
    (1981) 443. Our change: difficulties come from the models of the experiment, not from a fit of the leaderboard's models.

    Raises:
        ArithmeticError: the fit did not converge.
    """
    y, first, back = _distinct(preferences, differences)
    x = np.tanh(differences[first] / differences[first].std(axis=1, ddof=1, keepdims=True))
    beta = _fit(y, x)
    _, hessian, scores = _derivatives(y, x, beta)
    m, n = y.shape
    p = expit(beta[:, 0, None] + beta[:, 2, None] * NODES)  # (M, K) at equal length
    slope = WEIGHTS * p * (1 - p)
    gradient = np.zeros((m, 3, m))
    gradient[np.arange(m), 0, np.arange(m)] = slope.sum(axis=1)
    gradient[np.arange(m), 2, np.arange(m)] = slope @ NODES
    per_score = np.linalg.solve(hessian, gradient.reshape(3 * m, m))  # (3M, M)
    influence = n * (scores - _penalty_gradient(beta).ravel() / n) @ per_score  # (n, M), columns sum to 0
    return np.asarray(((p @ WEIGHTS)[:, None] + influence.T)[back], dtype=np.float64)


def _distinct(preferences: FloatArray, differences: FloatArray) -> tuple[FloatArray, np.ndarray, np.ndarray]:
    """Merge models with equal preferences and differences.

    Return the preferences of the D distinct models (D, n), the place of each of them in the input (D,), and the place of each
    input model among the distinct ones (M,).
    """
    both = np.concatenate([preferences, differences], axis=1)
    _, first, back = np.unique(both, axis=0, return_index=True, return_inverse=True)
    return np.asarray(preferences[first], dtype=np.float64), first, back.reshape(-1)


def _fit(y: FloatArray, x: FloatArray) -> FloatArray:
    """Minimise the penalised negative log-likelihood by a damped Newton method, and return the coefficients: (M, 3)."""
    beta = np.column_stack([logit(y.mean(axis=1)), np.zeros(len(y)), np.ones(len(y))])
    loss, hessian, scores = _derivatives(y, x, beta)
    damping = 1e-3
    for _ in range(STEPS_MOST_N):
        gradient = _penalty_gradient(beta).ravel() - scores.sum(axis=0)
        if np.abs(gradient).max() < 1e-9 * y.shape[1]:
            return beta
        damped = hessian + damping * np.diag(np.abs(np.diag(hessian)) + 1)
        try:
            step = np.linalg.solve(damped, gradient)
        except np.linalg.LinAlgError:
            step = np.full(len(gradient), np.inf)
        tried = beta - step.reshape(beta.shape)
        new = _derivatives(y, x, tried) if np.abs(step).max() < 1e3 else (np.inf, hessian, scores)
        if new[0] <= loss * (1 + 1e-13):
            beta, (loss, hessian, scores) = tried, new
            damping = damping / 10 if damping > 1e-12 else 0.0
        else:
            damping = max(damping, 1e-6) * 10
    raise ArithmeticError(f"the win rates of {len(y)} models at equal length did not converge in {STEPS_MOST_N} steps")


def _derivatives(y: FloatArray, x: FloatArray, beta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return the loss, its second derivatives (3M, 3M), and the gradient of each item's log-likelihood (n, 3M)."""
    m, n = y.shape
    loss = RIDGE / 2 * float((beta[:, 1] ** 2).sum() + ((beta[:, 2] - 1) ** 2).sum())
    hessian = np.diag(np.tile([0.0, RIDGE, RIDGE], m))
    scores = np.empty((n, 3 * m))
    step = max(1, BLOCK // (3 * m * len(NODES)))
    for start in range(0, n, step):
        part = slice(start, start + step)
        likelihood, curvature, scores[part] = _block(y[:, part], x[:, part], beta)
        loss -= likelihood
        hessian += curvature
    return loss, hessian, scores


def _block(y: FloatArray, x: FloatArray, beta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return log-likelihood, observed information and gradients of some items (Louis, J. R. Stat. Soc. B 44 (1982) 226)."""
    m, n = y.shape
    fixed = beta[:, 0, None] + beta[:, 1, None] * x  # (M, n)
    eta = fixed.T[:, None, :] + beta[:, 2] * NODES[:, None]  # (n, K, M)
    p = expit(eta)
    logs = (y.T[:, None, :] * eta - np.logaddexp(0, eta)).sum(axis=2) + np.log(WEIGHTS)  # (n, K)
    most = logs.max(axis=1, keepdims=True)
    posterior = np.exp(logs - most)
    total = posterior.sum(axis=1, keepdims=True)
    posterior /= total
    residuals = y.T[:, None, :] - p
    each = np.empty((n, len(NODES), m, 3))  # the gradient for a given difficulty
    each[..., 0] = residuals
    np.multiply(residuals, x.T[:, None, :], out=each[..., 1])
    np.multiply(residuals, NODES[:, None], out=each[..., 2])
    flat = each.reshape(n, len(NODES), 3 * m)
    scores = (posterior[:, None, :] @ flat)[:, 0]
    flat -= scores[:, None, :]
    flat *= np.sqrt(posterior)[..., None]
    spread = flat.reshape(-1, 3 * m)
    curvature = -(spread.T @ spread)
    known = np.stack([posterior * NODES**power for power in range(3)], axis=1) @ (p * (1 - p))  # (n, 3, M)
    level, tilt, square = known[:, 0].T, known[:, 1].T, known[:, 2].T  # (M, n)
    entries = [[level, level * x, tilt], [level * x, level * x**2, tilt * x], [tilt, tilt * x, square]]
    blocks = curvature.reshape(m, 3, m, 3)
    for i, row in enumerate(entries):
        for j, entry in enumerate(row):
            blocks[np.arange(m), i, np.arange(m), j] += entry.sum(axis=1)
    return float((most + np.log(total)).sum()), curvature, scores


def _penalty_gradient(beta: FloatArray) -> FloatArray:
    return RIDGE * np.column_stack([np.zeros(len(beta)), beta[:, 1], beta[:, 2] - 1])
