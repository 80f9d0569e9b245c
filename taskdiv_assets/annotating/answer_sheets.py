"""Reader of the rows of a CSV file or of a workbook (XLSX, ODS).

Rows are numbered from 1, as in a spreadsheet. Empty rows of a workbook get no number. `answer_files` interprets the cells. An
"own id" is an id of the user's own file.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.annotating import label_studio
from taskdiv_assets.annotating.columns import Names, folded_header
from taskdiv_assets.pools.csv_files import without_excel_line
from taskdiv_assets.pools.sheets import Sheet, read_sheet

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_ID = re.compile(r"[0-9a-f]{16}")
ID_LENGTH_MAX = 200  # characters of an own id; a longer text is part of an answer
SHOWN_N = 100  # characters of a header in a message
# Answers may be long. 2 GiB is the largest limit that every platform accepts (a 32-bit C long).
csv.field_size_limit(2**31 - 1)


class Inner(NamedTuple):
    """A cell, on the second or a later line of a CSV row, that may be an id.

    If it is the id of another row, the two rows were read as one row, because a quote is missing or there is one too many.
    """

    line: int  # line of the file, from 1
    cell: str  # the possible id
    is_own: bool  # True for a cell in a column of own ids; False for a cell that looks like a prompt_id


class Record(NamedTuple):
    """One row of a file."""

    row: int
    found: Mapping[str, Any] | str  # cells by column name, or the reason why the row cannot be read
    inner_ids: tuple[Inner, ...] = ()  # possible ids on the later lines of the row
    unread_n: int = 0  # later lines that were lost together with the row


class _Cells(NamedTuple):
    row: int
    cells: list[str] | str  # the reason if the cells cannot be read
    first_line: int  # from 1
    last_line: int


def csv_records(text: str, names: Names) -> Iterator[Record]:
    """Yield a record for each non-empty row below the header, or one record with the reason if the header is unusable."""
    text, named = without_excel_line(text)
    skipped_lines_n = 0 if named is None else 1
    candidates = [*([named] if named else []), *DELIMITERS]
    found = {delimiter: _header(text, delimiter) for delimiter in candidates}
    delimiter = next((d for d, (_, header) in found.items() if names.are_in(header)), None)
    if delimiter is None:
        shown = text.strip().partition("\n")[0].strip()[:SHOWN_N]
        widest = max((header for _, header in found.values()), key=len)
        yield Record(1, names.complaint(shown, widest))
        return
    header_row, header = found[delimiter]
    if complaint := names.repeated_complaint(header):
        yield Record(header_row, complaint)
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
                columns = f"{columns}. The row continues to line {entry.last_line + skipped_lines_n} of the file"
            yield Record(entry.row, columns, inner)


def workbook_records(data: bytes, path: Path, names: Names) -> Iterator[Record]:
    """Yield a record for each row below the header of the first sheet, or one record with the reason if the sheet is unusable.

    Only messages use `path`. The workbook reader skips empty rows, so a row below them has a smaller number than in the
    spreadsheet.
    """
    try:
        sheet = _sheet(data, path)
    except ValueError as error:
        yield Record(1, str(error))
        return
    header = folded_header(sheet.names)
    if not names.are_in(header):
        yield Record(1, f"{names.complaint(', '.join(sheet.names)[:SHOWN_N], header)}. The first sheet is read")
        return
    if complaint := names.repeated_complaint(header):
        yield Record(1, complaint)
        return
    for number, row in enumerate(sheet.rows, start=2):
        yield Record(number, dict(zip(header, (cell or "" for cell in row), strict=True)))


def _sheet(data: bytes, path: Path) -> Sheet:
    """Return a workbook's first sheet. `read_sheet` needs a file named .ods or .xlsx, so `data` is written to such a file."""
    ending = ".ods" if b"opendocument" in data[:200] else ".xlsx"
    with tempfile.NamedTemporaryFile(suffix=ending) as file:
        file.write(data)
        file.flush()
        return read_sheet(Path(file.name), str(path), None)


def _header(text: str, delimiter: str) -> tuple[int, Sequence[str]]:
    for number, cells, _, _ in _cells(text, delimiter):
        if not isinstance(cells, str) and any(cell.strip() for cell in cells):
            return number, folded_header(cells)
    return 1, []


def _cells(text: str, delimiter: str) -> Iterator[_Cells]:
    """Yield the cells of every row. Parsing is strict, because otherwise an unclosed quote would hide all rows below it.

    If a row cannot be read, parsing continues below the line where the error was found. The lines of the row are lost, and each
    of them counts as a row.
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
            reason = f"the row cannot be read ({error}); is a quote missing, or one too many?{lost}"
            yield _Cells(number, reason, first, reader.line_num)
            number += unread_n


def _columns(cells: Sequence[str], names: Sequence[str], delimiter: str) -> Mapping[str, str] | str:
    """Return the cells by column name, or an error message for too many cells. Missing cells at a row's end count as empty."""
    if not any(cell.strip() for cell in cells[len(names) :]):
        return dict(zip(names, (*cells, *[""] * len(names)), strict=False))
    return (
        f"the row has {len(cells)} cells, the header {len(names)}; "
        f"put a cell that holds a {DELIMITERS.get(delimiter, repr(delimiter))} in double quotes"
    )


def _ids_inside(
    lines: Sequence[str], entry: _Cells, delimiter: str, skipped_n: int, own: Sequence[int]
) -> tuple[Inner, ...]:
    """Return those cells on a row's second and later lines that may be ids. `own` has the positions of own id columns."""
    found: list[Inner] = []
    for number in range(entry.first_line, entry.last_line):
        cells = [part.strip("\"' \r\n") for part in lines[number].split(delimiter)]
        line = number + 1 + skipped_n
        found += [Inner(line, cell, False) for cell in cells if _ID.fullmatch(cell)]
        firsts = [cells[place] for place in own if place < len(cells)]
        found += [Inner(line, cell, True) for cell in firsts if 0 < len(cell) <= ID_LENGTH_MAX]
    return tuple(found)
