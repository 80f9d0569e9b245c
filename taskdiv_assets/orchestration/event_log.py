"""Dagster's event log in SQLite for a process that writes many events. One connection to each file stays open.

Dagster opens a connection for each statement, which takes more than half of the time that Dagster adds to a cell. The file format
is unchanged, so other processes can use the files. The UI watches a file for changes. With an open connection, SQLite changes
the file only at a checkpoint (it copies the write-ahead log into the file), so this module starts a checkpoint every second.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import sqlalchemy
from sqlalchemy.pool import StaticPool

from taskdiv_assets.orchestration.dagster_private import ConfigurableClassData, SqliteEventLogStorage

BUSY_TIMEOUT_S = 60
CHECKPOINT_S = 1.0


class KeptOpenEventLog(SqliteEventLogStorage):
    """A `SqliteEventLogStorage` that keeps its connections open, for an instance that exists during one run."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._unseen: set[str] = set()  # shards used since their last checkpoint
        self._ended = threading.Event()
        super().__init__(base_dir, inst_data)
        threading.Thread(target=self._make_checkpoints, name="event-log", daemon=True).start()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            engine = self._engines.get(shard)
            if engine is None:
                arguments = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}  # the lock admits one thread
                engine = sqlalchemy.create_engine(
                    self.conn_string_for_shard(shard), poolclass=StaticPool, connect_args=arguments
                )
                self._initdb(engine)
                self._engines[shard] = engine
            self._unseen.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _make_checkpoints(self) -> None:
        while not self._ended.wait(CHECKPOINT_S):
            with self._db_lock:
                self._checkpoint()

    def _checkpoint(self) -> None:
        """Copy the write-ahead logs into the files, as far as concurrent readers permit. The caller must hold the lock."""
        for shard in self._unseen & set(self._engines):
            # The file may be busy, or deleted together with its run. No event is lost in either case.
            with suppress(sqlalchemy.exc.SQLAlchemyError), self._engines[shard].connect() as connection:
                connection.execute(sqlalchemy.text("PRAGMA wal_checkpoint(PASSIVE)"))
        self._unseen.clear()

    def dispose(self) -> None:
        """Make a last checkpoint, as far as concurrent readers permit, and close the connections."""
        self._ended.set()
        with self._db_lock:
            self._checkpoint()
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
        super().dispose()
