"""Distribute a pool's shards among workers with Ray Data. Each worker loads the model once and processes shards in turn.

A worker stores the results of a shard and returns only a summary. The names of the results depend only on the shard, so stored
results survive the death of any process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_contracts.table_paths import table_parts
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.needs import scorer_needs
from taskdiv_assets.graph.registry import Registry
from taskdiv_assets.graph.units import Expectation, StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.store import Store, footer_of, home

SHARD_PROMPTS_N = 4_096  # the largest number of prompts in a shard
SHARD_PROMPTS_LEAST_N = 256  # in smaller shards, padding costs more than the even distribution saves
# Restarts of one worker, and retries of one shard. Pre-empted workers restart often; a shard that kills each worker is given up.
RESTARTS_N, CRASHES_N = 10, 3
SHARDS_A_WORKER_N = 4  # several, so that the wait for the last shard is short


class Shard(NamedTuple):
    """Some rows of the pool that one worker processes together."""

    name: str  # a hash of the prompts, so that a worker that repeats a shard finds the earlier results
    rows: NDArray[np.int64]  # positions in raw_pool, ascending


Task = Callable[[Shard], Mapping[str, Any]]  # the result must be valid as JSON
Make = Callable[[Work], Task]


def cut(
    rows: NDArray[np.int64],  # ascending
    prompt_ids: NDArray[np.str_],  # (n,) all prompts of the pool
    workers_n: int,
) -> list[Shard]:
    """Cut rows into about SHARDS_A_WORKER_N shards for each worker. The same arguments always give the same shards.

    A shard has SHARD_PROMPTS_LEAST_N to SHARD_PROMPTS_N rows; the last one can have fewer.

    >>> ids = np.array([f"{i:016x}" for i in range(1000)])
    >>> [len(shard.rows) for shard in cut(np.arange(1000), ids, 2)]
    [256, 256, 256, 232]
    """
    wanted_n = -(-len(rows) // (workers_n * SHARDS_A_WORKER_N))
    size = min(max(wanted_n, SHARD_PROMPTS_LEAST_N), SHARD_PROMPTS_N)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [Shard(hashlib.sha256(prompt_ids[part].tobytes()).hexdigest()[:16], part) for part in parts]


def pool_rows(work: Work, rows: NDArray[np.int64]) -> tuple[list[str], list[str]]:
    """Return the ids and texts of some rows of the pool. At most one row group of the table is in memory at a time.

    Raise StaleInputError if the table is not fresh, or was replaced after this check.
    """
    identity, path = work.lineage.fresh(Unit("raw_pool")).identity, work.store.path(*table_parts("raw_pool"))
    found: list[pa.Table] = []
    with work.store.fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        if footer_of(parquet.metadata.metadata, path).identity != identity:
            raise StaleInputError(f"raw_pool was replaced while {work.unit} was made from it; run it again")
        start = 0
        for place in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(place).num_rows
            inside = rows[(rows >= start) & (rows < end)] - start
            if len(inside):
                found.append(parquet.read_row_group(place, columns=["prompt_id", "prompt"]).take(pa.array(inside)))
            start = end
    table = pa.concat_tables(found)
    return table["prompt_id"].to_pylist(), table["prompt"].to_pylist()


def share_out(
    work: Work,
    make: Make,  # called once in each worker; it loads the model
    shards: Sequence[Shard],
    workers_n: int,  # the largest number of workers
) -> Iterator[dict[str, Any]]:
    """Run the task that `make` returns on every shard, and yield each result when it arrives.

    At most `workers_n` workers run, and no more than the cluster has room for. A result also contains the name of the shard, the
    process id of the worker, and the peak memory of the worker in MiB. An error of the task is raised here. Raise RuntimeError if
    workers die too often.
    """
    if not shards:
        return
    needs = scorer_needs(work.asset, work.experiment)
    with _ray(needs_cards=needs.gpus_n > 0) as ray:
        rows = [{"name": shard.name, "rows": shard.rows.tobytes()} for shard in shards]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            batch_size=1,
            fn_constructor_args=(work.experiment, home(), work.lineage.registry, work.unit, work.expected, make),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers_n, len(shards))),
            num_cpus=1 if not needs.gpus_n else None,
            num_gpus=needs.gpus_n or None,
            max_restarts=RESTARTS_N,
            max_task_retries=CRASHES_N,
        )
        try:
            for row in done.iter_rows():
                result = json.loads(row["result"])
                for line in result.pop("lines"):
                    work.log(line)
                yield result
        except Exception as error:
            raise _cause(error) from error


class _Worker:
    """An actor that rebuilds the step's `Work` from the store and loads the model once."""

    def __init__(
        self, experiment: Experiment, root: str, registry: Registry, unit: Unit, expected: Expectation, make: Make
    ) -> None:
        import torch

        torch.set_num_threads(int(machine().threads))  # Ray sets it to the processors that it assigns
        self.lines: list[str] = []
        store = Store(experiment.name, root)
        self.work = Work(experiment, store, registry.look(experiment, store), unit, expected, self.lines.append)
        self.make = make
        self.task: Task | None = None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, list[str]]:
        if self.task is None:  # not in the constructor, because Ray hides errors of constructors
            self.task = self.make(self.work)
        shard = Shard(str(batch["name"][0]), np.frombuffer(batch["rows"][0], np.int64))
        result = {**self.task(shard), "shard": shard.name, "worker": os.getpid()}
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        result["lines"] = self.lines.copy()
        self.lines.clear()
        return {"result": [json.dumps(result)]}


@contextmanager
def _ray(*, needs_cards: bool) -> Iterator[Any]:
    """Yield Ray, connected to the cluster of the step's job or of `$RAY_ADDRESS`, or to a new cluster for this step.

    With GPUs, a cluster must exist: if two steps started their own clusters, both clusters would assign all GPUs of the machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(
            f"$TASKDIV_SCORERS needs Ray, which is not here ({error}); install it with `pip install 'taskdiv-assets[ray]'`"
        ) from None
    was_connected = ray.is_initialized()
    if not was_connected:
        try:
            ray.init("auto" if needs_cards else None, log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise ValueError(
                f"$TASKDIV_SCORERS: no Ray cluster gives out cards ({' '.join(str(error).split())}); "
                "start one with `ray start --head`, or name it in $RAY_ADDRESS"
            ) from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        yield ray
    finally:
        if not was_connected:
            ray.shutdown()


def _cause(error: BaseException) -> BaseException:
    """Return the ValueError, OSError or StaleInputError that a worker raised, without Ray's wrappers.

    If there is none, return a RuntimeError if workers died, else `error`.
    """
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None)
        if isinstance(inner, ValueError | OSError):
            return inner
        if type(cause) in (ValueError, StaleInputError, FileNotFoundError, OSError):
            return cause
        cause = inner or cause.__cause__ or cause.__context__
    if type(error).__name__.startswith("Actor"):
        said = " ".join(str(error).split())
        return RuntimeError(
            f"workers died {CRASHES_N + 1} times at one shard (killed, or out of memory); what they had stored is kept. {said}"
        )
    return error
