"""Fixed tasks: the found tasks of a pool at the time when annotations were bought for them.

A record `frozen_tasks/<number>.json` names the tasks that are fixed, and the newest record counts. The task of each prompt is in
`frozen_tasks/<hash>.parquet`, which is written before the record. No file is ever changed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.pools import labels
from taskdiv_assets.storage.identity import digest
from taskdiv_assets.storage.store import DamagedError, Store, parquet_table

FOLDER = "frozen_tasks"
NOTES_KEY = b"notes"  # in the metadata of the Parquet file


class Record(NamedTuple):
    """What a record says."""

    number: int  # from 1
    labels: str  # hash of the fixed tasks, and the name of their file
    prompts: str  # hash of the prompts of the pool whose tasks are fixed (`raw_pool.prompts`)
    settings: Mapping[str, Any] | None  # the settings of task_labels; None if an earlier version made the table


class Fixed(NamedTuple):
    """The fixed tasks of a pool."""

    table: pa.Table  # `labels.SCHEMA`
    notes: Mapping[str, Any]  # of the table task_labels


def newest(store: Store) -> Record | None:
    """Return the newest record; None if there is no record. Raise DamagedError if it cannot be read."""
    names = [name for name in store.names(FOLDER) if name.endswith(".json")]
    if not names:
        return None
    try:
        raw = json.loads(store.get(FOLDER, names[-1]) or b"")
        settings = None if raw["settings"] is None else dict(raw["settings"])
        return Record(int(names[-1][:-5]), str(raw["labels"]), str(raw["prompts"]), settings)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(store.locate(FOLDER, names[-1]), repr(error)[:200], _advice(store)) from None


def read(store: Store, record: Record) -> Fixed:
    """Return the tasks that a record fixes. Raise DamagedError if their file is missing or cannot be read."""
    path = store.locate(FOLDER, f"{record.labels}.parquet")
    content = store.get(FOLDER, f"{record.labels}.parquet")
    if content is None:
        raise DamagedError(path, "the file is missing", _advice(store))
    table = parquet_table(content, path, _advice(store))
    try:
        notes = dict(json.loads((table.schema.metadata or {})[NOTES_KEY]))
        return Fixed(table.select(labels.SCHEMA.names).cast(labels.SCHEMA), notes)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(path, repr(error)[:200], _advice(store)) from None


def fix(store: Store, fixed: Fixed, prompts: str, settings: Mapping[str, Any] | None) -> Record | None:
    """Fix the tasks of a pool. Return the new record; None if the newest record says the same.

    Raise ValueError if another process fixes tasks at the same time.
    """
    name, before = digest_of(fixed.table), newest(store)
    if before is not None and before[1:] == (name, prompts, settings):
        return None
    buffer = io.BytesIO()
    noted = fixed.table.replace_schema_metadata({NOTES_KEY: json.dumps(dict(fixed.notes)).encode()})
    pq.write_table(noted, buffer, compression="zstd", write_page_checksum=True)
    store.put_new(buffer.getvalue(), FOLDER, f"{name}.parquet")
    record = Record(before.number + 1 if before else 1, name, prompts, settings)
    raw = {"labels": name, "prompts": prompts, "settings": settings}
    if not store.put_new(json.dumps(raw, indent=1).encode(), FOLDER, f"{record.number:06d}.json"):
        raise ValueError(f"another process fixed tasks of {store.experiment} at the same time; try again")
    return record


def digest_of(table: pa.Table) -> str:
    """Return a hash of the tasks in a table task_labels: 32 hex digits."""
    return digest([table[name].to_pylist() for name in labels.SCHEMA.names])


def _advice(store: Store) -> str:
    return (
        "it fixes the tasks that annotations were bought for: restore it from a backup, or remove the folder "
        f"{store.locate(FOLDER)}, and the tasks of the stored table task_labels are fixed instead"
    )
