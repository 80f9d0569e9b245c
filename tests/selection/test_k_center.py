"""k-center compared with farthest-first in integers, its bound, and its independence of the way it is computed."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import grid, lazy, rank
from tests.selection.coverage_cases import LATTICE, clusters, pool_of, unit, whole_numbers


def farthest_first(points, ids, first):
    """Compute every distance again at every pick. Among equal distances, pick the smaller id."""
    rows = whole_numbers(points)
    square = [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    picks = [first]
    while len(picks) < len(rows):
        left = [i for i in range(len(rows)) if i not in picks]
        picks.append(min(left, key=lambda i: (-min(square[i][s] for s in picks), ids[i])))
    return picks


@settings(max_examples=120, deadline=None)
@given(
    LATTICE, st.randoms(use_true_random=False), st.integers(0, 9), st.sampled_from([(1, 1), (2, 3), (5, 2), (999, 999)])
)
def test_picks_equal_a_brute_force_on_lattices_full_of_ties(points, random, seed, sizes):
    ids = random.sample(range(1000), len(points))
    points = unit(points)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy, "ACTIVE_ROWS", sizes[0])
        patch.setattr(lazy, "REFRESH_ROWS", sizes[1])
        patch.setattr(grid, "BLOCK_CELLS", 8)
        order = rank("k_center", pool_of(points, ids), seed=seed).tolist()
    assert order == farthest_first(points, ids, order[0])


def test_every_prompt_is_first_for_some_seed():
    pool = pool_of(clusters(8, 4), range(8))
    assert {int(rank("k_center", pool, seed=seed, depth=1)[0]) for seed in range(100)} == set(range(8))


def test_the_radius_is_within_twice_the_smallest_by_enumeration():
    """Gonzalez 1985, whatever the first pick."""
    rng = np.random.default_rng(1)
    for n in (6, 8, 10):
        for k in (2, 3, 4):
            points = unit(rng.normal(size=(n, 3)))
            distance = np.linalg.norm(points[:, None] - points[None], axis=2)
            best = min(distance[:, list(rows)].min(axis=1).max() for rows in combinations(range(n), k))
            for seed in range(n):
                picks = rank("k_center", pool_of(points, range(n)), seed=seed, depth=k)
                assert distance[:, picks].min(axis=1).max() <= 2 * best + 1e-3  # the grid moves a distance by so much
