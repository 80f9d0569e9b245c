"""The prompts of a cell that still need an answer, and the number of bought answers that the cell's allocation does not use."""

from __future__ import annotations

from collections.abc import Iterable

from taskdiv_assets.annotating import ledger
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.store import Store


class OpenLabels:
    """The answers that stored allocations need, and the answers that were bought. Each allocation is read only once."""

    def __init__(self, store: Store, lineage: Lineage) -> None:
        self.store, self.lineage = store, lineage
        self.every = ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store))
        self.entries, self.went_out = ledger.sent(self.every), ledger.sent_prompt_ids(self.every)
        self.sent = {prompt_id for entry in self.entries for prompt_id in entry.prompt_ids}
        self._chosen: dict[Cell, set[tuple[int, str]] | None] = {}

    def chosen(self, cell: Cell) -> set[tuple[int, str]] | None:
        """Return the pairs of selection seed and prompt in a cell's allocation; None if the allocation is not fresh."""
        if cell not in self._chosen:
            is_fresh = self.lineage.is_fresh(Unit("allocation", cell.key))
            table = self.store.read_table("allocation", cell.key).table if is_fresh else None
            columns = () if table is None else (table["selection_seed"].to_pylist(), table["prompt_id"].to_pylist())
            self._chosen[cell] = set(zip(*columns, strict=True)) if columns else None
        return self._chosen[cell]

    def open_of(self, cell: Cell) -> set[str] | None:
        """Return the prompts of a cell that have no answer; None if these prompts are unknown.

        The set is empty if every prompt of the pool has an answer. Otherwise the prompts are known if the pool's size is known
        and the cell has a fresh allocation.
        """
        pool = self.lineage.pool_size
        if pool is not None and pool.is_answered:
            return set()
        chosen = self.chosen(cell) if pool is not None else None
        answers = self.lineage.answers if chosen is not None else {}
        return None if chosen is None else {prompt_id for _, prompt_id in chosen if answers[prompt_id] is None}

    def open_in_all(self, cells: Iterable[Cell]) -> set[str] | None:
        """Return the unanswered prompts of all `cells`; None if the pool's size or the prompts of a cell are unknown."""
        each = [self.open_of(cell) for cell in cells]
        known = [found for found in each if found is not None]
        return set().union(*known) if self.lineage.pool_size is not None and len(known) == len(each) else None

    def answered_in_all(self, cells: Iterable[Cell]) -> set[str]:
        """Return the answered prompts in the allocations of `cells`. A cell whose allocation is not fresh is ignored."""
        chosen = {prompt_id for cell in cells for _, prompt_id in self.chosen(cell) or ()}
        return {prompt_id for prompt_id in chosen if self.lineage.answers[prompt_id] is not None}

    def bought_outside_n(self, cell: Cell) -> int:
        """Return the number of a cell's bought labels whose prompt is not in its allocation; 0 if the allocation is not fresh."""
        if not self.entries or (chosen := self.chosen(cell)) is None:
            return 0
        seeds = self.lineage.cell_selection_seeds(cell)
        return len(set(ledger.bought(self.entries, self.lineage.answers, cell, seeds)) - chosen)
