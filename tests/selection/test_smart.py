"""smart: gains, weights and the whole order compared with definitions written out; parts of large tasks; memory."""

import heapq
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import SelectionPool, facility_location, grid, neighbours, rank, smart
from taskdiv_assets.selection.strategies import STRATEGIES
from tests.selection.coverage_cases import LATTICE, clusters, unit, whole_numbers

LABELLED = st.lists(
    st.tuples(st.integers(0, 3), st.tuples(*[st.integers(-1, 1)] * 4).filter(any)), min_size=1, max_size=14
)
NAMES = ("summary", "answer", "rewrite", "code")


def pool_of(points, tasks, ids=None, names=NAMES):
    ids = range(len(points)) if ids is None else ids
    return SelectionPool(np.asarray(ids, np.uint64), np.asarray(tasks, np.int32), names, embeddings=points)


def graph_cut(similarity, chosen):
    """Evaluate f of SMART: similarity of all tasks to the chosen ones, less 0.4 of the similarity among the chosen ones."""
    among = sum(similarity[i][j] for i in chosen for j in chosen)
    return sum(row[j] for row in similarity for j in chosen) - Fraction(2, 5) * among


def greedy_gains(similarity):
    """Return the order and the gains of a greedy that evaluates f for every candidate."""
    chosen, gains = [], []
    while len(chosen) < len(similarity):
        before = graph_cut(similarity, chosen)
        gain = {i: graph_cut(similarity, [*chosen, i]) - before for i in range(len(similarity)) if i not in chosen}
        best = min(gain, key=lambda i: (-gain[i], i))
        chosen.append(best)
        gains.append(gain[best])
    return chosen, gains


def similarities(points):
    rows = whole_numbers(points, 1)
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]


def covering(points, ids):
    """Return rows by a literal greedy facility location over all similarities; of equal gains, the smaller id."""
    similarity, left, picks = similarities(points), set(range(len(points))), []
    covered = [0] * len(points)
    while left:
        gain = {i: sum(max(0, row[i] - best) for row, best in zip(similarity, covered, strict=True)) for i in left}
        pick = min(left, key=lambda i: (-gain[i], ids[i]))
        picks.append(pick)
        left.remove(pick)
        covered = [max(best, row[pick]) for row, best in zip(similarity, covered, strict=True)]
    return picks


def literal_order(pool):
    """Return prompt ids: tasks by a priority queue with float weights, prompts of a task by `covering`."""
    points = np.rint(np.asarray(pool.embeddings, np.float64) * grid.STEPS)
    named = sorted(set(pool.tasks.tolist()), key=lambda task: pool.task_names[task])
    rows_of = {task: np.flatnonzero(pool.tasks == task) for task in named}
    centroids = [smart.centroid(points.astype(np.float32), rows_of[task]) for task in named]
    order, gains = greedy_gains(similarities(centroids))
    found = [float(gain) / grid.STEPS**2 for gain in gains]
    weights = [1 + gain + gain**2 / 2 for gain in found]
    costs = [max(1, round(1000 * max(weights) / weight)) for weight in weights]
    queue = [(0, cost, place) for place, cost in enumerate(costs)]
    heapq.heapify(queue)
    waiting = []
    for place in order:
        rows = rows_of[named[place]]
        waiting.append([rows[i] for i in covering(points[rows], pool.prompt_ids[rows].tolist())])
    chosen = []
    while queue:
        key, cost, place = heapq.heappop(queue)
        chosen.append(int(waiting[place].pop(0)))
        if waiting[place]:
            heapq.heappush(queue, (key + cost, cost, place))
    return chosen


