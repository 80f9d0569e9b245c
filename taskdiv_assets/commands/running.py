"""`taskdiv run`: find the missing results of an experiment, and compute them in Dagster runs.

`workers` executes the runs in processes. The runs are recorded in the Dagster instance, so the UI shows them. Users who need
Dagster's queue, retries or cluster launchers start runs in Dagster instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_contracts.cell_keys import split_key
from taskdiv_assets.annotating.open_labels import OpenLabels
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.orphans import Watch
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.commands.workers import Event, Outcome, Task, Workers
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.declaration import VariantOf
from taskdiv_assets.experiment.variants import variants_of
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.asset import EVERYTHING, Asset
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.registry import CELL_SCORES
from taskdiv_assets.graph.scoring_plan import SCORES
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.storage import temporary
from taskdiv_assets.storage.room import spelled
from taskdiv_assets.storage.store import Store

if TYPE_CHECKING:
    from dagster import DagsterInstance

REPORT, CHOICE = Unit("strategy_report"), Unit("tuning_choice")
# Costs of runs: the run with the highest cost starts first. The cost of a cell is its budget.
WAITED_FOR, RANKED, LOOKED_AT_LATER = 1e9, 1e8, 1e7


class Ran(NamedTuple):
    """The result of `taskdiv run`."""

    outcomes: list[Outcome]  # results of the Dagster runs
    waiting: Mapping[Cell, int]  # cell that was not trained → number of its missing answers
    blocked: str  # reason why no learning rate could be chosen yet; empty if no cell waits for it


def missing_units(experiment: Experiment, store: Store, instance: DagsterInstance | None, wanted: Filter) -> list[Unit]:
    """Return the units (assets or partitions) that `wanted` selects and that must be computed or recorded, inputs first.

    Such a unit is not fresh, its stored table lacks notes of this version, or (if `instance` is given) Dagster has no record of
    it. A variant's unit must also be recorded if only its experiment has the table. The unit `tuning_choice` is left out while
    it is blocked. Scores are left out while nothing can be scored before answers to held-out items are imported.
    """
    lineage = REGISTRY.look(experiment, store)
    every = REGISTRY.units(experiment, store, lineage.pool_size, wanted.assets(experiment))
    units = lineage.look_ahead([unit for unit in every if wanted.wants(unit)])
    full_pool = cells.full_pool_of(experiment, lineage.pool_size)
    known = materialised(experiment, instance, full_pool) if instance is not None else None
    if lineage.pool_size is not None and lineage.state(CHOICE).status == "blocked":  # too few answers yet
        units = [unit for unit in units if unit != CHOICE]
    if lineage.scoring.is_waiting:
        units = [unit for unit in units if unit.asset not in SCORES]

    def is_missing(unit: Unit) -> bool:
        is_usable = lineage.is_fresh(unit) and not lineage.lacks_notes(unit) and store.owns(*unit)
        return not is_usable or (known is not None and unit not in known)

    return list(filter(is_missing, units))


def materialised(experiment: Experiment, instance: DagsterInstance, full_pool: Cell | None = None) -> set[Unit]:
    """Return the units that Dagster has recorded. `full_pool` is the full pool's cell, which has separate assets in Dagster."""
    from dagster import AssetKey

    found: set[Unit] = set()
    for asset in REGISTRY:
        key = AssetKey([experiment.name, asset.name])
        if asset.partitioned_by != "none":
            found |= {Unit(asset.name, str(partition)) for partition in instance.get_materialized_partitions(key)}
        elif instance.get_latest_materialization_event(key) is not None:
            found.add(Unit(asset.name))
    for unit in [Unit(asset, full_pool.key) for asset in REGISTRY.by_cell] if full_pool is not None else []:
        found.discard(unit)  # earlier versions recorded it as a partition
        if instance.get_latest_materialization_event(AssetKey(place(experiment.name, *unit, is_full_pool=True).path)):
            found.add(unit)
    return found


