"""Parquet files beside a stored table, such as the rows that were taken out of raw_pool, named by the hash of their content.

The footer of the table contains the path of each file.
"""

from __future__ import annotations

import hashlib
import io
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.storage.store import Store, parquet_table


class SideFile(NamedTuple):
    """The path and the content of a file."""

    path: str  # inside the store
    content: bytes


def serialised(table: pa.Table, folder: str) -> SideFile:
    """Return a table as a Parquet file in a folder of the store."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    content = buffer.getvalue()
    return SideFile(f"{folder}/{hashlib.sha256(content).hexdigest()[:32]}.parquet", content)


def read(store: Store, note: str, schema: pa.Schema, what: str, asset: str = "raw_pool") -> pa.Table:
    """Return the table in a side file. The note `note` in the footer of the table `asset` contains the path of the file.

    If there is no such note, the result is an empty table. `what` completes the error "… is missing: it …".

    Raises:
        FileNotFoundError: the file is missing.
        DamagedError: the file cannot be read.
    """
    footer = store.read_footer(asset)
    path = None if footer is None else footer.notes.get(note)
    if not path:
        return schema.empty_table()
    return read_at(store, str(path), schema, what, asset)


def read_at(store: Store, path: str, schema: pa.Schema, what: str, asset: str) -> pa.Table:
    """Return the table in the side file `path` of the table `asset`. For errors, see `read`."""
    parts = path.split("/")
    content = store.get(*parts)
    advice = f"remove tables/{asset}.parquet beside it and run `taskdiv run {store.experiment}`"
    if content is None:
        raise FileNotFoundError(f"{store.locate(*parts)} is missing: it {what}; {advice}")
    return parquet_table(content, store.locate(*parts), advice, schema)
