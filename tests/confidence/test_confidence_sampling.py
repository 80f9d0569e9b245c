"""Samples of a pool: larger samples contain smaller ones, means are unbiased, and intervals cover the means."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.shared_statistics import total_variation
from taskdiv_assets.confidence import effect
from taskdiv_assets.confidence.measures import DEFINITIONS, confidence
from taskdiv_assets.confidence.sampling import half_widths, next_sizes, sample_places, task_means
from taskdiv_assets.selection.apportionment import allocate
from tests.evidence import sampling as evidence

TASKS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def skewed(seed: int, sizes: tuple[int, ...]) -> evidence.Pool:
    """Return tasks with realistic distributions: high with few exceptions, almost constant, uniform, and bimodal."""
    random = np.random.default_rng(seed)
    draws = (
        lambda n: 1 - 0.7 * (random.random(n) < 0.08) * random.random(n),
        lambda n: np.full(n, 0.6) + 0.01 * random.random(n),
        lambda n: random.uniform(0.1, 0.9, n),
        lambda n: np.where(random.random(n) < 0.5, 0.2, 0.8) + 0.05 * random.random(n),
    )
    values = np.concatenate([draws[i % 4](n) for i, n in enumerate(sizes)])
    return evidence.Pool("skewed", np.repeat(np.arange(len(sizes)), sizes), values, len(sizes))


class TestPlaces:
    @settings(deadline=None)
    @given(TASKS, st.integers(0, 2**32))
    def test_each_task_is_numbered_whatever_the_order_of_rows(self, tasks, seed):
        random = np.random.default_rng(seed)
        codes = np.array(tasks)
        ids = random.choice(2**40, len(codes), replace=False).astype(np.uint64)
        places = sample_places(ids, codes)
        for task in set(tasks):
            assert sorted(places[codes == task]) == list(range((codes == task).sum()))
        shuffled = random.permutation(len(codes))
        assert np.array_equal(sample_places(ids[shuffled], codes[shuffled]), places[shuffled])

    def test_every_prompt_of_a_task_is_as_likely(self):
        counts = np.zeros(10)
        for draw in range(2000):
            ids = (np.arange(10) + 10 * draw).astype(np.uint64)
            counts += sample_places(ids, np.zeros(10, np.int64)) < 3
        # 2,000 draws of 3 in 10: each 600 ± 20 (one standard deviation); 5 of them
        assert np.abs(counts - 600).max() < 103


class TestMeans:
    def test_against_the_formulas_written_out(self):
        pool = skewed(1, (30, 40, 50))
        places = sample_places(np.arange(120, dtype=np.uint64), pool.tasks)
        means = pool.means(places < 9)
        of_task = [pool.values[(pool.tasks == t) & (places < 9)] for t in range(3)]
        pooled = sum(((v - v.mean()) ** 2).sum() for v in of_task) / (3 * 8)
        for task, (values, size) in enumerate(zip(of_task, (30, 40, 50), strict=True)):
            own = ((values - values.mean()) ** 2).sum()
            error = math.sqrt((own + 4 * pooled) / (8 + 4) / 9 * (1 - 9 / size))
            assert means.mean[task] == pytest.approx(values.mean(), rel=1e-12)
            assert means.standard_error[task] == pytest.approx(error, rel=1e-12)
        assert means.degrees.tolist() == [12, 12, 12]

    def test_what_is_scored_whole_is_known(self):
        means = task_means(np.array([0, 0, 1]), np.array([0.2, 0.6, 0.9]), 3)
        assert means.standard_error[:2].tolist() == [0, 0]
        assert np.isnan(means.mean[2]) and np.isnan(means.standard_error[2])

    def test_one_prompt_borrows_its_spread_from_other_tasks(self):
        values = np.array([0.2, 0.6, np.nan, 0.9, np.nan, np.nan])
        means = task_means(np.array([0, 0, 0, 1, 1, 1]), values, 2)
        assert means.standard_error[1] == pytest.approx(math.sqrt(0.08 * 1 * (1 - 1 / 3)), rel=1e-12)

    def test_where_nothing_is_known_of_the_spread_nothing_is_said(self):
        means = task_means(np.array([0, 0]), np.array([0.5, np.nan]), 1)
        assert np.isnan(means.standard_error[0]) and np.isnan(half_widths(means)[0])
        said = effect.sampling_effect(means, 1)
        assert said.distance == 0 and said.low.tolist() == said.high.tolist() == [1]

    def test_prompts_that_are_all_alike_say_nothing_of_the_others(self):
        means = task_means(np.array([0, 0, 0]), np.array([0.5, 0.5, np.nan]), 1)
        assert np.isnan(means.standard_error[0])
        assert next_sizes(means, 0.05, 0.95, 2).tolist() == [3]


class TestCoverage:
    """Intervals and expected distances compared with the whole pool, on tasks with realistic distributions."""

    @pytest.fixture(scope="class")
    def pool(self):
        return skewed(3, (400, 350, 300, 250, 200, 150, 100, 80))

    @pytest.mark.full
    @pytest.mark.parametrize("rule", [10, 40, 0.05])
    def test_intervals_hold_the_mean(self, pool, rule):
        found = evidence.simulate(pool, rule, draws_n=300, effects_n=40)
        # 300 draws of 8 tasks: a coverage of .95 has a standard deviation of .004 (over tasks), .013 (one task)
        assert found.coverage >= 0.94
        assert found.worst >= 0.85  # one prompt in 12 of a task is the exception: few samples of 10 hold one
        assert found.counts_held >= 0.94
        assert 0.6 < found.expected / found.distance < 1.8

    @pytest.mark.full
    def test_a_tighter_tolerance_scores_more(self, pool):
        shares = [evidence.simulate(pool, t, draws_n=20, effects_n=5).scored for t in (0.2, 0.05, 0.01)]
        assert shares == sorted(shares) and shares[0] < 0.5 * shares[2]

    def test_rounds_end_and_never_shrink(self, pool):
        means = evidence.sampled(pool, 0, 0.03)
        sizes = next_sizes(means, 0.03, 0.95, evidence.FIRST_N)
        assert np.array_equal(sizes, means.scored_n)
        is_whole = means.scored_n == means.pool_n
        assert (is_whole | (half_widths(means) <= 0.03 * means.mean)).all()


class TestEffect:
    def test_allocations_are_those_of_the_strategy(self):
        mean, sizes = np.array([0.25, 0.5, 1.0]), np.array([100, 100, 5])
        found = effect.weighted_allocation(mean, sizes, 60)
        assert found.tolist() == allocate(np.array([250_000, 500_000, 1_000_000]), sizes, 60).tolist()

    def test_a_whole_pool_leaves_nothing_open(self):
        pool = skewed(2, (50, 60))
        said = effect.sampling_effect(pool.means(np.ones(110, np.bool_)), 40)
        assert said.distance == 0 and np.array_equal(said.low, said.high)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.lists(st.integers(0, 50), min_size=8, max_size=8))
    def test_distance_is_a_share(self, first, second):
        first, second = np.array(first), np.array(second[: len(first)])
        total = max(first.sum(), 1)
        second = second * 0 + first[::-1]  # a budget spent otherwise
        assert 0 <= total_variation(first, second) <= 1
        assert total_variation(first, second) == pytest.approx(np.abs(first - second).sum() / 2 / total)
        assert total_variation(first, first) == 0


class TestDefinitions:
    def test_each_against_its_meaning_in_words(self):
        probabilities = [[0.9, 0.5, 0.8], [0.3]]
        columns = {
            "generated_n": np.array([len(p) for p in probabilities]),
            "mean_probability": np.array([np.mean(p) for p in probabilities]),
            "first_probability": np.array([p[0] for p in probabilities]),
            "min_probability": np.array([min(p) for p in probabilities]),
            "sequence_log_probability": np.array([np.log(p).sum() for p in probabilities]),
        }
        expected = {
            "mean_probability": np.mean,
            "geometric_mean": lambda p: np.prod(p) ** (1 / len(p)),
            "min_probability": min,
            "first_probability": lambda p: p[0],
            "sequence_probability": np.prod,
        }
        assert set(expected) == set(DEFINITIONS)
        for name, by_hand in expected.items():
            assert confidence(columns, name) == pytest.approx([by_hand(p) for p in probabilities], rel=1e-12)

    def test_none_is_0(self):
        columns = {"sequence_log_probability": np.array([-1e6]), "generated_n": np.array([2])}
        assert confidence(columns, "sequence_probability")[0] > 0 and confidence(columns, "geometric_mean")[0] > 0
