"""The schedule of an experiment: its stages as tasks, placed on a number of GPUs and cores.

The functions are pure, and `sizing` computes the seconds. The order is that of the graph (`units`, `assets.factory`): a
strategy's order needs its inputs, a cell needs its strategy's order, and the report needs everything. Ready tasks start in the
order of `taskdiv run`: readers of the pool first, then orders, then cells, the largest budget first (`running.later_tasks`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taskdiv_assets.selection.smart import PART_PROMPTS
from tests.evidence import sizing
from tests.evidence.sizing import ModelShape, Rate, Rates, Workload


@dataclass(frozen=True)
class HostRates:
    """The rates of one core of the hosts, measured in docs/SCALING.md on ten million prompts unless stated otherwise."""

    read_s: Rate  # a prompt, from the user's file to raw_pool and task_labels
    order_s: Rate  # a prompt and seed, sorted or stratified
    table_s: Rate  # a ranked row: taken, held to its contract, written
    list_s: Rate  # a ranked row, read anew for a cell
    answers_s: Rate  # a prompt, for a cell: its answer read and hashed, to name the adapters
    products: Rate  # operations a second of float32 products, of which coverage is made
    product_share: Rate  # of these that coverage reaches
    coverage_cores: int  # that share the products of one coverage order
    coverage_share: Rate  # of that many cores' products


_TEN = "measured: docs/SCALING.md, ten million prompts"
HOST = HostRates(
    read_s=Rate(55e-6, "s a prompt", "measured: docs/SCALING.md, one million prompts"),
    order_s=Rate(0.5e-6, "s a prompt and seed", _TEN),
    table_s=Rate(4.5e-6, "s a seed and prompt", _TEN),
    list_s=Rate(0.4e-6, "s a seed and prompt", _TEN),
    answers_s=Rate(3.1e-6, "s a prompt", "measured: docs/SCALING.md, one million prompts"),
    products=Rate(94e9, "operations/s", "measured: docs/BENCHMARKS.md, distance to the machine's bound, one core"),
    product_share=Rate(0.54, "of the products", "measured: docs/BENCHMARKS.md, facility location at d = 384"),
    coverage_cores=32,
    coverage_share=Rate(0.5, "of the cores", "assumed: threads of one matrix product"),
)


@dataclass(frozen=True)
class Task:
    """One piece of work that needs GPUs and cores from start to end."""

    name: str
    stage: str
    seconds: float
    gpus: int = 0
    cores: int = 0
    after: frozenset[str] = frozenset()  # names of tasks
    loading_s: float = 0.0  # of `seconds`, until the model is there
    cost: float = 0.0  # what costs more starts first; of equal ones the longer


class Placed(NamedTuple):
    task: Task
    start_s: float
    end_s: float


def list_schedule(tasks: Sequence[Task], gpus_n: int, cores_n: int) -> list[Placed]:
    """Schedule tasks: whenever a task ends, the ready tasks that fit start, the one with the highest cost first.

    Raises:
        ValueError: a task needs more than there is, or waits for a task that never ends.
    """
    for task in tasks:
        if task.gpus > gpus_n or task.cores > cores_n:
            raise ValueError(
                f"{task.name} needs {task.gpus} GPUs and {task.cores} cores; there are {gpus_n} and {cores_n}."
            )
    waiting = sorted(tasks, key=lambda task: (-task.cost, -task.seconds, task.name))
    running: list[tuple[float, str]] = []
    ended: set[str] = set()
    by_name = {task.name: task for task in tasks}
    placed: list[Placed] = []
    now = 0.0
    while waiting or running:
        for task in list(waiting):
            if task.after <= ended and task.gpus <= gpus_n and task.cores <= cores_n:
                waiting.remove(task)
                gpus_n, cores_n = gpus_n - task.gpus, cores_n - task.cores
                heapq.heappush(running, (now + task.seconds, task.name))
                placed.append(Placed(task, now, now + task.seconds))
        if not running:
            raise ValueError(
                f"{waiting[0].name} waits for {', '.join(sorted(waiting[0].after - ended))}, which never end."
            )
        now = running[0][0]
        while running and running[0][0] <= now:
            done = by_name[heapq.heappop(running)[1]]
            ended.add(done.name)
            gpus_n, cores_n = gpus_n + done.gpus, cores_n + done.cores
    return placed


def critical_path(tasks: Sequence[Task]) -> tuple[float, tuple[str, ...]]:
    """Return the longest chain of tasks that wait for each other. More GPUs do not make it shorter."""
    by_name = {task.name: task for task in tasks}
    found: dict[str, tuple[float, tuple[str, ...]]] = {}

    def longest(name: str) -> tuple[float, tuple[str, ...]]:
        if name not in found:
            before = max((longest(one) for one in sorted(by_name[name].after)), default=(0.0, ()))
            found[name] = (before[0] + by_name[name].seconds, (*before[1], name))
        return found[name]

    return max((longest(name) for name in by_name), default=(0.0, ()))


class StageTime(NamedTuple):
    """All tasks of a stage."""

    stage: str
    tasks_n: int
    start_s: float
    end_s: float
    gpu_s: float  # of work
    loading_s: float  # GPU-seconds until models are there
    core_s: float


class Plan(NamedTuple):
    """An experiment on a number of GPUs."""

    gpus_n: int
    used_n: int  # GPUs that the schedule uses: fewer where that ends sooner
    stages: tuple[StageTime, ...]
    makespan_s: float
    critical_s: float
    critical: tuple[str, ...]

    @property
    def gpu_s(self) -> float:
        """GPU-seconds of work, which do not depend on the number of GPUs."""
        return sum(stage.gpu_s for stage in self.stages)

    @property
    def loading_s(self) -> float:
        """GPU-seconds to load models. Each run loads the model once, so the sum grows if several runs share a pool."""
        return sum(stage.loading_s for stage in self.stages)

    @property
    def utilisation(self) -> float:
        """Share of the GPUs' time in which they work or load."""
        return (self.gpu_s + self.loading_s) / (self.gpus_n * self.makespan_s) if self.makespan_s else 0.0

    @property
    def bottleneck(self) -> str:
        """What delays the end: the longest chain of tasks, or the GPUs."""
        chain = self.critical_s >= (self.gpu_s + self.loading_s) / self.gpus_n
        return "the chain " + " → ".join(self.critical) if chain else "the GPUs"


