"""The task_labels table: the task of each prompt, and where the task came from.

Here, tasks come from the task column of the source or from a mapping file, whose keys are own ids (those of the source), prompt
ids, or tasks of the source. `discovery.labelling` makes tasks from the texts of the prompts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.pools.sources import read_file
from taskdiv_assets.pools.values import Options, Source, require
from taskdiv_assets.pools.visible import is_blank

How = Literal["column", "mapping", "discovered", "none", "rules", "nearest"]
ONE_TASK = "all prompts"  # task of every prompt if there are no task names
NO_TASK = "(no task)"  # task of a prompt with a blank cell in the task column
SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("how", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
# An export puts an apostrophe before ids and names that a spreadsheet program would read as a number or a formula.
_ADDED = re.compile(r"'(?=\s*[=+\-@＝＋－＠]|[\t\r\n]|\d[\de]{15}$)")
_ADDED_TO_ID = re.compile(r"'(?=(0\d+|\d{16,}|\d+(\.\d+)?e[+-]?\d+)$)", re.ASCII | re.IGNORECASE)  # before an own id
BY_NAME = ("prompt_id", "source_task")  # names of the key column if `key` is not set
_HOW: tuple[How, ...] = ("column", "mapping", "discovered", "none", "rules", "nearest")


class MissingTasksError(ValueError):
    """Error for a mapping file that gives no task for some prompts of the pool."""


def from_column(pool: pa.Table) -> pa.Table:
    """Return task_labels from source_task of raw_pool. Prompts without a source_task get `NO_TASK`."""
    tasks = pool.column("source_task").to_pylist()
    how: list[How] = ["none" if task is None else "column" for task in tasks]
    return labelled(pool, [NO_TASK if task is None else task for task in tasks], how)


def refuse_unlabelled(table: pa.Table, strategies: Sequence[str]) -> None:
    """Raise ValueError if a prompt has no task and `strategies` (names of strategies that read tasks) is not empty."""
    missing = table.filter(pc.equal(table["how"].cast(pa.string()), "none"))
    if strategies and missing.num_rows:
        verb = "reads" if len(strategies) == 1 else "read"
        raise ValueError(
            f"{missing.num_rows} of {table.num_rows} prompts have no source_task, the first is {missing['prompt_id'][0]}, and "
            f"{', '.join(strategies)} {verb} the task of each prompt; fill in the task column, add `missing: nearest` to "
            "`task_labels`, which gives such a prompt the task of similar prompts, use `task_labels: {{from: mapping}}` or "
            "`{{from: discovered}}`, which groups prompts of similar wording, or remove these strategies."
        )


def of_source(
    labels_from: Literal["column", "mapping", "none"], settings: TaskLabels, pool: pa.Table, left_out: Collection[str]
) -> pa.Table:
    """Return task_labels, sorted by prompt_id. If `labels_from` is "none", every prompt gets the task `ONE_TASK`.

    `settings` and `left_out` are used only for a mapping file. For a mapping file, the errors are those of `from_mapping`.
    """
    if labels_from == "none":
        return labelled(pool, [ONE_TASK] * pool.num_rows, ["none"] * pool.num_rows)
    return from_column(pool) if labels_from == "column" else from_mapping(pool, settings, left_out)


def from_mapping(pool: pa.Table, settings: TaskLabels, left_out: Collection[str] = ()) -> pa.Table:
    """Return task_labels from the mapping file `settings.path`. It may also contain the prompt ids in `left_out`.

    With `settings.missing`, a prompt without a task gets `NO_TASK`, and its `how` is "none".

    Own ids and source tasks that are not in the pool are ignored, since a mapping file may belong to several pools.

    Raises:
        MissingTasksError: without `settings.missing`, the file lacks a prompt of the pool. This error is a ValueError.
        ValueError: the file cannot be used, a key has two tasks, the file has a prompt id that is neither in the pool nor in
            `left_out`, or, without `settings.missing`, a key has no task.
    """
    path = str(settings.path)
    task = settings.task or "task"
    source = read_file(path, partial(_choose, key=settings.key, task=task), Options(is_pool=False))
    column = next(name for name in source.columns if name != task)
    names = frozenset(pool["source_id"].to_pylist()) | frozenset(pool["source_task"].to_pylist())
    mapping = _mapping(source, column, task, names, skips_blank=settings.missing is not None)
    held = _held(pool, mapping, column, source.name)
    keys = pool.column(held).to_pylist()
    if held == "prompt_id":
        known = {*keys, *left_out}
        unknown = [name for name in mapping if name not in known]
        if unknown:
            raise ValueError(
                f"{path}: {len(unknown)} of {len(mapping)} prompt ids are not in the pool, the first is {unknown[0]!r}; "
                "was the file made for another pool?"
            )
    missing = [name for name in keys if name not in mapping]
    if missing and settings.missing is None:
        raise MissingTasksError(
            f"{path} gives no task for {len(missing)} of {len(keys)} prompts, the first has {held} {missing[0]!r}; "
            "add the missing lines, or add `missing: nearest` to `task_labels`: such a prompt gets the task of similar prompts."
        )
    how: list[How] = ["mapping" if name in mapping else "none" for name in keys]
    return labelled(pool, [mapping.get(name, NO_TASK) for name in keys], how)


def _choose(names: tuple[str, ...], place: str, key: str | None, task: str) -> Sequence[str]:
    require(names, [name for name in (key, task) if name is not None], place)
    if key is not None:
        if key == task:
            raise ValueError(f"{place}: `key` and `task` both name {key!r}; expected two columns.")
        return [key, task]
    keys = [name for name in BY_NAME if name in names]
    if len(keys) != 1:
        raise ValueError(
            f"{place} has the columns {', '.join(map(repr, names))}; expected {task!r} and exactly one "
            "of 'prompt_id' and 'source_task', or `key: COLUMN` in `task_labels`."
        )
    return [*keys, task]


def _held(pool: pa.Table, mapping: Mapping[str | None, str], column: str, place: str) -> str:
    """Return the name of the pool's column that contains the keys of the file, which are in the file's column `column`.

    This is `column` if it is in `BY_NAME`, and otherwise the pool's column with the most matches. Raise ValueError for no match.
    """
    if column in BY_NAME:
        return column
    named_n = {
        name: sum(value in mapping for value in pool.column(name).to_pylist() if value is not None)
        for name in ("source_id", "prompt_id", "source_task")
    }
    best = max(named_n, key=lambda name: named_n[name])
    if not named_n[best]:
        raise ValueError(
            f"{place}: column {column!r} names no prompt of the pool, its first value is {next(iter(mapping))!r}; expected ids "
            "as in `columns: {id: …}` of the pool, prompt ids, or tasks of the source."
        )
    return best


def _mapping(
    source: Source, key: str, task_column: str, names: Collection[str | None], *, skips_blank: bool = False
) -> dict[str | None, str]:
    """Return the task of each key. An added apostrophe is removed from a key that is not in `names`, the names in the pool."""
    mapping: dict[str | None, str] = {}
    for row, (name, task) in enumerate(zip(source.columns[key], source.columns[task_column], strict=True), start=1):
        if skips_blank and (task is None or is_blank(task)):
            continue
        if name is None or is_blank(name) or task is None or is_blank(task):
            raise ValueError(f"{source.name}, row {row}: {key} is {name!r} and {task_column} {task!r}; expected both.")
        name, task = (_ADDED.sub("", text, count=1) if text.startswith("'") else text for text in (name, task))
        name = name if name in names else _ADDED_TO_ID.sub("", name, count=1)
        if mapping.setdefault(name, task) != task:
            twice = f"{source.name}, row {row}: {key} {name!r}"
            raise ValueError(f"{twice} has the tasks {mapping[name]!r} and {task!r}; keep one.")
    return mapping


def labelled(pool: pa.Table, tasks: Sequence[str], how: Sequence[How]) -> pa.Table:
    """Return task_labels, sorted by prompt_id, from the task and its origin (`how`) of each prompt in the order of `pool`."""
    codes = pa.array([_HOW.index(one) for one in how], pa.int32())
    columns = [
        pool.column("prompt_id").combine_chunks(),
        pa.array(tasks, pa.string()),
        pa.DictionaryArray.from_arrays(codes, pa.array(_HOW, pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA).sort_by("prompt_id")
