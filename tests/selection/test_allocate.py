"""Apportionment compared with a literal priority queue, its invariants, and its errors."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection.apportionment import allocate, stratified_order

DOLLY_SIZES = np.array([3742, 2191, 2136, 1773, 1766, 1506, 1188, 709])
DOLLY_COSTS = np.array([412_733, 398_210, 655_901, 700_042, 398_210, 612_555, 580_000, 371_999])


def by_priority_queue(costs, sizes, budget):
    """Follow the definition: take the smallest key ((j - 1) * cost, cost, order), once for each pick of the budget."""
    queue = [(0, int(cost), order, 1) for order, (cost, size) in enumerate(zip(costs, sizes, strict=True)) if size]
    heapq.heapify(queue)
    counts, picked = [0] * len(costs), []
    while queue and len(picked) < budget:
        _, cost, order, pick = heapq.heappop(queue)
        counts[order] += 1
        picked.append(order)
        if pick < sizes[order]:
            heapq.heappush(queue, (pick * cost, cost, order, pick + 1))
    return counts, picked


COST = st.one_of(st.integers(1, 4), st.integers(1, 1_000_000), st.integers(1, 2**55))
TASKS = st.lists(st.tuples(COST, st.integers(0, 12)), min_size=1, max_size=10)


@settings(max_examples=120, deadline=None)
@given(TASKS, st.integers(0, 130))
def test_allocate_equals_a_literal_priority_queue(tasks, budget):
    costs, sizes = np.array(tasks).T
    assert allocate(costs, sizes, budget).tolist() == by_priority_queue(costs, sizes, budget)[0]


@settings(max_examples=120, deadline=None)
@given(TASKS)
def test_the_full_order_takes_tasks_in_the_order_of_the_queue(tasks):
    costs, sizes = np.array(tasks).T
    codes = np.repeat(np.arange(len(costs)), sizes)
    order = stratified_order(codes, costs, np.arange(len(codes)), np.arange(len(costs)))
    assert codes[order].tolist() == by_priority_queue(costs, sizes, len(codes))[1]


@settings(max_examples=120, deadline=None)
@given(TASKS, st.integers(0, 130), st.integers(1, 1000))
def test_counts_sum_to_the_budget_stay_within_the_tasks_and_ignore_the_scale_of_costs(tasks, budget, factor):
    costs, sizes = np.array(tasks).T
    counts = allocate(costs, sizes, budget)
    assert counts.sum() == min(budget, sizes.sum())
    assert (counts <= sizes).all() and (counts >= 0).all()
    if int(costs.max()) * factor < 2**62:
        assert allocate(costs * factor, sizes, budget).tolist() == counts.tolist()


@settings(max_examples=120, deadline=None)
@given(TASKS, st.integers(0, 130), st.data())
def test_lowering_a_cost_never_lowers_the_count(tasks, budget, data):
    costs, sizes = np.array(tasks).T
    task = data.draw(st.integers(0, len(costs) - 1))
    lower = costs.copy()
    lower[task] = data.draw(st.integers(1, int(costs[task])))
    assert allocate(lower, sizes, budget)[task] >= allocate(costs, sizes, budget)[task]


@pytest.mark.full
def test_counts_never_fall_and_equal_the_orders_prefix_at_every_budget_of_dolly():
    codes = np.repeat(np.arange(8), DOLLY_SIZES)
    task_order = np.array([3, 1, 7, 0, 5, 2, 6, 4])
    order = stratified_order(codes, DOLLY_COSTS, np.arange(len(codes))[::-1], task_order)
    prefix_counts = np.cumsum(np.eye(8, dtype=np.int64)[codes[order]], axis=0)
    first_to_last = np.argsort(task_order)
    previous = np.zeros(8, np.int64)
    for budget in range(1, len(codes) + 1):
        counts = np.empty(8, np.int64)
        counts[first_to_last] = allocate(DOLLY_COSTS[first_to_last], DOLLY_SIZES[first_to_last], budget)
        assert (counts >= previous).all(), f"a count fell at budget {budget}"
        assert (counts == prefix_counts[budget - 1]).all(), f"the order's prefix differs at budget {budget}"
        previous = counts


def test_shares_approach_the_inverse_of_the_costs():
    counts = allocate(np.array([1, 2, 4]), np.array([10**9] * 3), 7_000_000)
    assert np.abs(counts - [4_000_000, 2_000_000, 1_000_000]).max() <= 2  # one pick a task off the exact quota


def test_keys_beyond_64_bits_are_refused_unless_a_common_divisor_helps():
    sizes = np.array([10**6, 10**6])
    assert allocate(np.array([2**60, 2**61]), sizes, 9).tolist() == allocate(np.array([1, 2]), sizes, 9).tolist()
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        allocate(np.array([2**60, 2**61 + 1]), sizes, 1000)


EDGE = 2**64 - 1
EDGES = st.integers(1, EDGE) | st.sampled_from([1, 2, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**63 + 1, EDGE])


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(EDGES, st.integers(0, 5)), min_size=1, max_size=5), st.integers(0, 30) | st.just(10**20))
def test_costs_of_all_64_bits_are_shared_as_the_queue_does_or_refused(tasks, budget):
    costs, sizes = np.array([cost for cost, _ in tasks], np.uint64), np.array([size for _, size in tasks])
    try:
        counts = allocate(costs, sizes, budget)
    except ValueError as error:
        assert "does not fit into 64 bits" in str(error)
    else:
        assert counts.tolist() == by_priority_queue(costs, sizes, budget)[0]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), EDGES), min_size=1, max_size=5), EDGES)
def test_sizes_of_all_64_bits_are_shared_in_full_or_refused(tasks, budget):
    costs, sizes = np.array([cost for cost, _ in tasks]), np.array([size for _, size in tasks], np.uint64)
    try:
        counts = allocate(costs, sizes, budget)
    except ValueError as error:
        assert "64 bits" in str(error)
    else:
        assert sum(counts.tolist()) == min(budget, sum(sizes.tolist()))
        assert all(0 <= count <= size for count, size in zip(counts.tolist(), sizes.tolist(), strict=True))


def test_a_budget_beyond_64_bits_buys_the_whole_pool():
    for budget in (2**63, 10**20):
        assert allocate(np.array([1, 7]), np.array([5, 3]), budget).tolist() == [5, 3]


def test_counts_beyond_64_bits_are_refused():
    with pytest.raises(ValueError, match="counts beyond 64 bits"):
        allocate(np.array([1, 1, 1]), np.array([2**62] * 3), 2**62 + 5)


def test_an_empty_tasks_cost_counts_for_nothing():
    assert allocate(np.array([2**60, 2**61, 3]), np.array([100, 100, 0]), 50).tolist() == [33, 17, 0]
    codes = np.repeat([0, 1], 3)
    order = stratified_order(codes, np.array([2**61, 2**62, 3]), np.arange(6), np.arange(3))
    assert order.tolist() == [0, 3, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("costs", "sizes", "budget", "said"),
    [
        ([1, 0], [3, 3], 2, "cost of task 1 is 0; expected a whole number from 1 on"),
        ([1, 1], [3, -1], 2, "pool size of task 1 is -1"),
        ([1, 1], [3, 3], -5, "budget is -5"),
        ([1, 1], [3, 3], 1.5, "budget is 1.5"),
        ([1, 1], [3], 1, "expected one per task"),
        ([0.5, 1], [3, 3], 1, "costs has dtype float64"),
    ],
)
def test_bad_input_is_named(costs, sizes, budget, said):
    with pytest.raises(ValueError, match=said):
        allocate(np.array(costs), np.array(sizes), budget)


def test_two_thousand_tasks_take_milliseconds_at_any_budget():
    """No loop over the budget: half a second of processor time is a hundred times what it takes."""
    import time

    rng = np.random.default_rng(0)
    costs, sizes = rng.integers(1, 10**6, 2000), rng.integers(0, 10_000, 2000)
    start = time.process_time()
    for budget in (1000, 100_000, 5_000_000):
        allocate(costs, sizes, budget)
    assert time.process_time() - start < 0.5
