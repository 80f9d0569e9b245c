"""CSV that a spreadsheet program opens without running a formula.

Excel reads UTF-8 as the local code page, unless the file starts with a byte order mark. So the CSV starts with this mark. A text
that begins with `=`, `+`, `-`, `@`, tab or return becomes a formula (CSV injection). With some settings, the full-width forms of
these signs also begin a formula. Such a text gets an apostrophe in front.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return CSV (RFC 4180, UTF-8 with a byte order mark) for spreadsheet programs. `text_cell` prevents formulas."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([text_cell(name) for name in header])
    writer.writerows([text_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue().encode("utf-8-sig")


def text_cell(text: str) -> str:
    """Return a text, with an apostrophe in front if a spreadsheet program would read the text as a formula.

    >>> text_cell("=HYPERLINK(…)"), text_cell("Why = and not ==?")
    ("'=HYPERLINK(…)", 'Why = and not ==?')
    """
    return f"'{text}" if _FORMULA.match(text) else text
