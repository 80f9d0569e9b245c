"""Costs of tasks: proportional to confidence at any magnitude, and the integers that stored rankings were made with."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.assets.ranking import cost_settings
from taskdiv_assets.confidence import effect
from taskdiv_assets.confidence.sampling import task_means
from taskdiv_assets.selection import STRATEGIES, SelectionPool, rank
from taskdiv_assets.selection.strata import confidence_costs, inverse_costs
from taskdiv_assets.services.ordering import refuse_lost_weights

CONFIDENCES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8)
WEIGHTED = ("weighted_task_diversity", "weighted_task_diversity_min_margin")


def pool_of(confidence: list[float], size: int = 200, column: str = "sequence_probability") -> SelectionPool:
    tasks = np.repeat(np.arange(len(confidence)), size).astype(np.int32)
    names = tuple("abcdefgh"[: len(confidence)])
    scores = {"min_margin": np.zeros(len(tasks))}
    ids = np.arange(len(tasks), dtype=np.uint64)
    return SelectionPool(ids, tasks, names, np.array(confidence), scores, confidence_column=column)


@given(CONFIDENCES)
def test_costs_from_a_millionth_on_are_whole_millionths_as_ever(confidence):
    """Stored rankings were made with these integers."""
    assert confidence_costs(pool_of(confidence, 3)).tolist() == [max(1, round(c * 1_000_000)) for c in confidence]


@settings(deadline=None, max_examples=60)
@given(st.floats(-300, -6.1), st.lists(st.floats(1, 1e4), min_size=2, max_size=6))
def test_ratios_are_kept_at_any_magnitude(exponent, ratios):
    confidence = [10**exponent * ratio / max(ratios) for ratio in ratios]
    costs = confidence_costs(pool_of(confidence, 3))
    exact = [Fraction(c) / Fraction(min(confidence)) for c in confidence]
    assert costs.min() == 1000
    for cost, ratio in zip(costs.tolist(), exact, strict=True):
        assert abs(Fraction(cost, 1000) / ratio - 1) <= Fraction(1, 2000)  # half a step of the least cost


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("unit", [1.0, 1e-8, 1e-30, 1e-300])
def test_shares_do_not_depend_on_the_unit(name, unit):
    pool = pool_of([0.9 * unit, 0.09 * unit, 0.009 * unit])
    assert np.bincount(pool.tasks[rank(name, pool, seed=0)[:111]]).tolist() == [1, 10, 100]


def test_denormal_confidences_keep_their_ratio():
    assert inverse_costs(np.array([1e-323, 5e-324]), np.array([5, 5])).tolist() == [2000, 1000]


def test_a_task_without_prompts_has_no_say():
    pool = pool_of([0.5, 0.25])
    empty = SelectionPool(pool.prompt_ids, pool.tasks, ("a", "b", "none"), np.array([0.5, 0.25, 1e-300]))
    assert confidence_costs(empty)[:2].tolist() == [500_000, 250_000]


def test_confidences_too_far_apart_are_refused_by_column_task_and_value():
    with pytest.raises(
        ValueError, match=r"\(sequence_probability\) is 1e-30 for task 'b' and 0\.9 for task 'a'.*geometric_mean"
    ):
        rank("weighted_task_diversity", pool_of([0.9, 1e-30, 0.5]), seed=0)


def test_a_confidence_of_zero_is_called_what_it_is():
    with pytest.raises(ValueError, match=r"the first is task 'b' with 0\.0; is it a product too small for a float"):
        rank("weighted_task_diversity", pool_of([0.9, 0.0]), seed=0)


def test_means_at_the_floor_of_the_table_are_refused():
    """exp(-90) and exp(-200) are both 1.2e-38 in confidence_table: nothing tells them apart."""
    refuse_lost_weights(["a", "b"], np.array([1e-30, 1e-34]), "sequence_probability")
    with pytest.raises(ValueError, match=r"mean sequence_probability of 1 of 2 tasks .* task 'b' with 1\.18e-38"):
        refuse_lost_weights(["a", "b"], np.array([1e-30, 1.1754943508222875e-38]), "sequence_probability")


class TestIdentity:
    """A ranking's identity names the scale only if it is not millionths."""

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_only_what_is_weighted_by_the_inverse_changes(self, name):
        needs = STRATEGIES[name].needs
        assert cost_settings(name, needs, [1e-6, 0.5]) == {}
        assert bool(cost_settings(name, needs, [9e-7, 0.5])) == (name in WEIGHTED)

    @pytest.mark.parametrize(("nats", "is_small"), [(-10.0, False), (-13.0, False), (-14.0, True), (-200.0, True)])
    def test_of_the_comparison_changes_where_a_mean_is_small(self, nats, is_small):
        """exp(-13.8) is a millionth; of the two prompts of task b one always has exp(-13)."""
        labels = pa.table({"prompt_id": ["1", "2", "3"], "task": ["b", "b", "a"]})
        columns = {name: [0.5, 0.5, 0.5] for name in ("mean_probability", "min_probability", "first_probability")}
        logs = {"sequence_log_probability": [-13.0, -13.0, nats], "generated_n": [40, 40, 40]}
        scored = pa.table({"prompt_id": ["2", "1", "3"], **columns, **logs, "confidence": [0.5] * 3})
        assert effect.has_small_means(labels, scored) == is_small


def test_what_a_sample_leaves_open_does_not_depend_on_the_unit():
    random = np.random.default_rng(0)
    tasks, values = np.repeat([0, 1, 2], 40), random.uniform(0.2, 0.9, 120) * np.repeat([1.0, 0.1, 0.05], 40)
    values[np.arange(120) % 4 == 0] = np.nan
    plain, small = (effect.sampling_effect(task_means(tasks, values * unit, 3), 60) for unit in (1.0, 1e-20))
    assert abs(plain.distance - small.distance) < 0.01
    assert np.abs(plain.low - small.low).max() <= 1 and np.abs(plain.high - small.high).max() <= 1


def test_draws_far_from_a_small_mean_are_still_costs():
    """One prompt of a task is scored: nothing is known of its spread, and draws reach up to 1."""
    means = task_means(np.repeat([0, 1], 50_000), np.where(np.arange(100_000) % 50_000 == 0, 1e-15, np.nan), 2)
    assert effect.sampling_effect(means, 100).distance >= 0


def test_means_without_weights_are_told_from_others():
    sizes = np.array([10, 10])
    assert effect.has_weights(np.array([1e-8, 1e-12]), sizes)
    assert not effect.has_weights(np.array([0.5, 1e-25]), sizes)
    assert not effect.has_weights(np.array([1e-38, 1e-36]), sizes)
