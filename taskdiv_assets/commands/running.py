"""`taskdiv run`: what is missing of an experiment, as tasks for the worker processes.

In: an experiment, filters, a number of workers. Out: one outcome per run, and the same records in the Dagster instance that
the UI shows. How tasks are carried out is in workers.py; for queues, retries and clusters there are Dagster's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from taskdiv_assets.annotating.open_labels import OpenLabels
from taskdiv_assets.commands.orphans import Watch
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.commands.workers import Event, Outcome, Task, Workers
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import BY_CELL, ORDER, RANKING_INPUTS, Unit, all_units
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.storage import temporary
from taskdiv_assets.storage.room import spelled
from taskdiv_assets.storage.store import Store

if TYPE_CHECKING:
    from dagster import DagsterInstance

REPORT, CHOICE = Unit("strategy_report"), Unit("tuning_choice")


# Assets that the lists for annotators need; the others wait until a cell has its answers.
TRAINED = frozenset({"base_scores", "tuning_choice", "adapter", "benchmark_scores", "strategy_report"})


class Ran(NamedTuple):
    """What a run did.

    Attributes:
        outcomes: of its Dagster runs.
        waiting: cells that were not trained, with the number of answers that each waits for.
        blocked: why no learning rate could be chosen yet; empty if that holds nothing up.
    """

    outcomes: list[Outcome]
    waiting: Mapping[Cell, int]
    blocked: str


def missing_units(experiment: Experiment, store: Store, instance: DagsterInstance | None, wanted: Filter) -> list[Unit]:
    """Units that are not up to date in the store, or unknown to Dagster, in the order data flows."""
    lineage = Lineage(experiment, store)
    every = all_units(experiment, store, lineage.pool_size, wanted.assets(experiment))
    units = lineage.look_ahead([unit for unit in every if wanted.wants(unit)])
    full_pool = cells.full_pool_of(experiment, lineage.pool_size)
    known = materialised(experiment, instance, full_pool) if instance is not None else None
    if lineage.pool_size is not None and lineage.state(CHOICE).status == "blocked":  # too few answers yet: lists first
        units = [unit for unit in units if unit != CHOICE]
    return [
        unit
        for unit in units
        if not lineage.is_fresh(unit) or lineage.lacks_notes(unit) or (known is not None and unit not in known)
    ]


def materialised(experiment: Experiment, instance: DagsterInstance, full_pool: Cell | None = None) -> set[Unit]:
    """Units that Dagster has a record of.

    Args:
        experiment: whose units.
        instance: Dagster's instance.
        full_pool: the full pool's cell; Dagster has assets of its own for it.
    """
    from dagster import AssetKey

    found: set[Unit] = set()
    for asset in ORDER:
        key = AssetKey([experiment.name, asset])
        if asset == "ranking" or asset in BY_CELL:
            found |= {Unit(asset, str(partition)) for partition in instance.get_materialized_partitions(key)}
        elif instance.get_latest_materialization_event(key) is not None:
            found.add(Unit(asset))
    if full_pool is None:
        return found
    for unit in (Unit(asset, full_pool.key) for asset in BY_CELL):
        found.discard(unit)  # earlier versions recorded it as a partition
        if instance.get_latest_materialization_event(AssetKey(place(experiment.name, *unit, is_full_pool=True).path)):
            found.add(unit)
    return found


def first_tasks(missing: Iterable[Unit]) -> list[Task]:
    """What has to be known before the rest can be planned: the pool and the base model."""
    names = [unit.asset for unit in missing if unit.key is None]
    pool = tuple(name for name in ("raw_pool", "task_labels", "annotations") if name in names)
    tasks = [Task("pool", pool, None)] if pool else []
    return tasks + ([Task("pool", ("base_model",), None)] if "base_model" in names else [])


def later_tasks(
    experiment: Experiment, missing: Sequence[Unit], *, with_report: bool, full_pool: Cell | None = None
) -> list[Task]:
    """The rest of the graph as runs, each with the names of the runs that have to end before it."""
    names = {unit.asset for unit in missing if unit.key is None}
    tasks: list[Task] = []
    scoring: tuple[str, ...] = tuple(name for name in ("confidence_table", "task_confidence") if name in names)
    for assets in (scoring, ("prompt_embeddings",), ("base_scores",), ("tuning_choice",)):
        if assets and set(assets) <= names:
            tasks.append(Task("pool", assets, None, cost=1e9))
    made_by = {asset: task.name for task in tasks for asset in task.assets}
    scored = frozenset({made_by["confidence_table"]} if "confidence_table" in made_by else ())
    for asset in ("confidence_comparison", "confidence_accuracy"):  # after it: so that nothing is scored by both
        if asset in names:
            tasks.append(Task("pool", (asset,), None, cost=1e7, after=scored))
    for strategy in [unit.key for unit in missing if unit.asset == "ranking" and unit.key]:
        needs = {RANKING_INPUTS[need] for need in experiment.strategy(strategy).needs if need in RANKING_INPUTS}
        after = frozenset(made_by[asset] for asset in needs if asset in made_by)
        tasks.append(Task("rankings", ("ranking",), strategy, cost=1e8, after=after))
    ranked = {task.name for task in tasks}
    for key in dict.fromkeys(unit.key for unit in missing if unit.asset in BY_CELL and unit.key):
        assets = tuple(asset for asset in BY_CELL if Unit(asset, key) in set(missing))
        cell = Cell.parse(key)
        after = frozenset({cell.strategy} & ranked)
        if "adapter" in assets:
            after |= {made_by["tuning_choice"]} if "tuning_choice" in made_by else set()
        job = FULL_POOL if cell == full_pool else "cells"
        tasks.append(Task(job, assets, key, cost=float(cell.budget_n), after=after))
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
) -> Ran:
    """Materialise what is missing of the wanted part, and the report at the end.

    Where answers are missing, the lists come first; then those cells are trained and scored that have all their answers.

    Args:
        experiment: what to run.
        instance: Dagster's instance; records go there.
        wanted: the part that is wanted.
        workers_n: worker processes; each runs one Dagster run at a time.
        tell: called with every event, in this process.

    Raises:
        ValueError: the wanted part cannot be had.
        WorkerDiedError: a worker process was killed.
    """
    store = Store(experiment.name)
    wanted.assets(experiment)  # refuse what cannot be wanted before anything starts
    watch = Watch(instance, tell)
    watch.look()
    remove_unfinished(store, tell)
    register_budgets(experiment, store, instance, ())
    waiting: dict[Cell, int] = {}
    blocked = ""
    has_report = REPORT.asset in wanted.assets(experiment)
    with Workers(experiment.name, workers_n) as workers:
        first = first_tasks(missing_units(experiment, store, instance, wanted))
        outcomes = workers.carry_out(first, watch, warm_up=True)
        if not all(outcome.is_success for outcome in outcomes):
            return Ran(outcomes, waiting, blocked)
        refuse_over_pool(experiment, store, wanted.budgets or experiment.budgets)
        register_budgets(experiment, store, instance, ())
        missing = missing_units(experiment, store, instance, wanted)
        pool = Lineage(experiment, store).pool_size
        full_pool = cells.full_pool_of(experiment, pool)
        if pool is not None and not pool.is_answered:  # lists first: what has to be answered shows only then
            lists = [unit for unit in missing if unit.asset not in TRAINED]
            tasks = later_tasks(experiment, lists, with_report=False, full_pool=full_pool)
            outcomes += workers.carry_out(tasks, watch)
            waiting, ready, blocked = look_for_answers(experiment, store, wanted)
            missing = trainable(missing_units(experiment, store, instance, wanted), ready, is_waiting=bool(waiting))
        tasks = later_tasks(experiment, missing, with_report=has_report, full_pool=full_pool)
        outcomes += workers.carry_out(tasks, watch)
    return Ran(outcomes, waiting, blocked)


def remove_unfinished(store: Store, tell: Callable[[Event], None]) -> None:
    """Remove the halves of files whose writers were killed, and say how much room that makes."""
    if store.is_local and (swept := temporary.sweep(Path(store.path()))).files_n:
        files = f"{swept.files_n} unfinished file{'s' * (swept.files_n > 1)}"
        tell(Event("note", f"removed {files} of runs that were killed ({spelled(swept.bytes_n)})"))


def look_for_answers(experiment: Experiment, store: Store, wanted: Filter) -> tuple[dict[Cell, int], set[Cell], str]:
    """Find which wanted cells can be trained.

    Returns: cells with the number of answers that they wait for, cells that wait for none, and why those have to wait for a
        learning rate all the same.
    """
    lineage = Lineage(experiment, store)
    labels = OpenLabels(store, lineage)
    waiting, ready = {}, set()
    for cell in cells.expected(experiment, store, lineage.pool_size):
        open_ids = labels.open_of(cell) if wanted.wants_cell(cell) else None
        if open_ids:
            waiting[cell] = len(open_ids)
        elif open_ids is not None:
            ready.add(cell)
    choice = lineage.state(CHOICE)
    if not ready or choice.status != "blocked" or CHOICE.asset not in wanted.assets(experiment):
        return waiting, ready, ""
    return waiting, {cell for cell in ready if lineage.is_fresh(Unit("adapter", cell.key))}, choice.reason


def trainable(missing: Sequence[Unit], ready: Collection[Cell], *, is_waiting: bool) -> list[Unit]:
    """Return what can be trained and scored now: of the cells that are ready, and of the base once there is one."""
    return [
        unit
        for unit in missing
        if unit.asset in TRAINED
        and (unit.key is None or Cell.parse(unit.key) in ready)
        and (unit.asset != "base_scores" or ready or not is_waiting)
    ]


def refuse_over_pool(experiment: Experiment, store: Store, budgets: Sequence[int]) -> None:
    """Refuse a budget that was asked for and is larger than the pool, now that the pool is known.

    Raises:
        ValueError: it is not.
    """
    pool = Lineage(experiment, store).pool_size
    over = [budget_n for budget_n in budgets if pool is not None and budget_n > pool.prompts_n]
    if pool is not None and over:
        raise ValueError(
            f"budget {over[0]} is larger than the pool of {experiment.name}, {pool.prompts_n} prompts; "
            f"expected at most {pool.prompts_n}. Lower it in `budgets` of the file"
        )


def register_budgets(
    experiment: Experiment, store: Store, instance: DagsterInstance, added: Sequence[int]
) -> list[int]:
    """Note added budgets, and the full pool once it is known, in the store; make all budgets known to Dagster.

    Those of the experiment file are not noted: one that is removed there is gone.
    """
    from taskdiv_assets.orchestration import budget_list

    for budget_n in added:
        if budget_n not in experiment.budgets:
            cells.register(store, budget_n)
    pool = Lineage(experiment, store).pool_size
    full_pool = cells.full_pool_of(experiment, pool)
    if full_pool is not None and pool is not None and pool.is_answered:
        cells.register(store, full_pool.budget_n, is_full=True)
    return budget_list.bring_up_to_date(experiment, instance)
