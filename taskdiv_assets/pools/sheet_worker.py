"""Reader of one sheet of a workbook, run in a separate process with limited memory.

`python sheet_worker.py FILE [SHEET]` prints the names of the sheets, then one JSON list per row. The library allocates all
cells from the first to the last filled one, so a single cell far away would use up the memory of the main process.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sys

MEMORY_BYTES_MAX = 6 * 2**30
Cell = int | float | str | bool | datetime.time | datetime.date | datetime.datetime | datetime.timedelta


def text_of(value: Cell) -> str | None:
    """Return a cell as text; None for an empty cell. Whole numbers below 2^53 get no decimal point.

    A date with a time becomes `2026-01-31 13:05:00`. A date without a time, or with the time 0:00, becomes `2026-01-31`.

    >>> text_of(7.0), text_of(datetime.date(2026, 1, 31)), text_of(True), text_of("")
    ('7', '2026-01-31', 'TRUE', None)
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) or None


def main(path: str, sheet: str | None) -> None:
    """Print the names of the sheets, then the rows of `sheet` (None for the first sheet); no rows if no sheet has this name."""
    with contextlib.suppress(ImportError, ValueError):  # Windows has no `resource`; a lower limit is kept
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    from python_calamine import CalamineWorkbook

    workbook = CalamineWorkbook.from_path(path)
    names = workbook.sheet_names
    print(json.dumps(names))  # noqa: T201 — stdout is the answer to the parent process
    wanted = sheet if sheet is not None else names[0]
    if wanted not in names:
        return
    for row in workbook.get_sheet_by_name(wanted).iter_rows():
        cells = [text_of(cell) for cell in row]
        while cells and cells[-1] is None:
            cells.pop()
        print(json.dumps(cells))  # noqa: T201 — as above, one line per row


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
