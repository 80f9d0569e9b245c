"""Win rates at equal length, estimated for all judged models together: arrays in, arrays out.

A judge's preference depends on the model, on the difference in length and on the instruction; some instructions are easy for
every model. One model's verdicts cannot separate the last two, several models' can. If the difficulties are known from a file,
this module is not used (`taskdiv_assets.benchmarks.alpaca.win_rate`). `judged` reads and names the numbers.
"""

import numpy as np
from scipy.special import expit, logit

from reports.variance import FloatArray

RIDGE = 1.0  # standard normal priors: of a length coefficient around 0, of a sensitivity to difficulty around 1
NODES = np.linspace(-4.5, 4.5, 41)  # of an instruction's difficulty, in its standard deviations
_DENSITY = np.exp(-(NODES**2) / 2)
WEIGHTS = _DENSITY / _DENSITY.sum()
BLOCK = 2**21  # numbers held at once
STEPS_MOST_N = 200
ONE_SIDED = 1e-6  # a mean preference this near to 0 or 1 leaves nothing to fit


def can_be_fitted(preferences: FloatArray, differences: FloatArray) -> np.ndarray:
    """Return for each model whether its preferences and its differences in length vary: (M,) booleans.

    Args:
        preferences: (M, n) in 0..1.
        differences: (M, n) characters of the model's output minus the reference's.
    """
    means = preferences.mean(axis=1)
    found: np.ndarray = (means > ONE_SIDED) & (means < 1 - ONE_SIDED) & (np.ptp(differences, axis=1) > 0)
    return found


def joint_pseudo_values(preferences: FloatArray, differences: FloatArray) -> FloatArray:
    """Return each item's pseudo-value of each model's win rate at equal length: (M, n).

    The model for the preference of model m on instruction i is logit p = a_m + b_m·tanh(d_mi / s_m) + c_m·g_i. d is the
    difference in length, s its sample standard deviation, and g_i the instruction's difficulty, the same for all models.
    Difficulties are standard normal and integrated out on a grid, so that few models do not overfit them. The rate is the mean
    of sigmoid(a_m + c_m·g) over them. b has the penalty RIDGE/2·b², c has RIDGE/2·(c − 1)².

    Difficulties are assumed independent of the differences in length. If instructions that are easy for all models also draw
    longer outputs from all of them, part of the difficulty is counted as an effect of length (simulated: 2 to 3 points).

    A row's mean is the model's rate. The spread over items gives the sandwich standard error, which includes the uncertainty of
    all coefficients and of the difficulties. s is treated as known.

    Args:
        preferences: (M, n) in 0..1, 1: the model's output is preferred; every row passes `can_be_fitted`, M ≥ 2.
        differences: (M, n) characters.

    Raises:
        ArithmeticError: the fit did not converge.

    Source: the regression of AlpacaEval 2 (arXiv:2404.04475); marginal likelihood as in Bock and Aitkin, Psychometrika 46
    (1981) 443. We differ: their difficulties come from one fit over the leaderboard's models and are downloaded, ours from
    the experiment's own models.
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
    """Return the preferences of the distinct models, their rows, and the model of every row: a copy is no evidence."""
    both = np.concatenate([preferences, differences], axis=1)
    _, first, back = np.unique(both, axis=0, return_index=True, return_inverse=True)
    return np.asarray(preferences[first], dtype=np.float64), first, back.reshape(-1)


def _fit(y: FloatArray, x: FloatArray) -> FloatArray:
    """Return the coefficients (M, 3) that minimise the penalised negative log-likelihood, by Newton's method with damping."""
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
    """Return the loss, its second derivatives (3M, 3M) and each item's score (n, 3M) of the log-likelihood."""
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
    """Return log-likelihood, observed information and scores of some items (Louis, J. R. Stat. Soc. B 44 (1982) 226)."""
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
    each = np.empty((n, len(NODES), m, 3))  # the score, were the difficulty known
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
