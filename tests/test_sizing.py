"""Sizes of an experiment: cases by hand, sizes that grow with a model or a workload, and a schedule within its GPUs."""

from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.selection import STRATEGIES
from tests.evidence import sizing, sizing_plan
from tests.evidence.sizing import BBH, H100, MMLU, MODELS, ROWS, ModelShape, Rate, Workload
from tests.evidence.sizing_plan import HOST, Plan, Task, critical_path, list_schedule

NEEDS = {name: strategy.needs for name, strategy in STRATEGIES.items()}
GREEDY = frozenset(name for name, strategy in STRATEGIES.items() if strategy.is_greedy)
SEVEN = MODELS["Llama-2-7B"]
SMALL = Workload(20_000, 50, (1_000, 2_000), ("random", "task_diversity", "k_center"), 2)

workloads = st.builds(
    Workload,
    prompts_n=st.integers(100, 3_000_000),
    tasks_n=st.just(50),
    budgets=st.lists(st.integers(10, 50_000), min_size=1, max_size=4, unique=True).map(
        lambda some: tuple(sorted(some))
    ),
    strategies=st.lists(st.sampled_from(sorted(STRATEGIES)), min_size=1, max_size=5, unique=True).map(tuple),
    seeds_n=st.integers(1, 5),
    prompt_tokens=st.integers(10, 500),
    answer_tokens=st.integers(1, 300),
    generated_tokens=st.integers(0, 128),
    confidence_sample=st.none() | st.integers(1, 10_000),
    epochs=st.integers(1, 5),
)
shapes = st.sampled_from(list(MODELS.values()))


def plan_of(shape: ModelShape, work: Workload, gpus_n: int = 8) -> Plan:
    return sizing_plan.plan(shape, H100, HOST, work, NEEDS, gpus_n, cores_n=64)


# --- by hand -----------------------------------------------------------------------------------------------------


def test_shapes_have_the_published_numbers_of_parameters() -> None:
    published = {"TinyLlama-1.1B": 1_100_048_384, "Llama-2-13B": 13_015_864_320, "Llama-2-70B": 68_976_648_192}
    assert {name: MODELS[name].parameters_n for name in published} == published
    assert SEVEN.kv_token_bytes == 2**19  # docs/GPU.md: 0.5 MiB a token
    assert SEVEN.multiplied_n == pytest.approx(6.61e9, rel=1e-3)  # the same page


def test_bounds_are_those_of_the_page_on_gpus() -> None:
    """docs/GPU.md, for a card of 4.3 TB/s and 790 TFLOP/s: 5.6 ms a step of 64 rows with 320 tokens of keys and values."""
    card = replace(
        H100,
        operations=Rate(790e12, "", "assumed"),
        bandwidth=Rate(4.3e12, "", "assumed"),
        prefill_share=Rate(1.0, "", "assumed"),
        decode_share=Rate(1.0, "", "assumed"),
        memory_bytes=Rate(2 * SEVEN.multiplied_n + 100e9, "", "assumed"),
    )
    step_s = (2 * SEVEN.multiplied_n + 64 * 320 * 2**19) / 4.3e12
    assert step_s == pytest.approx(5.6e-3, rel=0.01)
    rows_n = sizing.rows_at_once(SEVEN, card, 352, most=64)
    assert rows_n == 64
    assert sizing.prefill_s(SEVEN, card, 60_000) == pytest.approx(1, rel=0.01)


def test_training_by_hand() -> None:
    """1,000 examples × 3 epochs × 230 tokens; a pass of 16,384 tokens does not fit, so 6 operations a weight."""
    assert not sizing.keeps_activations(SEVEN, H100, SMALL)
    operations = 690_000 * 6 * (SEVEN.multiplied_n + 159_907_840)
    assert sizing.training_s(SEVEN, H100, SMALL, 1_000) == pytest.approx(operations / (989e12 * 0.4))


def test_few_labels_are_seen_often_enough_for_the_least_number_of_steps() -> None:
    assert SMALL.examples_n(100) == 50 * 16
    assert SMALL.examples_n(1_000) == 3_000


def test_all_strategies_share_the_adapters_of_the_whole_pool() -> None:
    whole = replace(SMALL, budgets=(1_000, 20_000, 30_000))
    assert SMALL.adapters_n() == 2 * 2 * 3
    assert whole.adapters_n() == 2 * (3 + 1)


