"""A user's own pool: JSON lines, CSV or Parquet with columns of any name."""

from collections.abc import Sequence

from taskdiv_assets.pool_settings import Columns
from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.sources import Source, require


def choose(names: tuple[str, ...], place: str, columns: Columns) -> Sequence[str]:
    """The columns to read; ValueError if one that was named is not there."""
    wanted = [name for name in (columns.prompt, columns.response, columns.task, columns.id) if name is not None]
    require(names, wanted, place)
    return wanted


def to_part(source: Source, columns: Columns) -> Part:
    """Rows as they stand: the prompt is the column's text, unchanged."""
    nothing: list[str | None] = [None] * source.rows_n
    return Part(
        name=source.name,
        prompts=source.columns[columns.prompt],
        responses=source.columns[columns.response] if columns.response else nothing,
        source_tasks=source.columns[columns.task] if columns.task else nothing,
        source_ids=source.columns[columns.id] if columns.id else None,
        rows=range(1, source.rows_n + 1),
        rows_read_n=source.rows_n,
        drops={},
    )
