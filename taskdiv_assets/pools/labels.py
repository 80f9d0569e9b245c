"""The task of each prompt, and how it was found: task_labels.

From the source's own task column, or from a mapping file of the user's (CSV, JSON lines or Parquet) with a
column `task` and either `prompt_id` or `source_task`. Labels are edited here, never in the pool.
"""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa

from taskdiv_assets.pools.sources import Source, read_file, require

How = Literal["column", "mapping", "none"]
ONE_TASK = "all prompts"  # the task of every prompt where no source names tasks
SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("how", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
_HOW = ("column", "mapping", "discovered", "none")


def from_column(pool: pa.Table) -> pa.Table:
    """Labels from raw_pool's source_task; ValueError with the count if prompts have none."""
    tasks = pool.column("source_task").to_pylist()
    missing = [i for i, task in enumerate(tasks) if task is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(tasks)} prompts have no source_task, the first is "
            f"{pool.column('prompt_id')[missing[0]]}; name the task column, or use `task_labels: {{from: mapping}}`."
        )
    return _labels(pool, tasks, "column")


def of_one_task(pool: pa.Table) -> pa.Table:
    """Label every prompt with the same task, for pools whose tasks nobody named. Task strategies refuse such a pool."""
    return _labels(pool, [ONE_TASK] * pool.num_rows, "none")


def from_mapping(pool: pa.Table, path: str) -> pa.Table:
    """Labels from a mapping file, by prompt_id or by source_task.

    Raises ValueError, with counts, for a key without a task or with two, prompts that the file does not name,
    and prompt ids that the pool does not have. A source_task that the pool does not have is no error: a
    mapping may serve several pools.
    """
    source = read_file(path, _choose)
    key = "prompt_id" if "prompt_id" in source.columns else "source_task"
    mapping = _mapping(source, key)
    keys = pool.column(key).to_pylist()
    unknown = [name for name in mapping if name not in set(keys)] if key == "prompt_id" else []
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} of {len(mapping)} prompt ids are not in the pool, the first is {unknown[0]!r}; "
            "was the file made for another pool?"
        )
    missing = [name for name in keys if name not in mapping]
    if missing:
        raise ValueError(
            f"{path} gives no task for {len(missing)} of {len(keys)} prompts, the first has {key} {missing[0]!r}; "
            "add the missing lines."
        )
    return _labels(pool, [mapping[name] for name in keys], "mapping")


def _choose(names: tuple[str, ...], place: str) -> Sequence[str]:
    require(names, ["task"], place)
    keys = [name for name in ("prompt_id", "source_task") if name in names]
    if len(keys) != 1:
        raise ValueError(
            f"{place} has the columns {', '.join(map(repr, names))}; expected 'task' and exactly one "
            "of 'prompt_id' and 'source_task'."
        )
    return [*keys, "task"]


def _mapping(source: Source, key: str) -> dict[str | None, str]:
    mapping: dict[str | None, str] = {}
    for row, (name, task) in enumerate(zip(source.columns[key], source.columns["task"], strict=True), start=1):
        if name is None or not name.strip() or task is None or not task.strip():
            raise ValueError(f"{source.name}, row {row}: {key} is {name!r} and task {task!r}; expected both.")
        if mapping.setdefault(name, task) != task:
            raise ValueError(
                f"{source.name}, row {row}: {key} {name!r} has the tasks {mapping[name]!r} and {task!r}; keep one."
            )
    return mapping


def _labels(pool: pa.Table, tasks: Sequence[str], how: How) -> pa.Table:
    codes = pa.array([_HOW.index(how)] * pool.num_rows, pa.int32())
    columns = [
        pool.column("prompt_id").combine_chunks(),
        pa.array(tasks, pa.string()),
        pa.DictionaryArray.from_arrays(codes, pa.array(_HOW, pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA).sort_by("prompt_id")