def test_a_small_store_by_hand() -> None:
    found = sizing.storage(SEVEN, SMALL, GREEDY)
    assert found.embeddings == 2 * 20_000 * 4_096
    assert found.adapters == 12 * 4 * 159_907_840
    assert found.rankings == 2 * 3 * 20_000 * ROWS.ranking.value
    assert found.allocations == 2 * 3 * 3_000 * ROWS.ranking.value
    assert found.total == sum(found)


def test_a_schedule_by_hand() -> None:
    """Two cards: the pool's two shards, then the long cell beside the two short ones, then the report."""
    shards = [Task(f"shard {i}", "confidence", 10, gpus=1, cost=9) for i in range(2)]
    ready = frozenset({"shard 0", "shard 1"})
    cells = [Task(f"cell {n}", "cells", n, gpus=1, after=ready, cost=n) for n in (6, 4, 1)]
    report = Task("report", "report", 2, cores=1, after=frozenset(cell.name for cell in cells))
    placed = {one.task.name: (one.start_s, one.end_s) for one in list_schedule([*shards, *cells, report], 2, 1)}
    assert placed == {
        "shard 0": (0, 10), "shard 1": (0, 10), "cell 6": (10, 16), "cell 4": (10, 14), "cell 1": (14, 15),
        "report": (16, 18),
    }  # fmt: skip
    assert critical_path([*shards, *cells, report])[0] == 18


def test_what_cannot_be_placed_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 2 GPUs"):
        list_schedule([Task("cell", "cells", 1, gpus=2)], 1, 1)
    with pytest.raises(ValueError, match="waits for nobody"):
        list_schedule([Task("cell", "cells", 1, after=frozenset({"nobody"}))], 1, 1)
    with pytest.raises(ValueError, match="needs 4 GPUs; there are 2"):
        plan_of(MODELS["Llama-2-70B"], SMALL, 2)


# --- what has to hold of any -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(shapes, workloads, st.sampled_from([1, 2, 3, 10]))
def test_more_of_anything_never_takes_less(shape: ModelShape, work: Workload, times: int) -> None:
    for name in ("prompts_n", "seeds_n", "epochs", "prompt_tokens", "answer_tokens"):
        more = replace(work, **{name: getattr(work, name) * times})
        assert sizing.training_s(shape, H100, more, 500) >= sizing.training_s(shape, H100, work, 500)
        for seconds in (sizing.confidence_s, sizing.embeddings_s, sizing.benchmarks_s):
            assert seconds(shape, H100, more) >= seconds(shape, H100, work) * (1 - 1e-12)
        assert sizing.storage(shape, more, GREEDY).total >= sizing.storage(shape, work, GREEDY).total * (1 - 1e-12)
        memory, larger = sizing.host_memory(shape, work), sizing.host_memory(shape, more)
        assert all(one >= other for one, other in zip(larger, memory, strict=True))
    assert sizing.training_s(shape, H100, work, 900 * times) >= sizing.training_s(shape, H100, work, 900)


@settings(max_examples=40, deadline=None)
@given(workloads)
def test_a_larger_model_takes_more_of_everything(work: Workload) -> None:
    ladder = [MODELS[name] for name in ("stories260K", "TinyLlama-1.1B", "Llama-2-7B", "Llama-2-13B")]
    for small, large in pairwise(ladder):
        for seconds in (sizing.confidence_s, sizing.embeddings_s, sizing.benchmarks_s):
            assert seconds(large, H100, work) > seconds(small, H100, work)
        assert sizing.training_s(large, H100, work, 500) > sizing.training_s(small, H100, work, 500)
        assert sizing.storage(large, work, GREEDY).total > sizing.storage(small, work, GREEDY).total


