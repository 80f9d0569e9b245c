"""Functions that find Dagster runs whose process was killed, mark these runs as ended, and free their pool slots.

Dagster's daemon does this for runs of the UI (`orchestration.run_launcher`). `taskdiv run` works without the daemon, so it
checks for such runs itself. It repeats the check every few seconds, because a run of another process may be killed at any time.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from taskdiv_assets.commands.workers import Event
from taskdiv_assets.orchestration import troubles
from taskdiv_assets.storage.processes import Process

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

LOOK_S = 5.0
ENDED_S = 10.0  # a run that has ended and still has slots after this time will not free them itself


def end_orphans(instance: DagsterInstance) -> list[str]:
    """Find runs whose process was killed, mark them as ended, and free their pool slots. Return one sentence per run."""
    from dagster import DagsterRunStatus, RunsFilter

    from taskdiv_assets.orchestration.run_launcher import process_of

    statuses = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]
    ended = []
    for run in instance.get_runs(RunsFilter(statuses=statuses)):
        process = process_of(instance, run)
        if process is None or process.is_alive:
            continue
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.status != run.status:  # the run changed its status after `get_runs`
            continue
        if run.status == DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run)
        else:
            instance.report_run_failed(
                run, "its process was killed; finished results are kept, and the next run finds them"
            )
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(f"run {run.run_id[:8]} was ended, since its process {process.pid} was killed; its slot is free")
    return ended


class Watch:
    """Callback that forwards every event to `tell`, and checks for killed runs every few seconds.

    A check frees the slots of killed and ended runs. It also reports which runs hold slots that runs of this process wait for.
    """

    def __init__(
        self, instance: DagsterInstance, tell: Callable[[Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.instance = instance
        self.tell = tell
        self.clock = clock
        self._looked_s = clock()
        self._ended_since: dict[str, float] = {}  # ended run that still has a slot → when this was first seen
        self._said: set[str] = set()
        self._is_failure_said = False

    def __call__(self, event: Event) -> None:
        """Forward an event, and check for killed runs every 5 s. The first error of a check, such as a full disk, is reported."""
        self.tell(event)
        if event.kind != "beat" or self.clock() - self._looked_s < LOOK_S:
            return
        self._looked_s = self.clock()
        try:
            found = self._found()
        except Exception as error:  # Dagster's storage may raise anything, but the run must continue
            found = self._failure(error)
        self._say(found)

    def look(self) -> None:
        """Check for killed runs now."""
        self._say(self._found())

    def _say(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self.tell(Event("note", sentence))

    def _found(self) -> list[str]:
        return [*end_orphans(self.instance), *self._free_ended(), *self._waits()]

    def _failure(self, error: Exception) -> list[str]:
        if self._is_failure_said:
            return []
        self._is_failure_said = True
        why = troubles.sentence(error) or " ".join(f"{type(error).__name__}: {error}".split())
        return [f"killed runs cannot be searched for at the moment, which is tried again ({why})"]

    def _free_ended(self) -> list[str]:
        holders = {run_id for holding, waiting in self._pools().values() for run_id in (*holding, *waiting)}
        ended = {run_id for run_id in holders if self._is_ended(run_id)}
        self._ended_since = {run_id: self._ended_since.get(run_id, self.clock()) for run_id in ended}
        freed = [run_id for run_id, since in self._ended_since.items() if self.clock() - since >= ENDED_S]
        for run_id in freed:
            self.instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        return [f"the slot of run {run_id[:8]}, which has ended, is free" for run_id in freed]

    def _waits(self) -> list[str]:
        found = []
        for pool, (holding, waiting) in self._pools().items():
            for run_id in holding if any(map(self._is_ours, waiting)) else ():
                if run_id not in self._said and not self._is_ours(run_id):
                    self._said.add(run_id)
                    found.append(self._wait(pool, run_id))
        return found

    def _wait(self, pool: str, run_id: str) -> str:
        from taskdiv_assets.orchestration.run_launcher import HOST_TAG

        run, process = self._run_and_process(run_id)
        host = (run.tags.get(HOST_TAG, "").partition(":")[0] if run else "") or "another host"
        who = f"process {process.pid} on {socket.gethostname()}" if process else f"a process on {host}"
        record = self.instance.get_run_record_by_id(run_id)
        since = "" if record is None or record.start_time is None else f" since {_clock(record.start_time)}"
        return (
            f"waiting for a slot of the pool {pool}, which run {run_id[:8]} ({who}) holds{since}; the wait ends with that "
            "step, or within seconds if its process is killed on this machine"
        )

    def _pools(self) -> dict[str, tuple[list[str], list[str]]]:
        storage = self.instance.event_log_storage
        infos = [storage.get_concurrency_info(name) for name in storage.get_concurrency_keys()]
        return {
            info.concurrency_key: ([s.run_id for s in info.claimed_slots], [s.run_id for s in info.pending_steps])
            for info in infos
        }

    def _is_ended(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    def _run_and_process(self, run_id: str) -> tuple[DagsterRun | None, Process | None]:
        from taskdiv_assets.orchestration.run_launcher import process_of

        run = self.instance.get_run_by_id(run_id)
        return run, None if run is None else process_of(self.instance, run)

    def _is_ours(self, run_id: str) -> bool:
        _, process = self._run_and_process(run_id)
        with suppress(psutil.Error):
            return process is not None and os.getpid() in (process.pid, psutil.Process(process.pid).ppid())
        return False


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