def is_known_first(asset: Asset, experiment: Experiment) -> bool:
    """Return whether an asset must be computed before the other runs can be planned.

    Such an asset is unpartitioned. It reads no other asset, or it needs no model and reads only such assets.
    """
    if asset.partitioned_by != "none" or asset.reads == EVERYTHING:
        return False
    inputs = REGISTRY.inputs_in(experiment, asset.name)
    return not inputs or (not asset.holds_model and all(is_known_first(REGISTRY[name], experiment) for name in inputs))


def unpartitioned_tasks(experiment: Experiment, names: Sequence[str], job: str) -> list[Task]:
    """Return the runs that compute the unpartitioned assets `names`. Each run has the names of the runs that it waits for.

    In `names`, inputs come first. An asset that needs a model, or reads assets of several runs, starts a new run. To save runs,
    any other asset joins the run of the asset that it reads. An asset that reads none of `names` joins the first run without a
    model, or starts a run if there is no such run.
    """
    groups: list[list[str]] = []
    group_of: dict[str, list[str]] = {}
    for name in names:
        above = [group_of[one] for one in REGISTRY.inputs_in(experiment, name) if one in group_of]
        light = [group for group in groups if not any(REGISTRY[one].holds_model for one in group)]
        group = above[0] if above else light[0] if light else None
        if REGISTRY[name].holds_model or group is None or any(other is not group for other in above):
            group = []
            groups.append(group)
        group.append(name)
        group_of[name] = group
    tasks = []
    for group in groups:
        wanted = {one for name in group for one in (*REGISTRY.inputs_in(experiment, name), *REGISTRY[name].runs_after)}
        after = frozenset("+".join(group_of[one]) for one in wanted if one in group_of and group_of[one] is not group)
        cost = LOOKED_AT_LATER if any(REGISTRY[name].runs_after for name in group) else WAITED_FOR
        tasks.append(Task(job, tuple(group), None, cost=cost, after=after))
    return tasks


def later_tasks(
    experiment: Experiment, missing: Sequence[Unit], *, with_report: bool, full_pool: Cell | None = None
) -> list[Task]:
    """Return the runs that compute `missing`, except the assets that `is_known_first` accepts, which were computed before.

    Each run has the names of the runs that it waits for. If `with_report` is True, the last run makes the report, unless the
    report is fresh and no other run is needed.
    """
    due = [unit.asset for unit in missing if unit.key is None]
    later = [name for name in due if name in REGISTRY.first and not is_known_first(REGISTRY[name], experiment)]
    tasks = unpartitioned_tasks(experiment, later, "pool")
    made_by = {Unit(asset): task.name for task in tasks for asset in task.assets}
    for unit in missing:
        if unit.asset in REGISTRY.by_strategy:
            after = runs_before([unit], made_by, experiment)
            tasks.append(Task("rankings", (unit.asset,), unit.key, RANKED, after))
            made_by[unit] = tasks[-1].name
    of_cells = [unit for unit in missing if unit.asset in REGISTRY.by_cell]
    for key, group in groupby(of_cells, lambda unit: str(unit.key)):  # the units of a cell are adjacent
        units, cell = list(group), Cell.parse(key)
        job, after = FULL_POOL if cell == full_pool else "cells", runs_before(units, made_by, experiment)
        tasks.append(Task(job, tuple(unit.asset for unit in units), key, float(cell.budget_n), after))
    last = tuple(name for name in REGISTRY.last if with_report and (tasks or name in due))
    if last:  # the runs before it make the report stale
        tasks.append(Task("report", last, None, after=frozenset(task.name for task in tasks)))
    return tasks


