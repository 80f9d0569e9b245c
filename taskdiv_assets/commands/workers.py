"""The worker processes of `taskdiv run`: each imports libraries once and executes one Dagster run at a time.

Input are tasks, each with the names of the tasks that must end before it. Every task has one outcome, and events while it runs.
`running` decides what the tasks are; `worker_process` is the code inside a process.

Each process has its own pipe to this one. Processes share no lock, queue or semaphore, so a process that is killed holds
nothing that others need. Stopping cannot hang: every process is asked to end, gets a bounded time, and is killed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from taskdiv_assets.commands import stopping
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.settings import machine

POLL_S = 0.2
STOP_S = 2.5  # after a request to end at once, before a process is killed
FAREWELL_S = 20.0  # for an idle process to end: libraries close their resources
# Ctrl-C reaches the whole process group. Workers start with SIGINT blocked, so that only this process reacts to it.
START = (
    "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); from taskdiv_assets.commands.worker_process import serve; "
    "serve(int(sys.argv[2]), sys.argv[3])"
)


@dataclass(frozen=True)
class Task:
    """Units that one Dagster run materialises: assets of one job and one partition."""

    job: str
    assets: tuple[str, ...]
    key: str | None
    cost: float = 0.0
    after: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """Name for people, and for the tasks that depend on it."""
        return self.key if self.key is not None else "+".join(self.assets)


class Outcome(NamedTuple):
    """Result of one run."""

    name: str
    is_success: bool
    message: str
    run_id: str | None
    wall_s: float


class Event(NamedTuple):
    """Message to the terminal while runs are active.

    Attributes:
        kind: planned, started, progress, note, ended, skipped; or beat, several times a second.
        name: of the task; of a progress event, what is counted; of a note, its sentence.
        task: name of the task of a progress event or note.
    """

    kind: str
    name: str
    done: int = 0
    total: int = 0
    also: str = ""
    outcome: Outcome | None = None
    task: str = ""


class WorkerDiedError(RuntimeError):
    """A worker process ended without being asked to."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a worker process died while it ran {name} (killed, or out of memory); finished results are kept. "
            "Run the same command again to continue, with fewer --workers if memory was short"
        )


class _Worker:
    """One process, and this side's end of its pipe."""

    def __init__(self, experiment: str) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-P", "-c", START, json.dumps(sys.path), str(theirs.fileno()), experiment]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self.task: str | None = None
        self.is_warming = False

    @property
    def is_free(self) -> bool:
        return self.task is None and self.process.poll() is None

    def give(self, task: Task) -> None:
        self.task = task.name
        try:
            self.pipe.send(task)
        except OSError:
            raise WorkerDiedError(task.name) from None

    def warm_up(self) -> None:
        with suppress(OSError):
            self.pipe.send("warm up")
            self.is_warming = True

    def dismiss(self) -> None:
        with suppress(OSError):
            self.pipe.send(None)

    def stop(self) -> None:
        with suppress(OSError):
            self.pipe.send("stop")

    def received(self) -> Iterator[Any]:
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            if self.task is not None:
                raise WorkerDiedError(self.task) from None


