"""The place of each result in Dagster: the path of the asset's key, and the partition.

The store names the full pool's cell like any other cell (`4437|random`). In Dagster, this cell has separate assets without
partitions. If its budget were in the partition dialog, a click on "All" would train the full pool once per strategy.
"""

from typing import NamedTuple

from taskdiv_assets.assets import REGISTRY

FULL_POOL = "full_pool"  # suffix of the full pool's job, and prefix of the names of its assets


class Place(NamedTuple):
    """The place of a result in Dagster: path of the asset's key, and partition (None if the asset has no partitions)."""

    path: tuple[str, ...]
    partition: str | None


def place(experiment: str, asset: str, key: str | None = None, *, is_full_pool: bool = False) -> Place:
    """Return the place of a result in Dagster. `key` is the key in the store: `budget|strategy`, a strategy, or None.

    >>> place("demo", "adapter", "4437|random", is_full_pool=True)
    Place(path=('demo', 'full_pool_adapter'), partition=None)
    """
    if is_full_pool and asset in REGISTRY.by_cell:
        return Place((experiment, f"{FULL_POOL}_{asset}"), None)
    return Place((experiment, asset), key)
