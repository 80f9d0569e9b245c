"""The lazy driver of k_center and dpp: the number of active rows, blocks and the order of rows change no pick."""

import numpy as np
import pytest

from taskdiv_assets.selection import grid, lazy, rank
from tests.selection.coverage_cases import clusters, pool_of


@pytest.mark.parametrize("name", ["k_center", "dpp"])
@pytest.mark.parametrize("active", [1, 7, 64, 2000])
@pytest.mark.parametrize("block_cells", [50, 2**22])
def test_block_size_active_rows_and_order_of_rows_do_not_flip_a_pick(name, active, block_cells, monkeypatch):
    points, rng = clusters(400, 12, copies_n=40), np.random.default_rng(0)
    ids = rng.permutation(400)
    expected = ids[rank(name, pool_of(points, ids), seed=0)]
    monkeypatch.setattr(lazy, "ACTIVE_ROWS", active)
    monkeypatch.setattr(lazy, "REFRESH_ROWS", active)
    monkeypatch.setattr(grid, "BLOCK_CELLS", block_cells)
    shuffled = rng.permutation(400)
    assert (ids[shuffled][rank(name, pool_of(points[shuffled], ids[shuffled]), seed=0)] == expected).all()
