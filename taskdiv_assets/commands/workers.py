"""The worker processes of `taskdiv run`. Each process imports the libraries once, and executes one Dagster run at a time.

Each worker has its own pipe to the parent process. Workers share no lock, queue or semaphore, so a killed worker cannot block the
others. Stopping cannot hang: a worker gets a limited time to end, and is then killed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from data_contracts.variant_names import graph_name
from taskdiv_assets.commands import stopping
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.storage import processes
from taskdiv_assets.storage.machine import machine

POLL_S = 0.2
STOP_S = 2.5  # time between a request to stop at once and the kill
FAREWELL_S = 20.0  # time that an idle process has to end, because libraries close their resources
# Ctrl-C reaches all processes of the group. Workers start with SIGINT blocked, so that only this process handles it.
START = (
    "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); from taskdiv_assets.commands.worker_process import serve; "
    "serve(int(sys.argv[2]), sys.argv[3])"
)


@dataclass(frozen=True)
class Task:
    """The work of one Dagster run: assets of one job. `key` is the key of their results in the store: a cell, a strategy or None.

    Tasks with a higher `cost` start earlier. A task starts after the tasks that `after` names have ended. `variant` names the
    variant whose results the task computes; it is empty for the experiment itself.
    """

    job: str
    assets: tuple[str, ...]
    key: str | None
    cost: float = 0.0
    after: frozenset[str] = field(default_factory=frozenset)
    variant: str = ""

    @property
    def name(self) -> str:
        name = self.key if self.key is not None else "+".join(self.assets)
        return f"{self.variant}: {name}" if self.variant else name

    def of_variant(self, variant: str) -> Task:
        return replace(self, variant=variant, after=frozenset(f"{variant}: {name}" for name in self.after))


class Outcome(NamedTuple):
    """Result of one run."""

    name: str
    is_success: bool
    message: str
    run_id: str | None
    wall_s: float


class Event(NamedTuple):
    """Message to the terminal while runs are active."""

    kind: str  # planned, started, progress, note, ended, skipped or beat; a beat comes several times a second
    name: str  # name of the task; in a progress event, the counted thing; in a note, the sentence
    done: int = 0
    total: int = 0  # number of all things in a progress event, number of tasks in a planned event
    also: str = ""  # further text of a progress event
    outcome: Outcome | None = None
    task: str = ""  # name of the task in a progress event or a note
    left_s: float | None = None  # in a progress event: seconds left; None if not known


class WorkerDiedError(RuntimeError):
    """A worker process ended unexpectedly."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a worker process died while it ran {name} (killed, or out of memory); finished results are kept. "
            "Run the same command again to continue, with fewer --workers if memory was short"
        )


class _Worker:
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

    def tell(self, message: str | None) -> None:
        with suppress(OSError):
            self.pipe.send(message)

    def received(self) -> Iterator[Any]:
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            if self.task is not None:
                raise WorkerDiedError(self.task) from None


class Workers:
    """The pool of worker processes. The processes start on entering the context, and end on leaving it."""

    def __init__(self, experiment: str, workers_n: int) -> None:
        self.experiment = experiment
        self.workers_n = workers_n
        self._all: list[_Worker] = []

    def __enter__(self) -> Workers:
        try:
            for _ in range(self.workers_n):  # all start now, so that imports overlap with work
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
                    worker.tell(None)
                stopping.wait_for([worker.process for worker in self._all], FAREWELL_S)
                is_stopped = False
        finally:
            self._end(STOP_S if is_stopped else 0.0)

    def _end(self, patience_s: float) -> None:
        with stopping.undisturbed():
            for worker in self._all:
                worker.tell("stop")
            stopping.end([worker.process for worker in self._all], patience_s)
            for worker in self._all:
                worker.pipe.close()

    def carry_out(
        self, tasks: Sequence[Task], tell: Callable[[Event], None], *, warm_up: bool = False
    ) -> list[Outcome]:
        """Execute tasks, and return the outcome of each task. `tell` receives every event, in this process.

        Of the tasks that can start, the one with the highest cost starts first. If a task fails, tasks that wait for it are
        skipped, except the report. With `warm_up`, idle processes import the libraries of the next steps.

        Raises:
            WorkerDiedError: a process ended while it ran a task, or no process is left.
            Exception: an error that a process sent, such as an experiment that cannot be loaded.
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
        """Return a free process; None if all processes are busy.

        If no process is left, raise the error that a process sent before it ended, or WorkerDiedError for the task `name`.
        """
        free = sorted((worker for worker in self._all if worker.is_free), key=lambda worker: worker.is_warming)
        if not free and all(worker.task is None for worker in self._all):
            for message in (message for worker in self._all for message in worker.received()):
                if isinstance(message, Exception):  # sent by a process that could not load the experiment
                    raise message
            raise WorkerDiedError(name)
        return free[0] if free else None

    def _ended(self, tell: Callable[[Event], None]) -> Iterator[tuple[str, Outcome]]:
        """Wait up to `POLL_S` seconds for messages, and yield the name and the outcome of each task that ended.

        `tell` receives the progress and notes of tasks. Raise an error that a process sent, or WorkerDiedError if a process died
        before the end of its task.
        """
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
                    what, done, total, also, left_s = message
                    tell(Event("progress", what, done, total, also, task=worker.task or "", left_s=left_s))
            if not was_running:
                worker.is_warming = False
                if worker.task is not None:
                    raise WorkerDiedError(worker.task)


def quiet() -> None:
    """Suppress the progress bars and notices of libraries on the terminal. Dagster's event log still contains all messages."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    warnings.filterwarnings("ignore")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)


def load(experiment: str) -> Any:
    """Return the Dagster definitions of an experiment."""
    os.environ["TASKDIV_QUIET"] = "1"
    from taskdiv_assets.orchestration import code_location

    return code_location.load_with_executor(experiment)


def execute(experiment: str, task: Task) -> Outcome:
    """Execute one Dagster run, and return its outcome. `$TASKDIV_EXECUTOR` decides whether its steps run in this process."""
    import dagster as dg

    from taskdiv_assets.orchestration import engines, instance
    from taskdiv_assets.orchestration.run_launcher import host_tag

    started = time.monotonic()
    experiment = graph_name(experiment, task.variant) if task.variant else experiment
    name = f"{experiment}_{task.job}"
    places = [place(experiment, asset, task.key, is_full_pool=task.job == FULL_POOL) for asset in task.assets]
    assets, partition = [dg.AssetKey(one.path) for one in places], places[0].partition
    how: dict[str, Any] = {
        "run_config": {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        "tags": host_tag(processes.this()),
    }
    result: Any
    with instance.open_for_run() as opened:
        if machine().executor == "in_process":
            job, partly = (
                load(experiment).resolve_job_def(name),
                {"partition_key": partition, "asset_selection": assets},
            )
            result = job.execute_in_process(instance=opened, raise_on_error=False, **partly, **how)
        else:
            result = engines.execute(name, assets, partition, opened, **how)
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
