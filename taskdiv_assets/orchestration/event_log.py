"""Dagster's event log in sqlite, for a process that writes many events: one connection a file is kept open.

A cell has some forty checks, and a check is six statements. Dagster opens a connection for each, compiles the statement anew,
and closes it, whereupon sqlite copies its write-ahead log: together more than half of what Dagster adds to a cell. The files
are the same, so the UI and other processes read and write them as ever; their page of a run follows the file's changes, which
a log that is kept open makes at a checkpoint only, so there is one every second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import sqlalchemy
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy.pool import StaticPool

BUSY_TIMEOUT_S = 60
CHECKPOINT_S = 1.0


class KeptOpenEventLog(SqliteEventLogStorage):
    """As `SqliteEventLogStorage`, for an instance that lives as long as one run."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._untold: set[str] = set()  # shards used since their last checkpoint
        self._ended = threading.Event()
        super().__init__(base_dir, inst_data)
        threading.Thread(target=self._tell, name="event-log", daemon=True).start()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """As Dagster makes it from its settings."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            engine = self._engines.get(shard)
            if engine is None:
                arguments = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}  # one thread at a time, by the lock
                engine = sqlalchemy.create_engine(
                    self.conn_string_for_shard(shard), poolclass=StaticPool, connect_args=arguments
                )
                self._initdb(engine)
                self._engines[shard] = engine
            self._untold.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _tell(self) -> None:
        """Every second, copy what was written to the files themselves: those who watch them look."""
        while not self._ended.wait(CHECKPOINT_S):
            with self._db_lock:
                self._checkpoint()

    def _checkpoint(self) -> None:
        """As far as readers let it; the lock is held."""
        for shard in self._untold & set(self._engines):
            # A file that is busy, or was deleted with its run, is no reason to end: what was written stays written.
            with suppress(sqlalchemy.exc.SQLAlchemyError), self._engines[shard].connect() as connection:
                connection.execute(sqlalchemy.text("PRAGMA wal_checkpoint(PASSIVE)"))
        self._untold.clear()

    def dispose(self) -> None:
        """Close the connections; everything is in the files then."""
        self._ended.set()
        with self._db_lock:
            self._checkpoint()
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
        super().dispose()
