"""Found tasks: every prompt gets one, in any order of rows and with any number of threads, whatever the texts are."""

from __future__ import annotations

import hashlib
import itertools
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from taskdiv_assets.pools.discovery import agreement, clusters, count_curve, found_tasks, naming, word_views
from taskdiv_assets.pools.discovery.found_tasks import Found, discover

TEMPLATES = {
    "reset": "How do I reset my {} password?",
    "refund": "Please refund the order of {} to my card",
    "poem": "Write a short poem about {}",
    "chinese": "重置密码{}怎么办",
    "arabic": "كيف يمكنني إعادة تعيين {}",
    "hindi": "मेरा पासवर्ड {} कैसे बदलें",
}


def mixed(prompts_n: int, seed: int = 1, kinds: tuple[str, ...] = tuple(TEMPLATES)) -> tuple[list[str], list[str]]:
    """Prompts of known kinds, and the kind of each."""
    draw = random.Random(seed)
    named = [draw.choice(kinds) for _ in range(prompts_n)]
    return [TEMPLATES[kind].format(f"w{draw.randrange(200)}") for kind in named], named


def ids_of(prompts: list[str]) -> list[str]:
    return [hashlib.sha256(f"{i} {text}".encode()).hexdigest()[:16] for i, text in enumerate(prompts)]


def tasks_by_id(found: Found, ids: list[str]) -> dict[str, str]:
    return {one: found.tasks[code].name for one, code in zip(ids, found.codes.tolist(), strict=True)}


PROMPTS, KINDS = mixed(300)
IDS = ids_of(PROMPTS)
FOUND = discover(PROMPTS, IDS, len(TEMPLATES))


def test_templates_in_four_scripts_are_found_and_named() -> None:
    pairs = set(zip(KINDS, FOUND.codes.tolist(), strict=True))
    assert len(pairs) == len(FOUND.tasks) == len(TEMPLATES)
    names = {kind: FOUND.tasks[code].name for kind, code in pairs}
    assert "poem" in names["poem"] and "refund" in names["refund"] and "密码" in names["chinese"]
    assert "पासवर्ड" in names["hindi"] and "إعادة" in names["arabic"]
    assert FOUND.agreement == (1.0, 1.0, 0.0)


def test_sizes_terms_and_central_prompts_are_of_their_task() -> None:
    sizes = [one.prompts_n for one in FOUND.tasks]
    assert sizes == np.bincount(FOUND.codes).tolist() == sorted(sizes, reverse=True)
    for code, one in enumerate(FOUND.tasks):
        assert len(one.central) == len({*one.central}) == naming.CENTRAL_N
        assert {*FOUND.codes[[*one.central]].tolist()} == {code}
        assert one.terms and one.name.startswith(one.terms[0])


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 2]))
def test_the_order_of_rows_and_the_number_of_threads_change_nothing(shuffle: random.Random, threads_n: int) -> None:
    order = [*range(len(PROMPTS))]
    shuffle.shuffle(order)
    ids = [IDS[i] for i in order]
    with threadpool_limits(threads_n):
        found = discover([PROMPTS[i] for i in order], ids, len(TEMPLATES))
    assert tasks_by_id(found, ids) == tasks_by_id(FOUND, IDS) and found.agreement == FOUND.agreement
    places = {one.name: one.place for one in FOUND.tasks}
    assert {one.name: one.place for one in found.tasks} == places


