"""One contract for every strategy, and inputs that `rank` and `SelectionPool` reject."""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.selection import STRATEGIES, SelectionPool, parse_prompt_ids, rank
from taskdiv_assets.selection.strata import equal_costs, stratified
from taskdiv_assets.selection.testing import StrategyContract, make_pool


@pytest.fixture(scope="module")
def pool():
    return make_pool()


def example_of_contributing():
    """Run the code of CONTRIBUTING.md, and return the strategy that it defines."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("\n## Add a strategy\n")[2]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    return names["strategy"]


EXAMPLE = example_of_contributing()
OWN = [
    OwnOrder(name="ours", scores="mine.csv", order="high_first").strategy,
    OwnOrder(name="theirs", order_from="ids.csv").strategy,
]


@pytest.fixture(scope="module", autouse=True)
def example_is_listed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRATEGIES, EXAMPLE.name, EXAMPLE)
        yield


EACH = [*STRATEGIES.values(), EXAMPLE, *OWN]


class TestEveryStrategy(StrategyContract):
    @pytest.fixture(autouse=True, params=EACH, ids=[strategy.name for strategy in EACH])
    def one_of_all(self, request):
        self.strategy = request.param


@pytest.mark.parametrize("name", [name for name in STRATEGIES if "task_confidence" in STRATEGIES[name].needs])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_confidence_that_is_no_probability_is_refused(name, pool, wrong):
    confidence = pool.task_confidence.copy()
    confidence[0] = wrong
    with pytest.raises(ValueError, match="task_confidence of 1 tasks is not a probability"):
        rank(name, replace(pool, task_confidence=confidence), seed=0)


def test_the_fourteen_orders_are_there():
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
        "smart",
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
        "prompts",
        "confidence_column",
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
        ValueError, match=r"unknown strategy 'min_margins'. Did you mean min_margin.*The strategies are: random, "
    ):
        rank("min_margins", pool, seed=0)


def test_depth_below_one_is_refused_and_above_the_pool_is_the_pool(pool):
    with pytest.raises(ValueError, match="depth is 0"):
        rank("random", pool, seed=0, depth=0)
    assert len(rank("facility_location", pool, seed=0, depth=1000)) == 60


def test_missing_score_column_is_named_with_what_there_is(pool):
    with pytest.raises(ValueError, match=r"min_margin needs the column 'min_margin'.*scores of: mean_entropy"):
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
        ({"task_names": ("a", "a")}, "2 entries, 1 of them different"),
        ({"task_confidence": np.ones(3)}, r"task_confidence has shape \(3,\)"),
        ({"scores": {"min_margin": np.ones(2)}}, r"scores\['min_margin'\] has shape \(2,\)"),
        ({"embeddings": np.ones((2, 4))}, r"embeddings has shape \(2, 4\); expected \(3, 4\)"),
        ({"prompts": ("a", "b")}, "prompts has 2 texts; expected 3"),
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
