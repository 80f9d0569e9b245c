"""Prompts composed of several columns. The columns are joined by blank lines or inserted into a template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from taskdiv_assets.pools.values import Source, require
from taskdiv_assets.pools.visible import is_blank

BETWEEN = "\n\n"  # joined columns
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def columns_of(prompt: str | Sequence[str], names: Sequence[str], place: str) -> list[str]:
    """Return the columns that a prompt is made of; raise ValueError if a column is missing.

    `prompt` is a column, a list of columns, or a template such as "{instruction} {input}". A text that equals a name in `names`
    is a column.
    """
    wanted = [prompt] if isinstance(prompt, str) else list(prompt)
    if isinstance(prompt, str) and _is_template(prompt, names):
        wanted = [name for name in (piece[1] for piece in _PIECE.finditer(prompt)) if name is not None]
    require(names, wanted, place)
    return list(dict.fromkeys(wanted))


def _is_template(prompt: str, names: Sequence[str]) -> bool:
    return prompt not in names and any(piece[1] is not None for piece in _PIECE.finditer(prompt))


def prompts_of(prompt: str | Sequence[str], source: Source) -> list[str | None]:
    """Return the prompt of each row; None for a row of a list or a template whose columns are all blank.

    A single column is returned unchanged. The columns of a list are joined by blank lines, without blank columns. If a column of
    a template is blank in a row, white space around the prompt is removed. Braces in the data are plain text.
    """
    names = columns_of(prompt, tuple(source.columns), source.name)
    if isinstance(prompt, str) and not _is_template(prompt, tuple(source.columns)):
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
