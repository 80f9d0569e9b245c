"""Dagster's default run launcher, extended by a health check: it can tell that the process of a run is gone.

Dagster's monitoring asks the launcher whether a run is alive. If its process was killed, the run fails, `run_retries` restarts
it, and its pool slot becomes free. The default launcher does not answer, since it only sees processes of its own code server:
after a reboot or a `kill -9` of everything, a run would stay STARTED for ever.
"""

from __future__ import annotations

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

# Tag of a run: the host, its boot and namespace and, where known, the process (number and start) that executes the run.
# Processes of other hosts and containers are not visible.
HOST_TAG = ".dagster/taskdiv_host"  # with this prefix the UI does not show it


def process_of(instance: DagsterInstance, run: DagsterRun) -> Process | None:
    """Return the process that executes a run; None if it is on another host or in another container, or not known yet.

    The tag names it, or else the first entry of the log that names a process: later entries may name processes of steps.
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
    """Return the tag of a run that starts on this host; `process` is the one that executes it, if known."""
    host = socket.gethostname()
    if process is None:
        return {HOST_TAG: f"{host}:{processes.boot()}"}
    return {HOST_TAG: f"{host}:{process.boot}:{process.pid}:{process.started}"}


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with a health check."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Record the host of a run, unless its code server may be on another machine, and start its process."""
        if self._is_local(context):
            self._instance.add_run_tags(context.dagster_run.run_id, host_tag())
        super().launch_run(context)

    @staticmethod
    def _is_local(context: LaunchRunContext) -> bool:
        """True if the run's code server listens on a socket of this machine, as those of `dagster dev` do."""
        origin = context.dagster_run.remote_job_origin
        if context.workspace is None or origin is None:
            return False
        location = context.workspace.get_code_location(origin.repository_origin.code_location_origin.location_name)
        return isinstance(location, GrpcServerCodeLocation) and location.client.socket is not None

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return NOT_FOUND if the run's process was on this host and is gone, and RUNNING otherwise."""
        process = process_of(self._instance, run)
        if process is None or process.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, f"its process {process.pid} was killed, or lost with the machine"
        )
