"""The cells of an experiment. A cell is a pair of a budget and a strategy, with the key `budget|strategy`.

Budgets come from the experiment file and from the store, not from Dagster. The store has a file `budgets/<n>` for each registered
budget. The kind of a budget is `requested` or `full_pool`. The cell of the full pool trains on all prompts. This cell has the
strategy `random` and the experiment's `full_pool_seeds`.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple, Self

from data_contracts.cell_keys import (
    BUDGET_PATTERN,
    FULL_POOL_STRATEGY,
    budget_kind,
    cell_key,
    full_pool_cell,
    split_key,
)
from taskdiv_assets.experiment import Experiment, parse_budget
from taskdiv_assets.graph.units import ranked_strategies
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store


class Cell(NamedTuple):
    """A pair of a budget (number of prompts) and a strategy."""

    budget_n: int
    strategy: str

    @classmethod
    def parse(cls, key: str) -> Self:
        """Return the cell of a key such as `128|random`. Raise ValueError for an invalid budget or a missing strategy."""
        budget, strategy = split_key(key)
        cell = cls(parse_budget(budget or strategy), strategy)
        if not budget:
            raise ValueError(f"cell {key!r} has no strategy; expected a key such as {key}|random")
        return cell

    @property
    def key(self) -> str:
        return cell_key(self.budget_n, self.strategy)


class PoolSize(NamedTuple):
    """The number of prompts of the pool, and whether all answers are known."""

    prompts_n: int
    is_answered: bool


def training_seeds(experiment: Experiment, cell: Cell, pool: PoolSize | None) -> tuple[int, ...]:
    """Return `full_pool_seeds` of the experiment if `cell` is known to be the full pool's cell, otherwise `seeds`."""
    return tuple(experiment.full_pool_seeds if is_full_pool(experiment, cell, pool) else experiment.seeds)


def is_full_pool(experiment: Experiment, cell: Cell, pool: PoolSize | None) -> bool:
    return cell == full_pool_of(experiment, pool)


def full_pool(experiment: Experiment, pool: PoolSize | None) -> Cell:
    """Return the full pool's cell. Raise ValueError if the pool is not known or lacks answers, or if its size is in `budgets`."""
    if pool is None:
        raise ValueError(f"the pool of {experiment.name} has not been read, or has changed; materialise raw_pool first")
    if not pool.is_answered:
        raise ValueError(
            f"some of the {pool.prompts_n} prompts of {experiment.name} have no answer; "
            "the full pool is trained once all answers are known"
        )
    if pool.prompts_n in experiment.budgets:
        raise ValueError(
            f"budget {pool.prompts_n} is the whole pool of {experiment.name} and is in `budgets` of the experiment file; "
            f"materialise its cells as those of any other budget, in the job {experiment.name}_cells"
        )
    return Cell(pool.prompts_n, FULL_POOL_STRATEGY)


def over_pool(experiment: Experiment, budgets: Iterable[int], pool: PoolSize | None) -> str:
    """Return a sentence about the budgets that are larger than the pool; "" if there are none, or if the pool is not known."""
    over = [str(budget_n) for budget_n in budgets if pool is not None and budget_n > pool.prompts_n]
    if pool is None or not over:
        return ""
    return (
        f"budget {', '.join(over)} {'is' if len(over) == 1 else 'are'} larger than the pool of {experiment.name}, "
        f"{pool.prompts_n:,} prompts; expected at most {pool.prompts_n}. Lower the budget, or add prompts to the pool"
    )


