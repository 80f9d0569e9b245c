"""Conversion between an asset with its partition key and the path of the stored table in the experiment's folder."""

from collections.abc import Sequence

from data_contracts.cell_keys import split_key

REPORT_TABLE = "strategy_report"  # stored in the folder of the report page
# In the folder of a judged model. It is an input of the win rates that are estimated for all models together.
LENGTHS_FILE = "lengths.parquet"
REJECTED = ".rejected.json"  # ending of the note about a table that broke its contract


def table_parts(asset: str, key: str | None = None) -> tuple[str, ...]:
    """Return the parts of a table's path in the experiment's folder. A cell's strategy is a folder, and its budget a file in it.

    >>> table_parts("allocation", "512|random"), table_parts("ranking", "random"), table_parts("raw_pool")
    (('tables', 'allocation', 'random', '512.parquet'), ('tables', 'ranking', 'random.parquet'), ('tables', 'raw_pool.parquet'))
    """
    if asset == REPORT_TABLE:
        return ("report", "results.parquet")
    if key is None:
        return ("tables", f"{asset}.parquet")
    budget, strategy = split_key(key)
    return ("tables", asset, *((strategy, f"{budget}.parquet") if budget else (f"{strategy}.parquet",)))


def rejected_parts(asset: str, key: str | None = None) -> tuple[str, ...]:
    *folders, name = table_parts(asset, key)
    return (*folders, name.removesuffix(".parquet") + REJECTED)


def asset_and_key(parts: Sequence[str]) -> tuple[str, str | None]:
    """Return the asset of a stored table and its partition key, which is None if the asset has no partitions.

    `parts` are the parts of the table's path below the folder `tables`, without the file's ending.

    >>> asset_and_key(["allocation", "random", "512"])
    ('allocation', '512|random')
    """
    asset, *key = parts
    if len(key) < 2:
        return asset, key[0] if key else None
    return asset, f"{key[-1]}|{'/'.join(key[:-1])}"
