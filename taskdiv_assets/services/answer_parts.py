"""Answers of a model to a benchmark's questions, kept in parts as they come, so that a kill loses seconds of work.

A part is a Parquet file under `answers/<identity of the scores>/`, put whole and never changed. Once the scores are stored, the
answers lie with them (outputs.parquet), and the parts are removed.
"""

from __future__ import annotations

import hashlib
import io
import time

import pyarrow as pa
import pyarrow.parquet as pq

from taskdiv_assets.benchmarks.answering import Answer, Answers
from taskdiv_assets.graph.work import Work

PART_ANSWERS_N = 4096
PART_S = 15.0  # a kill loses no more than this, and the batch that is being computed
FOLDER = "answers"
SCHEMA = pa.schema([
    pa.field("key", pa.string(), nullable=False),
    pa.field("text", pa.string()),
    pa.field("nats", pa.float64()),
    pa.field("is_greedy", pa.bool_()),
])  # fmt: skip


class AnswerParts:
    """What is known of one model's answers to one benchmark.

    Args:
        work: of the running step.
        identity: of the scores that come of the answers.
    """

    def __init__(self, work: Work, identity: str) -> None:
        self.work, self.identity = work, identity
        self.known: Answers = {}
        self.waiting: Answers = {}
        self.since = time.monotonic()
        for name in self.work.store.names(FOLDER, self.identity):
            self.known |= self._read(name)
        if self.known:
            work.log(f"{len(self.known):,} answers of a run that was cut off are used again")

    def keep(self, answers: Answers) -> None:
        """Take new answers, and store what is waiting every few seconds."""
        self.waiting |= answers
        if len(self.waiting) >= PART_ANSWERS_N or time.monotonic() - self.since >= PART_S:
            self.put()

    def put(self) -> None:
        """Store what is waiting; the name follows from the questions."""
        if self.waiting:
            rows = sorted(self.waiting.items())
            buffer = io.BytesIO()
            columns = [[key for key, _ in rows], *zip(*(answer for _, answer in rows), strict=True)]
            pq.write_table(pa.table([list(column) for column in columns], schema=SCHEMA), buffer, compression="zstd")
            name = hashlib.sha256("".join(self.waiting).encode()).hexdigest()[:16]
            self.work.store.put(buffer.getvalue(), FOLDER, self.identity, f"{name}.parquet")
        self.waiting, self.since = {}, time.monotonic()

    def remove(self) -> None:
        """Take the parts away: their answers lie with the scores now."""
        for name in self.work.store.names(FOLDER, self.identity):
            self.work.store.remove(FOLDER, self.identity, name)

    def _read(self, name: str) -> Answers:
        data = self.work.store.get(FOLDER, self.identity, name)
        try:
            table = pq.read_table(pa.BufferReader(data or b""))
        except (pa.ArrowException, OSError):
            table = None
        if table is None or not table.schema.equals(SCHEMA):
            where = self.work.store.locate(FOLDER, self.identity, name)
            self.work.log(f"{where} is no whole part of these answers and is not used; its questions are asked again")
            return {}
        keys, *columns = (table[field.name].to_pylist() for field in SCHEMA)
        return {key: Answer(*row) for key, *row in zip(keys, *columns, strict=True)}
