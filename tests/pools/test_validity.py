"""The checks of found tasks, each compared with a second implementation on random groupings."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import evenness, validity
from taskdiv_assets.selection import SelectionPool, rank

GROUPING = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.integers(2, 40))
SEEDS = (3, 5)


def drawn(recipe: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return two groupings of the same prompts. Every group of the first has a prompt."""
    seed, groups_n, others_n, more_n = recipe
    draw = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(groups_n), draw.integers(0, groups_n, more_n)]).astype(np.int64)
    return codes, draw.integers(0, others_n, len(codes)).astype(np.int64)


def ids_of(codes: np.ndarray) -> np.ndarray:
    return np.random.default_rng(len(codes)).integers(0, 2**63, len(codes)).astype(np.uint64)


def chosen(codes: list[str], ids: np.ndarray, names: list[str], budget_n: int, seed: int) -> np.ndarray:
    pool = SelectionPool(ids, np.array([names.index(name) for name in codes], np.int32), tuple(names))
    return rank("task_diversity", pool, seed=seed)[:budget_n]


@settings(max_examples=10, deadline=None)
@given(GROUPING, st.data())
def test_moved_labels_are_those_that_change_their_task_in_the_best_matching(
    recipe: tuple[int, int, int, int], data: st.DataObject
) -> None:
    codes, others = drawn(recipe)
    ids, budget_n = ids_of(codes), data.draw(st.integers(1, len(codes)))
    names = [f"task {code}" for code in range(int(codes.max()) + 1)]
    candidates = [*names, *(f"more {code}" for code in range(int(others.max()) + 1))]
    agreed = {
        given: sum(given[other] == names[code] for code, other in zip(codes, others, strict=True))
        for given in itertools.permutations(candidates, int(others.max()) + 1)
    }
    best = [given for given, n in agreed.items() if n == max(agreed.values())]
    if len({tuple(name if name in names else "" for name in given) for given in best}) > 1:
        return  # several best matchings: which of them is used is not defined
    (given, *_) = best
    shares = []
    for seed in SEEDS:
        own = chosen([names[code] for code in codes], ids, names, budget_n, seed)
        other = chosen([given[other] for other in others], ids, candidates, budget_n, seed)
        gone = Counter(codes[own].tolist()) - Counter(codes[other].tolist())
        shares.append(gone.total() / budget_n)
    found = validity.moved_labels(ids, codes, others, names, [budget_n], SEEDS)
    if len(best) == 1 or not any(name.startswith("more") for name in given):
        assert found == [pytest.approx(np.mean(shares))]
    assert 0 <= found[0] <= 1


def test_equal_groupings_with_other_numbers_move_no_label() -> None:
    codes = np.random.default_rng(1).integers(0, 6, 200).astype(np.int64)
    names = [f"task {code}" for code in range(6)]
    assert validity.moved_labels(ids_of(codes), codes, 9 - codes, names, [1, 7, 50, 200], SEEDS) == [0, 0, 0, 0]


@settings(max_examples=10, deadline=None)
@given(GROUPING)
def test_agreement_with_true_tasks_follows_from_pairs_and_entropies(recipe: tuple[int, int, int, int]) -> None:
    true, found = drawn(recipe)
    n, both = len(true), Counter(zip(true.tolist(), found.tolist(), strict=True))
    sides = [Counter(side.tolist()) for side in (true, found)]
    pairs, (of_true, of_found) = (sum(math.comb(k, 2) for k in both.values()), (sum(math.comb(k, 2) for k in side.values()) for side in sides))  # fmt: skip
    chance, most = of_true * of_found / math.comb(n, 2), (of_true + of_found) / 2
    entropies = [-sum(k / n * math.log(k / n) for k in side.values()) for side in (*sides, both)]
    measured = evenness.with_true(true, found)
    assert measured.rand == pytest.approx(1.0 if most == chance else (pairs - chance) / (most - chance))
    if entropies[0] or entropies[1]:
        shared = entropies[0] + entropies[1] - entropies[2]
        assert measured.information == pytest.approx(2 * shared / (entropies[0] + entropies[1]), abs=1e-9)
    commonest = {own: max(k for (_, other), k in both.items() if other == own) for own in sides[1]}
    assert measured.purity == sum(commonest.values()) / n


@settings(max_examples=15, deadline=None)
@given(GROUPING, st.data())
def test_the_distance_of_random_choice_is_the_sum_over_all_counts(
    recipe: tuple[int, int, int, int], data: st.DataObject
) -> None:
    true, _ = drawn(recipe)
    n, budget_n = len(true), data.draw(st.integers(1, len(true)))
    expected = 0.0
    for size, goal in zip(np.bincount(true).tolist(), evenness.even_spread(true, budget_n).tolist(), strict=True):
        for k in range(min(size, budget_n) + 1):
            if budget_n - k <= n - size:
                share = math.comb(size, k) * math.comb(n - size, budget_n - k) / math.comb(n, budget_n)
                expected += share * abs(k - goal)
    assert evenness.random_distance(true, budget_n) == pytest.approx(expected / 2 / budget_n, abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(GROUPING, st.data())
def test_the_distance_of_a_list_counts_the_prompts_above_the_even_spread(
    recipe: tuple[int, int, int, int], data: st.DataObject
) -> None:
    true, _ = drawn(recipe)
    rows = np.random.default_rng(recipe[0]).permutation(len(true))[: data.draw(st.integers(1, len(true)))]
    goal = Counter(dict(enumerate(evenness.even_spread(true, len(rows)).tolist())))
    assert evenness.list_distance(true, rows) == pytest.approx(
        (Counter(true[rows].tolist()) - goal).total() / len(rows)
    )


def table(tasks: list[str], how: list[labels.How]) -> pa.Table:
    ids = pa.table({"prompt_id": [f"{i:016x}" for i in range(len(tasks))]})
    return labels.labelled(ids, tasks, how)


def test_the_notes_leave_out_what_cannot_be_measured() -> None:
    """Prompts with a task by a rule keep it under another seed, and only found tasks are compared with true ones."""
    made = table(["a"] * 10 + ["b"] * 10 + ["ruled"] * 20, ["discovered"] * 20 + ["rules"] * 20)
    again = np.array([1] * 10 + [0] * 10)
    true = ["x"] * 10 + ["y"] * 10 + ["x", "z"] * 10
    notes = validity.notes_on(made, again, true, [40, 2, 41], SEEDS)
    assert notes == {
        "moved_labels": [{"budget_n": 2, "share": 0}, {"budget_n": 40, "share": 0}],
        "with_true": {"tasks_n": 2, "prompts_n": 20, "rand": 1, "information": 1, "purity": 1},
    }
    for missing in (None, "", " \t"):
        assert "with_true" not in validity.notes_on(made, again, [missing, *true[1:]], [2], SEEDS)
    assert validity.notes_on(made, again, [None] * 40, [41], SEEDS) == {"moved_labels": []}
