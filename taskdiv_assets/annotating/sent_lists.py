"""What was sent out to annotators, read from the ledger, and what came back of it.

In: the entries `exports/*.json` of a store and the prompts whose answer was imported. Out: which answers were bought for
which list, and which prompts a campaign with `keep_annotated` puts first. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from taskdiv_assets.annotating.ledger import Entry, entries, of_kept_prompts
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.store import Store


class Sent(NamedTuple):
    """One list of an export: its prompts that went out together, and those of it that had gone out with other lists."""

    cell: Cell
    selection_seed: int
    prompt_ids: tuple[str, ...]
    already_sent_ids: tuple[str, ...] = ()

    @property
    def list_ids(self) -> tuple[str, ...]:
        """Prompts of the list, whichever export sent them out."""
        return self.prompt_ids + self.already_sent_ids


def sent(entries: Iterable[Entry]) -> list[Sent]:
    """Return what entries of the ledger say of each of their lists."""
    return [
        Sent(Cell.parse(one.cell), one.selection_seed, one.prompt_ids, one.already_sent_ids)
        for entry in entries
        for one in entry.of_lists
    ]


def read(store: Store) -> list[Sent]:
    """Return every list of every export of an experiment, in the order of their names, which is that of time.

    Raises:
        ValueError: a file of the ledger is not an entry of it.
    """
    return sent(of_kept_prompts(entries(store), copies.kept_of(store)))


def listed(entries: Iterable[Sent], cell: Cell, selection_seeds: Collection[int]) -> set[tuple[int, str]]:
    """Selection seed and prompt_id of everything that was exported for a strategy at a budget or a smaller one.

    A prompt that two lists share goes out once, with the list that is exported first, and counts for both.
    """
    return {
        (entry.selection_seed, prompt_id)
        for entry in entries
        if entry.cell.strategy == cell.strategy
        and entry.cell.budget_n <= cell.budget_n
        and entry.selection_seed in selection_seeds
        for prompt_id in entry.list_ids
    }


def bought(
    entries: Iterable[Sent], answers: Mapping[str, str | None], cell: Cell, selection_seeds: Collection[int]
) -> list[tuple[int, str]]:
    """Labels that were bought for one list: exported for its strategy at its budget or a smaller one, and answered since.

    Args:
        entries: the ledger.
        answers: of every prompt of the pool, None where it is not known. What was sent out had none at that time.
        cell: the list's budget and strategy.
        selection_seeds: of the cell.

    Returns: pairs of selection seed and prompt_id, each once, sorted.
    """
    pairs = listed(entries, cell, selection_seeds)
    return sorted((seed, prompt_id) for seed, prompt_id in pairs if answers.get(prompt_id) is not None)


def kept_first(entries: Sequence[Sent], annotated: Iterable[str], strategy: str) -> list[list[str]]:
    """Annotated prompts that a strategy's order begins with, as groups that follow each other.

    First those of the lists that were exported for this strategy, by the smallest budget: a smaller budget then keeps its
    own labels whatever was bought later for a larger one. A prompt that its list shares with another strategy's is among
    them, whichever list it went out with. Then those that were sent out for no list at all, such as a user's own answers.
    What stood in other strategies' lists alone keeps its place: put first here too, `random` would become a copy of the
    strategy that it is compared with.

    Args:
        entries: the ledger.
        annotated: prompts that have an imported answer.
        strategy: whose order it is.

    Returns: groups of prompt_ids, none of them empty, sorted inside; no prompt stands twice.
    """
    first_n: dict[str, int] = {}
    for entry in entries:
        for prompt_id in entry.list_ids if entry.cell.strategy == strategy else ():
            first_n[prompt_id] = min(entry.cell.budget_n, first_n.get(prompt_id, entry.cell.budget_n))
    went_out = {prompt_id for entry in entries for prompt_id in entry.prompt_ids}
    groups: dict[int, list[str]] = {budget_n: [] for budget_n in sorted(set(first_n.values()))}
    unsent: list[str] = []
    for prompt_id in sorted(set(annotated)):
        if prompt_id in first_n:
            groups[first_n[prompt_id]].append(prompt_id)
        elif prompt_id not in went_out:
            unsent.append(prompt_id)
    return [group for group in (*groups.values(), unsent) if group]
