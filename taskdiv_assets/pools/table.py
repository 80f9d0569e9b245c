"""Reader of a user's own pool: a table with any column names, or a table with a column of conversations.

A prompt may be composed of several columns, which are joined by blank lines or inserted into a template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from taskdiv_assets.experiment.pool_settings import Columns
from taskdiv_assets.pools import chat
from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.values import Source, require
from taskdiv_assets.pools.visible import is_blank

BETWEEN = "\n\n"  # joined columns
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def choose(names: tuple[str, ...], place: str, columns: Columns) -> Sequence[str]:
    """Return the names of the columns to read; raise ValueError if a column is missing."""
    others = [name for name in (columns.messages, columns.response, columns.task, columns.id) if name is not None]
    of_prompt = [] if columns.prompt is None else _columns_of(columns.prompt, names, place)
    require(names, others, place)
    return [*of_prompt, *others]


def to_part(source: Source, columns: Columns, turns: chat.Turns = "last") -> Part:
    """Return the rows of one file. If `turns` is "all", a conversation gives one row for each result of `chat.exchanges`.

    If a prompt is made of one column, its text is not changed.
    """
    responses, tasks, ids = (
        source.columns[name] if name else [None] * source.rows_n
        for name in (columns.response, columns.task, columns.id)
    )
    if columns.messages is None:
        prompts = _prompts_of(columns.prompt or "", source)
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
    """Return `own`, the row's id in the source. If `turns` is "all" and `own` is not blank, `#` and `turn` are added to it."""
    return own if turns == "last" or own is None or not own.strip() else f"{own}#{turn}"


def _columns_of(prompt: str | Sequence[str], names: Sequence[str], place: str) -> list[str]:
    """Return the columns that a prompt is made of; raise ValueError if a column is missing."""
    wanted = _placeholders(prompt, names) or ([prompt] if isinstance(prompt, str) else prompt)
    require(names, wanted, place)
    return list(dict.fromkeys(wanted))


def _placeholders(prompt: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns of a template such as "{instruction} {input}"; [] if `prompt` is a list or the name of a column."""
    pieces = _PIECE.finditer(prompt) if isinstance(prompt, str) and prompt not in names else ()
    return [piece[1] for piece in pieces if piece[1] is not None]


def _prompts_of(prompt: str | Sequence[str], source: Source) -> list[str | None]:
    """Return the prompt of each row; None if all columns of a list or a template are blank in the row.

    A single column is returned unchanged. The columns of a list are joined by blank lines, without blank columns. If a column of
    a template is blank in a row, white space around the prompt is removed. Braces in the data are plain text.
    """
    names = _columns_of(prompt, tuple(source.columns), source.name)
    if isinstance(prompt, str) and not _placeholders(prompt, tuple(source.columns)):
        return source.columns[prompt]
    rows = zip(*(source.columns[name] for name in names), strict=True)
    if isinstance(prompt, str):
        return [_filled(prompt, dict(zip(names, row, strict=True))) for row in rows]
    return [BETWEEN.join(text for text in row if text and not is_blank(text)) or None for row in rows]


def _filled(template: str, row: Mapping[str, str | None]) -> str | None:
    if all(is_blank(text) for text in row.values()):
        return None

    def piece(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else row[found[1]] or ""

    text = _PIECE.sub(piece, template)
    return text.strip() if any(is_blank(value) for value in row.values()) else text
