"""Rows of a CSV file as spreadsheet programs and Label Studio write it: which delimiter, which columns, what is broken.

In: the whole text. Out: each row's number, as a spreadsheet counts (the header is 1), with its columns by name, or with the
reason why it cannot be read. What the cells mean is not decided here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

REQUIRED = ("prompt_id", "response")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
# 2 GiB, the most that C's long holds everywhere: answers may be long.
csv.field_size_limit(2**31 - 1)


def records(text: str) -> Iterator[tuple[int, Mapping[str, str] | str]]:
    """Rows below the header; rows without any content, which spreadsheet programs leave at the end, are left out."""
    found = {delimiter: _header(text, delimiter) for delimiter in DELIMITERS}
    delimiter = next((d for d, (_, names) in found.items() if set(REQUIRED) <= set(names)), None)
    if delimiter is None:
        shown = text.strip().partition("\n")[0].strip()[:100]
        yield 1, f"the first row is {shown!r}; expected a header with the columns {' and '.join(REQUIRED)}"
        return
    header_row, names = found[delimiter]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        yield header_row, f"the column {twice[0]!r} stands in the header twice; keep one of them"
        return
    for number, cells in _cells(text, delimiter):
        if isinstance(cells, str):
            yield number, cells
        elif number > header_row and any(cell.strip() for cell in cells):
            surplus = any(cell.strip() for cell in cells[len(names) :])
            yield (
                number,
                _too_long(len(cells), len(names), delimiter) if surplus else dict(zip(names, cells, strict=False)),
            )


def _header(text: str, delimiter: str) -> tuple[int, Sequence[str]]:
    """Number and names of the first row that holds anything."""
    for number, cells in _cells(text, delimiter):
        if not isinstance(cells, str) and any(cell.strip() for cell in cells):
            return number, [cell.strip().lower() for cell in cells]
    return 1, []


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Cells of every row. Strict, since a quote that is never closed would swallow all the rows below it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"the row cannot be read ({error}); is a quote missing, or one too many?"


def _too_long(cells_n: int, names_n: int, delimiter: str) -> str:
    return (
        f"the row has {cells_n} cells, the header {names_n}; "
        f"a cell that holds a {DELIMITERS[delimiter]} has to stand in double quotes"
    )
