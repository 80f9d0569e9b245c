"""The budgets that Dagster's partition dialog offers: those of the experiment file and of the store, the smallest first.

Dagster shows dynamic partitions in the order in which they were added. So a budget that belongs between others is put there
by removing and adding again what comes after it. Records of a partition are kept by its key and outlive that.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from taskdiv_assets.experiment import BUDGET_PATTERN, Experiment
from taskdiv_assets.graph import cells
from taskdiv_assets.storage.store import Store

UNFINISHED = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
GOING_ON = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING)


def partitions(experiment: str) -> dg.DynamicPartitionsDefinition:
    """Return the budgets of an experiment as Dagster's partitions: more can be added at any time, in the UI too."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(experiment))


def partitions_name(experiment: str) -> str:
    """Return the name under which Dagster keeps the budgets of an experiment."""
    return f"{experiment}_budget"


def bring_up_to_date(experiment: Experiment, instance: dg.DagsterInstance) -> list[int]:
    """Add the budgets that Dagster does not offer yet, remove those that are none any more, and restore the order by size.

    While runs or a backfill go on, which may need the keys, nothing is removed: the next call does it.

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
    """Return the keys that the dialog should offer, by size; text that is no number comes last, as it was added.

    A full pool, of now or of earlier, is no budget that can be ticked: it has assets of its own.
    """
    kinds = cells.registered(experiment, Store(experiment.name))
    wanted = {str(budget_n) for budget_n, kind in kinds.items() if kind == "requested"}
    full_pools = {str(budget_n) for budget_n, kind in kinds.items() if kind == "full_pool"}
    keys = dict.fromkeys([*(key for key in known if key not in full_pools), *sorted(wanted)])
    return sorted(keys, key=lambda key: (0, int(key)) if BUDGET_PATTERN.fullmatch(key) else (1, 0))


def is_idle(experiment: Experiment, instance: dg.DagsterInstance) -> bool:
    """Return True if no run of the experiment and no backfill is going on."""
    unfinished = RunsFilter(statuses=list(UNFINISHED), tags={"experiment": experiment.name})
    if instance.get_run_records(unfinished, limit=1):
        return False
    return not instance.get_backfills(filters=BulkActionsFilter(statuses=list(GOING_ON)), limit=1)