def order_s(strategy: str, width: int, work: Workload, host: HostRates, needs: frozenset[str]) -> tuple[float, int]:
    """Return the seconds and cores of one strategy's orders of all seeds.

    Coverage is counted by its products. facility_location compares each pair of prompts once: n² · d operations. k_center and
    dpp compare each prompt with each pick: at most 2 · n · k · d operations, because they skip a part. dpp uses float64 at half
    the rate. smart compares each pair of prompts of a task, in parts of at most PART_PROMPTS prompts.
    """
    n, d = work.prompts_n, width
    if "embeddings" not in needs:
        return work.seeds_n * n * host.order_s.value, 1
    picks_n = min(n, work.ranking_depth)
    pairs_n = n * min(n // work.tasks_n, PART_PROMPTS)
    operations = {"facility_location": n * n * d, "dpp": 4 * n * picks_n * d, "smart": pairs_n * d}
    turns_n = work.seeds_n if strategy == "k_center" else 1
    rate = host.products.value * host.product_share.value * host.coverage_cores * host.coverage_share.value
    return turns_n * operations.get(strategy, 2 * n * picks_n * d) / rate, host.coverage_cores


def tasks_of(
    shape: ModelShape,
    rates: Rates,
    host: HostRates,
    work: Workload,
    needs: Mapping[str, frozenset[str]],  # by strategy, of "scores", "task_confidence", "embeddings"
    scorers_n: int,  # copies of the model that share the pool: TASKDIV_SCORERS
) -> list[Task]:
    """Return every piece of work of an experiment."""
    cards = sizing.cards_a_copy(shape, rates)
    load_s = sizing.loading_s(shape, rates)

    def on_gpu(name: str, stage: str, gpu_s: float, after: frozenset[str], cost: float) -> Task:
        return Task(name, stage, gpu_s / cards + load_s, gpus=cards, after=after, loading_s=load_s, cost=cost)

    n = work.prompts_n
    tasks = [
        Task("raw_pool", "raw_pool, task_labels", n * host.read_s.value, cores=1),
        Task("base_model", "base_model", shape.weight_bytes / rates.load_bytes.value, cores=1),
    ]
    start = frozenset({"raw_pool", "base_model"})
    shards: dict[str, frozenset[str]] = {"raw_pool": frozenset({"raw_pool"})}
    wanted = frozenset().union(*(needs[strategy] for strategy in work.strategies))
    pool_s = {
        "confidence": sizing.confidence_s(shape, rates, work) if wanted & {"scores", "task_confidence"} else 0.0,
        "embeddings": sizing.embeddings_s(shape, rates, work) if "embeddings" in wanted else 0.0,
    }
    for stage, gpu_s in pool_s.items():
        some = [on_gpu(f"{stage} {i}", stage, gpu_s / scorers_n, start, 1e9) for i in range(scorers_n if gpu_s else 0)]
        tasks += some
        shards[stage] = frozenset(task.name for task in some)
    score_s = sizing.benchmarks_s(shape, rates, work)
    tasks.append(on_gpu("base_scores", "base_scores", score_s, frozenset({"base_model"}), 1e9))
    for strategy in work.strategies:
        tasks += _strategy(strategy, shape, host, work, needs[strategy], shards)
        depth = min(n, work.ranking_depth) if "embeddings" in needs[strategy] else n
        for budget_n in work.budgets:
            train_s = sizing.training_s(shape, rates, work, budget_n)
            read_s = work.seeds_n * depth * host.list_s.value + n * host.answers_s.value + rates.cell_s.value
            cell = f"{budget_n}|{strategy}"
            tasks.append(
                Task(
                    f"lists {cell}",
                    "lists of the cells",
                    read_s,
                    cores=1,
                    after=frozenset({strategy}),
                    cost=float(budget_n),
                )
            )
            gpu_s = work.seeds_n * (train_s + score_s)
            tasks.append(
                on_gpu(cell, "cells: training and scoring", gpu_s, frozenset({f"lists {cell}"}), float(budget_n))
            )
    last = frozenset(task.name for task in tasks)
    return [*tasks, Task("report", "strategy_report", 60.0, cores=1, after=last)]


def _strategy(
    strategy: str,
    shape: ModelShape,
    host: HostRates,
    work: Workload,
    needs: frozenset[str],
    shards: Mapping[str, frozenset[str]],
) -> list[Task]:
    """Return the task of one strategy's order, as a table of all seeds."""
    seconds, cores = order_s(strategy, shape.hidden, work, host, needs)
    depth = min(work.prompts_n, work.ranking_depth) if "embeddings" in needs else work.prompts_n
    table_s = work.seeds_n * depth * host.table_s.value
    after = shards["raw_pool"] | (shards["confidence"] if needs & {"scores", "task_confidence"} else frozenset())
    after |= shards["embeddings"] if "embeddings" in needs else frozenset()
    stage = f"ranking {strategy}" if "embeddings" in needs else "other rankings"
    return [Task(strategy, stage, seconds + table_s, cores=cores, after=after, cost=1e8)]


def plan(
    shape: ModelShape,
    rates: Rates,
    host: HostRates,
    work: Workload,
    needs: Mapping[str, frozenset[str]],
    gpus_n: int,
    cores_n: int,
) -> Plan:
    """Return the best of the list schedules on `gpus_n` GPUs, on half of them, on a quarter, and so on.

    More GPUs can make a list schedule longer. Source: Graham, "Bounds on multiprocessing timing anomalies", 1969.

    Raises:
        ValueError: one copy of the model needs more GPUs than there are.
    """
    cards = sizing.cards_a_copy(shape, rates)
    if gpus_n < cards:
        raise ValueError(
            f"one copy of {shape.name} needs {cards} GPUs; there are {gpus_n}. Take more, or a smaller base."
        )
    best: list[Placed] = []
    makespan_s, best_n = math.inf, gpus_n
    for halvings in range(int(math.log2(gpus_n // cards)) + 1):
        used_n = gpus_n >> halvings
        tasks = tasks_of(shape, rates, host, work, needs, max(1, used_n // cards))
        if sum(task.gpus * task.seconds for task in tasks) / used_n >= makespan_s:
            continue  # its work alone takes longer
        placed = list_schedule(tasks, used_n, cores_n)
        end_s = max(one.end_s for one in placed)
        if end_s < makespan_s:
            makespan_s, best_n, best = end_s, used_n, placed
    critical_s, critical = critical_path([one.task for one in best])
    stages = {one.task.stage: [other for other in best if other.task.stage == one.task.stage] for one in best}
    times = [_stage_time(stage, some) for stage, some in stages.items()]
    in_time = tuple(sorted(times, key=lambda one: (one.end_s, one.start_s)))
    return Plan(gpus_n, best_n, in_time, makespan_s, critical_s, critical)


def _stage_time(stage: str, placed: Sequence[Placed]) -> StageTime:
    return StageTime(
        stage,
        len(placed),
        min(one.start_s for one in placed),
        max(one.end_s for one in placed),
        sum((one.task.seconds - one.task.loading_s) * one.task.gpus for one in placed),
        sum(one.task.loading_s * one.task.gpus for one in placed),
        sum(one.task.seconds * one.task.cores for one in placed),
    )
