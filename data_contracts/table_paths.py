"""Where stored tables lie in an experiment's folder, and which table a path belongs to."""

from collections.abc import Sequence

from data_contracts.cell_keys import split_key

REPORT_TABLE = "strategy_report"  # lies beside its page
LENGTHS_FILE = (
    "lengths.parquet"  # in the folder of a judged model: input of the win rates estimated for all models together
)
REJECTED = ".rejected.json"  # ending of the note about a table that broke its contract


def table_parts(asset: str, key: str | None = None) -> tuple[str, ...]:
    """Return the path of a table, part by part: a strategy is a folder, a budget a file in it.

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
    """Return the path of the note about a table that broke its contract."""
    *folders, name = table_parts(asset, key)
    return (*folders, name.removesuffix(".parquet") + REJECTED)


def asset_and_key(parts: Sequence[str]) -> tuple[str, str | None]:
    """Return the table that a path below `tables` belongs to, given its parts without the ending of the file.

    >>> asset_and_key(["allocation", "random", "512"])
    ('allocation', '512|random')
    """
    asset, *key = parts
    if len(key) < 2:
        return asset, key[0] if key else None
    return asset, f"{key[-1]}|{'/'.join(key[:-1])}"
