"""Cells of the comparison: the key of a budget of a strategy, the files of budgets, and which cell is the full pool's."""

import json
import re
from collections.abc import Collection
from typing import Literal

BudgetKind = Literal["requested", "full_pool"]

BUDGET_PATTERN = re.compile(r"[1-9][0-9]*")
FULL_POOL_STRATEGY = "random"  # the only one with a full-pool cell: a selection of everything has no order to compare


def cell_key(budget_n: int | str, strategy: str) -> str:
    """Return the partition key of a cell."""
    return f"{budget_n}|{strategy}"


def split_key(key: str) -> tuple[str, str]:
    """Return the budget and the strategy that a partition key names; the budget is empty in the key of a strategy.

    >>> split_key("512|random"), split_key("random")
    (('512', 'random'), ('', 'random'))
    """
    budget, _, strategy = key.rpartition("|")
    return budget, strategy


def full_pool_cell(
    pool_n: int | None, budgets: Collection[int], full_pool_seeds: Collection[int]
) -> tuple[int, str] | None:
    """Return budget and strategy of the cell that trains on the whole pool.

    Args:
        pool_n: prompts of the pool, None if the pool is not stored yet.
        budgets: those of the experiment file. A budget that is the whole pool is an ordinary one.
        full_pool_seeds: those of the experiment file.

    Returns:
        None if the experiment has no such cell, or none is known yet.
    """
    if pool_n is None or pool_n in budgets or not full_pool_seeds:
        return None
    return pool_n, FULL_POOL_STRATEGY


def budget_kind(content: bytes | str | None) -> BudgetKind | None:
    """Return the kind that the file of a registered budget states, None if it is not such a file.

    >>> budget_kind('{"kind": "full_pool"}'), budget_kind("{}"), budget_kind("notes")
    ('full_pool', 'requested', None)
    """
    try:
        kind = json.loads(content or "").get("kind", "requested")
    except (ValueError, AttributeError, RecursionError):
        return None
    return kind if kind in ("requested", "full_pool") else None
