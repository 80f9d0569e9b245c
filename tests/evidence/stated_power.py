"""The stated power, measured: how often a true difference of the size that `reports.power` states is shown.

Two runs are drawn for each draw. The first one states a detectable difference. The second one has this true difference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reports import statistics
from reports.power import design_of, detectable, detectable_with
from reports.statistics import Arm, Difference
from reports.variance import FloatArray, IntArray
from tests.evidence.simulations import LAB_NOISE, Share, share


class Noise(NamedTuple):
    """The noise of one kind of experiment: standard deviations by item, seed, seed × task, and the rest."""

    name: str
    item: float
    seed: float
    seed_task: float
    rest: float
    tasks_n: int
    items_each_n: int


LAB = Noise("the lab", *LAB_NOISE, 24, 40)
NOISES = (
    LAB,
    Noise("no effect of seeds", 0.34, 0.0, 0.0, 0.24, 24, 40),
    Noise("large effect of seeds", 0.3, 0.03, 0.05, 0.2, 24, 40),
    Noise("few items", 0.3, 0.01, 0.05, 0.3, 6, 15),
)


class Powered(NamedTuple):
    """The measured power of one setting. `stated` is the mean of the stated differences."""

    noise: Noise
    seeds_n: int
    comparisons_n: int  # 0: not corrected
    stated: float
    shown: Share


def powered(
    noise: Noise,
    seeds_n: int,
    comparisons_n: int,
    draws_n: int,
    generator: np.random.Generator,
    *,
    planned: bool = False,
) -> Powered:
    """Measure the power of a stated difference. If `planned`, a run of five seeds states it for a run of `seeds_n` seeds."""
    arms_n = max(2, comparisons_n + 1)
    tasks = np.repeat(np.arange(noise.tasks_n), noise.items_each_n)
    stated, shown = [], []
    for _ in range(draws_n):
        first = _gap(*_drawn(noise, 2, 5 if planned else seeds_n, tasks, generator), tasks)
        design = design_of(first)
        if planned and design is not None:
            size = detectable_with(design, seeds_n, len(tasks))
        else:
            size = detectable(first, comparisons_n)
        reference, *others = _drawn(noise, arms_n, seeds_n, tasks, generator)
        gaps = [
            _gap(reference, Arm(arm.scores + size * (place == 0), arm.seeds), tasks) for place, arm in enumerate(others)
        ]
        adjusted = statistics.holm([gap.p_value_cautious for gap in gaps])[0] if comparisons_n else gaps[0].p_value
        stated.append(size)
        shown.append(bool(adjusted < 0.05))
    return Powered(noise, seeds_n, comparisons_n, float(np.mean(stated)), share(shown))


def _gap(reference: Arm, arm: Arm, tasks: IntArray) -> Difference:
    return statistics.compare(arm, reference, tasks)


def _drawn(noise: Noise, arms_n: int, seeds_n: int, tasks: IntArray, generator: np.random.Generator) -> list[Arm]:
    """Draw arms with equal means. The items' difficulties are the same for all arms, and half of their variance is the arm's own."""
    items, shape = len(tasks), (arms_n, seeds_n)

    def normal(*size: int) -> FloatArray:
        return np.asarray(generator.normal(size=size))

    scores = noise.item * normal(items) + noise.item / 4 * normal(arms_n, 1, items) + noise.rest * normal(*shape, items)
    scores = scores + noise.seed * normal(*shape, 1) + noise.seed_task * normal(*shape, noise.tasks_n)[..., tasks]
    return [Arm(rows, tuple(range(seeds_n))) for rows in scores]
