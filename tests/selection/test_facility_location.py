"""Facility location against a brute-force greedy in whole numbers, and its independence of how it is computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import SelectionPool, coverage, rank
from taskdiv_assets.selection.coverage import UNIT_BITS


def brute_force(points, ids):
    """Every gain anew at every pick; equal gains to the smaller id; then the rest by id."""
    rows = [[int(value) for value in row] for row in points]
    n = len(rows)
    similarity = [[max(0, sum(a * b for a, b in zip(x, y, strict=True))) for y in rows] for x in rows]
    covered, picks = [0] * n, []
    while len(picks) < n:
        left = [i for i in range(n) if i not in picks]
        gain = {i: sum(max(0, similarity[x][i] - covered[x]) for x in range(n)) for i in left}
        best = min(left, key=lambda i: (-gain[i], ids[i]))
        picks.append(best)
        covered = [max(covered[x], similarity[x][best]) for x in range(n)]
    return picks


def pool_of(points, ids):
    return SelectionPool(np.asarray(ids, np.uint64), embeddings=points)


def unit(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


LATTICE = st.lists(st.tuples(*[st.integers(-1, 1)] * 4).filter(any), min_size=1, max_size=14)


@settings(max_examples=150, deadline=None)
@given(LATTICE, st.randoms(use_true_random=False), st.sampled_from([0, 2, 1000]), st.sampled_from([1, 3, 64]))
def test_picks_equal_a_brute_force_greedy_on_lattices_full_of_ties(points, random, eager_rows, refresh_rows):
    """Whether gains are kept exact at once or refreshed when they surface, and in whatever portions."""
    ids = random.sample(range(1000), len(points))
    embeddings = unit(np.array(points, float))
    expected = brute_force(np.rint(embeddings * 2**UNIT_BITS), ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "EAGER_ROWS", eager_rows)
        patch.setattr(coverage, "REFRESH_ROWS", refresh_rows)
        patch.setattr(coverage, "BLOCK_CELLS", 30)
        assert rank("facility_location", pool_of(embeddings, ids), seed=0).tolist() == expected


@pytest.mark.parametrize("block_cells", [1, 997, 2**19])
@pytest.mark.parametrize("eager_rows", [0, 64, 10**6])
def test_block_size_and_order_of_rows_do_not_flip_a_pick(block_cells, eager_rows, monkeypatch):
    rng = np.random.default_rng(0)
    points = unit(rng.normal(size=(300, 12)) + 0.5).astype(np.float16)
    ids = rng.permutation(300)
    expected = ids[rank("facility_location", pool_of(points, ids), seed=0)]
    shuffled = rng.permutation(300)
    monkeypatch.setattr(coverage, "BLOCK_CELLS", block_cells)
    monkeypatch.setattr(coverage, "EAGER_ROWS", eager_rows)
    picks = rank("facility_location", pool_of(points[shuffled], ids[shuffled]), seed=1)
    assert (ids[shuffled][picks] == expected).all()


def test_the_first_picks_come_within_the_greedy_bound_of_the_best_by_enumeration():
    """f(greedy) >= (1 - 1/e) f(best): Nemhauser, Wolsey, Fisher 1978."""
    from itertools import combinations

    rng = np.random.default_rng(1)
    for _ in range(20):
        points = unit(rng.normal(size=(9, 3)))
        similarity = np.maximum(0, points @ points.T)
        picks = rank("facility_location", pool_of(points, range(9)), seed=0, depth=3)
        best = max(similarity[list(rows)].max(axis=0).sum() for rows in combinations(range(9), 3))
        assert similarity[picks].max(axis=0).sum() >= (1 - 1 / np.e) * best


def test_a_float16_memory_map_gives_the_picks_of_the_array(tmp_path):
    points = unit(np.random.default_rng(2).normal(size=(50, 8))).astype(np.float16)
    np.save(tmp_path / "shard-00000.npy", points)
    mapped = np.load(tmp_path / "shard-00000.npy", mmap_mode="r")
    expected = rank("facility_location", pool_of(points, range(50)), seed=0)
    assert rank("facility_location", pool_of(mapped, range(50)), seed=0).tolist() == expected.tolist()


def test_rows_that_are_not_of_length_one_are_refused():
    points = unit(np.random.default_rng(2).normal(size=(5, 8)))
    points[3] *= 2
    with pytest.raises(ValueError, match=r"1 rows of embeddings are not of length 1, the first is row 3 with 2"):
        rank("facility_location", pool_of(points, range(5)), seed=0)
