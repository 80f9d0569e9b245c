"""Store new rows of an unfinished result in parts. A killed process loses the batch in progress and at most PART_S seconds more.

A part is a Parquet file with some of the rows. It is stored in one write. The path of the folder with the parts identifies the
result. By default, a part's name is a hash of its content, so a part that is computed again with equal bytes replaces its file.
The caller asks after each batch whether the new rows should be stored (`Parts.is_due`).
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
PART_S = 15.0  # longest time between two parts: a kill loses this time at most, and the batch in progress


class Parts:
    """The parts of one result. `folder` contains the components of the folder's path in the store."""

    def __init__(self, store: Store, *folder: str) -> None:
        self.store, self.folder = store, folder
        self.since_s = time.monotonic()  # time of the last part, or of the start

    def read(
        self, on_broken: Callable[[str], object], is_whole: Callable[[pa.Table], bool] = lambda table: True
    ) -> Iterator[pa.Table]:
        """Yield the tables of all parts, including those in subfolders.

        A file is skipped, and its path passed to `on_broken`, if it is no Parquet file or `is_whole` returns False for its table.
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
        """Return True if `rows_n` rows that are not stored yet should be stored now, by their number or by the time passed."""
        return rows_n >= PART_ROWS_N or time.monotonic() - self.since_s >= PART_S

    def put(self, table: pa.Table, name: str = "") -> None:
        """Store a part as `<name>.parquet`. By default, `name` is a hash of the file's bytes."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue()
        self.store.put(data, *self.folder, f"{name or hashlib.sha256(data).hexdigest()[:32]}.parquet")
        self.since_s = time.monotonic()

    def remove(self) -> None:
        for name in self.store.names_below(*self.folder):
            self.store.remove(*self.folder, name)