def runs_before(units: Iterable[Unit], made_by: Mapping[Unit, str], experiment: Experiment) -> frozenset[str]:
    """Return the names of the runs that compute the inputs of some units.

    An input has no partition, or it has the strategy or the cell of the unit that reads it. `made_by` maps a unit to the name of
    the run that computes it.
    """
    inputs = set()
    for unit in units:
        keys = {"none": None, "strategy": split_key(unit.key or "")[1], "cell": unit.key}
        inputs |= {Unit(name, keys[REGISTRY[name].partitioned_by]) for name in REGISTRY.reads_of(unit, experiment)}
    return frozenset(made_by[unit] for unit in inputs if unit in made_by)


def run(
    experiment: Experiment, instance: DagsterInstance, wanted: Filter, *, workers_n: int, tell: Callable[[Event], None]
) -> Ran:
    """Compute the missing results that `wanted` selects, and make the report last if it is selected. `tell` gets every event.

    If answers are missing, the lists of prompts are made first. Then the cells with all their answers are trained and scored.
    Variants (`robustness`) come after the cells. If `wanted` selects only a part of the experiment, they are left out.

    Raises:
        ValueError: the experiment does not use the asset `wanted.until`, or a budget is larger than the pool.
        WorkerDiedError: a worker process ended unexpectedly.
    """
    store = Store(experiment.name)
    has_report = REPORT.asset in wanted.assets(experiment)  # raises an error for an impossible filter
    watch = Watch(instance, tell)
    watch.look()
    remove_unfinished(store, tell)
    register_budgets(experiment, store, instance, ())
    waiting: dict[Cell, int] = {}
    blocked = ""
    with Workers(experiment.name, workers_n) as workers:
        missing = missing_units(experiment, store, instance, wanted)
        first = [unit.asset for unit in missing if is_known_first(REGISTRY[unit.asset], experiment)]
        outcomes = workers.carry_out(unpartitioned_tasks(experiment, first, "pool"), watch, warm_up=True)
        if not all(outcome.is_success for outcome in outcomes):
            return Ran(outcomes, waiting, blocked)
        pool = REGISTRY.look(experiment, store).pool_size
        if said := cells.over_pool(experiment, wanted.budgets or experiment.budgets, pool):
            raise ValueError(said)
        register_budgets(experiment, store, instance, ())
        missing = missing_units(experiment, store, instance, wanted)
        full_pool = cells.full_pool_of(experiment, pool)
        if pool is not None and not pool.is_answered:  # the lists show which answers are missing
            lists = [unit for unit in missing if not REGISTRY[unit.asset].needs_answers]
            tasks = later_tasks(experiment, lists, with_report=False, full_pool=full_pool)
            outcomes += workers.carry_out(tasks, watch)
            waiting, ready, blocked = look_for_answers(experiment, store, wanted)
            missing = trainable(missing_units(experiment, store, instance, wanted), ready, is_waiting=bool(waiting))
        variants = variants_of(experiment) if wanted == Filter() else []
        tasks = later_tasks(experiment, missing, with_report=has_report and not variants, full_pool=full_pool)
        outcomes += workers.carry_out(tasks, watch)
        for one in variants:
            outcomes += run_variant(one, store, instance, workers, watch)
        if variants:
            last = [unit for unit in missing_units(experiment, store, instance, wanted) if unit.asset in REGISTRY.last]
            outcomes += workers.carry_out(later_tasks(experiment, last, with_report=has_report), watch)
    return Ran(outcomes, waiting, blocked)


