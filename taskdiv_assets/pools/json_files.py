"""Readers of JSON lines (one object per line) and of JSON arrays (one list of objects)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from taskdiv_assets.pools.values import DIGITS_MAX, Choice, Options, Source, as_texts

Row = dict[str, object]


def read_json(text: str, path: str, choose: Choice, options: Options, parse: Callable[[str, str], list[Row]]) -> Source:
    """Return the columns that `choose` selects from the rows that `parse` returns. The value of a missing key is None."""
    rows = parse(text, path)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    chosen = choose(names, path) if rows else ()
    columns = {name: as_texts((row.get(name) for row in rows), path, name, options) for name in chosen}
    return Source(path, columns, len(rows))


def json_lines(text: str, path: str) -> list[Row]:
    """Return the objects of JSON lines; raise ValueError if a line is neither blank nor a JSON object with distinct keys."""
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            row = _parsed(line, place, "one JSON object a line")
            if not isinstance(row, dict):
                raise ValueError(f"{place} is a JSON {type(row).__name__}; expected one JSON object a line.")
            rows.append(row)
    return rows


def json_rows(text: str, path: str) -> list[Row]:
    """Return the objects of a JSON array or of JSON lines; raise ValueError for any other text."""
    if text.lstrip()[:1] == "{" and not _is_one_object(text):
        return json_lines(text, path)
    found = _parsed(text, path, "a list of objects")
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
    first_line, _, others = text.lstrip().partition("\n")
    try:
        json.loads(first_line)
    except (ValueError, RecursionError):
        return True
    return not others.strip()


def _parsed(text: str, place: str, expected: str) -> object:
    try:
        return json.loads(text, parse_int=_whole_number, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise ValueError(f"{place} is not JSON ({error.msg} at {at}); expected {expected}.") from None
    except RecursionError:
        raise ValueError(f"{place} cannot be read: it is nested too deep.") from None
    except ValueError as error:
        raise ValueError(f"{place} cannot be read: {error}.") from None


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
