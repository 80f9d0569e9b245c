"""Cells of the comparison: which budgets and strategies an experiment consists of.

A cell is one budget of one strategy, a partition `budget|strategy` in Dagster and a file in the store. Registered budgets
are files too (`budgets/<n>`), so that the report needs no Dagster. The full pool is a cell of its own: everything there is,
under `random`, with its own list of seeds.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Self

from taskdiv_assets.experiment import Experiment, parse_budget
from taskdiv_assets.store import Store

FULL_POOL_STRATEGY = "random"


class Cell(NamedTuple):
    """One budget of one strategy."""

    budget_n: int
    strategy: str

    @classmethod
    def parse(cls, key: str) -> Self:
        """Cell of a partition key such as `128|random`.

        Raises:
            ValueError: the budget is no positive whole number in plain digits.
        """
        budget, _, strategy = key.partition("|")
        return cls(parse_budget(budget), strategy)

    @property
    def key(self) -> str:
        """The partition key."""
        return f"{self.budget_n}|{self.strategy}"


class PoolSize(NamedTuple):
    """What the store knows of the pool, once it has been read."""

    prompts_n: int
    is_answered: bool


def training_seeds(experiment: Experiment, cell: Cell, pool: PoolSize | None) -> tuple[int, ...]:
    """Seeds of a cell: the full pool has its own list."""
    return tuple(experiment.full_pool_seeds if is_full_pool(experiment, cell, pool) else experiment.seeds)


def is_full_pool(experiment: Experiment, cell: Cell, pool: PoolSize | None) -> bool:
    """True for the cell that trains on everything."""
    return (
        pool is not None
        and bool(experiment.full_pool_seeds)
        and cell == Cell(pool.prompts_n, FULL_POOL_STRATEGY)
        and pool.prompts_n not in experiment.budgets
    )


def register(store: Store, budget_n: int, *, is_full: bool = False) -> None:
    """Note a budget in the store; a budget that stands there already stays as it is."""
    content = {"kind": "full_pool" if is_full else "requested"}
    store.put_new(json.dumps(content).encode(), "budgets", str(budget_n))


def registered(experiment: Experiment, store: Store) -> dict[int, str]:
    """Budgets of the experiment file and of the store, with their kind (`requested` or `full_pool`)."""
    found = dict.fromkeys(experiment.budgets, "requested")
    for name in store.names("budgets"):
        data = store.get("budgets", name)
        budget_n = parse_budget(name)
        if budget_n not in found and data is not None:
            found[budget_n] = str(json.loads(data or b"{}").get("kind", "requested"))
    return dict(sorted(found.items()))


def expected(experiment: Experiment, store: Store, pool: PoolSize | None) -> list[Cell]:
    """Every cell that the experiment consists of, as far as is known: the full pool only once the pool is.

    A budget over the pool is expected as well: its cell fails with a sentence that says so, which is what its user
    should read. The full pool of an earlier, other pool is not.
    """
    cells = [
        Cell(budget_n, strategy)
        for budget_n, kind in registered(experiment, store).items()
        if kind == "requested"
        for strategy in experiment.strategies
    ]
    if pool is not None and pool.is_answered and experiment.full_pool_seeds:
        full = Cell(pool.prompts_n, FULL_POOL_STRATEGY)
        if is_full_pool(experiment, full, pool) and full not in cells:
            cells.append(full)
    return cells
