"""The table of copies: rows that the pool dropped because another row has the same prompt.

An answer to a copy counts for the kept prompt. The table is a file of the store, since millions of copies are possible. The
footer of raw_pool contains the path of this file. The own id of a copy is its id in the user's source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pyarrow as pa

from taskdiv_assets.pools import side_files
from taskdiv_assets.pools.side_files import SideFile
from taskdiv_assets.storage.store import Store

NOTE = "copies_file"  # key in the footer of raw_pool
SCHEMA = pa.schema(
    [
        pa.field("copy_id", pa.string(), nullable=False),  # prompt id of the dropped row
        pa.field("source_id", pa.string()),  # own id of the dropped row
        pa.field("kept_id", pa.string(), nullable=False),  # prompt id of the kept row
    ]
)


def serialised(copies: pa.Table) -> SideFile:
    return side_files.serialised(copies, "copies")


def digest(copies: pa.Table) -> str:
    """Return a hash of a table of copies, 32 hex digits. The hash does not depend on the order of rows."""
    rows = zip(*(copies.column(name).to_pylist() for name in SCHEMA.names), strict=True)
    return hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()[:32]


def read(store: Store) -> pa.Table:
    """Return the table of copies (it may be empty) of the stored pool. For errors, see `side_files.read`."""
    return side_files.read(store, NOTE, SCHEMA, "lists prompts dropped as copies")


def kept_of(store: Store) -> Mapping[str, str]:
    """Return a map from the ids of each dropped copy (prompt id and own id) to the kept prompt id; {} if there are no copies.

    For errors, see `side_files.read`.
    """
    return kept_by_id(read(store))


def kept_by_id(copies: pa.Table) -> dict[str, str]:
    """Return a map from the prompt id and the own id of each copy to the kept prompt id.

    If the prompt id of one copy is equal to the own id of another copy, the prompt id has priority.
    """
    copy_ids, own_ids, kept = (copies.column(name).to_pylist() for name in SCHEMA.names)
    by_own = {own: kept_id for own, kept_id in zip(own_ids, kept, strict=True) if own is not None}
    return by_own | dict(zip(copy_ids, kept, strict=True))
