"""Store the answers of a model to a benchmark's questions in parts, under `answers/<identity of the scores or outputs>/`.

A part is one Parquet file. After the scores or outputs are stored, the parts are removed, because the stored folder contains
the answers too.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

from taskdiv_assets.benchmarks.answering import Answer, Answers
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.parts import Parts

FOLDER = "answers"
SCHEMA = pa.schema([
    pa.field("key", pa.string(), nullable=False),
    pa.field("text", pa.string()),
    pa.field("nats", pa.float64()),
    pa.field("is_greedy", pa.bool_()),
    pa.field("mean_probability", pa.float64()),
    pa.field("first_choice", pa.float64()),
    pa.field("is_cut", pa.bool_()),
])  # fmt: skip
SCHEMAS = (SCHEMA, pa.schema(list(SCHEMA)[:6]), pa.schema(list(SCHEMA)[:4]))  # earlier versions wrote fewer columns


class AnswerParts:
    """The known answers of one model to one benchmark. `identity` is the identity of the scores or outputs made from them."""

    def __init__(self, work: Work, identity: str) -> None:
        self.work = work
        self.parts = Parts(work.store, FOLDER, identity)
        self.known: Answers = {}
        self.waiting: Answers = {}
        for table in self.parts.read(self._skip, lambda table: any(table.schema.equals(one) for one in SCHEMAS)):
            keys, *columns = (column.to_pylist() for column in table.columns)
            self.known |= {key: Answer(*row) for key, *row in zip(keys, *columns, strict=True)}
        if self.known:
            work.log(f"{len(self.known):,} answers of an interrupted run are used again")

    def keep(self, answers: Answers) -> None:
        """Add new answers. If `Parts.is_due`, store all answers that are not stored yet."""
        self.waiting |= answers
        if self.parts.is_due(len(self.waiting)):
            self.put()

    def put(self) -> None:
        """Store all answers that are not stored yet. The name of the part is a hash of the questions' keys."""
        if self.waiting:
            rows = sorted(self.waiting.items())
            columns = [[key for key, _ in rows], *zip(*(answer for _, answer in rows), strict=True)]
            name = hashlib.sha256("".join(self.waiting).encode()).hexdigest()[:16]
            self.parts.put(pa.table([list(column) for column in columns], schema=SCHEMA), name)
        self.waiting = {}

    def remove(self) -> None:
        self.parts.remove()

    def _skip(self, where: str) -> None:
        self.work.log(f"{where} is not a whole part of these answers and is skipped; its questions are asked again")
