"""Runs on this machine, watched: Dagster's own launcher, which here can also tell that a run's process is gone.

Dagster's monitoring asks the launcher how a run is, and fails a run whose process was killed, so that `run_retries` starts it
anew and its pool slot is freed. The default launcher never answers: it only sees processes that its own code server started,
so that a run outlived by nothing (a reboot, `kill -9` of everything) would stand as STARTED for ever.
"""

from __future__ import annotations

import socket

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation

from taskdiv_assets.storage import processes
from taskdiv_assets.storage.processes import Process

# Tag of a run with the host, its boot and namespace and, where it is known, the process (number and start) that carries it out.
# Processes of other hosts and containers cannot be seen.
HOST_TAG = ".dagster/taskdiv_host"  # with this prefix the UI does not show it


def process_of(instance: DagsterInstance, run: DagsterRun) -> Process | None:
    """The process that carries out a run on this host; None if it is on another or in another container, or has not said so yet.

    It is the one that the tag names, else the first that the log names: later ones may be those of single steps.
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
    """Return the tag of a run that is about to start on this host, in a process that may be known already."""
    host = socket.gethostname()
    if process is None:
        return {HOST_TAG: f"{host}:{processes.boot()}"}
    return {HOST_TAG: f"{host}:{process.boot}:{process.pid}:{process.started}"}


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with an answer to "is this run's process still there?"."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the process of a run, after its host was noted; with a code server that may be elsewhere it stays unknown."""
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
        """It does."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """NOT_FOUND if the run's process was on this host and is gone; else it counts as running."""
        process = process_of(self._instance, run)
        if process is None or process.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, f"its process {process.pid} was killed, or lost with the machine"
        )
