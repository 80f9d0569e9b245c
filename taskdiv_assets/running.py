"""`taskdiv run`: what is missing, as Dagster runs over a few long-lived worker processes.

In: an experiment, filters, a number of workers. Out: one outcome per run, and the same records in the Dagster instance that
the UI shows. The order comes from the graph (graphlib), the processes from concurrent.futures; for queues, retries and
clusters there are Dagster's own.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets import cells
from taskdiv_assets.cells import Cell
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import BY_CELL, RANKING_INPUTS, Lineage, Unit, all_units
from taskdiv_assets.locks import is_alive
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.store import Store

if TYPE_CHECKING:
    from dagster import DagsterInstance

REPORT = Unit("strategy_report")
# Progress of a running step: what, done, total.
Tick = Callable[[str, int, int], None]
POLL_S = 0.2
# Tag of the runs that `taskdiv run` starts, with the process that carries them out.
LAUNCHED_BY = "taskdiv/worker"
ORDER = ("raw_pool", "task_labels", "annotations", "base_model", "confidence_table", "task_confidence",
         "prompt_embeddings", "base_scores", "ranking", *BY_CELL, "strategy_report")  # fmt: skip


@functools.cache
def ancestors(asset: str) -> frozenset[str]:
    """An asset and everything that it is made from."""
    from taskdiv_assets.assets.factory import STAGES

    deps = {stage.name: stage.deps for stage in STAGES}
    return frozenset({asset}.union(*(ancestors(name) for name in deps[asset])))


class Filter(NamedTuple):
    """Which part of an experiment is wanted; empty means all of it."""

    budgets: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    until: str | None = None

    def wants(self, unit: Unit) -> bool:
        """True if the unit is in the part that is wanted."""
        if self.until is not None and unit.asset not in ancestors(self.until):
            return False
        if unit.key is None:
            return True
        if "|" not in unit.key:
            return not self.strategies or unit.key in self.strategies
        cell = Cell.parse(unit.key)
        return (not self.budgets or cell.budget_n in self.budgets) and (
            not self.strategies or cell.strategy in self.strategies
        )


@dataclass(frozen=True)
class Task:
    """Units that one Dagster run materialises: assets of one job and one partition."""

    job: str
    assets: tuple[str, ...]
    key: str | None
    cost: float = 0.0
    after: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """Name for people, and for what comes after it."""
        return self.key if self.key is not None else "+".join(self.assets)


class Outcome(NamedTuple):
    """How one run ended."""

    name: str
    is_success: bool
    message: str
    run_id: str | None
    wall_s: float


class Event(NamedTuple):
    """What the terminal is told while runs go on."""

    kind: str  # planned, started, progress, ended, skipped
    name: str
    done: int = 0
    total: int = 0
    outcome: Outcome | None = None


def missing_units(experiment: Experiment, store: Store, instance: DagsterInstance | None, wanted: Filter) -> list[Unit]:
    """Units that are not up to date in the store, or unknown to Dagster, in the order data flows."""
    lineage = Lineage(experiment, store)
    units = [unit for unit in all_units(experiment, store, lineage.pool_size) if wanted.wants(unit)]
    known = materialised(experiment, instance) if instance is not None else None
    return [unit for unit in units if not lineage.is_fresh(unit) or (known is not None and unit not in known)]


def materialised(experiment: Experiment, instance: DagsterInstance) -> set[Unit]:
    """Units that Dagster has a record of."""
    from dagster import AssetKey

    found: set[Unit] = set()
    for asset in ORDER:
        key = AssetKey([experiment.name, asset])
        if asset == "ranking" or asset in BY_CELL:
            found |= {Unit(asset, str(partition)) for partition in instance.get_materialized_partitions(key)}
        elif instance.get_latest_materialization_event(key) is not None:
            found.add(Unit(asset))
    return found


def first_tasks(missing: Iterable[Unit]) -> list[Task]:
    """What has to be known before the rest can be planned: the pool and the base model."""
    names = [unit.asset for unit in missing if unit.key is None]
    pool = tuple(name for name in ("raw_pool", "task_labels", "annotations") if name in names)
    tasks = [Task("pool", pool, None)] if pool else []
    return tasks + ([Task("pool", ("base_model",), None)] if "base_model" in names else [])


def later_tasks(experiment: Experiment, missing: Sequence[Unit], *, with_report: bool) -> list[Task]:
    """The rest of the graph as runs, each with the names of the runs that have to end before it."""
    names = {unit.asset for unit in missing if unit.key is None}
    tasks: list[Task] = []
    scoring: tuple[str, ...] = tuple(name for name in ("confidence_table", "task_confidence") if name in names)
    for assets in (scoring, ("prompt_embeddings",), ("base_scores",)):
        if assets and set(assets) <= names:
            tasks.append(Task("pool", assets, None, cost=1e9))
    made_by = {asset: task.name for task in tasks for asset in task.assets}
    for strategy in [unit.key for unit in missing if unit.asset == "ranking" and unit.key]:
        needs = {RANKING_INPUTS[need] for need in STRATEGIES[strategy].needs}
        after = frozenset(made_by[asset] for asset in needs if asset in made_by)
        tasks.append(Task("rankings", ("ranking",), strategy, cost=1e8, after=after))
    ranked = {task.name for task in tasks}
    for key in dict.fromkeys(unit.key for unit in missing if unit.asset in BY_CELL and unit.key):
        assets = tuple(asset for asset in BY_CELL if Unit(asset, key) in set(missing))
        cell = Cell.parse(key)
        after = frozenset({cell.strategy} & ranked)
        tasks.append(Task("cells", assets, key, cost=float(cell.budget_n), after=after))
    if with_report and (tasks or "strategy_report" in names):  # up to date now, but not after what comes before it
        tasks.append(Task("report", ("strategy_report",), None, after=frozenset(task.name for task in tasks)))
    return tasks


def run(
    experiment: Experiment,
    instance: DagsterInstance,
    wanted: Filter,
    *,
    workers_n: int,
    tell: Callable[[Event], None],
) -> list[Outcome]:
    """Materialise what is missing of the wanted part, and the report at the end.

    Args:
        experiment: what to run.
        instance: Dagster's instance; records go there.
        wanted: the part that is wanted.
        workers_n: worker processes; each runs one Dagster run at a time.
        tell: called with every event, in this process.
    """
    store = Store(experiment.name)
    end_orphans(instance)
    register_budgets(experiment, store, instance, ())
    outcomes: list[Outcome] = []
    with Workers(experiment.name, workers_n) as workers:
        first = first_tasks(missing_units(experiment, store, instance, wanted))
        outcomes += workers.carry_out(first, tell, warm_up=True)
        if all(outcome.is_success for outcome in outcomes):
            refuse_over_pool(experiment, store, wanted.budgets)
            register_budgets(experiment, store, instance, wanted.budgets)
            missing = missing_units(experiment, store, instance, wanted)
            outcomes += workers.carry_out(later_tasks(experiment, missing, with_report=wanted.wants(REPORT)), tell)
    return outcomes


def refuse_over_pool(experiment: Experiment, store: Store, budgets: Sequence[int]) -> None:
    """A budget that was asked for is at most the pool, now that it is known; nothing is registered otherwise.

    Raises:
        ValueError: it is not.
    """
    pool = Lineage(experiment, store).pool_size
    over = [budget_n for budget_n in budgets if pool is not None and budget_n > pool.prompts_n]
    if pool is not None and over:
        raise ValueError(
            f"budget {over[0]} is larger than the pool of {experiment.name}, {pool.prompts_n} prompts; "
            f"expected at most {pool.prompts_n}"
        )


def end_orphans(instance: DagsterInstance) -> int:
    """End the records of runs whose worker was killed, and free their pool slots; returns how many there were."""
    from dagster import DagsterRunStatus, RunsFilter

    statuses = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]
    orphans = 0
    for run in instance.get_runs(RunsFilter(statuses=statuses)):
        host, _, pid = run.tags.get(LAUNCHED_BY, "").partition(":")
        if host == socket.gethostname() and not is_alive(int(pid)):
            instance.report_run_failed(run, "its worker process was killed; `taskdiv run` goes on where it stopped")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            orphans += 1
    return orphans


def register_budgets(
    experiment: Experiment, store: Store, instance: DagsterInstance, added: Sequence[int]
) -> list[int]:
    """Make the experiment's budgets, the added ones and (once it is known) the full pool known to store and Dagster."""
    from taskdiv_assets.assets.factory import missing_budgets

    pool = Lineage(experiment, store).pool_size
    for budget_n in (*experiment.budgets, *added):
        cells.register(store, budget_n)
    for cell in cells.expected(experiment, store, pool):
        cells.register(store, cell.budget_n, is_full=cells.is_full_pool(experiment, cell, pool))
    keys = missing_budgets(experiment, instance)
    if keys:
        instance.add_dynamic_partitions(f"{experiment.name}_budget", keys)
    return [int(key) for key in keys]


