"""All private parts of Dagster that the project imports. A comment gives the reason for each import.

`USED` lists the attributes of the imported classes that the project uses. A test fails if a version of Dagster lacks one of them.
"""

from collections.abc import Mapping

# Type of the result of `dg.define_asset_job`. The function is public, this type is private. Used for annotations only (factory).
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Filter and states of backfills. `DagsterInstance.get_backfills` is public, these arguments are private. Without them, the budget
# list could lose keys that an active backfill needs (budget_list).
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# Instance from a folder with one setting replaced. `DagsterInstance.get` accepts no overrides. Without this class, `taskdiv run`
# would use Dagster's default event log, which is slower (instance).
from dagster._core.instance.ref import InstanceRef

# Result types of a run launcher's health check. `DefaultRunLauncher` is public, these types are private. Without them, a run
# would keep the state STARTED after its process was killed (run_launcher).
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation

# Event log in SQLite; no class of an event log is public. Without it, each check of a cell opens six connections (event_log).
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

# Error for invalid settings, in addition to the public DagsterError (instance).
from dagster_shared.check import CheckError

__all__ = [
    "USED", "BulkActionStatus", "BulkActionsFilter", "CheckError", "CheckRunHealthResult", "ConfigurableClassData",
    "GrpcServerCodeLocation", "InstanceRef", "LaunchRunContext", "SqliteEventLogStorage",
    "UnresolvedAssetJobDefinition", "WorkerStatus",
]  # fmt: skip

USED: Mapping[type, tuple[str, ...]] = {
    BulkActionStatus: ("REQUESTED", "CANCELING"),
    CheckRunHealthResult: (),
    GrpcServerCodeLocation: ("client",),
    InstanceRef: ("from_dir",),
    LaunchRunContext: ("dagster_run", "workspace"),
    SqliteEventLogStorage: ("_connect", "_db_lock", "_initdb", "conn_string_for_shard", "dispose", "from_config_value"),
    WorkerStatus: ("RUNNING", "NOT_FOUND"),
}
