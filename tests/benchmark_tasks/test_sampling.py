"""Samples of a benchmark: the number of items of each task, the chosen items, and the standard error."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from taskdiv_assets.benchmarks import mmlu
from taskdiv_assets.benchmarks.item_sampling import (
    drawn,
    equal_shares,
    items_by_task,
    standard_error,
    worst_standard_error,
)
from taskdiv_assets.benchmarks.questions import Questions, questions
from taskdiv_assets.experiment.benchmark_settings import Extent, MmluBenchmark

SIZES = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(0, 60), min_size=1, max_size=9)
THREE = ["abstract_algebra", "marketing", "virology"]  # 100, 234 and 166 items


@given(SIZES, st.integers(0, 700))
def test_each_task_gets_as_many_as_the_next_as_far_as_it_has_them(sizes: dict[str, int], total_n: int) -> None:
    shares = equal_shares(sizes, total_n)
    assert list(shares) == list(sizes)
    assert sum(shares.values()) == min(total_n, sum(sizes.values()))
    assert all(0 <= shares[task] <= sizes[task] for task in sizes)
    most = max(shares.values())
    for task, share in shares.items():  # who has fewer than another by more than the one left over has no more
        assert share == sizes[task] or share >= most - 1
    more = [task for task in sorted(sizes) if shares[task] < sizes[task]]
    assert [shares[task] for task in more] == sorted((shares[task] for task in more), reverse=True)  # first names first


def by_pouring(sizes: dict[str, int], total_n: int) -> dict[str, int]:
    """Compute the shares a second time: give one item at a time to the smallest share, the first by name among equals."""
    shares = dict.fromkeys(sizes, 0)
    for _ in range(min(total_n, sum(sizes.values()))):
        shares[min((task for task in sizes if shares[task] < sizes[task]), key=lambda task: (shares[task], task))] += 1
    return shares


@given(SIZES, st.integers(0, 300))
def test_shares_are_those_of_pouring_item_by_item(sizes: dict[str, int], total_n: int) -> None:
    assert equal_shares(sizes, total_n) == by_pouring(sizes, total_n)
    larger, smaller = equal_shares(sizes, total_n + 1), equal_shares(sizes, total_n)
    assert all(larger[task] >= smaller[task] for task in sizes)


def test_no_other_shares_have_a_smaller_error() -> None:
    """Of tasks that are equally noisy, counted without their size: by trying all shares of 12 items."""
    sizes = {"a": 3, "b": 50, "c": 50}

    def error(shares: tuple[int, ...]) -> float:
        return sum(1 / share for share in shares)

    every = [
        shares
        for shares in itertools.product(range(1, 13), repeat=3)
        if sum(shares) == 12 and all(share <= size for share, size in zip(shares, sizes.values(), strict=True))
    ]
    assert error(tuple(equal_shares(sizes, 12).values())) == pytest.approx(min(map(error, every)), rel=1e-12)


def test_all_the_first_or_a_sample() -> None:
    sizes = {"a": 3, "b": 100, "c": 1}
    assert items_by_task(Extent(), sizes) == sizes
    assert items_by_task(Extent(limit=2), sizes) == {"a": 2, "b": 2, "c": 1}
    assert items_by_task(Extent(sample=5), sizes) == {"a": 2, "b": 2, "c": 1}
    assert items_by_task(Extent(sample=1000), sizes) == sizes
    with pytest.raises(
        ValueError, match=r"`sample: 4` is too small for 3 tasks; expected at least 5, two items a task"
    ):
        items_by_task(Extent(sample=4), sizes)
    with pytest.raises(ValidationError, match="`limit` and `sample` exclude each other"):
        Extent(limit=1, sample=2)


@given(st.lists(st.text("ab", max_size=3), max_size=30), st.integers(0, 30), st.randoms())
def test_a_draw_depends_on_content_alone(contents: list[str], items_n: int, rng: random.Random) -> None:
    found = drawn(contents, items_n)
    assert found == sorted(set(found)) and len(found) == min(items_n, len(contents))
    mixed = rng.sample(contents, len(contents))
    assert sorted(mixed[place] for place in drawn(mixed, items_n)) == sorted(contents[place] for place in found)
    assert set(drawn(contents, max(0, items_n - 1))) <= set(found)  # a larger sample keeps a smaller one


def test_every_item_is_drawn_as_often_as_any_other() -> None:
    """Over 4,000 tasks of ten items, of which three are drawn: each place about 1,200 times, give or take 4 × 29."""
    counts = np.zeros(10)
    for task in range(4000):
        counts[drawn([f"{task}:{item}" for item in range(10)], 3)] += 1
    assert np.abs(counts - 1200).max() < 4 * math.sqrt(4000 * 0.3 * 0.7)


@pytest.mark.full
def test_the_standard_error_is_that_of_sampling_again_and_again() -> None:
    """Three finite tasks, a stratified sample drawn 20,000 times: the spread of the mean, and the mean of the estimates.

    The spread of 20,000 draws is known to 0.5%; 2% leaves four times that.
    """
    rng = np.random.default_rng(0)
    population = {"a": rng.random(40) < 0.3, "b": rng.random(12) < 0.8, "c": rng.random(200) < 0.5}
    sizes, asked = {task: len(values) for task, values in population.items()}, {"a": 10, "b": 12, "c": 25}
    means, variances = [], []
    for _ in range(20_000):
        scores = {
            task: rng.choice(values, asked[task], replace=False).astype(float) for task, values in population.items()
        }
        means.append(np.mean([values.mean() for values in scores.values()]))
        if len(variances) < 4000:
            error = standard_error({task: values.tolist() for task, values in scores.items()}, sizes)
            assert error is not None
            variances.append(error**2)
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.04)
    assert np.std(means) < worst_standard_error(asked, sizes)


def test_all_items_leave_no_error_and_one_of_many_cannot_tell() -> None:
    assert standard_error({"a": [0.0, 1.0], "b": [1.0]}, {"a": 2, "b": 1}) == 0
    assert standard_error({"a": [0.0, 1.0], "b": [1.0]}, {"a": 2, "b": 3}) is None
    assert standard_error({"a": [1.0, 1.0], "b": []}, {"a": 9, "b": 0}) == 0
    assert worst_standard_error({"a": 5, "b": 0}, {"a": 5, "b": 0}) == 0


@pytest.fixture(scope="module")
def all_items(shared_data: Path) -> Questions:
    settings = mmlu_settings(shared_data)
    return questions(mmlu.suite(settings), settings)


def mmlu_settings(shared_data: Path, **extent: object) -> MmluBenchmark:
    file = str(shared_data / "mmlu" / "mmlu.parquet")
    return MmluBenchmark.model_validate({"name": "mmlu", "source": file, "tasks": THREE, "few_shot": 0} | extent)


pytestmark = pytest.mark.xdist_group("sampling")


def test_a_sample_asks_what_the_whole_benchmark_asks(shared_data: Path, all_items: Questions) -> None:
    whole = {(item.task, item.item_id): item for item in all_items.items}
    assert len(whole) == len(all_items.items) == 500
    before: set[tuple[str, str]] = set()
    for sample_n, shares in ((30, [10, 10, 10]), (301, [100, 101, 100]), (499, [100, 233, 166])):
        settings = mmlu_settings(shared_data, sample=sample_n)
        some = questions(mmlu.suite(settings), settings)
        assert some.sizes == all_items.sizes == {"abstract_algebra": 100, "marketing": 234, "virology": 166}
        asked = {(item.task, item.item_id): item for item in some.items}
        assert [sum(task == name for task, _ in asked) for name in THREE] == shares
        for name, item in asked.items():
            assert (item.keys, item.prompt_hash, item.target) == (
                whole[name].keys,
                whole[name].prompt_hash,
                whole[name].target,
            )
        assert before <= set(asked)
        before = set(asked)


def test_a_limit_asks_the_first_of_each_task(shared_data: Path, all_items: Questions) -> None:
    settings = mmlu_settings(shared_data, limit=3)
    some = questions(mmlu.suite(settings), settings)
    expected = [item.item_id for task in THREE for item in [one for one in all_items.items if one.task == task][:3]]
    assert [item.item_id for item in some.items] == expected
    assert len(some.requests) == 4 * 9


def test_one_subject_more_changes_no_draw_of_another(shared_data: Path) -> None:
    def draw(tasks: list[str], sample_n: int) -> set[str]:
        settings = mmlu_settings(shared_data, tasks=tasks, sample=sample_n)
        items = questions(mmlu.suite(settings), settings).items
        return {item.item_id for item in items if item.task == "marketing"}

    assert draw(["marketing"], 7) == draw(["virology", "marketing"], 14)
