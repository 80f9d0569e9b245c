"""The verdict on the committed hyper-parameters, on invented scores."""

import numpy as np
import pytest

from tests.evidence.choose_tuning import Judged, compare


def judged(means: dict[tuple[float, int], float], noise: float = 0.0) -> list[Judged]:
    """Scores of 2 strategies, 3 budgets, 2 seeds and 480 items around a mean."""
    draw = np.random.default_rng(2)
    return [Judged(setting, mean + noise * draw.standard_normal((2, 3, 2, 480))) for setting, mean in means.items()]


def test_the_best_holds_itself():
    verdict = compare(judged({(1e-3, 8): 0.6, (2e-3, 8): 0.5}), (1e-3, 8))
    assert verdict.best == (1e-3, 8) and verdict.difference == 0 and verdict.holds


def test_a_clear_loser_does_not_hold():
    verdict = compare(judged({(1e-3, 8): 0.6, (2e-3, 8): 0.5}, noise=0.1), (2e-3, 8))
    assert verdict.difference == pytest.approx(0.1, abs=0.01) and not verdict.holds


def test_a_difference_within_noise_holds():
    verdict = compare(judged({(1e-3, 8): 0.501, (2e-3, 8): 0.5}, noise=0.5), (2e-3, 8))
    assert verdict.holds and verdict.standard_error > 0.005


def test_a_setting_outside_the_grid():
    with pytest.raises(ValueError, match="not in the grid"):
        compare(judged({(1e-3, 8): 0.5}), (3e-3, 8))
