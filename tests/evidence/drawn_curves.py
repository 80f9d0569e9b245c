"""Randomly drawn learning curves with a known truth, to check forecasts: several shapes, with noise like the lab's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from reports.statistics import Arm
from tests.evidence.drawn_scores import FloatArray, IntArray

RISE = 0.1  # from the smallest to the largest scored budget; shapes without a rise ignore it
START = 0.6
TASKS_N, ITEMS_EACH_N = 24, 10
FACTORS = (1.5, 2.0)  # forecast budgets, times the largest scored one
# A quarter of the lab's items, each with half the standard deviation (as in `drawn_scores.draw_curve`): item, item × budget,
# seed, seed × task, rest.
LAB_NOISE = (0.2, 0.04, 0.012, 0.055, 0.12)


class Shape(NamedTuple):
    """A true learning curve. `score` is a function of the budget in units of the smallest one."""

    name: str
    score: Callable[[FloatArray], FloatArray]
    rise: float = RISE


def _s_shape(middle: float) -> Callable[[FloatArray], FloatArray]:
    return lambda n: 1 / (1 + (middle / n) ** 2)


SHAPES = (
    Shape("power law, exponent 0.3", lambda n: -(n**-0.3)),
    Shape("power law, exponent 0.8", lambda n: -(n**-0.8)),
    Shape("straight line on log labels", np.log),
    Shape("the same, three times as steep", np.log, 3 * RISE),
    Shape("flat", lambda n: 0 * n, 0.0),
    Shape("rises, then a plateau from 2.5 on", lambda n: np.minimum(np.log(n), np.log(2.5))),
    Shape("exponential", lambda n: -np.exp(-n / 2.5)),
    Shape("S-shape, middle at 3", _s_shape(3.0)),
    Shape("S-shape, middle at 8", _s_shape(8.0)),
    Shape("rises to 4, then falls", lambda n: -(np.log(n / 4) ** 2)),
)
LADDERS = (
    (1.0, 2.0, 4.0),
    (1.0, 2.0, 4.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
)  # budgets in units of the smallest
UNIT_N = 64


class Drawn(NamedTuple):
    """Scores at the budgets so far, the measured means at the forecast budgets, and the true gains there."""

    curve: dict[int, Arm]
    targets: tuple[int, ...]
    measured: FloatArray  # (targets,) gain of the measured means
    true: FloatArray  # (targets,)


def tasks() -> IntArray:
    return np.repeat(np.arange(TASKS_N), ITEMS_EACH_N)


def draw(
    shape: Shape, ladder: tuple[float, ...], seeds_n: int, generator: np.random.Generator, *, noise: float = 1.0
) -> Drawn:
    """Draw item scores. Half of a seed's effect is the same at every budget; `noise` is a factor on every standard deviation."""
    budgets = np.array([*ladder, *(factor * ladder[-1] for factor in FACTORS)])
    values = shape.score(budgets)
    span = float(np.ptp(values[: len(ladder)])) or 1.0
    means = START + shape.rise * (values - values[0]) / span
    item, item_budget, seed, seed_task, rest = LAB_NOISE
    of_item, size = tasks(), (len(budgets), seeds_n)

    def effects(width: int) -> FloatArray:
        own, once = generator.normal(size=(*size, width)), generator.normal(size=(1, seeds_n, width))
        return np.asarray((own + once) / np.sqrt(2))

    deviations = item * generator.normal(size=len(of_item)) + rest * generator.normal(size=(*size, len(of_item)))
    deviations += item_budget * generator.normal(size=(len(budgets), 1, len(of_item)))
    deviations += seed * effects(1) + seed_task * effects(TASKS_N)[..., of_item]
    scores = means[:, None, None] + noise * deviations
    numbers = [round(UNIT_N * budget) for budget in budgets]
    seen = len(ladder)
    curve = {n: Arm(rows, tuple(range(seeds_n))) for n, rows in zip(numbers[:seen], scores, strict=False)}
    averages = scores.mean(axis=(1, 2))  # tasks have equal sizes
    gains = averages[seen:] - averages[seen - 1], means[seen:] - means[seen - 1]
    return Drawn(curve, tuple(numbers[seen:]), *gains)
