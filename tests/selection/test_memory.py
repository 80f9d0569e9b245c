"""Memory that coverage strategies take beside the pool: the rows on the grid, and blocks of a constant size."""

import tracemalloc

import numpy as np
import pytest

from taskdiv_assets.selection import facility_location as module
from taskdiv_assets.selection import grid, lazy, neighbours, rank
from taskdiv_assets.selection.lazy import in_groups
from taskdiv_assets.selection.strategies import STRATEGIES, facility_location
from tests.selection.coverage_cases import pool_of, unit

BLOCK_CELLS = 2**14  # 64 KiB in float32
SMALL = 2**20  # room for vectors of n numbers, and what is left of Python's own


def peak_bytes(strategy, n, d, depth):
    """Return the peak memory of a ranking. Rows have random directions, so all are nearly equally far from each other."""
    points = unit(np.random.default_rng(0).normal(size=(n, d))).astype(np.float16)
    pool = pool_of(points, range(n))
    rank(strategy, pool, seed=0, depth=1)
    tracemalloc.start()
    try:
        rank(strategy, pool, seed=0, depth=depth)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(grid, "BLOCK_CELLS", BLOCK_CELLS)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 64)
    monkeypatch.setattr(lazy, "ACTIVE_ROWS", 16)


def test_k_center_takes_the_rows_on_the_grid_and_blocks():
    n, d = 2_000, 1_024
    assert peak_bytes(STRATEGIES["k_center"], n, d, 300) < n * d * 4 + 8 * BLOCK_CELLS * 8 + SMALL


def test_dpp_takes_directions_and_an_inverse_besides():
    n, d, depth = 8_000, 256, 100
    blocks = 8 * BLOCK_CELLS * 8 + 4 * d * d * 8  # the inverse, and what is made of it when picks are folded in
    assert peak_bytes(STRATEGIES["dpp"], n, d, depth) < n * d * 4 + depth * d * 8 + blocks + SMALL


@pytest.mark.full
def test_exact_facility_location_keeps_one_copy_of_the_open_rows_at_most():
    n, d = 1_000, 2_048
    rows = n * d * 4
    besides = n * module.NEIGHBOURS * 32 + module.REFRESH_ROWS * (d + 4 * n) * 4 + 8 * BLOCK_CELLS * 8 + SMALL
    assert besides < 0.7 * rows
    assert peak_bytes(facility_location(None), n, d, 1) < rows + besides, "all rows are open yet"
    assert peak_bytes(facility_location(None), n, d, n) < (1 + module.OPEN_SHARE) * rows + besides


@pytest.mark.parametrize("width", [1, 16, 300, 2**15])
def test_groups_are_refreshed_in_blocks_that_see_every_missed_pick_once(width):
    rng = np.random.default_rng(0)
    rows, since, picks_n = rng.permutation(700), rng.choice([0, 3, 90, 150], 700), 150
    missed_n = np.zeros(700, np.int64)

    def after_some(some, values, missed):
        picks = missed.stop - missed.start
        for columns in (width, picks):
            assert len(some) == 1 or len(some) * columns <= BLOCK_CELLS
        assert picks == 1 or picks * width <= BLOCK_CELLS
        missed_n[some] += picks
        return values - picks

    fresh = in_groups(after_some, rows, np.zeros(700), since, picks_n, width)
    assert (missed_n[rows] == picks_n - since).all()
    assert (fresh == since - picks_n).all()