def run_here(experiment: Experiment, task: Task) -> Outcome:
    """One run in this process, recorded like any other."""
    return _execute(experiment.name, task)


class Workers:
    """A few processes that import once and run one Dagster run at a time."""

    def __init__(self, experiment: str, workers_n: int) -> None:
        self.experiment = experiment
        context = multiprocessing.get_context("spawn")
        self.ticks: Any = context.SimpleQueue()
        self.pool = ProcessPoolExecutor(
            workers_n, context, initializer=_start_worker, initargs=(experiment, self.ticks)
        )
        self.workers_n = workers_n

    def __enter__(self) -> Workers:
        for _ in range(self.workers_n):  # start them all now: imports of one overlap with the work of another
            self.pool.submit(time.sleep, 0.05)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # stopped or broken: what runs is told to end, and its end is recorded
            for process in list((self.pool._processes or {}).values()):
                process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def carry_out(
        self, tasks: Sequence[Task], tell: Callable[[Event], None], *, warm_up: bool = False
    ) -> list[Outcome]:
        """Run tasks in an order that respects what comes after what, the most expensive first."""
        by_name = {task.name: task for task in tasks}
        sorter = TopologicalSorter({name: task.after for name, task in by_name.items()})
        sorter.prepare()
        tell(Event("planned", "", total=len(tasks)))
        running: dict[Future[Outcome], str] = {}
        outcomes: dict[str, Outcome] = {}
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted({*ready, *sorter.get_ready()}, key=lambda name: -by_name[name].cost)
            while ready and len(running) < self.workers_n:
                name = ready.pop(0)
                failed = [other for other in by_name[name].after if not outcomes[other].is_success]
                if failed and by_name[name].job != "report":
                    outcomes[name] = Outcome(name, False, f"not run, since {failed[0]} failed", None, 0.0)
                    tell(Event("skipped", name, outcome=outcomes[name]))
                    sorter.done(name)
                    ready = sorted({*ready, *sorter.get_ready()}, key=lambda name: -by_name[name].cost)
                    continue
                tell(Event("started", name))
                running[self.pool.submit(_run_task, self.experiment, by_name[name])] = name
            if warm_up and running:
                warm_up = False
                for _ in range(self.workers_n - 1):
                    self.pool.submit(_warm_up)
            for name, outcome in self._ended(running, tell):
                outcomes[name] = outcome
                tell(Event("ended", name, outcome=outcome))
                sorter.done(name)
        return [outcomes[task.name] for task in tasks]

    def _ended(
        self, running: dict[Future[Outcome], str], tell: Callable[[Event], None]
    ) -> Iterator[tuple[str, Outcome]]:
        done: set[Future[Outcome]] = set()
        while running and not done:
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            while not self.ticks.empty():
                tell(Event("progress", *self.ticks.get()))
        for future in done:
            name = running.pop(future)
            try:
                yield name, future.result()
            except BrokenProcessPool:
                raise RuntimeError(
                    f"a worker process died while it ran {name} (killed, or out of memory); what was finished is kept. "
                    "Run the same command again to go on; with fewer --workers if memory was short"
                ) from None