@settings(max_examples=50, deadline=None)
@given(LATTICE)
def test_gains_equal_those_of_the_function_evaluated_for_every_candidate(points):
    centroids = np.rint(unit(points) * grid.STEPS).astype(np.float32)
    order, gains = greedy_gains(similarities(centroids))
    picked = smart.graph_cut(centroids)
    assert picked.order.tolist() == order
    np.testing.assert_allclose(picked.gains, [float(gain) / grid.STEPS**2 for gain in gains], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(LABELLED, st.randoms(use_true_random=False))
def test_the_order_equals_a_priority_queue_over_tasks_with_a_literal_greedy_in_each(labelled, random):
    tasks, points = zip(*labelled, strict=True)
    pool = pool_of(unit(points), tasks, random.sample(range(1000), len(tasks)))
    assert rank("smart", pool, seed=0).tolist() == literal_order(pool)


@pytest.mark.parametrize("d", [3, 300])
def test_a_centroid_is_the_mean_at_length_one_and_zero_where_prompts_cancel(d):
    points = clusters(200, d)
    on_grid = np.rint(points.astype(np.float64) * grid.STEPS).astype(np.float32)
    mean = points.astype(np.float64).mean(axis=0)
    found = smart.centroid(on_grid, np.arange(200))
    assert np.abs(found - grid.STEPS * mean / np.linalg.norm(mean)).max() < 2  # both sides are rounded to whole steps
    assert not smart.centroid(np.vstack([on_grid[:1], -on_grid[:1]]), np.arange(2)).any()


def test_costs_are_one_over_the_second_order_taylor_softmax():
    gains = np.array([18.8, 3.0, 0.0, -1.0, -2.5])
    weights = np.array([1 + gain + gain**2 / 2 for gain in gains])
    share = weights / weights.sum()
    costs = smart.costs_of(gains)
    np.testing.assert_allclose((1 / costs) / (1 / costs).sum(), share, rtol=1e-3)
    assert costs.min() == 1000


def test_the_central_task_gets_the_largest_share_and_a_copy_of_it_less():
    """Three tasks share a direction, the fourth has its own: it is similar to no other task."""
    directions = unit([[1, 0, 0], [1, 0, 0], [1, 0.1, 0], [0, 0, 1]])
    tasks = np.arange(4000) % 4
    taken = tasks[rank("smart", pool_of(directions[tasks], tasks, names=("a", "b", "c", "d")), seed=0, depth=1000)]
    counts = np.bincount(taken, minlength=4)
    assert counts[0] == counts.max() and counts[1] < counts[0] and counts[3] < counts[0] and counts.min() > 0


def test_a_large_task_uses_up_one_part_after_the_other(monkeypatch):
    points, ids = clusters(90, 8), np.random.default_rng(0).permutation(90)
    pool = pool_of(points, np.zeros(90, int), ids, ("only",))
    monkeypatch.setattr(smart, "PART_PROMPTS", 30)
    order = rank("smart", pool, seed=0)
    by_id = np.argsort(ids)
    for part in range(3):
        rows = by_id[part::3]
        alone = pool_of(points[rows], np.zeros(30, int), ids[rows], ("only",))
        assert order[30 * part : 30 * part + 30].tolist() == rows[rank("smart", alone, seed=0)].tolist()
    for depth in (1, 30, 31, 75):
        assert rank("smart", pool, seed=0, depth=depth).tolist() == order[:depth].tolist()
    shuffled = np.random.default_rng(1).permutation(90)
    moved = pool_of(points[shuffled], np.zeros(90, int), ids[shuffled], ("only",))
    assert shuffled[rank("smart", moved, seed=0)].tolist() == order.tolist()


def test_a_task_of_at_most_one_part_picks_as_facility_location_does():
    points = clusters(300, 12)
    expected = rank("facility_location", SelectionPool(np.arange(300, dtype=np.uint64), embeddings=points), seed=0)
    assert rank("smart", pool_of(points, np.zeros(300, int), names=("only",)), seed=0).tolist() == expected.tolist()


def test_a_task_without_prompts_changes_nothing():
    points, tasks = clusters(60, 6), np.arange(60) % 3
    expected = rank("smart", pool_of(points, tasks, names=("a", "b", "c")), seed=0).tolist()
    assert rank("smart", pool_of(points, tasks + 1, names=("empty", "a", "b", "c")), seed=0).tolist() == expected


def test_no_seed_and_no_confidence_is_read():
    smart_strategy = STRATEGIES["smart"]
    assert smart_strategy.needs == {"tasks", "embeddings"} and not smart_strategy.uses_seed
    pool = pool_of(clusters(60, 6), np.arange(60) % 4)
    assert rank("smart", pool, seed=0).tolist() == rank("smart", replace(pool, task_confidence=None), seed=9).tolist()


def test_a_row_that_is_not_of_length_one_is_named_by_its_place_in_the_pool():
    points = clusters(60, 6)
    points[41] *= 2
    with pytest.raises(
        ValueError, match="^smart: 1 rows of embeddings are not of length 1, the first is row 41 with 2"
    ):
        rank("smart", pool_of(points, np.arange(60) % 4), seed=0)


@pytest.mark.full
def test_memory_is_the_rows_on_the_grid_the_graph_of_one_part_and_blocks(monkeypatch):
    n, d, block_cells = 4_000, 512, 2**14
    monkeypatch.setattr(grid, "BLOCK_CELLS", block_cells)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 64)
    monkeypatch.setattr(smart, "PART_PROMPTS", 500)
    pool = pool_of(unit(np.random.default_rng(0).normal(size=(n, d))).astype(np.float16), np.arange(n) % 4)
    tracemalloc.start()
    try:
        rank("smart", pool, seed=0, depth=200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    part = 500 * d * 4 * 2 + 500 * facility_location.NEIGHBOURS * 32  # two copies of the rows while some are open
    assert peak < n * d * 4 + part + 8 * block_cells * 8 + 2**20
