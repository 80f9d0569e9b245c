"""The items of the benchmark `held_out`: prompts that are taken out of the pool before anything else reads it.

The items may also come from a separate file. Then each prompt of the pool with the same text as an item is taken out.

The items are a file of the store beside the table raw_pool. The footer of this table contains the path of the file. The items are
not in the table, so no strategy, score, training or choice of a learning rate can read them. With `answers: later`, the file
contains items without an answer; `graph.known_answers` adds imported answers, and the items stay the same.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.experiment.benchmark_settings import HeldOutBenchmark
from taskdiv_assets.experiment.pool_settings import Pool, TaskLabels
from taskdiv_assets.pools import labels, overlap, side_files
from taskdiv_assets.pools.frame import RawPool
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.pools.side_files import SideFile
from taskdiv_assets.selection.streams import keyed_hash
from taskdiv_assets.storage.identity import canonical_json
from taskdiv_assets.storage.store import Store

NOTE = "held_out_file"  # key in the footer of raw_pool
STREAM = "pool/held out"
SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("source_id", pa.string()),
        pa.field("task", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("response", pa.string()),
    ]
)


class Split(NamedTuple):
    """A pool without the held-out items, and the items."""

    pool: RawPool  # sorted by prompt_id
    items: pa.Table  # SCHEMA, sorted by prompt_id


def without_items(
    pool: RawPool,
    settings: HeldOutBenchmark | None,
    labels_from: Literal["column", "mapping", "none"],
    task_labels: TaskLabels,
) -> Split:
    """Take the items of `held_out` out of a pool, and their near-duplicates if `drop_duplicates` is set.

    If `settings` is None, the pool keeps all prompts.

    Raises:
        ValueError: no task has two prompts to draw from, the file of items lacks an answer, or a file of items or tasks cannot
            be used.
    """
    table = pool.table.sort_by("prompt_id")
    if settings is None:
        return Split(replace(pool, table=table), SCHEMA.empty_table())
    if settings.path is not None:
        items = _of_file(settings)
        is_item = pc.is_in(table["prompt"], value_set=items["prompt"].combine_chunks()).to_numpy()
    else:
        tasks = _tasks(table, labels_from, task_labels, pool.copies["copy_id"].to_pylist())
        is_item = np.zeros(table.num_rows, np.bool_)
        is_item[drawn(table, tasks, settings)] = True
        items = _items(table.filter(pa.array(is_item)), np.array(tasks, object)[is_item].tolist())
    rest = table.filter(pa.array(~is_item))
    drops = {"held_out": int(is_item.sum())}
    if settings.drop_duplicates:
        is_near = overlap.near(rest["prompt"].to_pylist(), items["prompt"].to_pylist())
        rest, drops["near_duplicate_of_held_out"] = rest.filter(pa.array(~is_near)), int(is_near.sum())
    drops = {reason: n for reason, n in drops.items() if n}
    dropped_n = pool.dropped_n + sum(drops.values())
    return Split(replace(pool, table=rest, dropped_n=dropped_n, drops={**pool.drops, **drops}), items)


def _tasks(
    table: pa.Table,
    labels_from: Literal["column", "mapping", "none"],
    task_labels: TaskLabels,
    left_out: Collection[str],
) -> list[str]:
    """Return the task of each prompt, so that items can be drawn from each task.

    If a mapping file lacks some prompts, all prompts get the same task. Such a file comes from `taskdiv tasks export`, after
    items were drawn without tasks. The same items are then drawn again, so the file names exactly the prompts that are left.
    """
    try:
        labelled = labels.of_source(labels_from, task_labels, table, left_out)
    except labels.MissingTasksError:
        labels_from = "none"
    else:
        is_whole = "none" not in labelled["how"].to_pylist()
        labels_from = "none" if labels_from == "mapping" and not is_whole else labels_from
    if labels_from == "none":
        labelled = labels.of_source("none", task_labels, table, left_out)
    tasks: list[str] = labelled["task"].to_pylist()
    return tasks


def _items(rows: pa.Table, tasks: Sequence[str]) -> pa.Table:
    columns = [pa.array(tasks, pa.string()) if name == "task" else rows[name].combine_chunks() for name in SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _of_file(settings: HeldOutBenchmark) -> pa.Table:
    """Return the rows of the user's file of items without duplicate prompts. Raise ValueError if the file is unusable."""
    source = Pool(reader="table", path=settings.path, columns=settings.columns, duplicates="drop")
    try:
        rows = read_pool(source).table.sort_by("prompt_id")
    except ValueError as error:
        raise ValueError(f"benchmark `held_out`: {error}") from None
    if missing_n := rows["response"].null_count:
        raise ValueError(
            f"benchmark `held_out`: {missing_n:,} of the {rows.num_rows:,} rows of {settings.path} have no answer; fill in the "
            "answers, or remove these rows"
        )
    has_tasks = settings.columns is not None and settings.columns.task is not None
    missing = labels.NO_TASK if has_tasks else labels.ONE_TASK
    return _items(rows, [missing if task is None else task for task in rows["source_task"].to_pylist()])


