"""Rows of a CSV file as spreadsheet programs and Label Studio write it: which delimiter, which columns, what is broken.

In: the whole text. Out: each row's number, as a spreadsheet counts (the header is 1), with its columns by name, or with the
reason why it cannot be read. What the cells mean is not decided here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from taskdiv_assets.annotating import label_studio
from taskdiv_assets.annotating.columns import Names
from taskdiv_assets.annotating.layout import folded
from taskdiv_assets.pools.csv_files import without_excel_line

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_ID = re.compile(r"[0-9a-f]{16}")
ID_LENGTH_MAX = 200  # of the user's own; a longer line of an answer is not taken for one
# 2 GiB, the most that C's long holds everywhere: answers may be long.
csv.field_size_limit(2**31 - 1)


class Inner(NamedTuple):
    """What may be an id on a line of the file which is not the first of its row.

    An id of another row there is a row that a stray quote made part of this one.

    Attributes:
        line: of the file.
        cell: what looks like an id.
        is_own: it stands where the header has the user's own ids; else it looks like a prompt_id.
    """

    line: int
    cell: str
    is_own: bool


class Record(NamedTuple):
    """One row of a file.

    Attributes:
        row: its number.
        found: its columns by name, or why it cannot be read.
        inner_ids: of a row that goes over several lines.
        unread_n: lines after the row's first that were lost together with it.
    """

    row: int
    found: Mapping[str, Any] | str
    inner_ids: tuple[Inner, ...] = ()
    unread_n: int = 0


class _Cells(NamedTuple):
    """Cells of one row, or why they cannot be told, and the lines of the file that it takes, both counted from 1."""

    row: int
    cells: list[str] | str
    first_line: int
    last_line: int


def records(text: str, names: Names) -> Iterator[Record]:
    """Yield the rows below the header; rows without any content, which spreadsheet programs leave at the end, are left out."""
    text, named = without_excel_line(text)
    skipped_lines_n = 0 if named is None else 1
    candidates = [*([named] if named else []), *DELIMITERS]
    found = {delimiter: _header(text, delimiter) for delimiter in candidates}
    delimiter = next((d for d, (_, header) in found.items() if names.are_in(header)), None)
    if delimiter is None:
        shown = text.strip().partition("\n")[0].strip()[:100]
        widest = max((header for _, header in found.values()), key=len)
        yield Record(1, names.complaint(shown, widest))
        return
    header_row, header = found[delimiter]
    twice = sorted(name for name in names.read_of(header) if header.count(name) > 1)
    if twice:
        yield Record(header_row, f"the column {twice[0]!r} stands in the header twice; keep one of them")
        return
    is_label_studio = label_studio.MARK in header
    own = [header.index(name) for name in names.own_columns(header, is_label_studio=is_label_studio)]
    lines = list(io.StringIO(text, newline=""))
    for entry in _cells(text, delimiter):
        if isinstance(entry.cells, str):
            yield Record(entry.row, entry.cells, unread_n=entry.last_line - entry.first_line)
        elif entry.row > header_row and any(cell.strip() for cell in entry.cells):
            inner = _ids_inside(lines, entry, delimiter, skipped_lines_n, own)
            columns = _columns(entry.cells, header, delimiter)
            if isinstance(columns, str) and entry.last_line > entry.first_line:
                columns = f"{columns}. It goes on to line {entry.last_line + skipped_lines_n} of the file"
            yield Record(entry.row, columns, inner)


def _header(text: str, delimiter: str) -> tuple[int, Sequence[str]]:
    """Number and names of the first row that holds anything."""
    for number, cells, _, _ in _cells(text, delimiter):
        if not isinstance(cells, str) and any(cell.strip() for cell in cells):
            return number, [folded(cell).removeprefix("'") for cell in cells]
    return 1, []


def _cells(text: str, delimiter: str) -> Iterator[_Cells]:
    """Cells of every row. Strict, since a quote that is never closed would swallow all the rows below it.

    After a row that cannot be read, the reader goes on below the line on which it noticed; the lines in between are lost,
    and count as rows.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        first = reader.line_num + 1
        try:
            yield _Cells(number, next(reader), first, reader.line_num)
        except StopIteration:
            return
        except csv.Error as error:
            unread_n = reader.line_num - first
            lost = f"; the {unread_n:,} line(s) below it were not read either" if unread_n else ""
            yield _Cells(
                number,
                f"the row cannot be read ({error}); is a quote missing, or one too many?{lost}",
                first,
                reader.line_num,
            )
            number += unread_n


def _columns(cells: Sequence[str], names: Sequence[str], delimiter: str) -> Mapping[str, str] | str:
    """Return cells by name, or that there are more than names; cells that a row lacks at its end are empty.

    Excel leaves out the delimiters of empty cells at the end of a row.
    """
    if not any(cell.strip() for cell in cells[len(names) :]):
        return dict(zip(names, (*cells, *[""] * len(names)), strict=False))
    return (
        f"the row has {len(cells)} cells, the header {len(names)}; "
        f"a cell that holds a {DELIMITERS.get(delimiter, repr(delimiter))} has to stand in double quotes"
    )


def _ids_inside(
    lines: Sequence[str], entry: _Cells, delimiter: str, skipped_n: int, own: Sequence[int]
) -> tuple[Inner, ...]:
    """What may be an id on the lines of a row after its first; see `Inner`.

    Args:
        lines: of the whole text.
        entry: the row.
        delimiter: of the file.
        skipped_n: lines of the file before the text.
        own: places of the user's own ids in the header.
    """
    found: list[Inner] = []
    for number in range(entry.first_line, entry.last_line):
        cells = [part.strip("\"' \r\n") for part in lines[number].split(delimiter)]
        line = number + 1 + skipped_n
        found += [Inner(line, cell, False) for cell in cells if _ID.fullmatch(cell)]
        firsts = [cells[place] for place in own if place < len(cells)]
        found += [Inner(line, cell, True) for cell in firsts if 0 < len(cell) <= ID_LENGTH_MAX]
    return tuple(found)
