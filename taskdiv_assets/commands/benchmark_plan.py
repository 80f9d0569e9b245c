"""Counts of the benchmark items and the judge calls that scoring will need, and the cost of these calls."""

from __future__ import annotations

from typing import NamedTuple

from taskdiv_assets.benchmarks import settings_identity, task_sizes
from taskdiv_assets.benchmarks.alpaca.instructions import PUBLISHED_N, read_instructions
from taskdiv_assets.benchmarks.item_sampling import items_by_task, worst_standard_error
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.benchmark_settings import (
    HUB,
    AlpacaEvalBenchmark,
    Benchmark,
    Extent,
    HarnessBenchmark,
    HeldOutBenchmark,
    LabBenchmark,
)
from taskdiv_assets.services.judge_batches import known_verdicts
from taskdiv_assets.storage.store import Store


class BenchmarkPlan(NamedTuple):
    """Items, judge calls and cost of scoring some models on one benchmark."""

    name: str
    asked_n: int | None  # items that each model answers; None if the number is known only after the tasks are loaded
    items_n: int | None  # items of the benchmark; None if `asked_n` is None
    sampling_error: float  # standard error that sampling items causes in a mean score if half of the answers are right
    models_n: int  # models to score, with the base model if it has no fresh scores; 0 if the benchmark is skipped
    judge: str = ""  # name of the judge's model or annotator; empty without a judge
    calls_n: int = 0  # largest possible number of judge calls; equal outputs and known verdicts need no call
    calls_left_n: int | None = None  # calls that the experiment file still allows; None if no judge model is called
    cost: float | None = None  # cost of `calls_n` calls; None without a price
    open_n: int = 0  # held-out items without an answer

    @property
    def is_skipped(self) -> bool:
        return self.name == "alpaca_eval" and not self.judge


def benchmark_plans(experiment: Experiment, store: Store, models_n: int) -> tuple[BenchmarkPlan, ...]:
    """Return the plan of each benchmark for `models_n` models to score. Raise ValueError if a benchmark cannot be used."""
    return tuple(_plan(benchmark, experiment, store, models_n) for benchmark in experiment.benchmarks)


def _plan(benchmark: Benchmark, experiment: Experiment, store: Store, models_n: int) -> BenchmarkPlan:
    if isinstance(benchmark, AlpacaEvalBenchmark):
        return _judged(benchmark, store, models_n)
    if isinstance(benchmark, HeldOutBenchmark):
        footer = store.read_footer("held_out_items")
        items_n = None if footer is None else footer.notes.get("items_n")
        asked_n = None if footer is None else footer.notes.get("answered_n", items_n)
        plan = BenchmarkPlan(benchmark.name, asked_n, items_n, 0.0, models_n)
        return plan._replace(open_n=(items_n or 0) - (asked_n or 0))
    if isinstance(benchmark, HarnessBenchmark):
        settings_identity(benchmark, pool=experiment.pool)  # raises if the folder is missing
        return BenchmarkPlan(benchmark.name, None, None, 0.0, models_n)
    sizes = task_sizes(benchmark, experiment.pool)
    extent = Extent() if isinstance(benchmark, LabBenchmark) else benchmark
    try:
        counts = items_by_task(extent, sizes)
    except ValueError as problem:
        raise ValueError(f"benchmark `{benchmark.name}`: {problem}") from None
    error = worst_standard_error(counts, sizes) if extent.sample is not None else 0.0
    return BenchmarkPlan(benchmark.name, sum(counts.values()), sum(sizes.values()), error, models_n)


def _judged(benchmark: AlpacaEvalBenchmark, store: Store, models_n: int) -> BenchmarkPlan:
    items_n = PUBLISHED_N if benchmark.source == HUB else len(read_instructions(benchmark.source))
    asked_n = min(benchmark.limit or benchmark.sample or items_n, items_n)
    error = worst_standard_error({"": asked_n}, {"": items_n}) if benchmark.sample is not None else 0.0
    judge = benchmark.judge
    plan = BenchmarkPlan(benchmark.name, asked_n, items_n, error, models_n)
    if judge is None:
        return plan._replace(models_n=0)
    if judge.annotator is not None:
        return plan._replace(judge=f"annotator {judge.annotator}")
    calls_n = asked_n * models_n
    left_n = max((judge.calls or 0) - known_verdicts(store, judge).calls_n, 0)
    cost = None if judge.price is None else calls_n * judge.price
    return plan._replace(judge=str(judge.model), calls_n=calls_n, calls_left_n=left_n, cost=cost)