class Workers:
    """Processes that import libraries once and execute one Dagster run at a time.

    Args:
        experiment: name of the experiment.
        workers_n: number of processes.
    """

    def __init__(self, experiment: str, workers_n: int) -> None:
        self.experiment = experiment
        self.workers_n = workers_n
        self._all: list[_Worker] = []

    def __enter__(self) -> Workers:
        try:
            for _ in range(self.workers_n):  # start all of them now: imports of one overlap with the work of another
                with stopping.undisturbed():
                    self._all.append(_Worker(self.experiment))
        except BaseException:
            self._end(STOP_S)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        is_stopped = True
        try:
            if kind is None:
                for worker in self._all:
                    worker.dismiss()
                stopping.wait_for([worker.process for worker in self._all], FAREWELL_S)
                is_stopped = False
        finally:
            self._end(STOP_S if is_stopped else 0.0)

    def _end(self, patience_s: float) -> None:
        with stopping.undisturbed():
            for worker in self._all:
                worker.stop()
            stopping.end([worker.process for worker in self._all], patience_s)
            for worker in self._all:
                worker.pipe.close()

    def carry_out(
        self, tasks: Sequence[Task], tell: Callable[[Event], None], *, warm_up: bool = False
    ) -> list[Outcome]:
        """Run tasks in an order that respects their dependencies, the most expensive first.

        Args:
            tasks: to run.
            tell: receives every event, in this process.
            warm_up: let idle processes import what comes next.

        Raises:
            WorkerDiedError: a process was killed.
        """
        by_name = {task.name: task for task in tasks}
        turn = {task.name: (-task.cost, place) for place, task in enumerate(tasks)}
        sorter = TopologicalSorter({name: task.after for name, task in by_name.items()})
        sorter.prepare()
        tell(Event("planned", "", total=len(tasks)))
        outcomes: dict[str, Outcome] = {}
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted({*ready, *sorter.get_ready()}, key=turn.__getitem__)
            while ready and (worker := self._free(ready[0])):
                name = ready.pop(0)
                failed = [other for other in by_name[name].after if not outcomes[other].is_success]
                if failed and by_name[name].job != "report":
                    outcomes[name] = Outcome(name, False, f"not run, since {failed[0]} failed", None, 0.0)
                    tell(Event("skipped", name, outcome=outcomes[name]))
                    sorter.done(name)
                    ready = sorted({*ready, *sorter.get_ready()}, key=turn.__getitem__)
                    continue
                tell(Event("started", name))
                worker.give(by_name[name])
            if warm_up:
                warm_up = False
                for idle in (worker for worker in self._all if worker.is_free):
                    idle.warm_up()
            for name, outcome in self._ended(tell):
                outcomes[name] = outcome
                tell(Event("ended", name, outcome=outcome))
                sorter.done(name)
            tell(Event("beat", ""))
        return [outcomes[task.name] for task in tasks]

    def _free(self, name: str) -> _Worker | None:
        """Return a process that can start a task; None if all are busy."""
        free = sorted((worker for worker in self._all if worker.is_free), key=lambda worker: worker.is_warming)
        if not free and all(worker.task is None for worker in self._all):
            for message in (message for worker in self._all for message in worker.received()):
                if isinstance(message, Exception):  # the reason why they ended before they had a task
                    raise message
            raise WorkerDiedError(name)
        return free[0] if free else None

    def _ended(self, tell: Callable[[Event], None]) -> Iterator[tuple[str, Outcome]]:
        """Wait briefly for messages; yield the tasks that ended."""
        busy = [worker for worker in self._all if worker.task is not None or worker.is_warming]
        wait([worker.pipe for worker in busy], POLL_S)
        for worker in busy:
            was_running = worker.process.poll() is None
            for message in worker.received():
                if message == "warm":
                    worker.is_warming = False
                elif isinstance(message, Outcome):
                    worker.task = None
                    yield message.name, message
                elif isinstance(message, Exception):
                    raise message
                elif isinstance(message, str):
                    tell(Event("note", message, task=worker.task or ""))
                else:
                    what, done, total, also = message
                    tell(Event("progress", what, done, total, also, task=worker.task or ""))
            if not was_running:
                worker.is_warming = False
                if worker.task is not None:
                    raise WorkerDiedError(worker.task)


# --- one run -------------------------------------------------------------------------------------------------------


def quiet() -> None:
    """Keep progress bars and notices of libraries off the terminal; Dagster's event log still has everything."""
    import logging
    import warnings

    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    warnings.filterwarnings("ignore")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)


def load(experiment: str) -> Any:
    """Return the Dagster definitions of an experiment; a process loads them once."""
    os.environ["TASKDIV_QUIET"] = "1"
    from taskdiv_assets.orchestration import code_location

    return code_location.load_with_executor(experiment)


def execute(experiment: str, task: Task) -> Outcome:
    """Execute one Dagster run in the calling process; Dagster records it like any other."""
    import dagster as dg

    from taskdiv_assets.orchestration import engines, instance
    from taskdiv_assets.orchestration.run_launcher import host_tag
    from taskdiv_assets.storage import processes

    started = time.monotonic()
    name = f"{experiment}_{task.job}"
    places = [place(experiment, asset, task.key, is_full_pool=task.job == FULL_POOL) for asset in task.assets]
    assets, partition = [dg.AssetKey(one.path) for one in places], places[0].partition
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    tags = host_tag(processes.this())
    result: Any
    with instance.open_for_run() as opened:
        if machine().executor == "in_process":
            job = load(experiment).resolve_job_def(name)
            result = job.execute_in_process(
                instance=opened,
                partition_key=partition,
                asset_selection=assets,
                raise_on_error=False,
                run_config=quiet,
                tags=tags,
            )
        else:
            result = engines.execute(name, assets, partition, opened, run_config=quiet, tags=tags)
    message = "" if result.success else _failure(result)
    return Outcome(task.name, result.success, message, result.run_id, time.monotonic() - started)


def _failure(result: Any) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            error = data.error.cause if data.error is not None and data.error.cause is not None else data.error
            return " ".join(str(error.message).split()) if error is not None else str(event.message)
    for event in result.all_events:  # the engine is unreachable
        error = getattr(event.event_specific_data, "error", None)
        if error is not None:
            return " ".join(str((error.cause or error).message).split())
    return "the run failed before its first step; open it in the UI"