# --- inside the worker processes -------------------------------------------------------------------------------------

_job_defs: dict[str, Any] = {}
_is_busy = False
_is_stopping = False


def _stop(*_: object) -> None:
    """Ctrl-C, or the parent gives up: let Dagster record the end of a running step, once; idle workers just go."""
    global _is_stopping
    if not _is_busy:
        os._exit(130)
    if not _is_stopping:
        _is_stopping = True
        raise KeyboardInterrupt


def _start_worker(experiment: str, ticks: Any) -> None:
    """One torch thread a process, progress to the terminal, Dagster's definitions loaded."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    from taskdiv_assets import progress

    def tick(what: str, done: int, total: int) -> None:
        ticks.put((what, done, total))

    progress.listen(tick)
    quiet()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _definitions(experiment)
    import torch

    torch.set_num_threads(1)


def _end_with_parent(parent: int) -> None:
    """A worker does not outlive a parent that was killed: it would hold memory, and its Dagster run, for nobody."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(137)


def _warm_up() -> None:
    """The slowest imports of what comes next, done by a worker that is idle while another one trains the base."""
    for name in ("lm_eval", "peft", "trl"):
        importlib.import_module(name)


def quiet() -> None:
    """Libraries' own bars and notices stay off the terminal of `taskdiv run`; Dagster keeps its event log."""
    import logging
    import warnings

    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    warnings.filterwarnings("ignore")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)


def _definitions(experiment: str) -> Any:
    if experiment not in _job_defs:
        os.environ["TASKDIV_QUIET"] = "1"
        from taskdiv_assets.definitions import defs

        _job_defs[experiment] = defs
    return _job_defs[experiment]


def _run_task(experiment: str, task: Task) -> Outcome:
    """One Dagster run in this process."""
    global _is_busy
    _is_busy = True
    try:
        return _execute(experiment, task)
    finally:
        _is_busy = False


def _execute(experiment: str, task: Task) -> Outcome:
    import dagster as dg

    started = time.monotonic()
    job = _definitions(experiment).resolve_job_def(f"{experiment}_{task.job}")
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            partition_key=task.key,
            asset_selection=[dg.AssetKey([experiment, asset]) for asset in task.assets],
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={LAUNCHED_BY: f"{socket.gethostname()}:{os.getpid()}"},
        )
    message = "" if result.success else _failure(result)
    return Outcome(task.name, result.success, message, result.run_id, time.monotonic() - started)


def _failure(result: Any) -> str:
    """The sentence of the first step that failed."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            error = data.error.cause if data.error is not None and data.error.cause is not None else data.error
            return " ".join(str(error.message).split()) if error is not None else str(event.message)
    return "the run failed before its first step; open it in the UI"