def test_a_pool_with_a_reduction_and_a_sample_is_also_the_same_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 64 features, and most prompts join the groups of a sample."""
    monkeypatch.setattr(found_tasks, "FITTED_MAX", 150)
    draw = random.Random(5)
    prompts = [" ".join(draw.choices([f"w{k}x" for k in range(90)], k=8)) for _ in range(400)] + PROMPTS
    ids, order = ids_of(prompts), draw.sample(range(700), 700)
    first = discover(prompts, ids, 12)
    with threadpool_limits(2):
        second = discover([prompts[i] for i in order], [ids[i] for i in order], 12)
    assert tasks_by_id(first, ids) == tasks_by_id(second, [ids[i] for i in order])
    assert min(one.prompts_n for one in first.tasks) >= clusters.TINY_N
    assert len({*first.codes[400:].tolist()}) >= 3  # prompts outside the sample get several tasks, too


@pytest.mark.parametrize(
    ("prompts", "tasks_n"),
    [
        ([], 1),
        (["alone"], 1),
        (["all alike"] * 30, 1),
        (["?!", "…", "🙂🙂"] * 10, 3),  # no word at all
        (["一", "二"] * 10, 2),
        (["a b c d", "e f g h"], 1),  # fewer prompts than tasks, and no group may be tiny
        (["x" * 100_000, "y " * 50_000] * 5, 2),
        (["\ud7ff\u0301", "\u200b", "a\x00b"] * 10, None),
    ],
)
def test_any_pool_gets_tasks(prompts: list[str], tasks_n: int | None) -> None:
    found = discover(prompts, ids_of(prompts), 5)
    assert len(found.codes) == len(prompts) == sum(one.prompts_n for one in found.tasks)
    assert tasks_n is None or len(found.tasks) == tasks_n or (not prompts and not found.tasks)
    assert all(one.name.strip() for one in found.tasks)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=25), st.integers(2, 6))
def test_any_text_gets_one_task_with_a_name_of_its_own(prompts: list[str], tasks_n: int) -> None:
    found = discover(prompts, ids_of(prompts), tasks_n)
    names = [one.name for one in found.tasks]
    assert len({" ".join(name.casefold().split()) for name in names}) == len(names) <= tasks_n
    assert all(one.prompts_n >= clusters.TINY_N for one in found.tasks) or len(found.tasks) == 1
    assert not any(name[0] in "=+-@\t\r\n'" or "\n" in name for name in names)


def test_tiny_groups_join_the_nearest_mean() -> None:
    rows = word_views.on_grid(np.array([[1, 0.0]] * 6 + [[0, 1.0]] * 6 + [[0.1, 1.0]] * 2 + [[1, 0.1]]))
    codes = np.array([0] * 6 + [1] * 6 + [2] * 2 + [3])
    assert clusters.without_tiny(rows, codes).tolist() == [0] * 6 + [1] * 6 + [1] * 2 + [0]
    assert clusters.without_tiny(rows[:4], np.arange(4)).tolist() == [0] * 4


def test_many_tasks_that_no_seed_changes_are_matched_without_a_matrix_of_all() -> None:
    codes = np.repeat(np.arange(100_000), 2)  # a matrix of all would need 75 GiB
    others = np.where(codes < 99_990, 100_000 - codes, np.arange(200_000) % 7)
    found = agreement.matched(codes, others)
    assert found[:199_980].tolist() == codes[:199_980].tolist()


def test_the_moved_share_is_that_of_the_best_matching_of_all() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        one, other = draw.integers(0, 4, 30), draw.integers(0, 3, 30)
        best = max(np.mean(np.array(names)[other] == one) for names in itertools.permutations(range(4), 3))
        assert agreement.moved_share(one, other) == pytest.approx(1 - best)


def test_noise_agrees_less_than_templates() -> None:
    draw = random.Random(2)
    noise = [" ".join(draw.choices([f"w{k}x" for k in range(60)], k=6)) for _ in range(300)]
    found = discover(noise, ids_of(noise), 15)
    assert found.agreement.between_seeds < 0.5 < FOUND.agreement.between_seeds
    assert found.agreement.moved_share > 0.2


def test_the_curve_has_the_groups_of_a_search_with_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found = discover(PROMPTS, IDS, 12, with_curve=True)
    assert found.curve is not None and [one.tasks_n for one in found.curve.points] == [3, 6, 12, 24]
    for one in found.curve.points[::2]:
        alone = discover(PROMPTS, IDS, one.tasks_n)
        sizes = sorted(task.prompts_n for task in alone.tasks)
        assert one[1:4] == (len(sizes), *(round(value, 4) for value in alone.agreement[:2]))
        assert one[4:] == (statistics.median_low(sizes), sizes[0])
    monkeypatch.setattr(count_curve, "SAMPLE_N", 100)
    order = random.Random(3).sample(range(300), 300)
    some, other = (
        discover([PROMPTS[i] for i in rows], [IDS[i] for i in rows], 6, with_curve=True).curve
        for rows in (range(300), order)
    )
    assert some == other and some is not None and (some.measured_n, some.prompts_n) == (100, 300)
    assert all(one.found_n * one.smallest_n <= 100 for one in some.points)


@pytest.mark.parametrize(
    ("prompts_n", "budget_n"), itertools.product((1, 39, 40, 1_000, 15_011, 10**6), (1, 3, 200, 10**6))
)
def test_the_number_of_tasks_keeps_its_bounds(prompts_n: int, budget_n: int) -> None:
    tasks_n = found_tasks.tasks_by_rule(prompts_n, budget_n)
    assert 2 <= tasks_n <= 500
    assert tasks_n == 2 or (prompts_n / tasks_n >= 20 and budget_n / tasks_n >= 2)
    bound = found_tasks.bound_of_rule(prompts_n, budget_n)
    more = {"prompts": (10**9, budget_n), "budget": (prompts_n, 10**9)}.get(bound, (10**9, 10**9))
    assert (found_tasks.tasks_by_rule(*more) > tasks_n) == (bound != "most")  # without this bound, there would be more
