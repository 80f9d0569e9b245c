"""The contract of a strategy as a test class, for the tests of the built-in strategies and of plug-ins.

    class TestMine(StrategyContract):
        strategy = my_package.strategy

pytest then runs every test of the class for this strategy. Only tests may import this module, since it needs pytest.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from taskdiv_assets.selection.pool import SelectionPool
from taskdiv_assets.selection.strategies import NEEDS, OWN_ORDER, Strategy, rank

COLUMNS = ("sequence_log_probability", "mean_entropy", "mean_margin", "min_margin", "min_probability", OWN_ORDER)


def make_pool(
    prompts_n: int = 60, tasks_n: int = 5, dimensions_n: int = 6, seed: int = 0, *, is_identical: bool = False
) -> SelectionPool:
    """Return a small pool in which some scores and some embeddings are equal, and tasks have unequal sizes.

    If `is_identical` is True, prompts differ only in their ids and tasks.
    """
    rng = np.random.default_rng(seed)
    tasks = np.minimum(rng.geometric(0.4, prompts_n) - 1, tasks_n - 1).astype(np.int32)
    points = rng.normal(size=(prompts_n, dimensions_n)) + 0.3
    points[prompts_n // 2 :: 7] = points[0]
    scores = {column: np.round(rng.uniform(size=prompts_n), 1) for column in COLUMNS}
    if is_identical:
        points[:] = points[0]
        scores = {column: np.full(prompts_n, 0.5) for column in COLUMNS}
    ids = rng.integers(0, 2**64, prompts_n, dtype=np.uint64)
    texts = ["the same"] * prompts_n if is_identical else ["why " * (int(i) % 7) + f"is it {i}?" for i in ids]
    return SelectionPool(
        prompt_ids=ids,
        tasks=tasks,
        task_names=tuple(f"task {i}" for i in range(tasks_n)),
        task_confidence=np.round(3 * np.linspace(0.2, 0.9, tasks_n)) / 3,  # some are equal
        scores=scores,
        embeddings=(points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16),
        prompts=tuple(texts),
    )


def rows_of(pool: SelectionPool, rows: NDArray[np.int64], task_map: NDArray[np.int32] | None = None) -> SelectionPool:
    """Return a pool with the prompts of `pool` in the order `rows`. `task_map` contains a new code for each task; names stay."""
    assert pool.task_confidence is not None and pool.embeddings is not None and pool.prompts is not None
    codes = pool.tasks if task_map is None else task_map[pool.tasks]
    names, confidence = np.array(pool.task_names, object), pool.task_confidence
    if task_map is not None:
        names, confidence = names[np.argsort(task_map)], confidence[np.argsort(task_map)]
    scores = {column: values[rows] for column, values in pool.scores.items()}
    texts = tuple(pool.prompts[row] for row in rows)
    return SelectionPool(
        pool.prompt_ids[rows], codes[rows], tuple(names), confidence, scores, pool.embeddings[rows], texts
    )


class StrategyContract:
    """Tests of the properties that every strategy must have. A subclass sets `strategy`."""

    strategy: Strategy

    def test_a_smaller_budget_is_a_prefix_of_a_larger_one(self) -> None:
        pool = make_pool()
        whole = rank(self.strategy, pool, seed=3)
        for depth in range(1, len(whole) + 1):
            assert rank(self.strategy, pool, seed=3, depth=depth).tolist() == whole[:depth].tolist()

    def test_no_prompt_twice_and_none_left_out_at_full_depth(self) -> None:
        order = rank(self.strategy, make_pool(), seed=3)
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(60))

    def test_same_seed_same_order_even_if_the_pool_is_shuffled(self) -> None:
        pool = make_pool()
        expected = pool.prompt_ids[rank(self.strategy, pool, seed=3)]
        for seed in range(5):
            shuffled = rows_of(pool, np.random.default_rng(seed).permutation(60))
            assert (shuffled.prompt_ids[rank(self.strategy, shuffled, seed=3)] == expected).all()

    def test_task_codes_do_not_matter_only_names_do(self) -> None:
        pool = make_pool()
        recoded = rows_of(pool, np.arange(60), np.array([2, 4, 1, 0, 3], np.int32))
        assert rank(self.strategy, recoded, seed=3).tolist() == rank(self.strategy, pool, seed=3).tolist()

    def test_another_seed_gives_another_order_where_there_is_chance(self) -> None:
        orders = {tuple(rank(self.strategy, make_pool(), seed=seed).tolist()) for seed in range(8)}
        assert (len(orders) > 1) == self.strategy.uses_seed

    @pytest.mark.parametrize(("prompts_n", "tasks_n"), [(1, 1), (2, 1), (40, 1)])
    def test_a_pool_of_one_row_or_one_task(self, prompts_n: int, tasks_n: int) -> None:
        assert sorted(rank(self.strategy, make_pool(prompts_n, tasks_n), seed=0).tolist()) == list(range(prompts_n))

    def test_all_rows_identical_but_for_their_ids(self) -> None:
        pool = make_pool(20, is_identical=True)
        order = rank(self.strategy, pool, seed=0)
        assert sorted(order.tolist()) == list(range(20))
        if not self.strategy.uses_seed and not self.strategy.reads_tasks:
            assert (np.diff(pool.prompt_ids[order].astype(object)) > 0).all(), "ties go by prompt_id"

    def test_tasks_of_size_one(self) -> None:
        tasks, confidence = np.arange(12, dtype=np.int32), np.linspace(0.1, 1, 12)
        pool = replace(make_pool(12, 12), tasks=tasks, task_confidence=confidence)
        assert sorted(rank(self.strategy, pool, seed=0).tolist()) == list(range(12))

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_nan_and_infinity_are_refused_by_name_where_they_would_be_read(self, wrong: float) -> None:
        name, column, pool = self.strategy.name, self.strategy.score_column, make_pool()
        if column:
            scores = {key: np.array(values) for key, values in pool.scores.items()}
            scores[column][[4, 9]] = wrong
            with pytest.raises(ValueError, match=rf"^{name}: column '{column}' is NaN or infinite for 2 of 60 prompts"):
                rank(self.strategy, replace(pool, scores=scores), seed=0)
        if "embeddings" in self.strategy.needs:
            embeddings = np.array(pool.embeddings)
            embeddings[7, 1] = wrong
            with pytest.raises(ValueError, match=rf"^{name}: embeddings is NaN or infinite for 1 of 60 prompts"):
                rank(self.strategy, replace(pool, embeddings=embeddings), seed=0)

    def test_it_reads_only_what_it_says_it_needs(self) -> None:
        pool, needs, column = make_pool(), self.strategy.needs, self.strategy.score_column
        has_tasks = self.strategy.reads_tasks
        least = SelectionPool(
            pool.prompt_ids,
            pool.tasks if has_tasks else np.empty(0, np.int32),
            pool.task_names if has_tasks else (),
            pool.task_confidence if "task_confidence" in needs else None,
            {column: pool.scores[column]} if column else {},
            pool.embeddings if "embeddings" in needs else None,
            pool.prompts if "prompts" in needs else None,
        )
        assert rank(self.strategy, least, seed=3).tolist() == rank(self.strategy, pool, seed=3).tolist()
        if needs:
            with pytest.raises(ValueError, match=f"^{self.strategy.name} needs"):
                rank(self.strategy, SelectionPool(pool.prompt_ids), seed=3)

    def test_greedy_orders_tell_how_far_they_are(self) -> None:
        told: list[tuple[int, int]] = []
        rank(self.strategy, make_pool(), seed=3, depth=10, progress=lambda done, total: told.append((done, total)))
        assert told == ([(1, 10), (10, 10)] if self.strategy.is_greedy else [])

    def test_it_is_named_and_described(self) -> None:
        assert re.fullmatch("[a-z0-9_]+", self.strategy.name)  # as names in experiment files
        assert self.strategy.description.endswith(".")
        assert self.strategy.needs <= NEEDS | {OWN_ORDER}
