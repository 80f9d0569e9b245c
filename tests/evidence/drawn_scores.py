"""Randomly drawn scores with a known truth, to check the intervals of the report.

A setting defines the variation of items, seeds and the rest. A drawing has scores (seeds, items) of two strategies at three
budgets, and the true differences. Binary settings convert the same sum to a probability by a logistic curve, and draw each
score as 0 or 1.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from reports.statistics import Arm

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BUDGETS = (128, 256, 512)
GAP = (
    0.02  # true difference at every budget of the settings that are not binary; in latent units, 0.15, for binary ones
)


class Setting(NamedTuple):
    """Standard deviations in units of the score, or of the logit for binary scores."""

    name: str
    sizes: tuple[int, ...] = (20,) * 24  # items per task
    item: float = 0.4  # what makes an item easy or hard for all arms
    item_arm: float = 0.0  # the same for one arm only; a difference of arms keeps it
    seed: float = 0.0
    seed_task: float = 0.0
    rest: float = 0.4
    shared: float = 0.0  # correlation of the seeds' effects between the two arms
    is_binary: bool = False
    is_paired: bool = True  # False: each arm has seeds of its own

    @property
    def tasks(self) -> IntArray:
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


LAB = Setting("like the lab: seeds four times the rest", item_arm=0.08, seed=0.025, seed_task=0.08, rest=0.34)
SETTINGS = (
    Setting("rest only: no seed effect, no item effect"),
    Setting("items and rest, no seed effect", item_arm=0.3),
    Setting("small seed effects", item_arm=0.2, seed=0.008),
    Setting("seeds as large as the rest", seed=0.018),
    LAB,
    LAB._replace(name="like the lab, each arm with its own seeds", is_paired=False),
    Setting("seeds only", seed=0.05, rest=0.02),
    Setting("seed × task only", seed_task=0.15, item_arm=0.1, rest=0.3),
    Setting("arms correlated through their seeds", seed=0.05, seed_task=0.05, shared=0.9, item_arm=0.1),
    Setting("tasks of 3 to 150 items", sizes=(3, 5, 8, 12, 20, 40, 80, 150), item_arm=0.2, seed=0.02, seed_task=0.05),
    Setting("three items a task", sizes=(3,) * 24, item_arm=0.2, seed=0.02, seed_task=0.05),
    Setting("binary, no seed effect", item=1.5, item_arm=0.5, rest=0, is_binary=True),
    Setting("binary, seeds and seed × task", item=1.5, item_arm=0.3, seed=0.2, seed_task=0.4, rest=0, is_binary=True),
    Setting("binary, four items a task", (4,) * 24, item=1.5, item_arm=0.3, seed=0.2, rest=0, is_binary=True),
)


class Drawn(NamedTuple):
    """Scores of two strategies by budget, and the true difference, first minus second."""

    first: dict[int, Arm]
    second: dict[int, Arm]
    truth: float  # at every budget, and under the curve


def draw(setting: Setting, seeds_n: int, generator: np.random.Generator) -> Drawn:
    """Draw the scores of two strategies at `BUDGETS`. Half of a seed's effect is the same at every budget of an arm."""
    tasks, budgets_n = setting.tasks, len(BUDGETS)
    levels = _levels(setting)  # (2, tasks)
    latent = levels[:, None, None, tasks] + setting.item * generator.normal(size=len(tasks))
    if setting.item_arm:
        latent = latent + setting.item_arm * generator.normal(size=(2, 1, 1, len(tasks)))
    latent = latent + setting.seed * _effects(generator, (budgets_n, seeds_n, 1), setting.shared)
    if setting.seed_task:
        by_task = _effects(generator, (budgets_n, seeds_n, len(setting.sizes)), setting.shared)
        latent = latent + setting.seed_task * by_task[..., tasks]
    if setting.is_binary:
        scores = (generator.random(latent.shape) < expit(latent)).astype(np.float64)
    else:
        scores = latent + setting.rest * generator.normal(size=(2, budgets_n, seeds_n, len(tasks)))
    seeds = tuple(range(seeds_n)), tuple(range(100 * (not setting.is_paired), seeds_n + 100 * (not setting.is_paired)))
    first, second = ({budget: Arm(scores[arm, b], seeds[arm]) for b, budget in enumerate(BUDGETS)} for arm in range(2))
    return Drawn(first, second, truth(setting))


def truth(setting: Setting) -> float:
    """Return the true macro difference. For binary scores, it is a mean over all random effects, computed by quadrature."""
    levels = _levels(setting)
    if not setting.is_binary:
        return float((levels[0] - levels[1]).mean())
    spread = np.sqrt(setting.item**2 + setting.item_arm**2 + setting.seed**2 + setting.seed_task**2)
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    means = (expit(levels[..., None] + spread * points) * weights).sum(axis=-1) / weights.sum()
    return float((means[0] - means[1]).mean())


