"""Columns of text as every reader of files hands them over, and how a value of a file becomes text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

Choice = Callable[[tuple[str, ...], str], Sequence[str]]  # (columns of a file, its name) -> those to read
DIGITS_MAX = 400  # of a whole number in JSON; Python refuses more than 4,300


class Source(NamedTuple):
    """Rows of one file or data set, as columns of equal length; None where a row has nothing."""

    name: str  # what error messages call it
    columns: dict[str, list[str | None]]
    rows_n: int


class Options(NamedTuple):
    """How a file is read, where its content does not say so itself.

    Attributes:
        encoding: of a text file; None for UTF-8.
        separator: of a CSV file; None to find it from the header.
        escape: how a quote inside quotes is written in CSV: a backslash before it, or doubled; None to refuse what is unclear.
        sheet: of a workbook; None for the first.
        is_any_value: True to take numbers and lists too, as JSON text, where otherwise text and whole numbers alone are taken.
        nested: columns for which lists and numbers are taken, as JSON text.
        is_pool: the file is the pool's, whose settings an error may name; False for mappings and orders.
    """

    encoding: str | None = None
    separator: str | None = None
    escape: str | None = None
    sheet: str | None = None
    is_any_value: bool = False
    nested: frozenset[str] = frozenset()
    is_pool: bool = True


def require(names: Sequence[str], wanted: Iterable[str], place: str) -> None:
    """Raise ValueError if a wanted column is not there: which, what there is, and the closest name."""
    for column in wanted:
        if column not in names:
            close = difflib.get_close_matches(column, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{place} has no column {column!r}; its columns are {', '.join(map(repr, names))}.{hint}")


def require_distinct(names: Sequence[str], place: str) -> None:
    """Raise ValueError if two columns have one name. Columns without a name do no harm: nothing can ask for them."""
    for name in names:
        if name.strip() and names.count(name) > 1:
            raise ValueError(f"{place} has two columns named {name!r}; give every column a name of its own.")


def from_arrow(table: pa.Table, name: str, options: Options) -> Source:
    """Columns of an Arrow table as text."""
    columns = {}
    for column in table.column_names:
        try:
            values = table.column(column).to_pylist()
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{name}: column {column!r} cannot be read as text ({error}); write the file again as UTF-8."
            ) from None
        is_text = pa.types.is_string(table.schema.field(column).type)
        is_any = options.is_any_value or column in options.nested
        columns[column] = values if is_text else [as_text(v, name, i, column, is_any) for i, v in enumerate(values)]
    return Source(name, columns, table.num_rows)


def as_text(value: object, place: str, row: int, column: str, is_any_value: bool = False) -> str | None:
    """Turn a value into text. Text and whole numbers are taken; others are refused rather than guessed at.

    Args:
        value: of one cell.
        place: name of the file.
        row: from 0.
        column: name of the column.
        is_any_value: take other values too, as JSON.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        if is_any_value:
            return json.dumps(value, ensure_ascii=False, default=str)
        raise ValueError(
            f"{place}, row {row + 1}: column {column!r} holds {value!r:.60} ({type(value).__name__}); expected text."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place}, row {row + 1}: column {column!r} holds half of a surrogate pair, which is no UTF-8 text; "
            "write the character whole."
        ) from error
    return value
