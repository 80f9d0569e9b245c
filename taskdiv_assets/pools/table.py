"""A user's own pool: a table with columns of any name, or conversations."""

from __future__ import annotations

from collections.abc import Sequence

from taskdiv_assets.experiment.pool_settings import Columns
from taskdiv_assets.pools import chat, composing
from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.sources import Source, require


def choose(names: tuple[str, ...], place: str, columns: Columns) -> Sequence[str]:
    """Return the columns to read; ValueError if one that was named is not there."""
    others = [name for name in (columns.messages, columns.response, columns.task, columns.id) if name is not None]
    of_prompt = [] if columns.prompt is None else composing.columns_of(columns.prompt, names, place)
    require(names, others, place)
    return [*of_prompt, *others]


def to_part(source: Source, columns: Columns, turns: chat.Turns = "last") -> Part:
    """Return the rows of one file. A prompt of one column is the column's text, unchanged."""
    if columns.messages is not None:
        return _conversations(source, columns, columns.messages, turns)
    nothing: list[str | None] = [None] * source.rows_n
    return Part(
        name=source.name,
        prompts=composing.prompts_of(columns.prompt or "", source),
        responses=source.columns[columns.response] if columns.response else nothing,
        source_tasks=source.columns[columns.task] if columns.task else nothing,
        source_ids=source.columns[columns.id] if columns.id else None,
        rows=range(1, source.rows_n + 1),
        rows_read_n=source.rows_n,
        drops={},
    )


def _conversations(source: Source, columns: Columns, messages: str, turns: chat.Turns) -> Part:
    """One row a conversation, or with `turns: all` one a turn, whose id ends in `#` and the turn's number."""
    found = [
        (row, exchange)
        for row, text in enumerate(source.columns[messages])
        for exchange in chat.exchanges(text, f"{source.name}, row {row + 1}, column {messages!r}", turns)
    ]
    tasks = source.columns[columns.task] if columns.task else None
    ids = source.columns[columns.id] if columns.id else None
    is_counted = turns == "all"
    return Part(
        name=source.name,
        prompts=[exchange.prompt for _, exchange in found],
        responses=[exchange.response for _, exchange in found],
        source_tasks=[tasks[row] if tasks else None for row, _ in found],
        source_ids=[_id(ids[row], exchange.turn if is_counted else None) for row, exchange in found] if ids else None,
        rows=[row + 1 for row, _ in found],
        rows_read_n=len(found),
        drops={},
    )


def _id(own: str | None, turn: int | None) -> str | None:
    return own if turn is None or own is None or not own.strip() else f"{own}#{turn}"
