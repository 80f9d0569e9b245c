"""Dagster's private parts that the project uses: every import of `dagster._…` is here, with the public part that is missing.

`USED` names the attributes that our classes override or read. A test looks for each of them, so that an upgrade of Dagster fails
there with the name of what is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

# The type of what `dg.define_asset_job` returns: the function is public, its result is not. Used for annotations only (factory).
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Backfills: `DagsterInstance.get_backfills` is public, its filter and the states are not. Without them a budget list could be put
# in order while a backfill still needs its keys (budget_list).
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# An instance from a folder with one setting replaced: `DagsterInstance.get` takes no overrides. Without it `taskdiv run` would
# write events by Dagster's own, slower log (instance).
from dagster._core.instance.ref import InstanceRef

# The answer of a run launcher to "is the worker alive?": `DefaultRunLauncher` is public, these are not. Without them a run whose
# process was killed would stay STARTED (run_launcher).
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation

# The event log in SQLite: no event log is public. Without it each check of a cell opens a connection six times (event_log).
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

# What invalid settings raise, besides the public DagsterError (instance).
from dagster_shared.check import CheckError

__all__ = [
    "USED",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CheckError",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "GrpcServerCodeLocation",
    "InstanceRef",
    "LaunchRunContext",
    "SqliteEventLogStorage",
    "UnresolvedAssetJobDefinition",
    "WorkerStatus",
]

USED: Mapping[type, tuple[str, ...]] = {
    BulkActionStatus: ("REQUESTED", "CANCELING"),
    CheckRunHealthResult: (),
    GrpcServerCodeLocation: ("client",),
    InstanceRef: ("from_dir",),
    LaunchRunContext: ("dagster_run", "workspace"),
    SqliteEventLogStorage: ("_connect", "_db_lock", "_initdb", "conn_string_for_shard", "dispose", "from_config_value"),
    WorkerStatus: ("RUNNING", "NOT_FOUND"),
}
