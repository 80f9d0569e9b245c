"""The budgets in Dagster's partition dialog, in ascending order: from the experiment file, the store and users of the UI.

Dagster shows dynamic partitions in the order in which they were added. To insert a budget, this module removes the larger budgets
and adds them again. Dagster stores the records of a partition under its key, so the records are kept.
"""

from collections.abc import Iterable
from itertools import takewhile

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


def partitions_name(experiment: str) -> str:
    return f"{experiment}_budget"


def bring_up_to_date(experiment: Experiment, instance: dg.DagsterInstance) -> list[int]:
    """Add missing budgets to Dagster's list, remove sizes of the full pool, sort the list, and return the added budgets.

    An active run or backfill may need any key of the list. While one is active, nothing is removed: missing budgets are added at
    the end, and a later call sorts the list.
    """
    name = partitions_name(experiment.name)
    known = list(instance.get_dynamic_partitions(name))
    wanted = in_order(experiment, known)
    start = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(known, wanted, strict=False))))
    if start < len(known) and is_idle(experiment, instance):
        for key in known[start:]:
            instance.delete_dynamic_partition(name, key)
        if wanted[start:]:
            instance.add_dynamic_partitions(name, wanted[start:])
    elif missing := [key for key in wanted if key not in known]:
        instance.add_dynamic_partitions(name, missing)
    return [int(key) for key in wanted if key not in known]


def in_order(experiment: Experiment, known: Iterable[str]) -> list[str]:
    """Return the keys that the dialog should show: budgets in ascending order, then keys that are not numbers.

    `known` contains the keys that Dagster has now. Present and former sizes of the full pool are left out, unless they were
    requested as budgets.
    """
    kinds = cells.registered(experiment, Store(experiment.name))
    wanted = {str(budget_n) for budget_n, kind in kinds.items() if kind == "requested"}
    full_pools = {str(budget_n) for budget_n, kind in kinds.items() if kind == "full_pool"}
    keys = dict.fromkeys([*(key for key in known if key not in full_pools), *sorted(wanted)])
    return sorted(keys, key=lambda key: (0, int(key)) if BUDGET_PATTERN.fullmatch(key) else (1, 0))


def is_idle(experiment: Experiment, instance: dg.DagsterInstance) -> bool:
    """Return True if no run of the experiment is waiting or active, and no backfill of any experiment is active."""
    unfinished = RunsFilter(statuses=list(UNFINISHED), tags={"experiment": experiment.name})
    if instance.get_run_records(unfinished, limit=1):
        return False
    return not instance.get_backfills(filters=BulkActionsFilter(statuses=list(ACTIVE)), limit=1)
