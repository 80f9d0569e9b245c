"""JSON lines (one object a line) and JSON arrays (one list of objects), the two ways in which JSON holds a table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from taskdiv_assets.pools.values import DIGITS_MAX, Choice, Options, Source, as_text

Row = dict[str, object]


def read_json_lines(text: str, path: str, choose: Choice, options: Options) -> Source:
    """Return the chosen columns of JSON lines; a row without a key has nothing there."""
    return _as_source(json_lines(text, path), path, choose, options)


def read_json(text: str, path: str, choose: Choice, options: Options) -> Source:
    """Return the chosen columns of a JSON array. A file that holds JSON lines under this name is read as such."""
    return _as_source(json_rows(text, path), path, choose, options)


def json_lines(text: str, path: str) -> list[Row]:
    """Return the objects of JSON lines; blank lines are skipped.

    Raises:
        ValueError: a line is not a JSON object.
    """
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = _parsed(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{place} is not JSON ({error.msg} at column {error.colno}); expected one JSON object a line."
            ) from error
        except (RecursionError, ValueError) as error:
            raise ValueError(f"{place} cannot be read: {_said(error)}.") from None
        if not isinstance(row, dict):
            raise ValueError(f"{place} is a JSON {type(row).__name__}; expected one JSON object a line.")
        rows.append(row)
    return rows


def json_rows(text: str, path: str) -> list[Row]:
    """Return the objects of a JSON array, or of JSON lines.

    Raises:
        ValueError: the file is neither.
    """
    if text.lstrip()[:1] == "{" and not _is_one_object(text):
        return json_lines(text, path)
    try:
        found = _parsed(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno} is not JSON ({error.msg}); expected a list of objects."
        ) from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {_said(error)}.") from None
    if isinstance(found, dict):
        lists = [name for name, value in found.items() if isinstance(value, list)]
        hint = f"; its rows may be the list {lists[0]!r}: save that alone" if lists else ""
        raise ValueError(f"{path} is one JSON object with {len(found)} keys; expected a list of objects{hint}.")
    if not isinstance(found, list):
        raise ValueError(f"{path} is a JSON {type(found).__name__}; expected a list of objects.")
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, entry {number} is a JSON {type(row).__name__}; expected an object.")
    return found


def _is_one_object(text: str) -> bool:
    """True unless the first line is an object by itself."""
    try:
        json.loads(text.lstrip().partition("\n")[0])
    except (ValueError, RecursionError):
        return True
    return not text.lstrip().partition("\n")[2].strip()


def _parsed(text: str) -> object:
    return json.loads(text, parse_int=_whole_number, object_pairs_hook=_distinct)


def _whole_number(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"a whole number has {len(digits):,} digits; write it as text, in quotes")
    return int(digits)


def _distinct(pairs: Sequence[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice; keep one")
    return row


def _said(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _as_source(rows: Sequence[Row], path: str, choose: Choice, options: Options) -> Source:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    chosen = choose(names, path) if rows else ()
    columns = {}
    for name in chosen:
        is_any = options.is_any_value or name in options.nested
        columns[name] = [as_text(row.get(name), path, i, name, is_any) for i, row in enumerate(rows)]
    return Source(path, columns, len(rows))
