"""Reader of a user's own pool: a table with any column names, or a table with a column of conversations."""

from __future__ import annotations

from collections.abc import Sequence

from taskdiv_assets.experiment.pool_settings import Columns
from taskdiv_assets.pools import chat, composing
from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.values import Source, require


def choose(names: tuple[str, ...], place: str, columns: Columns) -> Sequence[str]:
    """Return the names of the columns to read; raise ValueError if a column is missing."""
    others = [name for name in (columns.messages, columns.response, columns.task, columns.id) if name is not None]
    of_prompt = [] if columns.prompt is None else composing.columns_of(columns.prompt, names, place)
    require(names, others, place)
    return [*of_prompt, *others]


def to_part(source: Source, columns: Columns, turns: chat.Turns = "last") -> Part:
    """Return the rows of one file; a conversation may give several rows. A prompt that is one column is not changed."""
    responses, tasks, ids = (
        source.columns[name] if name else [None] * source.rows_n
        for name in (columns.response, columns.task, columns.id)
    )
    if columns.messages is None:
        prompts = composing.prompts_of(columns.prompt or "", source)
        return Part.whole(source.name, prompts, responses, tasks, ids if columns.id else None)
    found = [
        (row, exchange)
        for row, text in enumerate(source.columns[columns.messages])
        for exchange in chat.exchanges(text, f"{source.name}, row {row + 1}, column {columns.messages!r}", turns)
    ]
    part = Part.whole(
        source.name,
        prompts=[exchange.prompt for _, exchange in found],
        responses=[exchange.response for _, exchange in found],
        tasks=[tasks[row] for row, _ in found],
        source_ids=[_id(ids[row], exchange.turn, turns) for row, exchange in found] if columns.id else None,
    )
    return part._replace(rows=[row + 1 for row, _ in found])


def _id(own: str | None, turn: int, turns: chat.Turns) -> str | None:
    """Return the own id of a row, followed by `#` and the number of the turn if `turns` is "all"."""
    return own if turns == "last" or own is None or not own.strip() else f"{own}#{turn}"
