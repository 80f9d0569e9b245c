"""Answers that come back as a workbook (XLSX or ODS): the rows of its first sheet, as `sheets` has those of a CSV file.

Rows count as the spreadsheet shows them only if none above is empty: the reader of workbooks leaves empty ones out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from taskdiv_assets.annotating.answer_sheets import Record
from taskdiv_assets.annotating.columns import Names
from taskdiv_assets.annotating.layout import folded
from taskdiv_assets.pools.sheets import Sheet, read_sheet

SHOWN_N = 100  # characters of a header in a sentence


def records(data: bytes, path: Path, names: Names) -> Iterator[Record]:
    """Yield the rows below the header.

    Args:
        data: the whole file.
        path: what messages call it.
        names: of the columns that are read.
    """
    try:
        sheet = _sheet(data, path)
    except ValueError as error:
        yield Record(1, str(error))
        return
    header = [folded(name).removeprefix("'") for name in sheet.names]
    if not names.are_in(header):
        yield Record(1, f"{names.complaint(', '.join(sheet.names)[:SHOWN_N], header)}. The first sheet is read")
        return
    twice = sorted(name for name in names.read_of(header) if header.count(name) > 1)
    if twice:
        yield Record(1, f"the column {twice[0]!r} stands in the header twice; keep one of them")
        return
    for number, row in enumerate(sheet.rows, start=2):
        yield Record(number, dict(zip(header, (cell or "" for cell in row), strict=True)))


def _sheet(data: bytes, path: Path) -> Sheet:
    """The first sheet; the library tells the two formats by the name of the file, which a pipe does not have."""
    ending = ".ods" if b"opendocument" in data[:200] else ".xlsx"
    with tempfile.NamedTemporaryFile(suffix=ending) as file:
        file.write(data)
        file.flush()
        return read_sheet(Path(file.name), str(path), None)
