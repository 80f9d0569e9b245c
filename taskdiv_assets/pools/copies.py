"""Rows that repeat a prompt and were dropped: which prompt is kept for each, so that its answer counts for the kept one.

A pool of millions may have as many copies, so they are a file of the store beside the pool's table, named by its content, and
the table's footer names the file. A prompt id names a copy wherever the list was made before copies were dropped; an id of
the user's own names it in the user's files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.storage.store import Store, parquet_table

NOTE = "copies_file"  # of raw_pool's footer
SCHEMA = pa.schema(
    [
        pa.field("copy_id", pa.string(), nullable=False),  # prompt id that the dropped row would have
        pa.field("source_id", pa.string()),  # of the dropped row
        pa.field("kept_id", pa.string(), nullable=False),  # prompt id of the row that is kept
    ]
)


class CopiesFile(NamedTuple):
    """A table of copies as it is stored."""

    path: str  # inside the store
    content: bytes


def serialised(copies: pa.Table) -> CopiesFile:
    """Return a table of copies as a file of the store."""
    buffer = io.BytesIO()
    pq.write_table(copies, buffer, compression="zstd")
    content = buffer.getvalue()
    return CopiesFile(f"copies/{hashlib.sha256(content).hexdigest()[:32]}.parquet", content)


def digest(copies: pa.Table) -> str:
    """Return a hash of what a table of copies says."""
    rows = zip(*(copies.column(name).to_pylist() for name in SCHEMA.names), strict=True)
    return hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()[:32]


def read(store: Store) -> pa.Table:
    """Return the copies that the stored pool left out; an empty table if there are none, or no pool yet.

    Raises:
        FileNotFoundError: the footer names a file that is gone.
    """
    footer = store.read_footer("raw_pool")
    path = None if footer is None else footer.notes.get(NOTE)
    if not path:
        return SCHEMA.empty_table()
    content = store.get(*str(path).split("/"))
    if content is None:
        raise FileNotFoundError(
            f"{store.locate(*str(path).split('/'))} is gone: it says which prompts were dropped as copies; "
            f"remove tables/raw_pool.parquet beside it and run `taskdiv run {store.experiment}`"
        )
    advice = f"remove tables/raw_pool.parquet beside it and run `taskdiv run {store.experiment}`"
    return parquet_table(content, store.locate(*str(path).split("/")), advice, SCHEMA)


def kept_of(store: Store) -> Mapping[str, str]:
    """Return the kept prompt id of every dropped copy, by the copy's prompt id and by its own id in the source."""
    return kept_by_id(read(store))


def kept_by_id(copies: pa.Table) -> dict[str, str]:
    """Return the kept prompt id by both ids of a copy; a prompt id goes before an own id that looks like it."""
    copy_ids, own_ids, kept = (copies.column(name).to_pylist() for name in SCHEMA.names)
    by_own = {own: kept_id for own, kept_id in zip(own_ids, kept, strict=True) if own is not None}
    return by_own | dict(zip(copy_ids, kept, strict=True))