@settings(max_examples=60, deadline=None)
@given(shapes, workloads)
def test_memory_holds_the_weights_and_scoring_fits(shape: ModelShape, work: Workload) -> None:
    memory = sizing.gpu_memory(shape, H100, work)
    assert min(memory) == memory.weights >= 2 * shape.parameters_n
    assert memory.scoring <= sizing.cards_a_copy(shape, H100) * H100.memory_bytes.value


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["TinyLlama-1.1B", "Llama-2-7B"]), workloads, st.sampled_from([1, 2, 4, 16]))
def test_twice_the_gpus(name: str, work: Workload, gpus_n: int) -> None:
    """Never later; never before half of the work and of the chain; and the same GPU-hours."""
    one, two = plan_of(MODELS[name], work, gpus_n), plan_of(MODELS[name], work, 2 * gpus_n)
    assert two.makespan_s <= one.makespan_s
    assert two.makespan_s >= one.gpu_s / gpus_n / 2
    assert two.gpu_s == pytest.approx(one.gpu_s)
    assert 0 < two.utilisation <= 1


def test_twice_the_gpus_by_example_is_not_better_than_half() -> None:
    spans = [plan_of(SEVEN, SMALL, gpus_n).makespan_s for gpus_n in (1, 2, 4, 8)]
    assert all(one / 2 <= two <= one for one, two in pairwise(spans))


@settings(max_examples=15, deadline=None)
@given(workloads, st.integers(1, 9))
def test_a_schedule_keeps_order_and_capacity(work: Workload, gpus_n: int) -> None:
    tasks = sizing_plan.tasks_of(SEVEN, H100, HOST, work, NEEDS, scorers_n=gpus_n)
    placed = list_schedule(tasks, gpus_n, 40)
    ends = {one.task.name: one.end_s for one in placed}
    assert sorted(ends) == sorted(task.name for task in tasks)
    for one in placed:
        assert one.end_s - one.start_s == pytest.approx(one.task.seconds)
        assert all(one.start_s >= ends[name] for name in one.task.after)
        beside = [other.task for other in placed if other.start_s <= one.start_s < other.end_s]
        assert sum(task.gpus for task in beside) <= gpus_n and sum(task.cores for task in beside) <= 40
    last = max(ends.values())
    assert last >= critical_path(tasks)[0] - 1e-6
    assert last >= sum(task.gpus * task.seconds for task in tasks) / gpus_n - 1e-6


@settings(max_examples=15, deadline=None)
@given(workloads)
def test_stages_add_up(work: Workload) -> None:
    found = plan_of(SEVEN, work)
    wanted = frozenset().union(*(NEEDS[strategy] for strategy in work.strategies))
    cells_s = len(work.strategies) * work.seeds_n * sum(
        sizing.training_s(SEVEN, H100, work, budget_n) + sizing.benchmarks_s(SEVEN, H100, work)
        for budget_n in work.budgets
    )  # fmt: skip
    pool_s = sizing.confidence_s(SEVEN, H100, work) if wanted & {"scores", "task_confidence"} else 0
    pool_s += sizing.embeddings_s(SEVEN, H100, work) if "embeddings" in wanted else 0
    assert found.gpu_s == pytest.approx(cells_s + pool_s + sizing.benchmarks_s(SEVEN, H100, work))
    assert found.makespan_s == max(stage.end_s for stage in found.stages)
    assert found.utilisation == pytest.approx((found.gpu_s + found.loading_s) / 8 / found.makespan_s)


def test_every_rate_says_where_it_comes_from() -> None:
    rates = [getattr(some, one.name) for some in (H100, HOST) for one in fields(some)] + list(ROWS)
    for rate in rates:
        if isinstance(rate, Rate):
            assert rate.source.startswith(("measured: docs/", "assumed: ")) and rate.value > 0
    card = (H100.operations, H100.bandwidth, H100.prefill_share, H100.decode_share, H100.training_share)
    assert not any(rate.is_measured for rate in card)  # until somebody has run `make bench-gpu`


def test_a_sample_of_the_pool_saves_only_what_scoring_it_costs() -> None:
    """40 prompts of each of 50 tasks are 2,000 of 20,000."""
    part = replace(SMALL, confidence_sample=40, benchmarks=(MMLU, BBH), strategies=("weighted_task_diversity",))
    whole = replace(part, confidence_sample=None)
    assert (part.scored_n, replace(part, confidence_sample=10_000).scored_n) == (2_000, 20_000)
    saved = plan_of(SEVEN, whole).gpu_s - plan_of(SEVEN, part).gpu_s
    assert saved == pytest.approx(0.9 * sizing.confidence_s(SEVEN, H100, whole))
