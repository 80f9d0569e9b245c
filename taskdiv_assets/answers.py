"""The answers to prompts: the pool's own, and those that annotators gave, of which the newest counts."""

from __future__ import annotations

import pyarrow.parquet as pq

from taskdiv_assets.store import Store


def known_answers(store: Store) -> dict[str, str | None]:
    """Answer of every prompt of the pool: the newest imported one, else the pool's own, else None."""
    pool = store.read_table("raw_pool").table
    answers: dict[str, str | None] = dict(zip(pool["prompt_id"].to_pylist(), pool["response"].to_pylist(), strict=True))
    for row in newest_annotations(store):
        if row["prompt_id"] in answers:
            answers[row["prompt_id"]] = row["response"]
    return answers


def newest_annotations(store: Store) -> list[dict[str, str]]:
    """The one that counts of each prompt's imported answers: newest by (imported_at, batch, row)."""
    rows: list[dict[str, str]] = []
    for name in store.names("annotations"):
        if name.endswith(".parquet"):
            with store.fs.open(store.path("annotations", name), "rb") as file:
                rows += pq.read_table(file).to_pylist()
    newest = {}
    for row in sorted(rows, key=lambda row: (row["imported_at"], row["batch"], row["row"])):
        newest[row["prompt_id"]] = row
    return list(newest.values())
