"""The detectable difference of two fixed runs, against simulation."""

import numpy as np

from reports.difference import Arm, Difference, compare
from reports.power import detectable


def run(generator: np.random.Generator, tasks: np.ndarray, difference: float) -> Difference:
    """Draw two runs with right-or-wrong scores on common items, and compare them."""
    hard = generator.normal(size=len(tasks))
    base = (hard + generator.normal(size=len(tasks)) > 0).astype(float)
    other = (hard + generator.normal(size=len(tasks)) > 0) + difference
    return compare(Arm(other[None]), Arm(base[None]), tasks)


def test_a_repetition_shows_the_detectable_difference_with_the_stated_probability() -> None:
    generator, tasks, shown, draws_n = np.random.default_rng(3), np.repeat([0, 1, 2], [20, 30, 50]), 0, 1500
    for _ in range(draws_n):
        difference = detectable(run(generator, tasks, 0.0))
        shown += run(generator, tasks, difference).verdict == "better"
    assert 0.77 <= shown / draws_n <= 0.83


def test_more_comparisons_need_a_larger_difference_and_more_power_too() -> None:
    gap = run(np.random.default_rng(1), np.repeat([0, 1], 50), 0.0)
    assert gap.is_of_runs and gap.parts is None
    assert detectable(gap) < detectable(gap, 2) < detectable(gap, 10)
    assert detectable(gap, power=0.6) < detectable(gap) < detectable(gap, power=0.9)
