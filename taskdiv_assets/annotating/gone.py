"""Prompts that were sent out and whose rows were then removed from the user's file, so that the pool has them no longer."""

from __future__ import annotations

from collections.abc import Iterable, Set

from taskdiv_assets.annotating import ledger
from taskdiv_assets.annotating.ledger import Entry
from taskdiv_assets.graph.known_answers import newest_annotations
from taskdiv_assets.pools import held_items
from taskdiv_assets.storage.store import Store


def sent_but_gone(store: Store, entries: Iterable[Entry]) -> set[str]:
    """Return the ids of sent prompts that are neither in the stored pool nor held-out items, and have no imported answer.

    `entries` are exports with the ids of kept prompts. The stored pool must exist.
    """
    gone = ledger.sent_prompt_ids(entries)
    if gone:
        gone -= {*store.read_table("raw_pool", columns=["prompt_id"]).table["prompt_id"].to_pylist()}
    if gone:
        gone -= {*held_items.read(store)["prompt_id"].to_pylist()}
    return gone - {*newest_annotations(store)["prompt_id"].to_pylist()} if gone else gone


def sent_ids(store: Store) -> Set[str]:
    """Return the prompt ids and the own ids of all prompts that were sent out."""
    entries = ledger.entries(store)
    own = (row.get("own_id") for entry in entries for row in entry.rows)
    return ledger.sent_prompt_ids(entries) | {one for one in own if one}


def sentence(gone_n: int) -> str:
    """Return a note about prompts that were sent out and are no longer in the pool.

    >>> sentence(1)
    '1 prompt that was sent out is no longer in the pool: put its row back to import its answer'
    """
    if gone_n == 1:
        return "1 prompt that was sent out is no longer in the pool: put its row back to import its answer"
    return (
        f"{gone_n:,} prompts that were sent out are no longer in the pool: put their rows back to import their answers"
    )
