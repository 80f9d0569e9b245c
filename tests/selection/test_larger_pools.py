"""Coverage strategies on a pool that is larger than the limits of `lazy` and than one row of a graph."""

import functools

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from taskdiv_assets.selection import lazy, rank
from taskdiv_assets.selection.facility_location import NEIGHBOURS
from taskdiv_assets.selection.grid import STEPS
from tests.selection.coverage_cases import clusters, pool_of

N = 2_300
COVERAGE = ("k_center", "facility_location", "dpp")


@pytest.fixture(scope="module")
def pool():
    """Return a pool in which a sixth of the rows repeats another row and a sixth is one or two grid steps away from one."""
    rng = np.random.default_rng(0)
    points = clusters(N, 48).astype(np.float32)
    same, near = np.split(rng.permutation(N)[: N // 3], 2)
    points[same] = points[rng.permutation(N)[: len(same)]]
    points[near] = points[rng.permutation(N)[: len(near)]]
    for row in near:
        points[row, rng.integers(48, size=2)] += 1 / STEPS
    return pool_of(points, rng.permutation(N))


@pytest.fixture(scope="module")
def whole(pool):
    return functools.cache(lambda name: rank(name, pool, seed=3))


def test_the_pool_is_larger_than_what_is_kept_at_once():
    assert N > lazy.REFRESH_ROWS > lazy.ACTIVE_ROWS > NEIGHBOURS


@pytest.mark.parametrize("name", [COVERAGE[0], *(pytest.param(name, marks=pytest.mark.full) for name in COVERAGE[1:])])
class TestCoverageOnALargerPool:
    def test_every_row_stands_once(self, name, whole):
        assert sorted(whole(name).tolist()) == list(range(N))

    def test_a_smaller_depth_is_a_prefix(self, name, pool, whole):
        for depth in (1, 2, 63, 64, 65, 511, 513, 1_300):
            assert (rank(name, pool, seed=3, depth=depth) == whole(name)[:depth]).all()

    def test_shuffled_rows_give_the_same_prompts(self, name, pool, whole):
        for seed in range(3):
            rows = np.random.default_rng(seed).permutation(N)
            shuffled = pool_of(pool.embeddings[rows], pool.prompt_ids[rows])
            assert (shuffled.prompt_ids[rank(name, shuffled, seed=3)] == pool.prompt_ids[whole(name)]).all()

    def test_one_and_two_threads_give_the_same_picks(self, name, pool, whole):
        for threads_n in (1, 2):
            with threadpool_limits(threads_n, user_api="blas"):
                libraries = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
                assert libraries and all(entry["num_threads"] == threads_n for entry in libraries)
                assert (rank(name, pool, seed=3) == whole(name)).all()
