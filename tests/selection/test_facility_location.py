"""Facility location, exact and sparse: compared with a greedy in integers, its bounds, its independence of the computation."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import facility_location as module
from taskdiv_assets.selection import grid, neighbours, rank
from taskdiv_assets.selection.strategies import facility_location
from tests.selection.coverage_cases import LATTICE, clusters, pool_of, unit, whole_numbers

EXACT = facility_location(neighbours_n=None)


def similarities_of(points):
    rows = whole_numbers(points)
    return [[max(0, sum(a * b for a, b in zip(x, y, strict=True))) for y in rows] for x in rows]


def brute_force(similarity, ids, counted=None, exact_n=0):
    """Compute every gain again at every pick. Among equal gains, pick the smaller id.

    With `counted`, the similarities in a graph, gains use these from pick `exact_n` on. Coverage by earlier picks uses all
    similarities.
    """
    n = len(similarity)
    covered, picks = [0] * n, []
    while len(picks) < n:
        if counted is not None and len(picks) == exact_n:
            similarity = counted
        left = [i for i in range(n) if i not in picks]
        gain = {i: sum(max(0, similarity[x][i] - covered[x]) for x in range(n)) for i in left}
        best = min(left, key=lambda i: (-gain[i], ids[i]))
        picks.append(best)
        covered = [max(covered[x], similarity[x][best]) for x in range(n)]
    return picks


def only_nearest(similarity, ids, m):
    """Keep each row's m largest similarities, equal ones by id, and set the others to 0."""
    kept = []
    for row in similarity:
        best = sorted(range(len(row)), key=lambda s: (-row[s], ids[s]))[:m]
        kept.append([value if s in best else 0 for s, value in enumerate(row)])
    return kept


@settings(max_examples=60, deadline=None)
@given(LATTICE, st.randoms(use_true_random=False), st.sampled_from([1, 2, 64]), st.sampled_from([1, 3, 64]))
def test_exact_picks_equal_a_brute_force_greedy_on_lattices_full_of_ties(points, random, neighbours_n, refresh_rows):
    """However much of a gain is kept on a graph, and in whatever portions the rest is refreshed."""
    ids = random.sample(range(1000), len(points))
    points = unit(points)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NEIGHBOURS", neighbours_n)
        patch.setattr(module, "REFRESH_ROWS", refresh_rows)
        patch.setattr(grid, "BLOCK_CELLS", 30)
        assert rank(EXACT, pool_of(points, ids), seed=0).tolist() == brute_force(similarities_of(points), ids)


@settings(max_examples=60, deadline=None)
@given(LATTICE, st.randoms(use_true_random=False), st.integers(1, 14), st.sampled_from([8, 2**22]), st.integers(0, 4))
def test_sparse_picks_equal_a_brute_force_greedy_on_the_same_graph(points, random, m, block_cells, exact_n):
    """The first by all similarities. With as many neighbours as there are rows that is the exact greedy itself."""
    ids = random.sample(range(1000), len(points))
    points = unit(points)
    similarity = similarities_of(points)
    expected = brute_force(similarity, ids, only_nearest(similarity, ids, m), exact_n)
    if m >= len(points):
        assert expected == brute_force(similarity, ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "BLOCK_CELLS", block_cells)
        patch.setattr(module, "EXACT_PICKS", exact_n)
        assert rank(facility_location(m), pool_of(points, ids), seed=0).tolist() == expected


def test_the_first_picks_are_the_exact_form_s_and_a_pool_above_the_bound_has_none(monkeypatch):
    pool = pool_of(clusters(300, 12), range(300))
    sparse, exact = (rank(one, pool, seed=0).tolist() for one in (facility_location(3), EXACT))
    assert sparse[: module.EXACT_PICKS] == exact[: module.EXACT_PICKS] and sparse != exact
    assert rank(facility_location(3), pool, seed=0, depth=10).tolist() == exact[:10]
    monkeypatch.setattr(module, "EXACT_PROMPTS_MAX", 299)
    assert rank(facility_location(3), pool, seed=0).tolist()[:10] != exact[:10]