def drawn(pool: pa.Table, tasks: Sequence[str], settings: HeldOutBenchmark) -> list[int]:
    """Return the numbers of the rows of `pool` that become items: of each task, the prompts whose ids have the smallest hashes.

    Items are drawn from the answered prompts. With `answers: later`, they are drawn from all prompts, so that later answers do
    not change the items. A task never gives more than half of these prompts. Raise ValueError if there would be no item.
    """
    is_later = settings.answers == "later"
    is_answered = pc.is_valid(pool["response"]).to_pylist()
    by_task: defaultdict[str, list[int]] = defaultdict(list)
    for row in _hashed_order(pool):
        if is_later or is_answered[row]:
            by_task[tasks[row]].append(row)
    found = [row for rows in by_task.values() for row in rows[: _size(len(rows), settings)]]
    if not found:
        of = "" if is_later else "answered "
        columns = (
            "name the column of answers (`columns: {response: COLUMN}`), add `answers: later` to import answers later"
        )
        raise ValueError(
            f"benchmark `held_out` needs a task with at least two {of}prompts, and the pool has "
            f"{sum(map(len, by_task.values())):,} {of}prompts in {len(by_task):,} tasks; "
            f"{'use tasks with more prompts' if is_later else columns}, or remove the benchmark"
        )
    return sorted(found)


def _hashed_order(table: pa.Table) -> list[int]:
    """Return the row numbers of a table, ordered by the hashes of the prompt ids."""
    ids = np.array([int(prompt_id, 16) for prompt_id in table["prompt_id"].to_pylist()], np.uint64)
    rows: list[int] = np.argsort(keyed_hash(0, STREAM, ids), kind="stable").tolist()
    return rows


def _size(prompts_n: int, settings: HeldOutBenchmark) -> int:
    wanted_n = settings.per_task or max(1, round(prompts_n * (settings.share or 0)))
    return min(wanted_n, prompts_n // 2)


def in_drawn_order(items: pa.Table) -> pa.Table:
    """Return a table of items in the order of the draw, in which tasks are mixed."""
    return items.take(_hashed_order(items))


def answered(items: pa.Table) -> pa.Table:
    """Return the rows with an answer."""
    return items.filter(pc.is_valid(items["response"]))


def serialised(items: pa.Table) -> SideFile:
    """Return a table of items as a file for the store."""
    return side_files.serialised(items, "held_out")


def digest(items: pa.Table) -> str:
    """Return a hash of a table of items, 32 hex digits. It covers the prompt ids, tasks, prompts and answers."""
    rows = zip(*(items[name].to_pylist() for name in ("prompt_id", "task", "prompt", "response")), strict=True)
    return hashlib.sha256("\n".join(sorted(map(canonical_json, map(list, rows)))).encode()).hexdigest()[:32]


def read(store: Store) -> pa.Table:
    """Return the items of the stored pool as a table (it may be empty). For errors, see `side_files.read`."""
    return side_files.read(store, NOTE, SCHEMA, "holds the items of `held_out`")


def among(store: Store, prompt_ids: Iterable[str]) -> list[str]:
    """Return the ids in `prompt_ids` that are held-out items, sorted."""
    return sorted({*read(store)["prompt_id"].to_pylist()}.intersection(prompt_ids))
