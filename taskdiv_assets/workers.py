"""The processes of `taskdiv run`: each imports once and carries out one Dagster run at a time.

In: tasks, each with the names of those that come before it. Out: one outcome a task, and events while they go on. What the
tasks are is not decided here (running.py); the order comes from graphlib, the processes from concurrent.futures.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from taskdiv_assets.asset_paths import FULL_POOL, place
from taskdiv_assets.language_model import cards

POLL_S = 0.2


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
        """Name for people, and for what comes after it."""
        return self.key if self.key is not None else "+".join(self.assets)


class Outcome(NamedTuple):
    """How one run ended."""

    name: str
    is_success: bool
    message: str
    run_id: str | None
    wall_s: float


class Event(NamedTuple):
    """What the terminal is told while runs go on."""

    kind: str  # planned, started, progress, ended, skipped
    name: str
    done: int = 0
    total: int = 0
    also: str = ""
    outcome: Outcome | None = None


class Workers:
    """A few processes that import once and run one Dagster run at a time."""

    def __init__(self, experiment: str, workers_n: int) -> None:
        self.experiment = experiment
        context = multiprocessing.get_context("spawn")
        self.ticks: Any = context.SimpleQueue()
        self.pool = ProcessPoolExecutor(
            workers_n, context, initializer=_start_worker, initargs=(experiment, self.ticks)
        )
        self.workers_n = workers_n

    def __enter__(self) -> Workers:
        for _ in range(self.workers_n):  # start them all now: imports of one overlap with the work of another
            self.pool.submit(time.sleep, 0.05)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # stopped or broken: what runs is told to end, and its end is recorded
            for process in list((self.pool._processes or {}).values()):
                process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.ticks.close()
        del self.ticks, self.pool  # their semaphores go now: the command ends without the interpreter's tear-down
        gc.collect()

    def carry_out(
        self, tasks: Sequence[Task], tell: Callable[[Event], None], *, warm_up: bool = False
    ) -> list[Outcome]:
        """Run tasks in an order that respects what comes after what, the most expensive first."""
        by_name = {task.name: task for task in tasks}
        sorter = TopologicalSorter({name: task.after for name, task in by_name.items()})
        sorter.prepare()
        tell(Event("planned", "", total=len(tasks)))
        running: dict[Future[Outcome], str] = {}
        outcomes: dict[str, Outcome] = {}
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted({*ready, *sorter.get_ready()}, key=lambda name: -by_name[name].cost)
            while ready and len(running) < self.workers_n:
                name = ready.pop(0)
                failed = [other for other in by_name[name].after if not outcomes[other].is_success]
                if failed and by_name[name].job != "report":
                    outcomes[name] = Outcome(name, False, f"not run, since {failed[0]} failed", None, 0.0)
                    tell(Event("skipped", name, outcome=outcomes[name]))
                    sorter.done(name)
                    ready = sorted({*ready, *sorter.get_ready()}, key=lambda name: -by_name[name].cost)
                    continue
                tell(Event("started", name))
                running[self.pool.submit(_run_task, self.experiment, by_name[name])] = name
            if warm_up and running:
                warm_up = False
                for _ in range(self.workers_n - 1):
                    self.pool.submit(_warm_up)
            for name, outcome in self._ended(running, tell):
                outcomes[name] = outcome
                tell(Event("ended", name, outcome=outcome))
                sorter.done(name)
        return [outcomes[task.name] for task in tasks]

    def _ended(
        self, running: dict[Future[Outcome], str], tell: Callable[[Event], None]
    ) -> Iterator[tuple[str, Outcome]]:
        done: set[Future[Outcome]] = set()
        while running and not done:
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            while not self.ticks.empty():
                tell(Event("progress", *self.ticks.get()))
        for future in done:
            name = running.pop(future)
            try:
                yield name, future.result()
            except BrokenProcessPool:
                raise RuntimeError(
                    f"a worker process died while it ran {name} (killed, or out of memory); what was finished is kept. "
                    "Run the same command again to go on; with fewer --workers if memory was short"
                ) from None


# --- inside the worker processes -------------------------------------------------------------------------------------

_job_defs: dict[str, Any] = {}
_is_busy = False
_is_stopping = False


def _stop(*_: object) -> None:
    """Ctrl-C, or the parent gives up: let Dagster record the end of a running step, once; idle workers just go."""
    global _is_stopping
    if not _is_busy:
        os._exit(130)
    if not _is_stopping:
        _is_stopping = True
        raise KeyboardInterrupt


def _start_worker(experiment: str, ticks: Any) -> None:
    """One torch thread a process, progress to the terminal, Dagster's definitions loaded."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's background jobs ignore it, as the parent does
        signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    from taskdiv_assets import progress

    def tick(what: str, done: int, total: int, also: str) -> None:
        ticks.put((what, done, total, also))

    progress.listen(tick)
    quiet()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _definitions(experiment)
    import torch

    torch.set_num_threads(1)


def _end_with_parent(parent: int) -> None:
    """A worker does not outlive a parent that was killed: it would hold memory, and its Dagster run, for nobody."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(137)


def _warm_up() -> None:
    """The slowest imports of what comes next, done by a worker that is idle while another one trains the base."""
    for name in ("lm_eval", "peft", "trl"):
        importlib.import_module(name)


def quiet() -> None:
    """Libraries' own bars and notices stay off the terminal of `taskdiv run`; Dagster keeps its event log."""
    import logging
    import warnings

    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    warnings.filterwarnings("ignore")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)


def _definitions(experiment: str) -> Any:
    if experiment not in _job_defs:
        os.environ["TASKDIV_QUIET"] = "1"
        from taskdiv_assets.definitions import defs

        _job_defs[experiment] = defs
    return _job_defs[experiment]


def _run_task(experiment: str, task: Task) -> Outcome:
    """One Dagster run in this process."""
    global _is_busy
    _is_busy = True
    try:
        return execute(experiment, task)
    finally:
        _is_busy = False
        cards.release()


def execute(experiment: str, task: Task) -> Outcome:
    """One Dagster run in the calling process, recorded like any other."""
    import dagster as dg

    from taskdiv_assets import engines, instance
    from taskdiv_assets.launcher import host_tag

    started = time.monotonic()
    name = f"{experiment}_{task.job}"
    places = [place(experiment, asset, task.key, is_full_pool=task.job == FULL_POOL) for asset in task.assets]
    assets, partition = [dg.AssetKey(one.path) for one in places], places[0].partition
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result: Any
    with instance.open_for_run() as opened:
        if engines.engine() == "in_process":
            job = _definitions(experiment).resolve_job_def(name)
            result = job.execute_in_process(
                instance=opened,
                partition_key=partition,
                asset_selection=assets,
                raise_on_error=False,
                run_config=quiet,
                tags=host_tag(),
            )
        else:
            result = engines.execute(name, assets, partition, opened, run_config=quiet, tags=host_tag())
    message = "" if result.success else _failure(result)
    return Outcome(task.name, result.success, message, result.run_id, time.monotonic() - started)


def _failure(result: Any) -> str:
    """The sentence of the first step that failed, or why there was none."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            error = data.error.cause if data.error is not None and data.error.cause is not None else data.error
            return " ".join(str(error.message).split()) if error is not None else str(event.message)
    for event in result.all_events:  # an engine that cannot be reached
        error = getattr(event.event_specific_data, "error", None)
        if error is not None:
            return " ".join(str((error.cause or error).message).split())
    return "the run failed before its first step; open it in the UI"
