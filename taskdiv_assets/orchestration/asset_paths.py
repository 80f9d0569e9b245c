"""Where Dagster keeps each result: the path of its asset's key, and its partition.

The store names the full pool's cell like any other (`4437|random`). In Dagster it has assets of its own, without a partition. As
one more budget, its row of the grid would be empty except for one strategy, and a click on "All" would train on the whole pool
once for each strategy.
"""

from __future__ import annotations

from typing import NamedTuple

from taskdiv_assets.assets import REGISTRY

FULL_POOL = "full_pool"  # the job's suffix, and what the names of its assets begin with


class Place(NamedTuple):
    """Path of an asset's key, and the partition; None for an asset without partitions."""

    path: tuple[str, ...]
    partition: str | None


def place(experiment: str, asset: str, key: str | None = None, *, is_full_pool: bool = False) -> Place:
    """Return where Dagster keeps a result.

    Args:
        experiment: its name.
        asset: its name.
        key: in the store: `budget|strategy`, a strategy, or None.
        is_full_pool: True if `key` is that of the full pool's cell.

    >>> place("demo", "adapter", "4437|random", is_full_pool=True)
    Place(path=('demo', 'full_pool_adapter'), partition=None)
    """
    if is_full_pool and asset in REGISTRY.by_cell:
        return Place((experiment, f"{FULL_POOL}_{asset}"), None)
    return Place((experiment, asset), key)
