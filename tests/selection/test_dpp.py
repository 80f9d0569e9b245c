"""dpp compared with log-determinants of every candidate, and its independence of the way it is computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import grid, lazy, rank
from taskdiv_assets.selection.directions import NOISE, STEPS
from tests.selection.coverage_cases import LATTICE, clusters, pool_of, unit, whole_numbers

# A gain is found to about 5e-8 of a squared length 1; as a logarithm, 1 + g / 0.1 >= 1 makes that at most 5e-7. Near
# the end of long orders the rounding of 200 picks adds up.
TOLERANCE = 1e-6


def log_determinant(points, picks):
    chosen = points[picks]
    sign, value = np.linalg.slogdet(np.eye(len(picks)) + chosen @ chosen.T / NOISE)
    assert sign > 0
    return value


def assert_each_pick_is_the_best(points, ids, order):
    for done in range(len(order)):
        left = [row for row in range(len(points)) if row not in set(order[:done].tolist())]
        values = np.array([log_determinant(points, [*order[:done], row]) for row in left])
        chosen = left.index(order[done])
        assert values[chosen] >= values.max() - TOLERANCE
        copies = [row for row in left if (points[row] == points[order[done]]).all()]
        assert ids[order[done]] == min(ids[row] for row in copies), "of equal rows the smallest id comes first"


@settings(max_examples=60, deadline=None)
@given(LATTICE, st.randoms(use_true_random=False), st.sampled_from([(1, 1), (3, 2), (999, 999)]))
def test_every_pick_has_the_largest_log_determinant_on_lattices_full_of_ties(points, random, sizes):
    ids = random.sample(range(1000), len(points))
    points = unit(points)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy, "ACTIVE_ROWS", sizes[0])
        patch.setattr(lazy, "REFRESH_ROWS", sizes[1])
        patch.setattr(grid, "BLOCK_CELLS", 8)
        order = rank("dpp", pool_of(points, ids), seed=0)
    assert_each_pick_is_the_best(np.array(whole_numbers(points, STEPS)) / STEPS, ids, order)


def test_every_pick_has_the_largest_log_determinant_beyond_the_number_of_dimensions():
    """80 picks in 6 dimensions: the inverse has taken in its first 64 picks at once."""
    points, ids = clusters(80, 6, copies_n=5), np.random.default_rng(3).permutation(80)
    order = rank("dpp", pool_of(points, ids), seed=0)
    assert_each_pick_is_the_best(np.array(whole_numbers(points, STEPS)) / STEPS, ids, order)