def refuse_unexpected(experiment: Experiment, store: Store, cell: Cell, pool: PoolSize | None) -> None:
    """Raise ValueError if a cell must not be materialised as a partition.

    A cell is rejected if its strategy is not in the experiment file. A budget that is in the experiment file or was requested is
    accepted. Any other budget is rejected if it was registered as the full pool's size. It is also rejected if it is the pool's
    current size and the experiment has `full_pool_seeds`. Unregistered budgets are accepted, because users can add them in the
    UI.
    """
    name, kind = experiment.name, registered_kind(store, cell.budget_n)
    if experiment.variant is not None and cell not in (known := expected(experiment, store, pool)):
        listed = ", ".join(one.key for one in known)
        raise ValueError(
            f"{name} has the cells {listed}, and not {cell.key}; a variant repeats the primary comparison only"
        )
    if cell.strategy not in experiment.strategies:
        raise ValueError(
            f"{cell.strategy} is not among the strategies of {name}; expected one of {', '.join(experiment.strategies)}. "
            "To compare it too, add it to `strategies` in the experiment file"
        )
    if cell.budget_n in experiment.budgets or kind == "requested":
        return
    if pool is not None and cell.budget_n == pool.prompts_n and experiment.full_pool_seeds:
        raise ValueError(
            f"budget {cell.budget_n} is the whole pool of {name}, from which every strategy chooses the same prompts; "
            f"it is trained once, by the job {name}_full_pool. "
            f"To train it for each strategy, add {cell.budget_n} to `budgets` in the experiment file"
        )
    if kind == "full_pool":
        raise ValueError(
            f"budget {cell.budget_n} was the whole pool of {name} earlier, and is not one of its budgets; "
            f"to make it one, run `taskdiv budget add {name} {cell.budget_n}`"
        )


def full_pool_of(experiment: Experiment, pool: PoolSize | None) -> Cell | None:
    """Return the full pool's cell; None if the pool is not known, its size is in `budgets`, or `full_pool_seeds` is empty."""
    found = full_pool_cell(pool.prompts_n if pool else None, experiment.budgets, experiment.full_pool_seeds)
    return None if found is None else Cell(*found)


def register(store: Store, budget_n: int, *, is_full: bool = False) -> None:
    """Register a budget. The kind of a registered budget is changed only from `full_pool` to `requested`.

    Raises:
        ValueError: the file of the budget is not empty, and `taskdiv` did not write it.
    """
    content = json.dumps({"kind": "full_pool" if is_full else "requested"}).encode()
    if store.put_new(content, "budgets", str(budget_n)):
        return
    kind = registered_kind(store, budget_n)
    if kind is None and store.get("budgets", str(budget_n)):
        raise ValueError(
            f"{store.locate('budgets', str(budget_n))} is not a file of `taskdiv`; move it away and try again"
        )
    if kind is None or (kind == "full_pool" and not is_full):
        store.put(content, "budgets", str(budget_n))


def registered_kind(store: Store, budget: int | str) -> str | None:
    """Return the kind of a registered budget (`requested` or `full_pool`); None if the store has no valid file for it."""
    name = str(budget)
    if not BUDGET_PATTERN.fullmatch(name) or not store.is_file("budgets", name):
        return None
    return budget_kind(store.get("budgets", name))


def _kinds(store: Store) -> dict[str, str | None]:
    names = store.names("budgets")
    return dict(zip(names, remote.at_once(lambda name: registered_kind(store, name), names), strict=True))


def foreign_budgets(store: Store) -> list[str]:
    """Return a warning for each file in `budgets/` that `taskdiv` did not write. Hidden files are skipped."""
    names = [name for name, kind in _kinds(store).items() if kind is None and not name.startswith(".")]
    return [
        f"{store.locate('budgets', name)} is not a budget that `taskdiv budget add` has written, and is ignored; remove it"
        for name in names
    ]


def registered(experiment: Experiment, store: Store) -> dict[int, str]:
    """Return all budgets in ascending order with their kinds. A budget in the experiment file has the kind `requested`.

    A variant has one budget.
    """
    if experiment.variant is not None:
        return {experiment.variant.budget_n: "requested"}
    found = dict.fromkeys(experiment.budgets, "requested")
    for name, kind in _kinds(store).items():
        if kind is not None and int(name) not in found:
            found[int(name)] = kind
    return dict(sorted(found.items()))


def expected(experiment: Experiment, store: Store, pool: PoolSize | None) -> list[Cell]:
    """Return all cells of an experiment. The full pool's cell is included only if all answers are known.

    Budgets that are larger than the pool are included; their cells fail with a clear error. The size of an earlier pool is left
    out if it was not requested as a budget.
    """
    cells = [
        Cell(budget_n, strategy)
        for budget_n, kind in registered(experiment, store).items()
        if kind == "requested"
        for strategy in (experiment.strategies if experiment.variant is None else ranked_strategies(experiment))
    ]
    full = full_pool_of(experiment, pool)
    if full is not None and pool is not None and pool.is_answered and full not in cells:
        cells.append(full)
    return cells
