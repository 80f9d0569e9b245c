"""Partition keys of cells, the kinds of budgets, and the cell of the full pool. A cell is one budget of one strategy."""

import json
import re
from collections.abc import Collection
from typing import Literal

BudgetKind = Literal["requested", "full_pool"]

BUDGET_PATTERN = re.compile(r"[1-9][0-9]*")
FULL_POOL_STRATEGY = "random"  # the only strategy with a full-pool cell: all strategies select the same prompts there


def cell_key(budget_n: int | str, strategy: str) -> str:
    return f"{budget_n}|{strategy}"


def split_key(key: str) -> tuple[str, str]:
    """Return the budget and the strategy of a partition key. The budget is empty if the key is only a strategy.

    >>> split_key("512|random"), split_key("random")
    (('512', 'random'), ('', 'random'))
    """
    budget, _, strategy = key.rpartition("|")
    return budget, strategy


def full_pool_cell(
    pool_n: int | None, budgets: Collection[int], full_pool_seeds: Collection[int]
) -> tuple[int, str] | None:
    """Return the budget and the strategy of the cell that trains on the full pool; None if there is no such cell.

    There is no such cell if `pool_n`, the number of prompts in the pool, is unknown (None), if `full_pool_seeds` is empty, or if
    `pool_n` is one of the `budgets`. In the last case, this budget already has ordinary cells.
    """
    if pool_n is None or pool_n in budgets or not full_pool_seeds:
        return None
    return pool_n, FULL_POOL_STRATEGY


def budget_kind(content: bytes | str | None) -> BudgetKind | None:
    """Return the kind of a budget from the content of its file in the folder `budgets`; None if the content is not valid.

    >>> budget_kind('{"kind": "full_pool"}'), budget_kind("{}"), budget_kind("notes")
    ('full_pool', 'requested', None)
    """
    try:
        kind = json.loads(content or "").get("kind", "requested")
    except (ValueError, AttributeError, RecursionError):
        return None
    return kind if kind in ("requested", "full_pool") else None
