"""One contract for every strategy, and what `rank` and `SelectionPool` refuse."""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from taskdiv_assets.selection import STRATEGIES, SelectionPool, parse_prompt_ids, rank
from taskdiv_assets.selection.strata import equal_costs, stratified

COLUMNS = ("sequence_log_probability", "mean_entropy", "mean_margin", "min_margin", "min_probability")


def make_pool(n=60, tasks_n=5, d=6, seed=0, *, identical=False):
    """A small pool with ties in scores, exact duplicates among the embeddings, and tasks of unequal size."""
    rng = np.random.default_rng(seed)
    tasks = np.minimum(rng.geometric(0.4, n) - 1, tasks_n - 1).astype(np.int32)
    points = rng.normal(size=(n, d)) + 0.3
    points[n // 2 :: 7] = points[0]
    scores = {column: np.round(rng.uniform(size=n), 1) for column in COLUMNS}
    if identical:
        points[:] = points[0]
        scores = {column: np.full(n, 0.5) for column in COLUMNS}
    return SelectionPool(
        prompt_ids=rng.integers(0, 2**64, n, dtype=np.uint64),
        tasks=tasks,
        task_names=tuple(f"task {i}" for i in range(tasks_n)),
        task_confidence=np.round(3 * np.linspace(0.2, 0.9, tasks_n)) / 3,  # some of them equal
        scores=scores,
        embeddings=(points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16),
    )


def rows_of(pool, rows, *, task_map=None):
    """The same prompts in another order of rows, and optionally with other task codes for the same names."""
    codes = pool.tasks if task_map is None else task_map[pool.tasks]
    names, confidence = np.array(pool.task_names, object), pool.task_confidence
    if task_map is not None:
        names, confidence = names[np.argsort(task_map)], confidence[np.argsort(task_map)]
    return SelectionPool(
        pool.prompt_ids[rows],
        codes[rows],
        tuple(names),
        confidence,
        {column: scores[rows] for column, scores in pool.scores.items()},
        pool.embeddings[rows],
    )


@pytest.fixture(scope="module")
def pool():
    return make_pool()


def example_of_contributing():
    """The strategy that CONTRIBUTING.md writes, from its own text."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    return names["strategy"]


EXAMPLE = example_of_contributing()


@pytest.fixture(scope="module", autouse=True)
def example_is_listed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRATEGIES, EXAMPLE.name, EXAMPLE)
        yield


@pytest.mark.parametrize("name", [*STRATEGIES, EXAMPLE.name])
class TestEveryStrategy:
    def test_a_smaller_budget_is_a_prefix_of_a_larger_one(self, name, pool):
        whole = rank(name, pool, seed=3)
        for depth in range(1, len(whole) + 1):
            assert rank(name, pool, seed=3, depth=depth).tolist() == whole[:depth].tolist()

    def test_no_prompt_twice_and_none_left_out_at_full_depth(self, name, pool):
        order = rank(name, pool, seed=3)
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(len(pool.prompt_ids)))

    def test_same_seed_same_order_even_if_the_pool_is_shuffled(self, name, pool):
        expected = pool.prompt_ids[rank(name, pool, seed=3)]
        for seed in range(5):
            rng = np.random.default_rng(seed)
            shuffled = rows_of(pool, rng.permutation(len(pool.prompt_ids)))
            assert (shuffled.prompt_ids[rank(name, shuffled, seed=3)] == expected).all()

    def test_task_codes_do_not_matter_only_names_do(self, name, pool):
        recoded = rows_of(pool, np.arange(len(pool.prompt_ids)), task_map=np.array([2, 4, 1, 0, 3], np.int32))
        assert rank(name, recoded, seed=3).tolist() == rank(name, pool, seed=3).tolist()

    def test_another_seed_gives_another_order_where_there_is_chance(self, name, pool):
        orders = {tuple(rank(name, pool, seed=seed).tolist()) for seed in range(8)}
        assert (len(orders) > 1) == STRATEGIES[name].uses_seed

    @pytest.mark.parametrize(("n", "tasks_n"), [(1, 1), (2, 1), (40, 1)])
    def test_a_pool_of_one_row_or_one_task(self, name, n, tasks_n):
        assert sorted(rank(name, make_pool(n, tasks_n), seed=0).tolist()) == list(range(n))

    def test_all_rows_identical_but_for_their_ids(self, name):
        pool = make_pool(20, identical=True)
        order = rank(name, pool, seed=0)
        assert sorted(order.tolist()) == list(range(20))
        if not STRATEGIES[name].uses_seed:
            assert (np.diff(pool.prompt_ids[order].astype(object)) > 0).all(), "ties go by prompt_id"

    def test_tasks_of_size_one(self, name):
        pool = replace(make_pool(12, 12), tasks=np.arange(12, dtype=np.int32), task_confidence=np.linspace(0.1, 1, 12))
        assert sorted(rank(name, pool, seed=0).tolist()) == list(range(12))

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_nan_and_infinity_are_refused_by_name_where_they_would_be_read(self, name, pool, wrong):
        needs, column = STRATEGIES[name].needs, STRATEGIES[name].score_column
        if column:
            scores = {key: values.copy() for key, values in pool.scores.items()}
            scores[column][[4, 9]] = wrong
            with pytest.raises(ValueError, match=rf"^{name}: column '{column}' is NaN or infinite for 2 of 60 prompts"):
                rank(name, replace(pool, scores=scores), seed=0)
        if "embeddings" in needs:
            embeddings = pool.embeddings.copy()
            embeddings[7, 1] = wrong
            with pytest.raises(ValueError, match=rf"^{name}: embeddings is NaN or infinite for 1 of 60 prompts"):
                rank(name, replace(pool, embeddings=embeddings), seed=0)
        if "task_confidence" in needs:
            confidence = pool.task_confidence.copy()
            confidence[0] = wrong
            with pytest.raises(ValueError, match="task_confidence of 1 tasks is no probability"):
                rank(name, replace(pool, task_confidence=confidence), seed=0)

    def test_it_reads_only_what_it_says_it_needs(self, name, pool):
        needs, column = STRATEGIES[name].needs, STRATEGIES[name].score_column
        least = SelectionPool(
            pool.prompt_ids,
            pool.tasks if "task_diversity" in name else np.empty(0, np.int32),
            pool.task_names if "task_diversity" in name else (),
            pool.task_confidence if "task_confidence" in needs else None,
            {column: pool.scores[column]} if column else {},
            pool.embeddings if "embeddings" in needs else None,
        )
        assert rank(name, least, seed=3).tolist() == rank(name, pool, seed=3).tolist()
        if needs:
            with pytest.raises(ValueError, match=f"^{name} needs"):
                rank(name, SelectionPool(pool.prompt_ids, pool.tasks, pool.task_names), seed=3)

    def test_greedy_orders_tell_how_far_they_are(self, name, pool):
        told = []
        rank(name, pool, seed=3, depth=10, progress=lambda done, total: told.append((done, total)))
        assert told == ([(1, 10), (10, 10)] if STRATEGIES[name].is_greedy else [])

    def test_it_is_listed_under_its_own_name_and_described(self, name):
        assert STRATEGIES[name].name == name
        assert STRATEGIES[name].description.endswith(".")


def test_the_thirteen_orders_are_there():
    assert set(STRATEGIES) - {EXAMPLE.name} == {
        "random",
        "least_confidence",
        "mean_entropy",
        "mean_margin",
        "min_margin",
        "max_token_uncertainty",
        "k_center",
        "facility_location",
        "dpp",
        "task_diversity",
        "weighted_task_diversity",
        "complement_weighted_task_diversity",
        "weighted_task_diversity_min_margin",
    }


def test_a_strategy_of_ones_own_is_ranked_without_being_listed(pool):
    assert rank(EXAMPLE, pool, seed=3).tolist() == rank(EXAMPLE.name, pool, seed=3).tolist()


@pytest.mark.parametrize("name", ["k_center", "facility_location", "dpp"])
@pytest.mark.parametrize("is_greedy", [True, False])
def test_a_greedy_order_within_tasks_is_the_pools_own_restricted_to_each_task(pool, name, is_greedy):
    greedy, told = STRATEGIES[name], []
    within = replace(
        greedy, name="within", order=stratified(equal_costs, greedy.order), uses_seed=True, is_greedy=is_greedy
    )
    order = rank(within, pool, seed=3, progress=lambda done, total: told.append((done, total)))
    everywhere = rank(greedy, pool, seed=3)
    assert pool.tasks[order].tolist() == pool.tasks[rank("task_diversity", pool, seed=3)].tolist()
    for task in range(5):
        assert order[pool.tasks[order] == task].tolist() == everywhere[pool.tasks[everywhere] == task].tolist()
    for depth in (1, 7, 30):
        assert rank(within, pool, seed=3, depth=depth).tolist() == order[:depth].tolist()
    assert told[:1] == ([(1, 60)] if is_greedy else [])


def test_complement_weights_give_shares_by_what_confidence_lacks():
    """Costs 1/0.82 and 1/0.22 millions: shares in the ratio of 82 to 22."""
    n = 4000
    codes = np.arange(n, dtype=np.int32) % 2
    pool = SelectionPool(np.arange(n, dtype=np.uint64), codes, ("unsure", "sure"), np.array([0.2, 0.8]))
    counts = np.bincount(pool.tasks[rank("complement_weighted_task_diversity", pool, seed=0, depth=1040)])
    assert np.abs(counts - [820, 220]).max() <= 1


def test_min_margin_within_tasks_has_the_shares_of_the_weighted_order(pool):
    weighted = pool.tasks[rank("weighted_task_diversity", pool, seed=3)]
    order = rank("weighted_task_diversity_min_margin", pool, seed=3)
    assert pool.tasks[order].tolist() == weighted.tolist()
    for task in range(5):
        margins = pool.scores["min_margin"][order[pool.tasks[order] == task]]
        assert (np.diff(margins) >= 0).all()


def test_a_pool_has_no_place_for_responses():
    assert {field.name for field in fields(SelectionPool)} == {
        "prompt_ids",
        "tasks",
        "task_names",
        "task_confidence",
        "scores",
        "embeddings",
    }


@pytest.mark.parametrize(
    ("name", "column", "sign"),
    [
        ("least_confidence", "sequence_log_probability", 1),
        ("mean_entropy", "mean_entropy", -1),
        ("mean_margin", "mean_margin", 1),
        ("min_margin", "min_margin", 1),
        ("max_token_uncertainty", "min_probability", 1),
    ],
)
def test_uncertainty_orders_are_a_plain_python_sort(pool, name, column, sign):
    rows = sorted(range(60), key=lambda i: (sign * pool.scores[column][i], int(pool.prompt_ids[i])))
    assert rank(name, pool, seed=0).tolist() == rows


def test_task_diversity_takes_one_of_every_task_before_a_second_of_any(pool):
    tasks = pool.tasks[rank("task_diversity", pool, seed=0)]
    sizes = np.bincount(tasks, minlength=5)
    for k in range(1, 61):
        counts = np.bincount(tasks[:k], minlength=5)
        assert (counts[counts < sizes].max(initial=0) - counts[counts < sizes].min(initial=99)) <= 1


def test_weighted_task_diversity_gives_unsure_tasks_more():
    n = 4000
    pool = SelectionPool(
        np.arange(n, dtype=np.uint64), np.arange(n, dtype=np.int32) % 2, ("sure", "unsure"), np.array([0.8, 0.2])
    )
    counts = np.bincount(pool.tasks[rank("weighted_task_diversity", pool, seed=0, depth=1000)])
    assert np.abs(counts - [200, 800]).max() <= 1


def test_random_and_stratified_orders_do_not_follow_each_other():
    """A stratified order of one task is a random order of its own, not the random strategy's."""
    pool = SelectionPool(np.arange(400, dtype=np.uint64), np.zeros(400, np.int32), ("only",))
    places = [np.argsort(rank(name, pool, seed=0)) for name in ("random", "task_diversity")]
    assert abs(np.corrcoef(places)[0, 1]) < 0.2  # 4 standard errors of 400 pairs


def test_random_spreads_first_places_evenly():
    """1,000 seeds over 10 prompts: each is first about 100 times; 60 is 4 standard deviations below."""
    pool = SelectionPool(np.arange(10, dtype=np.uint64))
    first = [int(rank("random", pool, seed=seed)[0]) for seed in range(1000)]
    assert np.bincount(first, minlength=10).min() >= 60


def test_an_unknown_strategy_is_answered_with_its_nearest_and_the_list(pool):
    with pytest.raises(
        ValueError, match=r"unknown strategy 'min_margins'. Did you mean min_margin.*There are: random, "
    ):
        rank("min_margins", pool, seed=0)


def test_depth_below_one_is_refused_and_above_the_pool_is_the_pool(pool):
    with pytest.raises(ValueError, match="depth is 0"):
        rank("random", pool, seed=0, depth=0)
    assert len(rank("facility_location", pool, seed=0, depth=1000)) == 60


def test_missing_score_column_is_named_with_what_there_is(pool):
    with pytest.raises(ValueError, match=r"min_margin needs the column 'min_margin'.*scores for: mean_entropy"):
        rank("min_margin", replace(pool, scores={"mean_entropy": pool.scores["mean_entropy"]}), seed=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt_ids": np.array([1, 2, 2], np.uint64)}, "repeat another row's id, the first is 0000000000000002"),
        ({"prompt_ids": np.array([1, 2, 3])}, "dtype int64"),
        ({"prompt_ids": np.empty(0, np.uint64)}, "no prompts"),
        ({"tasks": np.array([0, 1], np.int32)}, r"tasks has shape \(2,\)"),
        ({"tasks": np.array([0, 1, 2], np.int32)}, "codes from 0 to 2; expected 0 to 1"),
        ({"tasks": np.array([0.0, 1, 1])}, "tasks has dtype float64"),
        ({"task_names": ("a", "a")}, "2 entries but 1 different"),
        ({"task_confidence": np.ones(3)}, r"task_confidence has shape \(3,\)"),
        ({"scores": {"min_margin": np.ones(2)}}, r"scores\['min_margin'\] has shape \(2,\)"),
        ({"embeddings": np.ones((2, 4))}, r"embeddings has shape \(2, 4\); expected \(3, 4\)"),
        ({"embeddings": np.ones(3)}, r"embeddings has shape \(3,\); expected \(3, d\)"),
    ],
)
def test_a_pool_that_does_not_fit_together_is_refused(change, said):
    good = {
        "prompt_ids": np.array([1, 2, 3], np.uint64),
        "tasks": np.array([0, 1, 0], np.int32),
        "task_names": ("a", "b"),
    }
    with pytest.raises(ValueError, match=said):
        SelectionPool(**(good | change))


def test_prompt_ids_keep_their_order_as_numbers_and_bad_ones_are_refused():
    texts = ["ffffffffffffffff", "0000000000000000", "00000000000000ff", "8000000000000000"]
    ids = parse_prompt_ids(texts)
    assert ids.dtype == np.uint64
    assert np.argsort(ids).tolist() == sorted(range(4), key=texts.__getitem__)
    with pytest.raises(
        ValueError, match="1 prompt ids are not 16 lower-case hex digits, the first is 'FFFFFFFFFFFFFFFF'"
    ):
        parse_prompt_ids(["ffffffffffffffff", "FFFFFFFFFFFFFFFF"])
