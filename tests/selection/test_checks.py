"""Inputs that `rank`, pools and certificates reject with a clear error, and unusual inputs that they accept."""

from dataclasses import replace

import numpy as np
import pytest

from taskdiv_assets.selection import SelectionPool, Strategy, rank
from taskdiv_assets.selection import facility_location as module
from taskdiv_assets.selection.strata import score_order
from taskdiv_assets.selection.strategies import facility_location
from tests.selection.coverage_cases import clusters, pool_of

POOL = SelectionPool(np.array([7, 3, 9, 5], np.uint64))


@pytest.mark.parametrize("is_high_first", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, bool, np.float16, np.float32])
def test_scores_of_any_real_dtype_are_sorted_as_numbers_with_ties_by_id(dtype, is_high_first):
    """Unsigned numbers wrap and bools cannot be negated; the lowest int8 is its own negative."""
    is_integer = np.issubdtype(dtype, np.integer)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if is_integer else (0, 1)
    scores = np.array([low, high, low, high], dtype)
    order = score_order("some", is_high_first=is_high_first)
    strategy = Strategy("some", "Some score.", order, frozenset({"scores"}), score_column="some")
    expected = [1, 3, 0, 2] if is_high_first else [0, 2, 1, 3]
    assert rank(strategy, replace(POOL, scores={"some": scores}), seed=0).tolist() == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": {"margin": np.ones(4, object)}}, r"scores\['margin'\] has dtype object; expected real numbers"),
        ({"scores": {"margin": np.ones(4, complex)}}, r"scores\['margin'\] has dtype complex128"),
        ({"scores": {"margin": np.full(4, "1.0")}}, r"scores\['margin'\] has dtype <U3"),
        ({"embeddings": np.ones((4, 2), complex)}, "embeddings has dtype complex128; expected real numbers"),
        ({"embeddings": np.ones((4, 2), object)}, "embeddings has dtype object"),
        (
            {"embeddings": np.ones((4, 0))},
            r"embeddings has shape \(4, 0\); expected \(n, d\) of at least one dimension",
        ),
        ({"task_names": ("a",), "task_confidence": np.ones(1, complex)}, "task_confidence has dtype complex128"),
        ({"task_names": ("a",), "tasks": np.zeros(4, np.uint64)}, "tasks has dtype uint64; expected integer codes"),
    ],
)
def test_a_pool_of_numbers_that_are_not_real_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        replace(POOL, **change)


@pytest.mark.parametrize("wrong", [2.5, "3", None, float("nan"), float("inf")])
def test_seeds_and_depths_are_whole_numbers(wrong):
    with pytest.raises(ValueError, match=r"^seed is .*; expected a whole number"):
        rank("random", POOL, seed=wrong)
    if wrong is not None:  # the whole pool
        with pytest.raises(ValueError, match=r"^depth is .*; expected a whole number of prompts to rank, 1 or more"):
            rank("random", POOL, seed=0, depth=wrong)


def test_a_whole_number_of_another_type_is_the_same_number():
    expected = rank("random", POOL, seed=3, depth=2).tolist()
    assert rank("random", POOL, seed=np.int64(3), depth=np.uint8(2)).tolist() == expected
    assert rank("random", POOL, seed=3.0, depth=2.0).tolist() == expected


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0, 1, 1, 3], "the order of mine holds 1 rows more than once, the first is row 1"),
        ([0, 1, 2, 4], "holds 1 rows that the pool does not have, the first is 4; expected positions from 0 to 3"),
        ([0, -1, 2, 3], "holds 1 rows that the pool does not have, the first is -1"),
        ([0, 1], "the order of mine has 2 rows; expected 4 of the pool's 4"),
        ([0.0, 1, 2, 3], r"the order of mine has dtype float64 and shape \(4,\); expected integers"),
        ([True, True, False, False], "has dtype bool"),
        ([[0], [1], [2], [3]], r"has dtype int64 and shape \(4, 1\)"),
    ],
)
def test_a_strategy_of_ones_own_that_gives_no_order_is_refused(rows, said):
    strategy = Strategy("mine", "Mine.", lambda pool, seed, depth: np.array(rows))
    with pytest.raises(ValueError, match=said):
        rank(strategy, POOL, seed=0)


@pytest.mark.parametrize("wrong", [0, -3, 2.5])
def test_a_graph_without_neighbours_is_refused(wrong):
    with pytest.raises(
        ValueError, match=r"neighbours of facility_location is .*; expected a whole number of prompts, 1 or"
    ):
        facility_location(wrong)


def test_certificates_come_in_the_order_of_their_budgets():
    pool = pool_of(clusters(60, 8), range(60))
    order = rank("facility_location", pool, seed=0, depth=40)
    singly = [module.certificates(pool, order, [budget_n])[0] for budget_n in (40, 1, 7, 7, 3)]
    assert module.certificates(pool, order, [40, 1, 7, 7, 3]) == singly
    assert module.certificates(pool, order, []) == []


@pytest.mark.parametrize(
    ("rows", "budget_n", "said"),
    [
        ([4, 2, 0], 4, "budget is 4, but the order to certify has 3 prompts; expected at most 3"),
        ([4, 2, 0], 0, "budget is 0; expected a whole number of prompts, 1 or more"),
        ([4, 2, 0], 1.5, "budget is 1.5; expected a whole number"),
        ([4, 2, 4], 2, "the order to certify holds 1 rows more than once, the first is row 4"),
        ([4, 2, -1], 2, "the order to certify holds 1 rows that the pool does not have"),
    ],
)
def test_certificates_of_what_was_not_ranked_are_refused(rows, budget_n, said):
    with pytest.raises(ValueError, match=said):
        module.certificates(pool_of(clusters(5, 8), range(5)), np.array(rows), [1, budget_n])
