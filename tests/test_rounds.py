"""Strategies in rounds: the section of the file, the order, and the rounds that only the stored copy has."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.experiment.recorded_rounds import with_rounds, with_stored_rounds
from taskdiv_assets.experiment.variants import derived
from taskdiv_assets.selection import STRATEGIES, SelectionPool, rank
from taskdiv_assets.services.in_rounds import order_in_rounds
from tests.home import MINIATURE

WEIGHTED = STRATEGIES["weighted_task_diversity"]
ARM = ("weighted_task_diversity]", "weighted_task_diversity, in_rounds]")
ROUNDS = "rounds: {in_rounds: {of: weighted_task_diversity, after: [12, 24]}}\n"
TEXT = MINIATURE.read_text().replace(*ARM) + ROUNDS


def parsed(text: str) -> Experiment:
    return experiment_file.parse(text, str(MINIATURE))


# --- the section of the file --------------------------------------------------------------------------------------------


def test_a_strategy_in_rounds_is_one_more_strategy_of_the_file() -> None:
    experiment = parsed(TEXT)
    assert experiment.strategies[-1] == "in_rounds" and experiment.order_in("in_rounds") == WEIGHTED.name
    assert (
        experiment.strategy("in_rounds").needs == WEIGHTED.needs
        and experiment.strategy("in_rounds").name == "in_rounds"
    )
    assert experiment.order_in("random") == "random"
    assert not experiment.keeps_annotated  # a study
    assert "rounds" not in parsed(MINIATURE.read_text()).model_dump()  # so no identity of earlier versions changes


def test_a_variant_leaves_strategies_in_rounds_out() -> None:
    one = derived(parsed(TEXT + "robustness: {more: {tuning: {epochs: 2}}}\n"), "more")
    assert "in_rounds" not in one.strategies and not one.rounds


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("of: weighted", "of: wighted", "unknown strategy 'wighted_task_diversity'; expected one of weighted_task_diversity, "),
        ("{of: weighted_task_diversity", "{of: random", "random does not share labels among tasks by confidence alone"),
        ("[12, 24]}}", "[24, 12]}}", "expected ascending numbers of bought prompts, such as [500, 1000], found [24, 12]"),
        ("after: [12, 24]}}", "after: []}}", "at least 1"),
        ("after: [12, 24]}}", "after: [12], of_: x}}", "unknown key"),
        ("rounds: {in_rounds:", "rounds: {others: {of: weighted_task_diversity, after: [1]}, in_rounds:", "'others' is not among the `strategies`"),
        ("rounds: {in_rounds:", "rounds: {weighted_task_diversity: {of: weighted_task_diversity, after: [1]}, in_rounds:", "leave out `of`"),
        ("{in_rounds: {of", "{weighted_task_diversity: {after: [1]}, in_rounds: {of", "is in rounds itself"),
        ("strategy: weighted_task_diversity,", "strategy: in_rounds,", "cannot repeat rounds"),
    ],
)  # fmt: skip
def test_a_mistake_in_rounds_is_one_clear_sentence(old: str, new: str, said: str) -> None:
    text = TEXT + ("robustness: {more: {tuning: {epochs: 2}}}\n" if "repeat" in said else "")
    assert old in text
    with pytest.raises(ExperimentError) as caught:
        parsed(text.replace(old, new))
    assert said in str(caught.value) and "rounds" in str(caught.value)


# --- rounds that only the stored copy has --------------------------------------------------------------------------------


IN_PLACE = {"weighted_task_diversity": {"after": [12]}}
FILE = MINIATURE.read_text()


def test_a_round_is_one_section_more_and_every_other_line_stays() -> None:
    text = with_rounds(FILE, IN_PLACE)
    assert text.startswith(FILE.rstrip()) and parsed(text).rounds["weighted_task_diversity"].after == [12]
    again = with_rounds(text.replace("rounds:", "rounds:  # ours"), {"weighted_task_diversity": {"after": [12, 24]}})
    assert parsed(again).rounds["weighted_task_diversity"].after == [12, 24]
    assert again.startswith(FILE.rstrip())
    commented = "rounds:\n  s: {after: [5]}  # ours\n\n# The budgets\nbudgets: [5]\n"
    assert with_rounds(commented, {"s": {"after": [5, 9]}}).endswith("- 9\n\n# The budgets\nbudgets: [5]\n")
    assert with_rounds("a: 1\nrounds: {s: {after: [5]}}\n# end\n", {"s": {"after": [9]}}).endswith("- 9\n# end\n")
    flow = "{name: x, budgets: [5]}"
    assert with_rounds(flow, IN_PLACE).splitlines()[:2] == ["name: x", "budgets:"]


def test_a_file_without_the_stored_round_gets_it_and_no_other() -> None:
    stored = "# Read from: /somewhere/miniature.yaml\n" + with_rounds(FILE, IN_PLACE)
    assert parsed(with_stored_rounds(FILE, stored)).rounds == parsed(stored).rounds
    assert with_stored_rounds(stored, FILE) == stored and with_stored_rounds(FILE, FILE) == FILE
    longer = with_rounds(FILE, {"weighted_task_diversity": {"after": [12, 24]}})
    assert with_stored_rounds(stored, longer) == stored.replace("    - 12\n", "    - 12\n    - 24\n")
    assert with_stored_rounds(longer, stored) == longer
    other = with_rounds(FILE, {"weighted_task_diversity": {"after": [20]}})
    assert with_stored_rounds(other, longer) == other  # the user wrote another round: the file is right
    changed = TEXT.replace("{of: weighted", "{of: complement_weighted").replace(
        "[12, 24]", "[12]"
    )  # `of` is the user's
    merged = parsed(with_stored_rounds(changed, TEXT)).rounds["in_rounds"]
    assert merged.after == [12, 24] and merged.of == "complement_weighted_task_diversity"
    without = FILE.replace(", weighted_task_diversity]", "]")
    assert with_stored_rounds(without, stored) == without  # the strategy is gone
    assert with_stored_rounds("{", stored) == "{" and with_stored_rounds(FILE, "- 1") == FILE


# --- the order ------------------------------------------------------------------------------------------------------------


def pool_of(sizes: list[int], confidence: list[float]) -> SelectionPool:
    tasks = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    ids = np.random.default_rng(1).permutation(len(tasks)).astype(np.uint64)
    return SelectionPool(ids, tasks, tuple(f"t{n}" for n in range(len(sizes))), np.array(confidence))


@st.composite
def cases(draw: st.DrawFn) -> tuple[SelectionPool, list[int], list[list[float]], int]:
    tasks_n = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(1, 9), min_size=tasks_n, max_size=tasks_n))
    shares = st.lists(st.floats(0.01, 1.0), min_size=tasks_n, max_size=tasks_n)
    after = sorted(draw(st.sets(st.integers(1, sum(sizes)), min_size=1, max_size=3)))
    means = [draw(shares) for _ in after]
    return pool_of(sizes, draw(shares)), after, means, draw(st.integers(0, 3))


@given(cases())
def test_bought_prompts_stay_first_and_the_counts_are_those_of_a_literal_queue(
    case: tuple[SelectionPool, list[int], list[list[float]], int],
) -> None:
    pool, after, means, seed = case
    rounds = dict(zip(after, means, strict=True))

    def means_after(after_n: int, bought: object) -> dict[str, float]:
        return dict(zip(pool.task_names, rounds[after_n], strict=True))

    order = order_in_rounds(WEIGHTED, pool, seed, after, [], means_after)
    assert order is not None and sorted(order) == list(range(len(pool.prompt_ids)))
    one_shot = rank(WEIGHTED, pool, seed=seed)
    assert order[: after[0]].tolist() == one_shot[: after[0]].tolist()
    for after_n, until in zip(after, [*after[1:], len(order)], strict=True):
        costs = np.maximum(np.rint(1e6 * np.array(rounds[after_n])), 1)
        counts = np.bincount(pool.tasks[order[:after_n]], minlength=len(costs))
        left = np.bincount(pool.tasks[order[after_n:]], minlength=len(costs))
        keys = sorted(
            (n * cost, cost, t) for t, cost in enumerate(costs) for n in range(counts[t], counts[t] + left[t])
        )
        queue = [t for *_, t in heapq.nsmallest(until - after_n, keys)]
        level = [
            (n * costs[t], costs[t]) for t in range(len(costs)) for n in range(counts[t], counts[t] + queue.count(t))
        ]
        found = np.bincount(pool.tasks[order[after_n:until]], minlength=len(costs))
        own = [(n * costs[t], costs[t]) for t in range(len(costs)) for n in range(counts[t], counts[t] + found[t])]
        assert sorted(own) == sorted(level)  # tasks whose keys tie may swap


def test_an_unchanged_confidence_changes_no_prompt_and_a_missing_one_gives_no_order() -> None:
    pool = pool_of([20, 30, 5], [0.2, 0.9, 0.5])
    means = dict(zip(pool.task_names, [0.2, 0.9, 0.5], strict=True))
    same = order_in_rounds(WEIGHTED, pool, 0, [7, 20], [], lambda *_: means)
    assert same is not None and same.tolist() == rank(WEIGHTED, pool, seed=0).tolist()
    assert order_in_rounds(WEIGHTED, pool, 0, [7], [], lambda *_: None) is None
    assert order_in_rounds(WEIGHTED, pool, 0, [55, 90], [], lambda *_: None) is not None  # nothing is left after 55
    gone = order_in_rounds(WEIGHTED, pool, 0, [50], [], lambda *_: {"t1": 0.9})  # the other tasks are bought
    assert gone is not None and len(gone) == 55


def test_annotated_prompts_come_first_in_every_round() -> None:
    pool = pool_of([20, 30, 5], [0.2, 0.9, 0.5])
    groups = [np.array([40, 41, 42]), np.array([1])]
    order = order_in_rounds(WEIGHTED, pool, 0, [5], groups, lambda *_: {"t0": 0.9, "t1": 0.1, "t2": 0.5})
    assert order is not None and set(order[:3]) == {40, 41, 42} and order[3] == 1
