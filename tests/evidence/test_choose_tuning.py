"""The verdict on the committed hyper-parameters, with synthetic scores."""

import numpy as np
import pytest

from tests.evidence.choose_tuning import Judged, compare


def judged(means: dict[tuple[float, int], float], noise: float = 0.0) -> list[Judged]:
    """Return scores of 2 strategies, 3 budgets, 2 seeds and 480 items around a mean."""
    draw = np.random.default_rng(2)
    return [Judged(setting, mean + noise * draw.standard_normal((2, 3, 2, 480))) for setting, mean in means.items()]


def test_the_best_holds_itself():
    verdict = compare(judged({(1e-3, 8): 0.6, (2e-3, 8): 0.5}), (1e-3, 8))
    assert verdict.best == (1e-3, 8) and verdict.difference == 0 and verdict.holds


def test_a_clear_loser_does_not_hold():
    verdict = compare(judged({(1e-3, 8): 0.6, (2e-3, 8): 0.5}, noise=0.1), (2e-3, 8))
    assert verdict.difference == pytest.approx(0.1, abs=0.01) and not verdict.holds


def test_a_difference_within_noise_holds():
    scores = judged({(1e-3, 8): 0.51, (2e-3, 8): 0.5}, noise=0.5)
    scores[1] = scores[1]._replace(scores=scores[1].scores - scores[1].scores.mean() + 0.5)
    scores[0] = scores[0]._replace(scores=scores[0].scores - scores[0].scores.mean() + 0.51)
    verdict = compare(scores, (2e-3, 8))
    assert verdict.difference == pytest.approx(0.01)
    # Two means of 12 cells with noise 0.5, over 480 items.
    assert verdict.standard_error == pytest.approx(0.5 * (2 / 12 / 480) ** 0.5, rel=0.1)
    assert verdict.holds


def test_a_setting_outside_the_grid():
    with pytest.raises(ValueError, match="not in the grid"):
        compare(judged({(1e-3, 8): 0.5}), (3e-3, 8))
