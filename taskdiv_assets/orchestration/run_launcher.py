"""Dagster's default run launcher with a health check, which detects that the process of a run was killed.

Dagster's monitoring then marks the run as failed, frees its pool slots, and restarts the run (its setting `run_retries`). Without
the check, runs would keep the state STARTED after a reboot.
"""

import socket

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher

from taskdiv_assets.orchestration.dagster_private import (
    CheckRunHealthResult,
    GrpcServerCodeLocation,
    LaunchRunContext,
    WorkerStatus,
)
from taskdiv_assets.storage import processes
from taskdiv_assets.storage.processes import Process

# Tag of a run: host, mark of its boot and namespace (`processes.boot`), and, if known, number and start of the run's process.
HOST_TAG = ".dagster/taskdiv_host"  # the UI does not show tags with this prefix


def process_of(instance: DagsterInstance, run: DagsterRun) -> Process | None:
    """Return the process that executes a run; None if it is not known yet, or is on another host or in another container.

    If the run's tag has no process number, the first process number in the run's event log is used. Later numbers in the log
    may belong to processes of steps.
    """
    host, boot_then, pid, started = (*run.tags.get(HOST_TAG, "").split(":"), "", "", "")[:4]
    if host != socket.gethostname() or processes.is_elsewhere(boot_then):
        return None
    if pid.isdecimal():
        return Process(int(pid), boot_then, started)
    for record in instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ENGINE_EVENT).records:
        event = record.event_log_entry.dagster_event
        named = event.engine_event_data.metadata.get("pid") if event is not None else None
        if named is not None:
            return Process(int(str(named.value)), boot_then)
    return None


def host_tag(process: Process | None = None) -> dict[str, str]:
    """Return the tag of a run that starts on this host. `process` is the process that executes the run, if it is known."""
    host = socket.gethostname()
    if process is None:
        return {HOST_TAG: f"{host}:{processes.boot()}"}
    return {HOST_TAG: f"{host}:{process.boot}:{process.pid}:{process.started}"}


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with a health check."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the process of a run. If the code server is on this machine, record this host in the run's tag first."""
        if self._is_local(context):
            self._instance.add_run_tags(context.dagster_run.run_id, host_tag())
        super().launch_run(context)

    @staticmethod
    def _is_local(context: LaunchRunContext) -> bool:
        """Return True if the run's code server listens on a Unix socket, as the code servers of `dagster dev` do."""
        origin = context.dagster_run.remote_job_origin
        if context.workspace is None or origin is None:
            return False
        location = context.workspace.get_code_location(origin.repository_origin.code_location_origin.location_name)
        return isinstance(location, GrpcServerCodeLocation) and location.client.socket is not None

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return NOT_FOUND if the run's process was on this host and is dead. Otherwise, return RUNNING."""
        process = process_of(self._instance, run)
        if process is None or process.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, f"its process {process.pid} was killed, or lost with the machine"
        )
