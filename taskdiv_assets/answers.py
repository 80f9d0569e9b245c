"""The answers to prompts: the pool's own, and those that annotators gave, of which the newest counts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

import data_contracts
from taskdiv_assets import remote
from taskdiv_assets.store import Store


def known_answers(store: Store) -> dict[str, str | None]:
    """Answer of every prompt of the pool: the newest imported one, else the pool's own, else None."""
    pool = store.read_table("raw_pool").table
    answers: dict[str, str | None] = dict(zip(pool["prompt_id"].to_pylist(), pool["response"].to_pylist(), strict=True))
    newest = newest_annotations(store)
    for prompt_id, response in zip(newest["prompt_id"].to_pylist(), newest["response"].to_pylist(), strict=True):
        if prompt_id in answers:
            answers[prompt_id] = response
    return answers


def newest_annotations(store: Store) -> pa.Table:
    """The one that counts of each prompt's imported answers: the newest valid one, by (imported_at, batch, row).

    A blank answer is not valid. The import refuses it; should one stand in a stored file all the same, the answer before
    it counts.

    Returns: a table as the contract of `annotations` has it, sorted by prompt_id.
    """
    schema = data_contracts.load("annotations").arrow_schema
    names = [name for name in store.names("annotations") if name.endswith(".parquet")]
    files = remote.at_once(lambda name: store.read(store.path("annotations", name)), names)
    tables = [pq.read_table(pa.BufferReader(data)).select(schema.names).cast(schema) for data in files]
    rows = pa.concat_tables([schema.empty_table(), *tables])
    rows = rows.filter(pa.array([bool(text.strip()) for text in rows["response"].to_pylist()], pa.bool_()))
    rows = rows.sort_by([("imported_at", "ascending"), ("batch", "ascending"), ("row", "ascending")])
    last = {prompt_id: place for place, prompt_id in enumerate(rows["prompt_id"].to_pylist())}
    return rows.take(pa.array([last[prompt_id] for prompt_id in sorted(last)], pa.int64()))
