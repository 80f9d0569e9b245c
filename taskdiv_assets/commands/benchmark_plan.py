"""What scoring would ask of models and of a judge: counts and costs before anything runs."""

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
    LabBenchmark,
)
from taskdiv_assets.services.judge_batches import known_verdicts
from taskdiv_assets.storage.store import Store


class BenchmarkPlan(NamedTuple):
    """One benchmark, as it would be asked.

    Attributes:
        name: of the benchmark.
        asked_n: items that each model is asked; None where only loading the tasks would tell.
        items_n: items that it has.
        sampling_error: standard error that a sample costs a model's mean, where half of the answers are right; 0 without one.
        models_n: models that are not scored yet, the base included.
        judge: who judges; empty without a judge.
        calls_n: answers that the judge would be asked for at most: equal outputs, and those it knows, cost nothing.
        calls_left_n: of those that the file allows.
        cost: of these calls; None without a price.
    """

    name: str
    asked_n: int | None
    items_n: int | None
    sampling_error: float
    models_n: int
    judge: str = ""
    calls_n: int = 0
    calls_left_n: int | None = None
    cost: float | None = None

    @property
    def is_skipped(self) -> bool:
        """True for outputs that nobody judges."""
        return self.name == "alpaca_eval" and not self.judge


def benchmark_plans(experiment: Experiment, store: Store, models_n: int) -> tuple[BenchmarkPlan, ...]:
    """How each benchmark would be asked of so many models."""
    return tuple(_plan(benchmark, experiment, store, models_n) for benchmark in experiment.benchmarks)


def _plan(benchmark: Benchmark, experiment: Experiment, store: Store, models_n: int) -> BenchmarkPlan:
    if isinstance(benchmark, AlpacaEvalBenchmark):
        return _judged(benchmark, store, models_n)
    if isinstance(benchmark, HarnessBenchmark):
        settings_identity(benchmark, pool=experiment.pool)  # raises where the folder is not there
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
    if judge is None:
        return BenchmarkPlan(benchmark.name, asked_n, items_n, error, 0)
    if judge.annotator is not None:
        return BenchmarkPlan(benchmark.name, asked_n, items_n, error, models_n, f"annotator {judge.annotator}")
    calls_n = asked_n * models_n
    left_n = max((judge.calls or 0) - known_verdicts(store, judge).calls_n, 0)
    cost = None if judge.price is None else calls_n * judge.price
    return BenchmarkPlan(benchmark.name, asked_n, items_n, error, models_n, str(judge.model), calls_n, left_n, cost)
