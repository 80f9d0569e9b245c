"""Runs on this machine, watched: Dagster's own launcher, which here can also tell that a run's process is gone.

Dagster's monitoring asks the launcher how a run is, and fails a run whose process was killed, so that `run_retries` starts it
anew and its pool slot is freed. The default launcher never answers: it only sees processes that its own code server started,
so that a run outlived by nothing (a reboot, `kill -9` of everything) would stand as STARTED for ever.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import NamedTuple

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

# Tag of a run with the host that its process is on: other hosts cannot see that process.
HOST_TAG = "taskdiv/host"


class Process(NamedTuple):
    """The process of a run, as its event log names it."""

    pid: int
    seen_at: float  # when it said so: what has this number, and started later, is another process

    @property
    def is_alive(self) -> bool:
        """True if it is still there."""
        try:
            found = psutil.Process(self.pid)
            return bool(found.status() != psutil.STATUS_ZOMBIE and found.create_time() <= self.seen_at + 1)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # there, and somebody else's
            return True


def process_of(instance: DagsterInstance, run: DagsterRun) -> Process | None:
    """The process that carries out a run on this host; None if it is on another, or has not said so yet.

    It is the first that the log names: later ones may be those of single steps.
    """
    if run.tags.get(HOST_TAG) != socket.gethostname():
        return None
    for record in instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ENGINE_EVENT).records:
        event = record.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        if pid is not None:
            return Process(int(str(pid.value)), record.timestamp)
    return None


def host_tag() -> dict[str, str]:
    """The tag of a run that is about to start here."""
    return {HOST_TAG: socket.gethostname()}


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with an answer to "is this run's process still there?"."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the process of a run, after its host was noted."""
        self._instance.add_run_tags(context.dagster_run.run_id, host_tag())
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """NOT_FOUND if the run's process was on this host and is gone; else it counts as running."""
        process = process_of(self._instance, run)
        if process is None or process.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        since = datetime.fromtimestamp(process.seen_at, UTC).isoformat(timespec="seconds")
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, f"its process {process.pid}, seen {since}, was killed or lost with the machine"
        )
