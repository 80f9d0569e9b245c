"""Results kept in parts as they come, so that a kill loses seconds of work and nothing is computed twice.

A part is a Parquet file in a folder of the store, which is named after the identity of the result. It is put whole and never
changed. Its name follows from its content, so a part that is made again replaces itself.

Embeddings and checkpoints are not parts: shards of embeddings are files of the result itself, which its manifest lists, and a
checkpoint is one file that is replaced.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.storage.store import Store

PART_ROWS_N = 4096
PART_S = 15.0  # a kill loses at most this, and the batch that is being computed


class Parts:
    """The parts of one result.

    Args:
        store: the experiment's store.
        folder: path of the folder in the store, part by part.
    """

    def __init__(self, store: Store, *folder: str) -> None:
        self.store, self.folder = store, folder
        self.since_s = time.monotonic()  # of the last part

    def read(
        self, on_broken: Callable[[str], object], is_whole: Callable[[pa.Table], bool] = lambda table: True
    ) -> Iterator[pa.Table]:
        """Yield all parts, also those in folders below.

        Args:
            on_broken: receives the place of a file that is not a whole part; the file is skipped, unless this raises.
            is_whole: whether a table has the schema of a part.
        """
        for name in self.store.names_below(*self.folder):
            data = self.store.get(*self.folder, name)
            try:
                table = pq.read_table(pa.BufferReader(data or b""))
            except (pa.ArrowException, OSError):
                table = None
            if table is None or not is_whole(table):
                on_broken(self.store.locate(*self.folder, name))
            else:
                yield table

    def is_due(self, rows_n: int) -> bool:
        """Return True if `rows_n` waiting rows should be put now."""
        return rows_n >= PART_ROWS_N or time.monotonic() - self.since_s >= PART_S

    def put(self, table: pa.Table, name: str = "") -> None:
        """Store a part under a name without ending, by default a hash of its bytes."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue()
        self.store.put(data, *self.folder, f"{name or hashlib.sha256(data).hexdigest()[:32]}.parquet")
        self.since_s = time.monotonic()

    def remove(self) -> None:
        """Remove all parts."""
        for name in self.store.names_below(*self.folder):
            self.store.remove(*self.folder, name)
