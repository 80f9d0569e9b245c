"""Columns of text (`Source`), which every file reader returns, and the conversion of values to text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

Choice = Callable[[tuple[str, ...], str], Sequence[str]]  # (columns of a file, its name) -> columns to read
DIGITS_MAX = 400  # limit of digits of a whole number in JSON; Python has a limit of 4,300


class Source(NamedTuple):
    """Rows of one file or data set, as columns of equal length. An empty cell is None."""

    name: str  # name of the file, for error messages
    columns: dict[str, list[str | None]]
    rows_n: int


class Options(NamedTuple):
    """Settings that a reader needs for a file and cannot find in its content."""

    encoding: str | None = None  # encoding of a text file; None for UTF-8
    separator: str | None = None  # separator of a CSV file; None to find it from the header
    escape: str | None = None  # before a quote in a CSV field: a backslash or a quote; None: unclear files are errors
    sheet: str | None = None  # sheet of a workbook; None for the first
    nested: frozenset[str] = frozenset()  # columns whose lists and numbers become JSON text
    is_pool: bool = True  # True for a file of the pool: errors then suggest settings; False for mappings and orders


def require(names: Sequence[str], wanted: Iterable[str], place: str) -> None:
    """Raise ValueError if a column in `wanted` is not in `names`."""
    for column in wanted:
        if column not in names:
            close = difflib.get_close_matches(column, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{place} has no column {column!r}; its columns are {', '.join(map(repr, names))}.{hint}")


def chosen_columns(choose: Choice, names: Sequence[str], place: str) -> list[str]:
    """Return the columns that `choose` selects, each once; raise ValueError if two columns of the file have the same name."""
    for name in names:
        if name.strip() and names.count(name) > 1:
            raise ValueError(f"{place} has two columns named {name!r}; give every column a name of its own.")
    return list(dict.fromkeys(choose(tuple(names), place)))


def from_arrow(table: pa.Table, name: str, options: Options) -> Source:
    """Return the columns of an Arrow table as text; raise ValueError as `as_texts` does, or if a value cannot be decoded."""
    columns = {}
    for column in table.column_names:
        try:
            values = table.column(column).to_pylist()
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{name}: column {column!r} cannot be read as text ({error}); write the file again as UTF-8."
            ) from None
        is_text = pa.types.is_string(table.schema.field(column).type)
        columns[column] = values if is_text else as_texts(values, name, column, options)
    return Source(name, columns, table.num_rows)


def as_texts(values: Iterable[object], place: str, column: str, options: Options) -> list[str | None]:
    """Return the values of a column as text. Allowed values are text, whole numbers, and None, which is not changed.

    In a column of `options.nested`, all other values, such as lists, become JSON text. In other columns, they raise ValueError.
    Text with half of a surrogate pair also raises ValueError.
    """
    is_nested = column in options.nested
    return [_as_text(value, place, row, column, is_nested) for row, value in enumerate(values, start=1)]


def _as_text(value: object, place: str, row: int, column: str, is_nested: bool) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        if is_nested:
            return json.dumps(value, ensure_ascii=False, default=str)
        found = f"{value!r:.60} ({type(value).__name__})"
        raise ValueError(f"{place}, row {row}: column {column!r} holds {found}; expected text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place}, row {row}: column {column!r} holds half of a surrogate pair, which is not UTF-8 text; "
            "write the character whole."
        ) from error
    return value
