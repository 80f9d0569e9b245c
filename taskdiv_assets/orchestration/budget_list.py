"""The budgets that Dagster's partition dialog offers: those of the experiment file and of the store, in ascending order.

Dagster shows dynamic partitions in the order in which they were added. To insert a budget between others, the keys after it are
removed and added again. Dagster keeps the records of a partition by its key, so they survive this.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from data_contracts.cell_keys import BUDGET_PATTERN
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph import cells
from taskdiv_assets.orchestration.dagster_private import BulkActionsFilter, BulkActionStatus
from taskdiv_assets.storage.store import Store

UNFINISHED = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
ACTIVE = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING)


def partitions(experiment: str) -> dg.DynamicPartitionsDefinition:
    """Return the budgets of an experiment as Dagster's partitions; more can be added at any time, also in the UI."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(experiment))


def partitions_name(experiment: str) -> str:
    """Return the name under which Dagster keeps the budgets of an experiment."""
    return f"{experiment}_budget"


def bring_up_to_date(experiment: Experiment, instance: dg.DagsterInstance) -> list[int]:
    """Add the budgets that Dagster does not offer yet, remove those that no longer exist, and sort the rest.

    While a run or a backfill is active, it may need the keys: then nothing is removed, and the next call tries again.

    Returns:
        the budgets that were added.
    """
    name = partitions_name(experiment.name)
    known = list(instance.get_dynamic_partitions(name))
    wanted = in_order(experiment, known)
    start = next((place for place, pair in enumerate(zip(known, wanted, strict=False)) if pair[0] != pair[1]), None)
    start = min(len(known), len(wanted)) if start is None else start
    if start < len(known) and is_idle(experiment, instance):
        for key in known[start:]:
            instance.delete_dynamic_partition(name, key)
        if wanted[start:]:
            instance.add_dynamic_partitions(name, wanted[start:])
    elif missing := [key for key in wanted if key not in known]:
        instance.add_dynamic_partitions(name, missing)
    return [int(key) for key in wanted if key not in known]


def in_order(experiment: Experiment, known: Iterable[str]) -> list[str]:
    """Return the keys that the dialog should offer, in ascending order; keys that are not numbers come last, as added.

    The size of the full pool, today or earlier, is left out: the full pool has assets of its own.
    """
    kinds = cells.registered(experiment, Store(experiment.name))
    wanted = {str(budget_n) for budget_n, kind in kinds.items() if kind == "requested"}
    full_pools = {str(budget_n) for budget_n, kind in kinds.items() if kind == "full_pool"}
    keys = dict.fromkeys([*(key for key in known if key not in full_pools), *sorted(wanted)])
    return sorted(keys, key=lambda key: (0, int(key)) if BUDGET_PATTERN.fullmatch(key) else (1, 0))


def is_idle(experiment: Experiment, instance: dg.DagsterInstance) -> bool:
    """Return True if no run of the experiment and no backfill is active."""
    unfinished = RunsFilter(statuses=list(UNFINISHED), tags={"experiment": experiment.name})
    if instance.get_run_records(unfinished, limit=1):
        return False
    return not instance.get_backfills(filters=BulkActionsFilter(statuses=list(ACTIVE)), limit=1)