def run_variant(
    variant: Experiment, parents: Store, instance: DagsterInstance, workers: Workers, tell: Callable[[Event], None]
) -> list[Outcome]:
    """Compute the missing results of one variant, and return the outcomes of the runs. `parents` is its experiment's store.

    Nothing is run before the experiment's own cells have scores (see `is_compared`), or if a chosen prompt has no answer, because
    a variant requests no answers.
    """
    made_from = variant.variant
    if made_from is None or not is_compared(made_from, parents):
        return []
    store, label = parents.of_variant(made_from.name), made_from.name
    register_budgets(variant, store, instance, ())

    def carry_out(tasks: Sequence[Task]) -> list[Outcome]:
        return workers.carry_out([task.of_variant(label) for task in tasks], tell)

    missing = missing_units(variant, store, instance, Filter())
    first = [unit.asset for unit in missing if is_known_first(REGISTRY[unit.asset], variant)]
    outcomes = carry_out(unpartitioned_tasks(variant, first, "pool"))
    missing = missing_units(variant, store, instance, Filter())
    pool = REGISTRY.look(variant, store).pool_size
    if pool is not None and not pool.is_answered:
        lists = [unit for unit in missing if not REGISTRY[unit.asset].needs_answers]
        outcomes += carry_out(later_tasks(variant, lists, with_report=False))
        lineage = REGISTRY.look(variant, store)
        open_ids = OpenLabels(store, lineage).open_in_all(cells.expected(variant, store, pool))
        if open_ids is None or open_ids:
            count = "" if open_ids is None else f" {len(open_ids):,} of"
            tell(
                Event(
                    "note",
                    f"variant {label} is not run:{count} its prompts have no answer, and a variant requests none",
                )
            )
            return outcomes
        missing = missing_units(variant, store, instance, Filter())
    return outcomes + carry_out(later_tasks(variant, missing, with_report=False))


def is_compared(made_from: VariantOf, store: Store) -> bool:
    """Return True if the two cells that a variant is compared with have fresh scores. `store` is the experiment's store."""
    lineage = REGISTRY.look(made_from.parent, store)
    keys = [Cell(made_from.budget_n, strategy).key for strategy in made_from.strategies]
    return all(lineage.is_fresh(Unit(CELL_SCORES, key)) for key in keys)


def remove_unfinished(store: Store, tell: Callable[[Event], None]) -> None:
    """Remove partial files of killed processes from a local store. If there were any, report their number and size."""
    if store.is_local and (swept := temporary.sweep(Path(store.path()))).files_n:
        files = f"{swept.files_n} unfinished file{'s' * (swept.files_n > 1)}"
        tell(Event("note", f"removed {files} of killed runs ({spelled(swept.bytes_n)})"))


def look_for_answers(experiment: Experiment, store: Store, wanted: Filter) -> tuple[dict[Cell, int], set[Cell], str]:
    """Return the number of missing answers of each waiting cell, the cells that can be trained or scored, and a reason.

    The reason says why cells with all their answers have to wait for a learning rate. It is empty if no cell waits for one.
    """
    lineage = REGISTRY.look(experiment, store)
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
    """Return the missing units that need answers and can be made now: the units of cells in `ready`, and unpartitioned units.

    The scores of the base model are left out if `is_waiting` (some cells wait for answers) is True and `ready` is empty.
    """
    return [
        unit
        for unit in missing
        if REGISTRY[unit.asset].needs_answers
        and (unit.key is None or Cell.parse(unit.key) in ready)
        and (unit.asset != "base_scores" or ready or not is_waiting)
    ]


def register_budgets(
    experiment: Experiment, store: Store, instance: DagsterInstance, added: Sequence[int]
) -> list[int]:
    """Store the budgets `added`, bring Dagster's list of budgets up to date, and return the budgets that are new in this list.

    Budgets of the experiment file are not stored. If the user deletes a budget from the file, its cells are no longer computed,
    but the budget stays in Dagster's list. When all answers are known, the size of a separate full pool is stored, but not put
    in the list. For errors, see `cells.register`.
    """
    from taskdiv_assets.orchestration import budget_list

    for budget_n in added:
        if budget_n not in experiment.budgets:
            cells.register(store, budget_n)
    pool = REGISTRY.look(experiment, store).pool_size
    full_pool = cells.full_pool_of(experiment, pool)
    if full_pool is not None and pool is not None and pool.is_answered:
        cells.register(store, full_pool.budget_n, is_full=True)
    return budget_list.bring_up_to_date(experiment, instance)