def _levels(setting: Setting) -> FloatArray:
    """Return the mean of each arm in each task, without items and seeds: (2, tasks)."""
    span, gap = (1.5, 0.15) if setting.is_binary else (0.2, GAP)
    own = np.linspace(-span, span, len(setting.sizes)) + (0.5 if not setting.is_binary else 0.3)
    return np.stack([own + gap, own])


def _effects(generator: np.random.Generator, shape: tuple[int, ...], shared: float) -> FloatArray:
    """Draw standard normal effects of two arms, (2, budgets, …), correlated `shared` between arms and 0.5 between budgets."""
    own = generator.normal(size=(2, *shape)) + generator.normal(size=(2, 1, *shape[1:]))
    both = generator.normal(size=shape) + generator.normal(size=(1, *shape[1:]))
    return np.asarray((np.sqrt(1 - shared) * own + np.sqrt(shared) * both) / np.sqrt(2))


class Curve(NamedTuple):
    """A true learning curve `own`, which is compared with the score of `reference` at its largest budget."""

    name: str
    own: tuple[float, ...]  # mean score at each of CURVE_BUDGETS
    reference: float
    noise: float = 1.0  # factor on every standard deviation
    seeds_n: int = 5
    smooth_n: float | None = None  # where the smooth curve, not the line through the budgets, reaches the reference


def saturating(start: float, end: float, rate: float) -> tuple[float, ...]:
    """Return a curve whose distance to `end` falls by a constant share with every doubling of the budget."""
    return tuple(end - (end - start) * float(np.exp(-rate * step)) for step in range(len(CURVE_BUDGETS)))


def smooth_crossing(start: float, end: float, rate: float, goal: float) -> float:
    """Return the budget at which the curve of `saturating` reaches `goal`. It may be between two budgets of the curve."""
    return float(CURVE_BUDGETS[0] * 2.0 ** (np.log((end - start) / (end - goal)) / rate))


CURVE_BUDGETS = (128, 256, 512, 1024, 2048)
RANDOM_CURVE = saturating(0.55, 0.80, 0.5)
SATURATING = Curve(
    "saturating, higher start",
    saturating(0.62, 0.82, 0.6),
    RANDOM_CURVE[-1],
    smooth_n=smooth_crossing(0.62, 0.82, 0.6, RANDOM_CURVE[-1]),
)
CURVES = (
    SATURATING,
    SATURATING._replace(name="the same, three seeds", seeds_n=3),
    SATURATING._replace(name="the same, noise doubled", noise=2.0),
    SATURATING._replace(name="the same, a third of the noise", noise=1 / 3),
    Curve(
        "a little above random",
        saturating(0.57, 0.81, 0.5),
        RANDOM_CURVE[-1],
        smooth_n=smooth_crossing(0.57, 0.81, 0.5, RANDOM_CURVE[-1]),
    ),
    Curve("the same curve as random", RANDOM_CURVE, RANDOM_CURVE[-1]),
    Curve("crosses: above random early, below late", saturating(0.64, 0.73, 0.6), RANDOM_CURVE[-1]),
    Curve("rises over the target and falls back", (0.60, 0.72, 0.82, 0.78, 0.70), RANDOM_CURVE[-1]),
    Curve("flat, at the target", (RANDOM_CURVE[-1],) * 5, RANDOM_CURVE[-1]),
    Curve("flat, below by 0.02", (RANDOM_CURVE[-1] - 0.02,) * 5, RANDOM_CURVE[-1]),
)


def draw_curve(curve: Curve, generator: np.random.Generator) -> tuple[dict[int, Arm], Arm, IntArray]:
    """Draw scores of the strategy's curve and of the reference, with noise like the lab's, and return them with the task codes.

    There are a quarter of the lab's items, and each has half the standard deviation. So the noise of the mean is the same, with
    less computation.
    """
    tasks = np.repeat(np.arange(24), 10)
    means = np.array([*curve.own, curve.reference])
    shape = (len(means), curve.seeds_n)
    item = generator.normal(0, 0.2, len(tasks)) + generator.normal(0, 0.04, (len(means), 1, len(tasks)))
    seed = generator.normal(0, 0.012, (*shape, 1)) + generator.normal(0, 0.055, (*shape, 24))[..., tasks]
    rest = generator.normal(0, 0.12, (*shape, len(tasks)))
    scores = means[:, None, None] + curve.noise * (item + seed + rest)
    seeds = tuple(range(curve.seeds_n))
    arms = {budget: Arm(scores[b], seeds) for b, budget in enumerate(CURVE_BUDGETS)}
    return arms, Arm(scores[-1], seeds), tasks


def crossing(curve: Curve) -> float | None:
    """Return the budget at which the line through the true means first reaches the reference; None if it does not."""
    for step, score in enumerate(curve.own):
        if score >= curve.reference - 1e-12:
            if step == 0:
                return float(CURVE_BUDGETS[0])
            below = curve.own[step - 1]
            share = (curve.reference - below) / (score - below)
            return float(CURVE_BUDGETS[step - 1] * 2.0**share)
    return None