@pytest.mark.parametrize("m", [1, 16, 50])
def test_sparse_picks_equal_a_literal_greedy_on_a_graph_that_leaves_most_out(m):
    """300 rows, so the graph is made in tiles; the objective is written out as a matrix of what the graph counts."""
    points, ids = clusters(300, 12, copies_n=20), np.random.default_rng(2).permutation(300)
    by_id = np.argsort(ids)
    rows = np.rint(points[by_id].astype(float) * grid.STEPS).astype(np.int64)
    counted = (rows @ rows.T).clip(min=0)
    every = counted.copy()
    beyond = np.argsort(-counted, axis=1, kind="stable")[:, m:]
    np.put_along_axis(counted, beyond, 0, axis=1)
    covered, expected = np.zeros(300, np.int64), []
    while len(expected) < 300:
        similarity = every if len(expected) < module.EXACT_PICKS else counted
        gains = np.maximum(similarity - covered[:, None], 0).sum(axis=0)
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        covered = np.maximum(covered, similarity[:, expected[-1]])
    assert rank(facility_location(m), pool_of(points, ids), seed=0).tolist() == by_id[expected].tolist()


@settings(max_examples=60, deadline=None)
@given(LATTICE.filter(lambda points: 3 <= len(points) <= 10), st.integers(1, 9), st.integers(1, 4))
def test_sparse_picks_come_within_the_greedy_bound_of_the_graphs_own_best_by_enumeration(points, m, k):
    """1 - 1/e belongs to the objective that the picks are made by: the similarities that the graph counts."""
    points, n = unit(points), len(points)
    m, k = min(m, n - 1), min(k, n - 1)
    whole = pool_of(points, range(n))
    counted = np.array(only_nearest(similarities_of(points), range(n), m))
    best = max(counted[:, list(rows)].max(axis=1).sum() for rows in combinations(range(n), k))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EXACT_PICKS", 0)
        picks = rank(facility_location(m), whole, seed=0, depth=k)
    assert counted[:, picks].max(axis=1).sum() >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("m", [1, 5, 40])
@pytest.mark.parametrize("groups", [1, 12, 100])
@pytest.mark.parametrize("sampled", [1, 4, 10**6], ids=["bad guess", "good guess", "no guess"])
@pytest.mark.parametrize("keys_kept", [1, 8])
@pytest.mark.parametrize("copies_n", [pytest.param(0, marks=pytest.mark.full), 200])
def test_the_graph_holds_the_nearest_of_a_full_sort(m, groups, sampled, keys_kept, copies_n, monkeypatch):
    """In tiles of one triangle with whatever guess, thinned out on the way, or row by row."""
    monkeypatch.setattr(neighbours, "GROUPS_PER_NEIGHBOUR", groups)
    monkeypatch.setattr(neighbours, "SAMPLED", sampled)
    monkeypatch.setattr(neighbours, "KEYS_KEPT", keys_kept)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 70)
    points, _ = grid.on_grid("test", pool_of(clusters(500, 6, copies_n=copies_n), range(500)))
    graph = neighbours.nearest(points, m)
    similarity = (points.astype(np.int64) @ points.T.astype(np.int64)).clip(min=0)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :m]
    expected = np.take_along_axis(similarity, order, axis=1)
    assert (graph.similarities == expected).all()
    assert (graph.neighbours == np.where(expected > 0, order, 0)).all()


