"""The values of the column `task_labels: {level: COLUMN}`: a coarser task of each prompt, such as the category of its task.

They are read with the pool and stored in a file of their own, because prompt ids are made with the task of the source, and must
stay the same at every level. The footer of raw_pool contains the path of this file.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools import side_files
from taskdiv_assets.pools.read import extra_columns
from taskdiv_assets.pools.side_files import SideFile
from taskdiv_assets.pools.visible import is_blank
from taskdiv_assets.storage.identity import digest
from taskdiv_assets.storage.store import Store

NOTE = "levels_file"  # key in the footer of raw_pool
SCHEMA = pa.schema([pa.field("prompt_id", pa.string(), nullable=False), pa.field("level", pa.string())])


def of_source(pool: Pool, column: str, prompt_ids: Sequence[str]) -> pa.Table:
    """Return the value of a column of the pool's source for each prompt, null if it is blank, sorted by prompt_id.

    Raise ValueError if the pool is the lab's, if the source has no such column, or if it changed since the pool was read.
    """
    if pool.reader == "lab":
        raise ValueError(
            f"`task_labels`: the lab's pool has no column {column!r}; remove `level`, or use a pool from a file"
        )
    values = extra_columns(pool, [column], prompt_ids)
    ids = sorted(prompt_ids)
    found = [values[one][0] for one in ids]
    return pa.table([ids, [None if value is None or is_blank(value) else value for value in found]], schema=SCHEMA)


def serialised(levels: pa.Table) -> SideFile:
    return side_files.serialised(levels, "levels")


def digest_of(levels: pa.Table) -> str:
    """Return a hash of a table of levels, 32 hex digits."""
    return digest([levels[name].to_pylist() for name in SCHEMA.names])


def read(store: Store) -> pa.Table:
    """Return the levels of the stored pool. For errors, see `side_files.read`."""
    return side_files.read(store, NOTE, SCHEMA, "holds the column that `level` names")


def as_tasks(pool: pa.Table, levels: pa.Table) -> pa.Table:
    """Return the pool with the levels as `source_task`."""
    values = levels["level"].take(pc.index_in(pool["prompt_id"], levels["prompt_id"].combine_chunks()))
    place = pool.schema.get_field_index("source_task")
    return pool.set_column(place, pool.schema.field(place), values)