@pytest.mark.parametrize("strategy", [EXACT, facility_location(16)], ids=["exact", "sparse"])
@pytest.mark.parametrize("block_cells", [301, 2**22])
@pytest.mark.parametrize("open_share", [0, 0.8, 1])
@pytest.mark.parametrize("neighbours_n", [4, 64, 400])
def test_block_size_and_order_of_rows_do_not_flip_a_pick(strategy, block_cells, open_share, neighbours_n, monkeypatch):
    points, rng = clusters(300, 12, copies_n=30), np.random.default_rng(0)
    ids = rng.permutation(300)
    expected = ids[rank(strategy, pool_of(points, ids), seed=0)]
    shuffled = rng.permutation(300)
    monkeypatch.setattr(grid, "BLOCK_CELLS", block_cells)
    monkeypatch.setattr(module, "OPEN_SHARE", open_share)
    monkeypatch.setattr(module, "NEIGHBOURS", neighbours_n)
    picks = rank(strategy, pool_of(points[shuffled], ids[shuffled]), seed=1)
    assert (ids[shuffled][picks] == expected).all()


@pytest.mark.parametrize("strategy", [EXACT, facility_location(9)], ids=["exact", "sparse"])
def test_the_first_picks_come_within_the_greedy_bound_of_the_best_by_enumeration(strategy):
    """f(greedy) >= (1 - 1/e) f(best), and the certificate never promises more than enumeration finds."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        points = unit(rng.normal(size=(9, 3)))
        pool = pool_of(points, range(9))
        similarity = np.maximum(0, points @ points.T)
        picks = rank(strategy, pool, seed=0, depth=3)
        best = max(similarity[list(rows)].max(axis=0).sum() for rows in combinations(range(9), 3))
        reached = similarity[picks].max(axis=0).sum()
        assert reached >= (1 - 1 / np.e) * best
        (certificate,) = module.certificates(pool, picks, [3])
        assert certificate.mean_similarity == pytest.approx(reached / 9, abs=1e-3)  # the grid's step is 2.5e-4
        assert certificate.share_of_best_at_least <= reached / best + 1e-3


def test_certificates_of_several_budgets_equal_those_of_one_and_are_1_at_full_depth():
    pool = pool_of(clusters(150, 10), range(150))
    order = rank("facility_location", pool, seed=0)
    together = module.certificates(pool, order, [3, 70, 150])
    assert together == [module.certificates(pool, order, [k])[0] for k in (3, 70, 150)]
    assert together[-1].share_of_best_at_least == 1.0
    assert [c.mean_similarity for c in together] == sorted(c.mean_similarity for c in together)


def test_the_sparse_order_reaches_the_exact_objective_on_clustered_rows():
    """0.998 and more of it where a tenth of the pool is picked; less where picks are few (docs/SELECTION.md)."""
    pool = pool_of(clusters(1500, 24), range(1500))
    reached = [
        module.certificates(pool, rank(strategy, pool, seed=0, depth=150), [150])[0].mean_similarity
        for strategy in (facility_location(40), EXACT)
    ]
    assert reached[0] >= 0.998 * reached[1]


@pytest.mark.parametrize("k", [1, 5, 10, 32])
def test_few_sparse_picks_reach_what_the_exact_form_reaches(k):
    pool = pool_of(clusters(400, 24), range(400))
    picks = [rank(strategy, pool, seed=0, depth=k) for strategy in (facility_location(8), EXACT)]
    sparse, exact = (module.certificates(pool, one, [k])[0].mean_similarity for one in picks)
    assert sparse == exact


def test_a_float16_memory_map_gives_the_picks_of_the_array(tmp_path):
    points = clusters(50, 8)
    np.save(tmp_path / "shard-00000.npy", points)
    mapped = np.load(tmp_path / "shard-00000.npy", mmap_mode="r")
    expected = rank("facility_location", pool_of(points, range(50)), seed=0)
    assert rank("facility_location", pool_of(mapped, range(50)), seed=0).tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["k_center", "facility_location", "dpp"])
def test_rows_that_are_not_of_length_one_are_refused(name):
    points = clusters(5, 8).astype(float)
    points[3] *= 2
    with pytest.raises(
        ValueError, match=rf"{name}: 1 rows of embeddings are not of length 1, the first is row 3 with 2"
    ):
        rank(name, pool_of(points, [9, 8, 7, 6, 5]), seed=0)
